//! A form of a page, as a browser sends it, and whether it was our page that sent it.

use std::collections::BTreeMap;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderName, ORIGIN};
use actix_web::{FromRequest, HttpRequest};

use crate::http::error::ApiError;
use crate::http::json::Malformed;
use crate::http::state::State;

/// What a form has sent: each field once. They are taken out one by one; any that is left is unknown.
pub(crate) struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads `application/x-www-form-urlencoded` more strictly than the URL standard does: a broken escape, a byte that is
    /// not UTF-8, and a field that is given twice are refused, and not guessed at.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Malformed> {
        let malformed = || Malformed::Refused("the form cannot be understood".to_owned());
        let mut fields = BTreeMap::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let middle = pair.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
            let name = decoded(&pair[..middle]).ok_or_else(malformed)?;
            let value = decoded(&pair[middle + 1..]).ok_or_else(malformed)?;
            if fields.insert(name, value).is_some() {
                return Err(Malformed::Refused("the form must not have a field twice".to_owned()));
            }
        }
        Ok(Self(fields))
    }

    /// Takes a field; it is empty where it was not sent.
    pub(crate) fn take(&mut self, name: &str) -> String {
        self.0.remove(name).unwrap_or_default()
    }

    /// Takes a field; `None` where it was not sent.
    pub(crate) fn take_given(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Refuses fields that were not taken: no form of ours has them.
    pub(crate) fn refuse_unknown(&self) -> Result<(), ApiError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(ApiError::InvalidData("the form has a field that this page does not know".to_owned()))
        }
    }
}

/// A name or a value, without its escapes.
pub(super) fn decoded(text: &[u8]) -> Option<String> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.iter();
    while let Some(byte) = left.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => digit(left.next()?)? << 4 | digit(left.next()?)?,
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Proof that a form was sent by a page of ours, as far as the browser tells. Other programs send neither header; they
/// have nothing to gain, for there is no cookie that a page of another origin could use.
pub(crate) struct SameOrigin;

impl FromRequest for SameOrigin {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let headers = request.headers();
        let header = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let is_ours = match (header(&HeaderName::from_static("sec-fetch-site")), header(&ORIGIN)) {
            // A form that a person sends again by loading the page anew counts as "none" in some browsers.
            (Some(site), _) => ["same-origin", "none"].contains(&site),
            // Our pages tell nobody where they are, so that older browsers give no origin with their forms.
            (None, None | Some("null")) => true,
            (None, Some(origin)) => {
                let pages = request.app_data::<State>().and_then(|state| state.pages.as_ref());
                pages.is_some_and(|pages| pages.origin() == origin)
            }
        };
        ready(if is_ours { Ok(Self) } else { Err(ApiError::ForeignForm) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(body: &str) -> Option<Vec<(String, String)>> {
        Form::read(body.as_bytes()).ok().map(|form| form.0.into_iter().collect())
    }

    #[test]
    fn a_form_is_read_as_browsers_send_it_and_nothing_is_guessed() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(fields(""), Some(vec![]));
        assert_eq!(fields("a=1&b=x+y%2B%26%3D"), Some(vec![pair("a", "1"), pair("b", "x y+&=")]));
        assert_eq!(fields("a=%C3%A9&%62="), Some(vec![pair("a", "é"), pair("b", "")]));
        assert_eq!(fields("a=b=c&"), Some(vec![pair("a", "b=c")]));
        for bad in ["a", "a=1&a=2", "a=1&%61=2", "a=%", "a=%4", "a=%zz", "a=%ff", "a=%C3"] {
            assert_eq!(fields(bad), None, "{bad}");
        }
        assert!(Form::read(b"a=\xff").is_err());
    }

    proptest! {
        #[test]
        fn what_was_typed_is_what_is_read(name in "[a-z]{1,8}", value in "\\PC{0,40}") {
            let body = form_urlencoded::Serializer::new(String::new()).append_pair(&name, &value).finish();
            prop_assert_eq!(fields(&body), Some(vec![(name, value)]));
        }
    }
}
