//! Reading a request's body: a JSON object within its size and its time.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::rc::Rc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use actix_web::{FromRequest, HttpRequest, web};
use bytesize::ByteSize;
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;

use crate::auth::Authenticated;
use crate::connection::ConnectionState;
use crate::error::ApiError;
use crate::json::{Malformed, Object, Value};
use crate::session::Caller;
use crate::user::{ProfileChanges, ProfileField, ProfileText};

/// How large a body may be and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// The size.
    pub size: ByteSize,
    /// The time from the request's head to the body's last byte.
    pub time: Duration,
}

/// A JSON body that is an object, read whole.
pub(super) struct JsonBody(pub(super) Object);

impl FromRequest for JsonBody {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = BodyReader::new(request, payload);
        Box::pin(async move { Self::from_value(body.read().await?) })
    }
}

/// A JSON body of a caller whose session was found first: a stranger's body is not even read.
pub(super) struct AuthenticatedBody {
    pub(super) caller: Caller,
    pub(super) body: Value,
}

impl FromRequest for AuthenticatedBody {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let authenticated = Authenticated::from_request(request, payload);
        let body = BodyReader::new(request, payload);
        Box::pin(async move {
            let Authenticated(caller) = authenticated.await?;
            Ok(Self { caller, body: body.read().await? })
        })
    }
}

/// A body that nobody has read: what the caller may do comes first.
pub(super) struct UnreadBody(BodyReader);

impl FromRequest for UnreadBody {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self(BodyReader::new(request, payload))))
    }
}

impl UnreadBody {
    pub(super) async fn read(self) -> Result<JsonBody, ApiError> {
        JsonBody::from_value(self.0.read().await?)
    }
}

/// What is needed to read a body later than the request's head.
struct BodyReader {
    limits: Option<web::Data<BodyLimits>>,
    headers: Result<(), ApiError>,
    announced: Option<usize>,
    payload: Payload,
    connection: Option<Rc<ConnectionState>>,
}

impl BodyReader {
    fn new(request: &HttpRequest, payload: &mut Payload) -> Self {
        Self {
            limits: request.app_data::<web::Data<BodyLimits>>().cloned(),
            headers: check_headers(request.headers()),
            announced: content_length(request.headers()),
            payload: payload.take(),
            connection: request.conn_data::<Rc<ConnectionState>>().cloned(),
        }
    }

    async fn read(self) -> Result<Value, ApiError> {
        let limits = self.limits.ok_or_else(|| ApiError::Internal("no body limits are configured".into()))?;
        self.headers?;
        let size = usize::try_from(limits.size.as_u64()).unwrap_or(usize::MAX);
        if self.announced.is_some_and(|length| length > size) {
            return Err(ApiError::BodyTooLarge { limit: limits.size });
        }
        let receiving = self.connection.as_ref().map(ConnectionState::receive);
        let body = tokio::time::timeout(limits.time, read(self.payload, size, limits.size))
            .await
            .map_err(|_| ApiError::BodyTimeout)??;
        if let Some(receiving) = receiving {
            receiving.complete();
        }
        Ok(Value::parse(&body)?)
    }
}

async fn read(mut payload: Payload, size: usize, limit: ByteSize) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| ApiError::InvalidData("the body did not arrive whole".to_owned()))?;
        if body.len() + chunk.len() > size {
            return Err(ApiError::BodyTooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What is said of a body that is not JSON by its content type.
pub(super) const NOT_JSON: &str = "The body must have the Content-Type application/json.";

/// JSON, and not compressed: what is never inflated cannot be a bomb.
fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut types = headers.get_all(CONTENT_TYPE).peekable();
    let is_json = types.peek().is_some() && types.all(|value| value.to_str().is_ok_and(is_json));
    if !is_json {
        return Err(ApiError::UnsupportedMediaType { why: NOT_JSON });
    }
    let is_plain = headers.get_all(CONTENT_ENCODING).all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if !is_plain {
        return Err(ApiError::UnsupportedMediaType { why: "The body must not be compressed." });
    }
    Ok(())
}

/// `application/json` or `application/<anything>+json`, with any parameters.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.strip_prefix("application/").unwrap_or_default();
    subtype == "json" || subtype.strip_suffix("+json").is_some_and(|name| !name.is_empty())
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

impl JsonBody {
    /// Takes a body that is an object.
    pub(super) fn from_value(body: Value) -> Result<Self, ApiError> {
        match body {
            Value::Object(object) => Ok(Self(object)),
            _ => Err(Malformed::NotAnObject.into()),
        }
    }

    /// The profile's fields that are there, each a text that it can hold.
    pub(super) fn accept_profile(&mut self) -> Result<ProfileChanges, ApiError> {
        let mut changes = Vec::new();
        for field in ProfileField::ALL {
            if let Some(text) = self.accept(field.name())? {
                changes.push(ProfileText::parse(field, text)?);
            }
        }
        Ok(changes)
    }

    /// A string that must be there.
    pub(super) fn require(&mut self, field: &'static str) -> Result<String, ApiError> {
        self.accept(field)?.ok_or_else(|| ApiError::InvalidData(format!("{field} is required")))
    }

    /// A string that may be there.
    pub(super) fn accept(&mut self, field: &'static str) -> Result<Option<String>, ApiError> {
        match self.0.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::InvalidData(format!("{field} must be a string"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charset_or_plus_json_is_fine_and_another_type_is_not() {
        for good in [
            "application/json",
            "APPLICATION/JSON",
            "application/json;charset=utf-8",
            "application/json ; charset=\"utf-8\"",
            "application/vnd.api+json",
        ] {
            assert!(is_json(good), "{good}");
        }
        for bad in [
            "",
            "text/json",
            "text/plain",
            "application/jsonx",
            "application/+json",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
