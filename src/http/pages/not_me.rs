//! `/account/not-me`: where the link of a notice leads that tells of what its reader has not done.

use actix_web::HttpResponse;

use crate::http::error::ApiError;
use crate::http::pages::templates::{Page, Pages, Shown};
use crate::http::state::State;

pub(crate) async fn show(state: State) -> Result<HttpResponse, ApiError> {
    Pages::of(&state, Page::NotMe)?.show(Page::NotMe, &Shown::default())
}
