//! `POST /api/register`, `/api/login` and `/api/logout`.

use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::body::JsonBody;
use super::client::Client;
use super::respond;
use crate::auth::Session;
use crate::clock::Clock;
use crate::error::ApiError;
use crate::password::{PasswordPolicy, Passwords, PlainPassword};
use crate::repository::{Repository, RepositoryError, UniqueField, VerifiedLogin};
use crate::token::PlainToken;
use crate::user::{NewUser, Profile, ProfileField, User, Username};

/// A new session: the only answer that shows a token.
#[derive(Serialize)]
struct SessionResponse<'a> {
    token: &'a str,
    user: &'a User,
}

#[derive(Serialize)]
struct StatusResponse {
    status: &'static str,
}

pub(super) async fn register(
    client: Client,
    mut body: JsonBody,
    repository: web::Data<dyn Repository>,
    passwords: web::Data<Passwords>,
    policy: web::Data<PasswordPolicy>,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    let username = Username::parse(&body.require("username")?)?;
    let password = PlainPassword::parse(body.require("password")?)?;
    policy.check(&password)?;
    let mut profile = Profile::default();
    for field in ProfileField::ALL {
        if let Some(text) = body.accept(field.name())? {
            profile.set(field, text)?;
        }
    }
    // Only to spare a taken name its hash; who is first is decided by the store.
    if repository.find_credentials(&username).await?.is_some() {
        return Err(RepositoryError::Conflict(UniqueField::Username).into());
    }
    let password_hash = passwords.hash(password, client.gone()).await?;
    let token = PlainToken::generate();
    let user = NewUser { username, password_hash, profile };
    let user = repository.register_user(user, client.session(token.digest()), clock.now()).await?;
    respond(HttpResponse::Created(), &SessionResponse { token: token.reveal(), user: &user })
}

pub(super) async fn log_in(
    client: Client,
    mut body: JsonBody,
    repository: web::Data<dyn Repository>,
    passwords: web::Data<Passwords>,
    clock: web::Data<Clock>,
) -> Result<HttpResponse, ApiError> {
    let username = Username::parse(&body.require("username")?)?;
    let password = PlainPassword::parse(body.require("password")?)?;
    // An account that may not be used is treated like one that does not exist, from here to the last byte.
    let credentials = repository.find_credentials(&username).await?.filter(|credentials| credentials.is_active);
    let stored = credentials.as_ref().map(|credentials| &credentials.password_hash);
    let verification = passwords.verify(password, stored, client.gone()).await?;
    let credentials = credentials.filter(|_| verification.matches).ok_or(ApiError::LoginFailed)?;

    let token = PlainToken::generate();
    let login = VerifiedLogin {
        user_id: credentials.user_id,
        verified_against: credentials.password_hash,
        rehashed: verification.rehashed,
    };
    let user = repository
        .open_session(login, client.session(token.digest()), clock.now())
        .await?
        .ok_or(ApiError::LoginFailed)?;
    respond(HttpResponse::Ok(), &SessionResponse { token: token.reveal(), user: &user })
}

pub(super) async fn log_out(session: Session, repository: web::Data<dyn Repository>) -> Result<HttpResponse, ApiError> {
    if repository.revoke_session(&session.digest).await? {
        respond(HttpResponse::Ok(), &StatusResponse { status: "success" })
    } else {
        Err(ApiError::Unauthorized)
    }
}
