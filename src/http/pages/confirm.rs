//! `/account/confirm`: where the link of a mail leads that asks whether an address is the account's. The code of the same
//! mail counts in the app, for it needs a session.

use actix_web::HttpResponse;

use crate::http::error::ApiError;
use crate::http::pages::templates::{Page, Pages, Shown};
use crate::http::state::State;

pub(crate) async fn show(state: State) -> Result<HttpResponse, ApiError> {
    Pages::of(&state, Page::Confirm)?.show(Page::Confirm, &Shown::default())
}
