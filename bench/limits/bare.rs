//! The limit of the framework: an actix-web server whose handlers do nothing but answer JSON of the same size as the
//! service's: the user object of one of the users that `bench/fill.rs` makes, and the error that an unknown token gets.
//!
//! With a cost, so many of the service's own hashing threads hash beside it without pause, at their own niceness: what
//! a flood of logins does to a server that does nothing else.
//!
//! `bare ADDRESS:PORT WORKERS [COST THREADS]`

use std::future::pending;
use std::hint::black_box;
use std::num::NonZeroUsize;

use actix_web::{App, HttpResponse, HttpServer, rt, web};
use authtokens::passwords::threads::HashingThreads;
use authtokens::system::watched::WatchedThreads;
use serde::Serialize;

/// The user object, key for key.
#[derive(Serialize)]
struct User {
    username: String,
    first_name: String,
    last_name: String,
    email: String,
    is_active: bool,
    is_superuser: bool,
    is_staff: bool,
    last_login: String,
    cellar: Vec<i64>,
    wants: Vec<i64>,
    address: String,
    address2: String,
    city: String,
    state: String,
    zipcode: String,
    created: String,
    modified: String,
    date_joined: String,
}

/// The error object.
#[derive(Serialize)]
struct Refusal {
    error: &'static str,
}

async fn user() -> HttpResponse {
    let time = || "2015-01-04T22:51:35.144Z".to_owned();
    HttpResponse::Ok().json(User {
        username: "user12345".to_owned(),
        first_name: String::new(),
        last_name: String::new(),
        email: String::new(),
        is_active: true,
        is_superuser: false,
        is_staff: false,
        last_login: time(),
        cellar: vec![1, 2, 3, 4, 5],
        wants: Vec::new(),
        // The service writes a space behind each colon and comma. These take as many bytes.
        address: " ".repeat(39),
        address2: String::new(),
        city: String::new(),
        state: String::new(),
        zipcode: String::new(),
        created: time(),
        modified: time(),
        date_joined: time(),
    })
}

async fn refusal() -> HttpResponse {
    HttpResponse::Unauthorized().json(Refusal { error: "A valid token is required." })
}

/// Keeps every one of the threads busy for ever.
fn hash_without_pause(cost: u32, threads: NonZeroUsize) -> std::io::Result<()> {
    let hashing = HashingThreads::start(threads, 0, &WatchedThreads::default())?;
    for _ in 0..threads.get() {
        let hashing = hashing.clone();
        let work = move || {
            loop {
                black_box(bcrypt::bcrypt(cost, [7; 16], b"0123456789012345678901234567890123456789012=\0"));
            }
        };
        rt::spawn(async move {
            let _: Result<(), _> = hashing.run(work, pending()).await;
        });
    }
    Ok(())
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8001".to_owned());
    let workers = arguments.next().and_then(|workers| workers.parse().ok()).unwrap_or(2);
    let cost = arguments.next().and_then(|cost| cost.parse().ok());
    if let Some(cost) = cost {
        let threads = arguments.next().and_then(|threads| threads.parse().ok()).unwrap_or(NonZeroUsize::MIN);
        hash_without_pause(cost, threads)?;
    }
    HttpServer::new(|| App::new().route("/api/logout", web::post().to(refusal)).route("/api/user", web::get().to(user)))
        .workers(workers)
        .bind(address)?
        .run()
        .await
}
