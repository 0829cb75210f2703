//! What the pages under `/account` have in common: where they are, whose forms they take, what a form may cost, and how
//! its errors are shown.

use actix_web::HttpResponse;

use crate::accounts::throttle::Admission;
use crate::accounts::throttle::limits::Call;
use crate::accounts::{Client as _, MailPolicy};
use crate::domain::token::PlainToken;
use crate::http::error::ApiError;
use crate::http::extract::body::UnreadBody;
use crate::http::extract::client::HttpClient;
use crate::http::extract::form::{Form, SameOrigin};
use crate::http::pages::proof::Proof;
use crate::http::pages::templates::{Fault, Page, Pages, Shown};
use crate::http::state::AppState;

/// The pages of a server that has this one, and what mail may do there.
fn pages_of(state: &AppState, page: Page) -> Result<(&Pages, &MailPolicy), ApiError> {
    let policy = if page == Page::SignIn { state.accounts.login_by_mail()? } else { state.accounts.mail()? };
    Ok((state.pages.as_ref().ok_or(ApiError::NotFound)?, policy))
}

/// Shows a page to whoever opens it.
pub(crate) fn open(state: &AppState, page: Page) -> Result<HttpResponse, ApiError> {
    pages_of(state, page)?.0.show(page, &Shown::default())
}

/// Reads a form of `page` within the limits of a login, has `handle` do what it asks for, and shows what came of it.
pub(crate) async fn take<'a, H>(
    state: &'a AppState,
    page: Page,
    is_ours: Result<SameOrigin, ApiError>,
    client: &HttpClient,
    body: UnreadBody,
    handle: H,
) -> Result<HttpResponse, actix_web::Error>
where
    H: AsyncFnOnce(&'a MailPolicy, Admission<'a>, Form) -> Result<Shown, ApiError>,
{
    let (pages, policy) = pages_of(state, page)?;
    let handled = async {
        is_ours?;
        let admission = state.accounts.throttle.admit(Call::LogIn, client.ip())?;
        let shown = handle(policy, admission, body.read_form().await?).await?;
        pages.show(page, &shown)
    };
    handled.await.map_err(|error| pages.show_error(page, error))
}

/// The token of a page that takes a link alone; else what is wrong with what was typed.
pub(crate) fn link_of(mut form: Form) -> Result<Result<PlainToken, Shown>, ApiError> {
    let proof = form.take("proof");
    form.refuse_unknown()?;
    let fault = match Proof::parse(&proof) {
        Some(Proof::Link(token)) => return Ok(Ok(token)),
        Some(Proof::Code(_)) => Fault::CodeInApp,
        None => Fault::Proof,
    };
    Ok(Err(Shown { proof, ..Shown::of(fault) }))
}
