//! `/account/login`: where the link of a mail that opens a session leads. A page cannot give a session to an app, so it
//! leads on to the app, where one is configured, and says where to type the code.

use actix_web::HttpResponse;

use crate::http::error::ApiError;
use crate::http::pages::account::open;
use crate::http::pages::templates::Page;
use crate::http::state::State;

pub(crate) async fn show(state: State) -> Result<HttpResponse, ApiError> {
    open(&state, Page::SignIn)
}
