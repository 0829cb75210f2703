//! `/account/confirm`: where the link of a mail leads that asks whether an address is the account's. The code of the same
//! mail counts in the app, for it needs a session.

use actix_web::HttpResponse;

use crate::accounts::ConfirmError;
use crate::http::error::ApiError;
use crate::http::extract::body::UnreadBody;
use crate::http::extract::client::HttpClient;
use crate::http::extract::form::SameOrigin;
use crate::http::pages::account::{link_of, open, take};
use crate::http::pages::templates::{Fault, Page, Shown, Step};
use crate::http::state::State;

pub(crate) async fn show(state: State) -> Result<HttpResponse, ApiError> {
    open(&state, Page::Confirm)
}

pub(crate) async fn submit(
    state: State,
    client: HttpClient,
    is_ours: Result<SameOrigin, ApiError>,
    body: UnreadBody,
) -> Result<HttpResponse, actix_web::Error> {
    take(&state, Page::Confirm, is_ours, &client, body, async |policy, admission, form| {
        let token = match link_of(form)? {
            Ok(token) => token,
            Err(shown) => return Ok(shown),
        };
        match state.accounts.confirm_email(policy, admission, &token, &client).await {
            Ok(_) => Ok(Shown { state: Step::Done, ..Shown::default() }),
            Err(ConfirmError::Refused) => Ok(Shown::of(Fault::Wrong)),
            Err(ConfirmError::Taken) => Ok(Shown::of(Fault::Taken)),
            Err(error) => Err(error.into()),
        }
    })
    .await
}
