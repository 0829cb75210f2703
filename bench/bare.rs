//! The limit: an actix-web server whose handlers answer JSON of the same size and look at nothing: the error that an
//! unknown token gets, and a user with five items.
//!
//! `bare ADDRESS:PORT WORKERS`

use actix_web::{App, HttpResponse, HttpServer, web};

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8001".to_owned());
    let workers = arguments.next().and_then(|workers| workers.parse().ok()).unwrap_or(2);
    let answer =
        || async { HttpResponse::Unauthorized().json(serde_json::json!({"error": "A valid token is required."})) };
    let user = || async {
        HttpResponse::Ok().json(serde_json::json!({
            "username": "user12345", "first_name": "", "last_name": "", "email": "", "is_active": true,
            "is_superuser": false, "is_staff": false, "last_login": "2015-01-04T22:51:35.144Z",
            "cellar": [1, 2, 3, 4, 5], "wants": [], "address": "", "address2": "", "city": "", "state": "",
            "zipcode": "", "created": "2015-01-04T22:51:35.238Z", "modified": "2015-01-04T22:51:35.238Z",
            "date_joined": "2015-01-04T22:51:35.144Z",
        }))
    };
    HttpServer::new(move || {
        App::new().route("/api/logout", web::post().to(answer)).route("/api/user", web::get().to(user))
    })
    .workers(workers)
    .bind(address)?
    .run()
    .await
}
