//! `/account/reset`: where somebody without a password asks for a mail, and where its link leads.

use actix_web::HttpResponse;

use crate::http::error::ApiError;
use crate::http::pages::templates::{Page, Pages, Shown};
use crate::http::state::State;

pub(crate) async fn show(state: State) -> Result<HttpResponse, ApiError> {
    Pages::of(&state, Page::Reset)?.show(Page::Reset, &Shown::default())
}
