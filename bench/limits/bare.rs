//! The limit of the framework: an actix-web server whose handlers look at nothing and answer JSON of the same size as
//! the service's: the user object of one of the users that `bench/fill.rs` makes, and the error that an unknown token gets.
//!
//! `bare ADDRESS:PORT WORKERS`

use actix_web::{App, HttpResponse, HttpServer, web};
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

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8001".to_owned());
    let workers = arguments.next().and_then(|workers| workers.parse().ok()).unwrap_or(2);
    HttpServer::new(|| App::new().route("/api/logout", web::post().to(refusal)).route("/api/user", web::get().to(user)))
        .workers(workers)
        .bind(address)?
        .run()
        .await
}
