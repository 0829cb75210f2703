//! The OpenAPI document, made from the handlers of the route table. A test holds the committed one to it, which is the one
//! that is served.

use bytesize::ByteSize;
use serde_json::json;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use crate::http::error::ApiError;
use crate::http::extract::body::{NO_FORM, NOT_JSON};
use crate::http::routes::Calls;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "authtokens",
        license(name = "MIT OR Apache-2.0"),
        description = "Accounts and revocable tokens for small apps. Register or log in, and send the token that you are \
            given as `Authorization: Token <token>` (`Bearer` works too). Every error is an object with the single \
            attribute `error`. Every path works with and without a trailing slash.",
    ),
    tags(
        (name = "account", description = "Register, log in, log out"),
        (name = "user", description = "The account behind the token"),
        (name = "factors", description = "The second factor, and how the account can be got into"),
        (name = "mail", description = "The account's address, and the ways back in by mail: where the service sends none, these calls answer 404"),
        (name = "identities", description = "Logins by Apple, Google and other providers: where the service knows none, these calls answer 404"),
        (name = "passkeys", description = "Passkeys (WebAuthn): a way in without a password. Where the service has none, these calls answer 404"),
        (name = "lists", description = "What the user has and what the user wishes for"),
        (name = "sessions", description = "The tokens that are out, to be seen and ended one by one"),
        (name = "services", description = "For other services and proxies: whose a token is"),
        (name = "staff", description = "Other people's accounts, for staff and superusers"),
        (name = "service", description = "For whoever watches over the process"),
    ),
)]
struct Api;

/// How a token is presented. OpenAPI knows no scheme `Token`, so the document names its synonym `Bearer`.
struct TokenScheme;

impl Modify for TokenScheme {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("40 lowercase hex digits")
            .description(Some("The `token` that registering or logging in answered."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("Token", SecurityScheme::Http(scheme));
        let service = HttpBuilder::new()
            .scheme(HttpAuthScheme::Basic)
            .description(Some("The name and the key of a service, as `authtokens service add` has shown it."))
            .build();
        components.add_security_scheme("Service", SecurityScheme::Http(service));
    }
}

/// Says which body may be left out. `Option` would say so too, and that the body may be `null`.
struct OptionalBodies;

impl Modify for OptionalBodies {
    fn modify(&self, document: &mut Document) {
        let may_lack_it = |operation: &&mut Operation| operation.operation_id.as_deref() == Some("delete_user");
        for operation in operations(document, "/api/user").filter(may_lack_it) {
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                body.required = None;
            }
        }
    }
}

/// Adds the errors that any call may answer, so that a handler documents only its own.
struct CommonAnswers;

impl Modify for CommonAnswers {
    fn modify(&self, document: &mut Document) {
        for operation in operations(document, "/api/") {
            let mut common = vec![
                ("500", "A fault of the service"),
                ("503", "The service cannot do this now; `Retry-After` says when to try again"),
            ];
            if operation.request_body.is_some() {
                common.extend([
                    ("408", "The body did not arrive in time"),
                    ("413", "The body is too large"),
                    ("415", "The body is of another type, or is compressed"),
                ]);
            }
            for (status, description) in common {
                let error = Ref::from_schema_name("ErrorResponse");
                let content = ContentBuilder::new().schema(Some(error)).build();
                let answer =
                    ResponseBuilder::new().description(description).content("application/json", content).build();
                operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(answer));
            }
        }
    }
}

/// Adds an example sentence to each error that has none. Each 400 has its own.
struct Sentences;

impl Modify for Sentences {
    fn modify(&self, document: &mut Document) {
        for operation in operations(document, "/") {
            // A call that takes a password is throttled, so it documents a 429.
            let takes_password = operation.responses.responses.contains_key("429");
            let takes_form = operation.operation_id.as_deref() == Some("introspect_token");
            for (status, answer) in &mut operation.responses.responses {
                let Some(error) = usual_error(status) else { continue };
                let RefOr::T(answer) = answer else { continue };
                let error = if status == "413" && takes_password { too_large(ByteSize::kib(16)) } else { error };
                let error =
                    if status == "415" && takes_form { ApiError::UnsupportedMediaType { why: NO_FORM } } else { error };
                for content in answer.content.values_mut() {
                    let RefOr::T(content) = content else { continue };
                    content.example.get_or_insert_with(|| json!({"error": error.to_string()}));
                }
            }
        }
    }
}

fn usual_error(status: &str) -> Option<ApiError> {
    Some(match status {
        "401" => ApiError::Unauthorized,
        "403" => ApiError::Forbidden,
        "404" => ApiError::NotFound,
        "408" => ApiError::BodyTimeout,
        "409" => ApiError::LastSuperuser,
        "413" => too_large(ByteSize::mib(1)),
        "415" => ApiError::UnsupportedMediaType { why: NOT_JSON },
        "429" => ApiError::TooManyRequests { retry_after: 1 },
        "500" => ApiError::Internal("an example".into()),
        "503" => ApiError::Unavailable { retry_after: 1, cause: None },
        _ => return None,
    })
}

fn too_large(limit: ByteSize) -> ApiError {
    ApiError::BodyTooLarge { limit }
}

fn operations<'a>(document: &'a mut Document, below: &str) -> impl Iterator<Item = &'a mut Operation> {
    let items = document.paths.paths.iter_mut().filter(move |(path, _)| path.starts_with(below));
    items.flat_map(|(_, item)| {
        [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
    })
}

/// The OpenAPI document of this version.
#[must_use]
pub fn document() -> Document {
    let mut document = Api::openapi().merge_from(Calls::openapi());
    TokenScheme.modify(&mut document);
    OptionalBodies.modify(&mut document);
    CommonAnswers.modify(&mut document);
    Sentences.modify(&mut document);
    document
}
