//! `/account/reset`: where somebody without a password asks for a mail, and where its link leads.

use actix_web::HttpResponse;

use crate::accounts::throttle::Admission;
use crate::accounts::{Accounts, Asked, MailPolicy, MailProof, MailProofError, NameError, NewPassword};
use crate::domain::email::EmailAddress;
use crate::domain::one_time::Purpose;
use crate::domain::token::PlainToken;
use crate::http::error::ApiError;
use crate::http::extract::body::UnreadBody;
use crate::http::extract::client::HttpClient;
use crate::http::extract::form::{Form, SameOrigin};
use crate::http::pages::account::{open, take};
use crate::http::pages::proof::Proof;
use crate::http::pages::templates::{Fault, Page, Shown, Step};
use crate::http::state::State;
use crate::passwords::PlainPassword;
use crate::repository::Whom;

pub(crate) async fn show(state: State) -> Result<HttpResponse, ApiError> {
    open(&state, Page::Reset)
}

pub(crate) async fn submit(
    state: State,
    client: HttpClient,
    is_ours: Result<SameOrigin, ApiError>,
    body: UnreadBody,
) -> Result<HttpResponse, actix_web::Error> {
    take(&state, Page::Reset, is_ours, &client, body, async |policy, admission, mut form| {
        if form.take("step") == "ask" {
            ask(&state.accounts, policy, admission, form, &client).await
        } else {
            set(&state.accounts, policy, admission, form, &client).await
        }
    })
    .await
}

/// Asks for a mail. The page is the same whether or not there is such an account.
async fn ask(
    accounts: &Accounts,
    policy: &MailPolicy,
    admission: Admission<'_>,
    mut form: Form,
    client: &HttpClient,
) -> Result<Shown, ApiError> {
    let account = form.take("account");
    form.refuse_unknown()?;
    let whom = match whom(accounts, account.trim()).await {
        Ok(whom) => whom,
        Err(NameError::Invalid(_)) => return Ok(Shown { account, ..Shown::of(Fault::Account) }),
        Err(NameError::Repository(error)) => return Err(error.into()),
    };
    let asked = Asked { whom, purpose: Purpose::ResetPassword, link: None };
    let request = accounts.ask_for_mail(policy, admission, asked, client)?;
    Ok(Shown { state: Step::Asked, account, request: request.reveal().to_owned(), ..Shown::default() })
}

/// Whom a person means. What can be an address is taken for one.
async fn whom(accounts: &Accounts, text: &str) -> Result<Whom, NameError> {
    match EmailAddress::parse(text) {
        Ok(email) => Ok(Whom::Email(email)),
        Err(_) => accounts.read_name(text).await.map(Whom::Username),
    }
}

/// Sets the new password, by the link or by the code with the request id of this page.
async fn set(
    accounts: &Accounts,
    policy: &MailPolicy,
    admission: Admission<'_>,
    mut form: Form,
    client: &HttpClient,
) -> Result<Shown, ApiError> {
    let (account, request, typed) = (form.take("account"), form.take("request"), form.take("proof"));
    let password = form.take("new_password");
    form.refuse_unknown()?;
    let request_id = PlainToken::parse(&request);
    // Without a request id there is no form for a code.
    let state = if request_id.is_some() { Step::Asked } else { Step::Start };
    let request = if request_id.is_some() { request } else { String::new() };
    let wrong = |fault| Shown { state, account: account.clone(), request: request.clone(), ..Shown::of(fault) };
    let proof = match (Proof::parse(&typed), request_id) {
        (Some(Proof::Link(token)), _) => MailProof::Link(token),
        (Some(Proof::Code(code)), Some(request)) => MailProof::Code(request, code),
        (Some(Proof::Code(_)), None) => return Ok(wrong(Fault::CodeAlone)),
        (None, _) => return Ok(Shown { proof: typed, ..wrong(Fault::Proof) }),
    };
    let new = match new_password(accounts, password) {
        Ok(new) => new,
        Err(fault) => {
            // A link's token needs no box any more.
            let state = if matches!(proof, MailProof::Link(_)) && request.is_empty() { Step::Link } else { state };
            return Ok(Shown { state, proof: typed, ..wrong(fault) });
        }
    };
    match accounts.reset_password(policy, admission, proof, new, client).await {
        Ok(()) => Ok(Shown { state: Step::Done, ..Shown::default() }),
        Err(MailProofError::Refused) => Ok(wrong(Fault::Wrong)),
        Err(error) => Err(error.into()),
    }
}

/// The new password, where the policy takes it.
fn new_password(accounts: &Accounts, password: String) -> Result<NewPassword, Fault> {
    let policy = &accounts.password_policy;
    let is_long = password.chars().count() >= policy.min_length;
    let password = PlainPassword::parse("new_password", password).map_err(|_| Fault::PasswordMissing)?;
    let fault = if is_long { Fault::PasswordCommon } else { Fault::PasswordShort };
    NewPassword::accept(policy, "new_password", password).map_err(|_| fault)
}
