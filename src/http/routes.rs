//! The route table, to be read from top to bottom like the API's contents page.

use actix_web::http::{Method, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, Route};
use serde::Serialize;

use crate::http::api::{account, events, health, index, items, sessions, staff, user};
use crate::http::error::ApiError;
use crate::http::{json, openapi};

/// Every path and the methods that it has: the value of its `Allow`.
pub const PATHS: [(&str, &str); 25] = [
    ("/", "GET, HEAD"),
    ("/healthz", "GET, HEAD"),
    ("/readyz", "GET, HEAD"),
    ("/api/register", "POST"),
    ("/api/login", "POST"),
    ("/api/logout", "POST"),
    ("/api/logoutall", "POST"),
    ("/api/user", "GET, HEAD, PATCH, DELETE"),
    ("/api/user/export", "GET, HEAD"),
    ("/api/user/password", "POST"),
    ("/api/user/tokens", "GET, HEAD"),
    ("/api/user/tokens/{id}", "DELETE"),
    ("/api/user/events", "GET, HEAD"),
    ("/api/user/cellar", "GET, HEAD, PUT"),
    ("/api/user/wants", "GET, HEAD, PUT"),
    ("/api/user/cellar/{item_id}", "PUT, DELETE"),
    ("/api/user/wants/{item_id}", "PUT, DELETE"),
    ("/api/users", "GET, HEAD"),
    ("/api/users/{username}", "GET, HEAD, PATCH, DELETE"),
    ("/api/users/{username}/tokens", "GET, HEAD, DELETE"),
    ("/api/users/{username}/tokens/{id}", "DELETE"),
    ("/api/events", "GET, HEAD"),
    ("/api/openapi.json", "GET, HEAD"),
    ("/docs", "GET, HEAD"),
    ("/docs/{file}", "GET, HEAD"),
];

/// Which of [`PATHS`] a request met: its number there. The request carries it from then on.
#[derive(Clone, Copy, Debug)]
pub struct Matched(pub usize);

/// What is done for each of them.
pub fn table(app: &mut ServiceConfig) {
    // The framework tries one after another: what is asked most stands first.
    app.service(at("/api/user").get(user::show).head(user::show).patch(user::update).delete(user::delete))
        .service(at("/").get(index::show).head(index::show))
        .service(at("/healthz").get(health::alive).head(health::alive))
        .service(at("/readyz").get(health::ready).head(health::ready))
        .service(at("/api/register").post(account::register))
        .service(at("/api/login").post(account::log_in))
        .service(at("/api/logout").post(account::log_out))
        .service(at("/api/logoutall").post(sessions::end_all))
        .service(at("/api/user/export").get(user::export).head(user::export))
        .service(at("/api/user/password").post(user::change_password))
        .service(at("/api/user/tokens").get(sessions::list).head(sessions::list))
        .service(at("/api/user/tokens/{id}").delete(sessions::end))
        .service(at("/api/user/events").get(events::list_own).head(events::list_own))
        .service(at("/api/user/cellar").get(items::list_cellar).head(items::list_cellar).put(items::replace_cellar))
        .service(at("/api/user/wants").get(items::list_wants).head(items::list_wants).put(items::replace_wants))
        .service(at("/api/user/cellar/{item_id}").put(items::add_to_cellar).delete(items::remove_from_cellar))
        .service(at("/api/user/wants/{item_id}").put(items::add_to_wants).delete(items::remove_from_wants))
        .service(at("/api/users").get(staff::list).head(staff::list))
        .service(
            at("/api/users/{username}").get(staff::show).head(staff::show).patch(staff::change).delete(staff::delete),
        )
        .service(
            at("/api/users/{username}/tokens")
                .get(staff::list_sessions)
                .head(staff::list_sessions)
                .delete(staff::end_sessions),
        )
        .service(at("/api/users/{username}/tokens/{id}").delete(staff::end_session))
        .service(at("/api/events").get(events::list).head(events::list))
        .service(at("/api/openapi.json").get(openapi::show).head(openapi::show))
        .service(at("/docs").get(openapi::page).head(openapi::page))
        .service(at("/docs/{file}").get(openapi::file).head(openapi::file))
        .default_service(web::to(nothing_here));
}

/// A path; a slash behind it is gone by now. A method that [`PATHS`] does not give it is told so.
fn at(path: &str) -> Resource {
    let number = PATHS.iter().position(|(known, _)| *known == path).unwrap_or(PATHS.len());
    let allow = PATHS.get(number).map_or("", |(_, allow)| allow);
    web::resource(path).app_data(Matched(number)).default_service(only(allow))
}

/// What answers the methods that a path has no handler for.
fn only(allow: &'static str) -> Route {
    web::to(move |request: HttpRequest| async move {
        if request.method() == Method::OPTIONS {
            Ok(HttpResponse::NoContent().insert_header((header::ALLOW, allow)).finish())
        } else {
            Err(ApiError::MethodNotAllowed { allow })
        }
    })
}

async fn nothing_here() -> Result<HttpResponse, ApiError> {
    Err(ApiError::NotFound)
}

/// A response with a JSON body. `middleware.rs` says that it is one.
pub(crate) fn respond<T: Serialize>(
    mut response: actix_web::HttpResponseBuilder,
    body: &T,
) -> Result<HttpResponse, ApiError> {
    match json::to_vec(body) {
        Ok(body) => Ok(response.body(body)),
        Err(error) => Err(ApiError::Internal(Box::new(error))),
    }
}
