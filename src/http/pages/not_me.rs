//! `/account/not-me`: where the link of a notice leads that tells of what its reader has not done.

use actix_web::HttpResponse;

use crate::accounts::MailProofError;
use crate::http::error::ApiError;
use crate::http::extract::body::UnreadBody;
use crate::http::extract::client::HttpClient;
use crate::http::extract::form::SameOrigin;
use crate::http::pages::account::{link_of, open, take};
use crate::http::pages::templates::{Fault, Page, Shown, Step};
use crate::http::state::State;

pub(crate) async fn show(state: State) -> Result<HttpResponse, ApiError> {
    open(&state, Page::NotMe)
}

pub(crate) async fn submit(
    state: State,
    client: HttpClient,
    is_ours: Result<SameOrigin, ApiError>,
    body: UnreadBody,
) -> Result<HttpResponse, actix_web::Error> {
    take(&state, Page::NotMe, is_ours, &client, body, async |policy, admission, form| {
        let token = match link_of(form)? {
            Ok(token) => token,
            Err(shown) => return Ok(shown),
        };
        match state.accounts.disown(policy, admission, &token, &client).await {
            Ok(()) => Ok(Shown { state: Step::Done, ..Shown::default() }),
            Err(MailProofError::Refused) => Ok(Shown::of(Fault::Wrong)),
            Err(error) => Err(error.into()),
        }
    })
    .await
}
