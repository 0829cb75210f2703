//! The limit: an actix-web server whose one handler answers a JSON error of the size that an unknown token gets.
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
    HttpServer::new(move || App::new().route("/api/logout", web::post().to(answer)))
        .workers(workers)
        .bind(address)?
        .run()
        .await
}
