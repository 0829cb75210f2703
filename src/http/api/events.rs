//! `GET /api/events` and `GET /api/user/events`: what happened, for staff and for the account's owner.

use actix_web::HttpResponse;

use crate::domain::event::{Event, EventCursor, EventKind, EventQuery};
use crate::domain::rights::{Actor, Permission};
use crate::domain::user::Username;
use crate::http::error::ApiError;
use crate::http::extract::caller::Authenticated;
use crate::http::extract::query::{Query, UnreadQuery};
use crate::http::state::State;
use crate::http::views::event::EventResponse;
use crate::http::views::{ErrorResponse, respond};
use crate::repository::Page;

/// The caller's own events, newest first
#[utoipa::path(
    get, path = "/api/user/events", operation_id = "list_own_events", tag = "user", security(("Token" = [])),
    params(
        ("kind" = Option<String>, Query, description = "Only those of this kind", example = "logged_in"),
        ("before" = Option<i64>, Query, description = "Only those older than the one with this number"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many, 1 to 100; 50 where it is not said"),
    ),
    responses(
        (status = 200, description = "A page; `Link` says where the next one is", body = [EventResponse]),
        (status = 400, description = "A parameter cannot be", body = ErrorResponse,
            example = json!({"error": "Invalid Data: limit must be a whole number from 1 to 100"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn list_own(
    Authenticated(caller): Authenticated,
    query: UnreadQuery,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let mut query = query.read()?;
    let asked = read(&mut query, None)?;
    respond_page(&query, state.accounts.repository.list_own_events(&caller, asked).await?)
}

/// Everyone's events, newest first
#[utoipa::path(
    get, path = "/api/events", operation_id = "list_events", tag = "staff", security(("Token" = [])),
    params(
        ("username" = Option<String>, Query, description = "Only those of this account", example = "AzureDiamond"),
        ("kind" = Option<String>, Query, description = "Only those of this kind", example = "login_failed"),
        ("before" = Option<i64>, Query, description = "Only those older than the one with this number"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many, 1 to 100; 50 where it is not said"),
    ),
    responses(
        (status = 200, description = "A page; `Link` says where the next one is", body = [EventResponse]),
        (status = 400, description = "A parameter cannot be", body = ErrorResponse,
            example = json!({"error": "Invalid Data: limit must be a whole number from 1 to 100"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
        (status = 403, description = "The caller is no staff", body = ErrorResponse),
    ),
)]
pub(crate) async fn list(
    Authenticated(caller): Authenticated,
    query: UnreadQuery,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let administration = state.accounts.administration(Actor::Session(caller));
    administration.authorize(Permission::ManageAccount, None).await?;
    let mut query = query.read()?;
    let username = query.take("username", "a name", |text| Username::parse_existing(text).ok())?;
    let asked = read(&mut query, username)?;
    respond_page(&query, administration.list_events(asked).await?)
}

fn read(query: &mut Query, username: Option<Username>) -> Result<EventQuery, ApiError> {
    let asked = EventQuery {
        username,
        kind: query.take("kind", "the name of a kind of event", EventKind::parse)?,
        before: query.take("before", "an event's number", EventCursor::parse)?,
        limit: query.take_limit()?,
    };
    query.refuse_unknown()?;
    Ok(asked)
}

fn respond_page(query: &Query, page: Page<Event, EventCursor>) -> Result<HttpResponse, ApiError> {
    let events: Vec<_> = page.rows.into_iter().map(EventResponse::from).collect();
    let mut response = respond(HttpResponse::Ok(), &events)?;
    if let Some(next) = page.next {
        query.link_next(&mut response, "before", &next.to_string());
    }
    Ok(response)
}
