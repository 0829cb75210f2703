//! Reads a request's body: JSON, or a form of a page of ours, within its limits of size, time and shared memory.
//!
//! No extractor reads a body. A handler does, with `UnreadBody::read` and its like, once the caller is authenticated
//! and authorized: whoever is refused before that has cost no memory. The text is dropped once it has been parsed.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::rc::Rc;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING};
use actix_web::{FromRequest, HttpRequest};
use bytesize::ByteSize;
use futures_util::StreamExt as _;

use crate::http::body_limits::{BodyBudget, BodyLimits};
use crate::http::error::ApiError;
use crate::http::extract::form::Form;
use crate::http::json::{self, Malformed, Request};
use crate::http::state::{NO_STATE, State};
use crate::system::blocking;
use crate::transport::connection::ConnectionState;

/// The longest body that is parsed on the async thread: well under a millisecond's work. A longer one is parsed on a
/// blocking thread, so that no other request waits for it.
const PARSED_IN_PLACE: usize = 32 * 1024;

/// A body's text, which gives back to the budget what it has taken when it is dropped.
struct Text {
    bytes: Vec<u8>,
    budget: Arc<BodyBudget>,
}

impl Text {
    fn add(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        self.budget.take(self.bytes.len(), chunk.len())?;
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes.len());
    }
}

/// A body that has not been read.
pub(crate) struct UnreadBody {
    state: Option<State>,
    content: Content,
    announced: Option<usize>,
    is_absent: bool,
    payload: Payload,
    connection: Option<Rc<ConnectionState>>,
}

impl FromRequest for UnreadBody {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self {
            state: request.app_data::<State>().cloned(),
            content: Content::of(request.headers()),
            announced: content_length(request.headers()),
            is_absent: is_absent(request.headers()),
            payload: payload.take(),
            connection: request.conn_data::<Rc<ConnectionState>>().cloned(),
        }))
    }
}

impl UnreadBody {
    /// Whether the request has no body, and none is announced by its content type.
    pub(crate) fn is_absent(&self) -> bool {
        self.is_absent
    }

    /// Reads an object.
    pub(crate) async fn read<T: Request + Send + 'static>(self) -> Result<T, ApiError> {
        self.parse(Format::Json, |limits| limits.size, json::read).await
    }

    /// Reads an object with a password, for which the limit is lower.
    pub(crate) async fn read_with_password<T: Request + Send + 'static>(self) -> Result<T, ApiError> {
        self.parse(Format::Json, |limits| limits.size_with_password.min(limits.size), json::read).await
    }

    /// Reads what a form of ours has sent, within the limit of a body with a password.
    pub(crate) async fn read_form(self) -> Result<Form, ApiError> {
        self.parse(Format::Form, |limits| limits.size_with_password.min(limits.size), Form::read).await
    }

    /// Reads an array of numbers. `take` is given them one by one, as [`json::read_numbers`] does.
    pub(crate) async fn read_numbers<T: Default + Send + 'static>(
        self,
        mut take: impl FnMut(&mut T, Option<i64>) + Send + 'static,
    ) -> Result<T, ApiError> {
        let parse = move |text: &[u8]| {
            let mut taken = T::default();
            json::read_numbers(text, &mut |number| take(&mut taken, number)).map(|()| taken)
        };
        self.parse(Format::Json, |limits| limits.size, parse).await
    }

    async fn parse<T: Send + 'static>(
        self,
        expected: Format,
        limit: impl FnOnce(&BodyLimits) -> ByteSize,
        parse: impl FnOnce(&[u8]) -> Result<T, Malformed> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.content.must_be(expected)?;
        let text = self.receive(limit).await?;
        if text.bytes.len() <= PARSED_IN_PLACE {
            return Ok(parse(&text.bytes)?);
        }
        let parsed = blocking::run(move || parse(&text.bytes)).await;
        Ok(parsed.map_err(|error| ApiError::Internal(Box::new(error)))??)
    }

    async fn receive(self, limit: impl FnOnce(&BodyLimits) -> ByteSize) -> Result<Text, ApiError> {
        let state = self.state.ok_or_else(|| ApiError::Internal(NO_STATE.into()))?;
        let limits = &state.body_limits;
        let limit = limit(limits);
        let size = usize::try_from(limit.as_u64()).unwrap_or(usize::MAX);
        if self.announced.is_some_and(|length| length > size) {
            return Err(ApiError::BodyTooLarge { limit });
        }
        let receiving = self.connection.as_ref().map(ConnectionState::receive);
        let mut text = Text { bytes: Vec::new(), budget: Arc::clone(&limits.budget) };
        let mut payload = self.payload;
        let receive = async {
            while let Some(chunk) = payload.next().await {
                let chunk = chunk.map_err(|_| ApiError::InvalidData("the body did not arrive whole".to_owned()))?;
                if text.bytes.len() + chunk.len() > size {
                    return Err(ApiError::BodyTooLarge { limit });
                }
                text.add(&chunk)?;
            }
            Ok(())
        };
        tokio::time::timeout(limits.time, receive).await.map_err(|_| ApiError::BodyTimeout)??;
        if let Some(receiving) = receiving {
            receiving.complete();
        }
        Ok(text)
    }
}

/// The error of a body whose content type is not JSON.
pub(crate) const NOT_JSON: &str = "The body must have the Content-Type application/json.";

/// The error of a body that is no form.
pub(crate) const NO_FORM: &str = "The body must have the Content-Type application/x-www-form-urlencoded.";

/// What a body is written in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Form,
}

impl Format {
    /// That of a content type, whatever its parameters: `application/json` or `application/<anything>+json`, or a form as
    /// browsers send it.
    fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.strip_prefix("application/")? {
            "json" => Some(Self::Json),
            "x-www-form-urlencoded" => Some(Self::Form),
            subtype => subtype.strip_suffix("+json").filter(|name| !name.is_empty()).map(|_| Self::Json),
        }
    }
}

/// What the headers say of a body.
struct Content {
    /// `None` where it is neither, or where there are several that differ.
    format: Option<Format>,
    is_compressed: bool,
}

impl Content {
    fn of(headers: &HeaderMap) -> Self {
        let mut formats = headers.get_all(CONTENT_TYPE).map(|value| value.to_str().ok().and_then(Format::of));
        let first = formats.next().flatten();
        let mut codings = headers.get_all(CONTENT_ENCODING);
        Self {
            format: first.filter(|_| formats.all(|format| format == first)),
            is_compressed: !codings.all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity")),
        }
    }

    /// Checks that the body is of the right type and not compressed: what is never inflated cannot be a decompression
    /// bomb.
    fn must_be(&self, expected: Format) -> Result<(), ApiError> {
        if self.format != Some(expected) {
            let why = match expected {
                Format::Json => NOT_JSON,
                Format::Form => NO_FORM,
            };
            return Err(ApiError::UnsupportedMediaType { why });
        }
        if self.is_compressed {
            return Err(ApiError::UnsupportedMediaType { why: "The body must not be compressed." });
        }
        Ok(())
    }
}

fn is_absent(headers: &HeaderMap) -> bool {
    let is_empty = !headers.contains_key(CONTENT_LENGTH) || content_length(headers) == Some(0);
    is_empty && !headers.contains_key(TRANSFER_ENCODING) && !headers.contains_key(CONTENT_TYPE)
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
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
            assert!(Format::of(good) == Some(Format::Json), "{good}");
        }
        for bad in [
            "",
            "text/json",
            "text/plain",
            "application/jsonx",
            "application/+json",
            "application/x-www-form-urlencoded",
        ] {
            assert!(Format::of(bad) != Some(Format::Json), "{bad}");
        }
    }
}
