//! `/api/introspect`: other services ask whose a token is (RFC 7662).

use actix_web::HttpResponse;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::token::PresentedToken;
use crate::http::error::ApiError;
use crate::http::extract::body::UnreadBody;
use crate::http::extract::caller::Unauthenticated;
use crate::http::extract::service::AuthenticatedService;
use crate::http::json::Malformed;
use crate::http::state::State;
use crate::http::views::introspection::{INACTIVE, IntrospectionResponse};
use crate::http::views::{ErrorResponse, respond};
use crate::repository::RepositoryError;

/// What a service asks.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "it documents the form, which is read field by field")]
pub(crate) struct IntrospectionRequest {
    /// The token that somebody has presented to the service.
    #[schema(example = "d96163b8bc9127d8c5d5839018580123c64a324b")]
    token: String,
    /// It is ignored: there is one kind of token.
    #[schema(example = "access_token")]
    token_type_hint: Option<String>,
}

/// Ask whose a token is (RFC 7662)
#[utoipa::path(
    post, path = "/api/introspect", operation_id = "introspect_token", tag = "services", security(("Service" = [])),
    request_body(content = IntrospectionRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "What it is worth; of one that is not live exactly `{\"active\":false}`", body = IntrospectionResponse),
        (status = 400, description = "The form has no `token`, or two", body = ErrorResponse, example = json!({"error": "Invalid Data: token is missing"})),
        (status = 401, description = "No service has this name and this key", body = ErrorResponse, example = json!({"error": "A service's name and key are required."})),
        (status = 429, description = "The service asks too often, or too many wrong keys came from this address", body = ErrorResponse),
    ),
)]
pub(crate) async fn introspect(
    _: AuthenticatedService,
    body: UnreadBody,
    state: State,
) -> Result<HttpResponse, ApiError> {
    let mut form = body.read_form().await?;
    let token = form.take_given("token").ok_or(Malformed::Missing("token"))?;
    let inactive = || Ok(HttpResponse::Ok().body(INACTIVE));
    let Some(token) = PresentedToken::parse(&token) else { return inactive() };
    // Whose address it was is known to the service that asks.
    let Unauthenticated { token, caller } = Unauthenticated::of(token, None, &state);
    match state.accounts.find_held_token(&token, &caller).await {
        Ok(held) => {
            let policy = &state.accounts.session_policy;
            respond(HttpResponse::Ok(), &IntrospectionResponse::of(&held, &caller.digest, policy))
        }
        Err(RepositoryError::NoSession) => inactive(),
        Err(error) => Err(error.into()),
    }
}
