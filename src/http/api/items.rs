//! `/api/user/cellar` and `/api/user/wants`: the two lists, whole or item by item.
//!
//! Both lists work alike. Each call is written once, for any [`List`]; the functions at the end bind it to a path, and
//! hold the documentation.

use std::collections::BTreeSet;

use actix_web::{HttpResponse, web};

use crate::accounts::Accounts;
use crate::domain::field::InvalidField;
use crate::domain::item::{ItemId, List};
use crate::http::error::ApiError;
use crate::http::extract::body::UnreadBody;
use crate::http::extract::caller::Authenticated;
use crate::http::state::State;
use crate::http::views::user::{ItemIds, numbers};
use crate::http::views::{ErrorResponse, respond};
use crate::repository::RepositoryError;

async fn list(list: List, Authenticated(caller): Authenticated, state: State) -> Result<HttpResponse, ApiError> {
    answer(state.accounts.repository.list_items(&caller, list).await)
}

/// A list as it was sent.
#[derive(Default)]
struct Items {
    items: BTreeSet<ItemId>,
    /// Why one of them is not an item.
    refused: Option<InvalidField>,
}

async fn replace(
    list: List,
    Authenticated(caller): Authenticated,
    body: UnreadBody,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let max = state.max_items;
    let Items { items, refused } = body
        .read_numbers(move |list: &mut Items, number| match ItemId::new(number.unwrap_or_default()) {
            // One item too many is enough to know that the list is too long. No further one is kept.
            Ok(item) if list.items.len() <= max => drop(list.items.insert(item)),
            Ok(_) => {}
            Err(refused) => list.refused = Some(refused),
        })
        .await?;
    if let Some(refused) = refused {
        return Err(refused.into());
    }
    if items.len() > max {
        return answer(Err(RepositoryError::ListFull));
    }
    let Accounts { repository, clock, .. } = &state.accounts;
    answer(repository.replace_items(&caller, list, items, clock.now()).await)
}

async fn add(
    list: List,
    Authenticated(caller): Authenticated,
    item: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let Accounts { repository, clock, .. } = &state.accounts;
    answer(repository.add_item(&caller, list, ItemId::parse(&item)?, state.max_items, clock.now()).await)
}

async fn remove(
    list: List,
    Authenticated(caller): Authenticated,
    item: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let Accounts { repository, clock, .. } = &state.accounts;
    answer(repository.remove_item(&caller, list, ItemId::parse(&item)?, clock.now()).await)
}

/// Every call answers with the list as it is by then.
fn answer(items: Result<Vec<ItemId>, RepositoryError>) -> Result<HttpResponse, ApiError> {
    respond(HttpResponse::Ok(), &numbers(&items?))
}

/// The ids of what the user has, ascending
#[utoipa::path(
    get, path = "/api/user/cellar", operation_id = "list_cellar", tag = "lists", security(("Token" = [])),
    responses(
        (status = 200, description = "The list", body = [i64], example = json!([1, 2, 3])),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn list_cellar(who: Authenticated, state: State) -> Result<HttpResponse, ApiError> {
    list(List::Cellar, who, state).await
}

/// Replace the whole list of what the user has
#[utoipa::path(
    put, path = "/api/user/cellar", operation_id = "replace_cellar", tag = "lists", security(("Token" = [])),
    request_body(content = inline(ItemIds), example = json!([1, 2, 3])),
    responses(
        (status = 200, description = "The list as it is now", body = [i64], example = json!([1, 2, 3])),
        (status = 400, description = "An id is out of range, or there are too many; nothing is changed", body = ErrorResponse,
            example = json!({"error": "Invalid Data: item_id must be a whole number from 1 to 9007199254740991"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn replace_cellar(
    who: Authenticated,
    body: UnreadBody,
    state: State,
) -> Result<HttpResponse, ApiError> {
    replace(List::Cellar, who, body, state).await
}

/// Add one item to what the user has, where it is not there yet
#[utoipa::path(
    put, path = "/api/user/cellar/{item_id}", operation_id = "add_to_cellar", tag = "lists", security(("Token" = [])),
    params(("item_id" = i64, Path, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 1)),
    responses(
        (status = 200, description = "The list as it is now", body = [i64], example = json!([1, 2, 3])),
        (status = 400, description = "The id is out of range, or the list is full; nothing is changed", body = ErrorResponse,
            example = json!({"error": "Invalid Data: item_id must be a whole number from 1 to 9007199254740991"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn add_to_cellar(
    who: Authenticated,
    item: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    add(List::Cellar, who, item, state).await
}

/// Remove one item from what the user has, where it is there
#[utoipa::path(
    delete, path = "/api/user/cellar/{item_id}", operation_id = "remove_from_cellar", tag = "lists", security(("Token" = [])),
    params(("item_id" = i64, Path, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 1)),
    responses(
        (status = 200, description = "The list as it is now", body = [i64], example = json!([1, 2, 3])),
        (status = 400, description = "The id is out of range", body = ErrorResponse,
            example = json!({"error": "Invalid Data: item_id must be a whole number from 1 to 9007199254740991"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn remove_from_cellar(
    who: Authenticated,
    item: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    remove(List::Cellar, who, item, state).await
}

/// The ids of what the user wishes for, ascending
#[utoipa::path(
    get, path = "/api/user/wants", operation_id = "list_wants", tag = "lists", security(("Token" = [])),
    responses(
        (status = 200, description = "The list", body = [i64], example = json!([4, 5])),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn list_wants(who: Authenticated, state: State) -> Result<HttpResponse, ApiError> {
    list(List::Wants, who, state).await
}

/// Replace the whole list of what the user wishes for
#[utoipa::path(
    put, path = "/api/user/wants", operation_id = "replace_wants", tag = "lists", security(("Token" = [])),
    request_body(content = inline(ItemIds), example = json!([4, 5])),
    responses(
        (status = 200, description = "The list as it is now", body = [i64], example = json!([4, 5])),
        (status = 400, description = "An id is out of range, or there are too many; nothing is changed", body = ErrorResponse,
            example = json!({"error": "Invalid Data: item_id must be a whole number from 1 to 9007199254740991"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn replace_wants(
    who: Authenticated,
    body: UnreadBody,
    state: State,
) -> Result<HttpResponse, ApiError> {
    replace(List::Wants, who, body, state).await
}

/// Add one item to what the user wishes for, where it is not there yet
#[utoipa::path(
    put, path = "/api/user/wants/{item_id}", operation_id = "add_to_wants", tag = "lists", security(("Token" = [])),
    params(("item_id" = i64, Path, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 4)),
    responses(
        (status = 200, description = "The list as it is now", body = [i64], example = json!([4, 5])),
        (status = 400, description = "The id is out of range, or the list is full; nothing is changed", body = ErrorResponse,
            example = json!({"error": "Invalid Data: item_id must be a whole number from 1 to 9007199254740991"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn add_to_wants(
    who: Authenticated,
    item: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    add(List::Wants, who, item, state).await
}

/// Remove one item from what the user wishes for, where it is there
#[utoipa::path(
    delete, path = "/api/user/wants/{item_id}", operation_id = "remove_from_wants", tag = "lists", security(("Token" = [])),
    params(("item_id" = i64, Path, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 4)),
    responses(
        (status = 200, description = "The list as it is now", body = [i64], example = json!([4, 5])),
        (status = 400, description = "The id is out of range", body = ErrorResponse,
            example = json!({"error": "Invalid Data: item_id must be a whole number from 1 to 9007199254740991"})),
        (status = 401, description = "There is no such session", body = ErrorResponse),
    ),
)]
pub(crate) async fn remove_from_wants(
    who: Authenticated,
    item: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    remove(List::Wants, who, item, state).await
}
