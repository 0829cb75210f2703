//! `/api/user/cellar` and `/api/user/wants`: the two lists, whole or item by item.
//!
//! Both lists work alike. Each call is written once, for any [`List`]; the macro at the end binds it to the paths of both,
//! with its documentation.

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
    let Accounts { repository, clock, .. } = &*state.accounts;
    answer(repository.replace_items(&caller, list, items, clock.now()).await)
}

async fn add(
    list: List,
    Authenticated(caller): Authenticated,
    item: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let Accounts { repository, clock, .. } = &*state.accounts;
    answer(repository.add_item(&caller, list, ItemId::parse(&item)?, state.max_items, clock.now()).await)
}

async fn remove(
    list: List,
    Authenticated(caller): Authenticated,
    item: web::Path<String>,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let Accounts { repository, clock, .. } = &*state.accounts;
    answer(repository.remove_item(&caller, list, ItemId::parse(&item)?, clock.now()).await)
}

/// Every call answers with the list as it is by then.
fn answer(items: Result<Vec<ItemId>, RepositoryError>) -> Result<HttpResponse, ApiError> {
    respond(HttpResponse::Ok(), &numbers(&items?))
}

/// The calls of one list, each of which is described in the API's document.
macro_rules! calls {
    (
        $list:ident at $path:tt and $item_path:tt, such as $example:tt with $item:tt;
        $(#[$list_doc:meta])* $list_fn:ident as $list_id:tt;
        $(#[$replace_doc:meta])* $replace_fn:ident as $replace_id:tt;
        $(#[$add_doc:meta])* $add_fn:ident as $add_id:tt;
        $(#[$remove_doc:meta])* $remove_fn:ident as $remove_id:tt;
    ) => {
        $(#[$list_doc])*
        #[utoipa::path(
            get, path = $path, operation_id = $list_id, tag = "lists", security(("Token" = [])),
            responses(
                (status = 200, description = "The list", body = [i64], example = json!($example)),
                (status = 401, description = "There is no such session", body = ErrorResponse),
            ),
        )]
        pub(crate) async fn $list_fn(who: Authenticated, state: State) -> Result<HttpResponse, ApiError> {
            list(List::$list, who, state).await
        }

        $(#[$replace_doc])*
        #[utoipa::path(
            put, path = $path, operation_id = $replace_id, tag = "lists", security(("Token" = [])),
            request_body(content = inline(ItemIds), example = json!($example)),
            responses(
                (status = 200, description = "The list as it is now", body = [i64], example = json!($example)),
                (status = 400, description = "An id is out of range, or there are too many; nothing is changed", body = ErrorResponse,
                    example = json!({"error": "Invalid Data: item_id must be a whole number from 1 to 9007199254740991"})),
                (status = 401, description = "There is no such session", body = ErrorResponse),
            ),
        )]
        pub(crate) async fn $replace_fn(
            who: Authenticated,
            body: UnreadBody,
            state: State,
        ) -> Result<HttpResponse, ApiError> {
            replace(List::$list, who, body, state).await
        }

        $(#[$add_doc])*
        #[utoipa::path(
            put, path = $item_path, operation_id = $add_id, tag = "lists", security(("Token" = [])),
            params(("item_id" = i64, Path, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = $item)),
            responses(
                (status = 200, description = "The list as it is now", body = [i64], example = json!($example)),
                (status = 400, description = "The id is out of range, or the list is full; nothing is changed", body = ErrorResponse,
                    example = json!({"error": "Invalid Data: item_id must be a whole number from 1 to 9007199254740991"})),
                (status = 401, description = "There is no such session", body = ErrorResponse),
            ),
        )]
        pub(crate) async fn $add_fn(
            who: Authenticated,
            item: web::Path<String>,
            state: State,
        ) -> Result<HttpResponse, ApiError> {
            add(List::$list, who, item, state).await
        }

        $(#[$remove_doc])*
        #[utoipa::path(
            delete, path = $item_path, operation_id = $remove_id, tag = "lists", security(("Token" = [])),
            params(("item_id" = i64, Path, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = $item)),
            responses(
                (status = 200, description = "The list as it is now", body = [i64], example = json!($example)),
                (status = 400, description = "The id is out of range", body = ErrorResponse,
                    example = json!({"error": "Invalid Data: item_id must be a whole number from 1 to 9007199254740991"})),
                (status = 401, description = "There is no such session", body = ErrorResponse),
            ),
        )]
        pub(crate) async fn $remove_fn(
            who: Authenticated,
            item: web::Path<String>,
            state: State,
        ) -> Result<HttpResponse, ApiError> {
            remove(List::$list, who, item, state).await
        }
    };
}

calls! {
    Cellar at "/api/user/cellar" and "/api/user/cellar/{item_id}", such as [1, 2, 3] with 1;
    /// The ids of what the user has, ascending
    list_cellar as "list_cellar";
    /// Replace the whole list of what the user has
    replace_cellar as "replace_cellar";
    /// Add one item to what the user has, where it is not there yet
    add_to_cellar as "add_to_cellar";
    /// Remove one item from what the user has, where it is there
    remove_from_cellar as "remove_from_cellar";
}

calls! {
    Wants at "/api/user/wants" and "/api/user/wants/{item_id}", such as [4, 5] with 4;
    /// The ids of what the user wishes for, ascending
    list_wants as "list_wants";
    /// Replace the whole list of what the user wishes for
    replace_wants as "replace_wants";
    /// Add one item to what the user wishes for, where it is not there yet
    add_to_wants as "add_to_wants";
    /// Remove one item from what the user wishes for, where it is there
    remove_from_wants as "remove_from_wants";
}
