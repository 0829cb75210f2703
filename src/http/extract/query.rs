//! The query of a list's URL: filters, and which page.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderValue, LINK};
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use form_urlencoded::Serializer;

use crate::http::error::ApiError;

/// How many entries a page has by default.
const DEFAULT_LIMIT: u32 = 50;
/// How many entries a page may have.
const MAX_LIMIT: u32 = 100;

/// The parameters of a query, each given once. They are taken out one by one; any that is left is unknown.
pub(crate) struct Query {
    path: String,
    given: BTreeMap<String, String>,
    left: BTreeMap<String, String>,
}

/// A query that has not been read: the caller is authenticated and authorized first.
pub(crate) struct UnreadQuery {
    path: String,
    query: String,
}

impl FromRequest for UnreadQuery {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self { path: request.path().to_owned(), query: request.query_string().to_owned() }))
    }
}

impl UnreadQuery {
    pub(crate) fn read(self) -> Result<Query, ApiError> {
        Query::parse(&self.path, &self.query)
    }
}

impl Query {
    fn parse(path: &str, query: &str) -> Result<Self, ApiError> {
        let malformed = |_| ApiError::InvalidData("the query cannot be understood".to_owned());
        let pairs = web::Query::<Vec<(String, String)>>::from_query(query).map_err(malformed)?.into_inner();
        let mut given = BTreeMap::new();
        for (name, value) in pairs {
            if given.insert(name, value).is_some() {
                return Err(ApiError::InvalidData("the query has a parameter twice".to_owned()));
            }
        }
        Ok(Self { path: path.to_owned(), left: given.clone(), given })
    }

    /// Takes a parameter and reads it, where it is given.
    pub(crate) fn take<T>(
        &mut self,
        name: &'static str,
        rule: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.left.remove(name) else { return Ok(None) };
        read(&text).map(Some).ok_or_else(|| ApiError::InvalidData(format!("{name} must be {rule}")))
    }

    pub(crate) fn take_boolean(&mut self, name: &'static str) -> Result<Option<bool>, ApiError> {
        self.take(name, "true or false", |text| text.parse().ok())
    }

    /// Takes the number of entries that the page may have.
    pub(crate) fn take_limit(&mut self) -> Result<u32, ApiError> {
        let rule = format!("a whole number from 1 to {MAX_LIMIT}");
        let limit =
            self.take("limit", &rule, |text| text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)))?;
        Ok(limit.unwrap_or(DEFAULT_LIMIT))
    }

    /// Refuses parameters that were not taken: this list does not know them.
    pub(crate) fn refuse_unknown(&self) -> Result<(), ApiError> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(ApiError::InvalidData("the query has a parameter that this list does not know".to_owned()))
        }
    }

    /// Adds the header `Link` for the next page (RFC 8288): the same query, from a key on.
    pub(crate) fn link_next(&self, response: &mut HttpResponse, key: &str, value: &str) {
        let mut query = Serializer::new(String::new());
        query.extend_pairs(self.given.iter().filter(|(name, _)| *name != key)).append_pair(key, value);
        let link = format!("<{}?{}>; rel=\"next\"", self.path, query.finish());
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(LINK, link);
        }
    }
}
