//! JSON as the API speaks it: strict to read, and written with the source's own spacing.
//!
//! Reading: a body must be one object. serde alone would also read a struct from an array, would let the last of two
//! equal keys win, and would put submitted text into its error messages; [`Value::parse`] does none of these. Depth is
//! bounded by `serde_json`'s own limit of 128.
//!
//! Writing: one space behind every colon and comma, as the source document prints `{"status": "success"}`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::ser::Formatter;
use thiserror::Error;

/// Why a body is not an object of the API. Never holds a part of the body.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// Not JSON at all, or too deep, or not UTF-8.
    #[error("the body must be valid JSON in UTF-8")]
    NotJson,
    /// JSON, but an array, a string, a number.
    #[error("the body must be a JSON object")]
    NotAnObject,
    /// Somewhere in it, an object has a key twice.
    #[error("the body must not have a key twice")]
    DuplicateKey,
}

/// A JSON value whose objects have each key once.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string.
    String(String),
    /// An object.
    Object(Object),
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number that fits 64 bits.
    Integer(i64),
    /// An array.
    Array(Vec<Value>),
    /// Anything else: the API asks no more of it than that it is well formed.
    Other,
}

impl Value {
    /// Reads a request's body.
    ///
    /// # Errors
    /// [`Malformed`] says why it is not JSON of the API.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        serde_json::from_slice(body).map_err(|error| {
            if error.to_string().starts_with(DUPLICATE_KEY) { Malformed::DuplicateKey } else { Malformed::NotJson }
        })
    }
}

/// A JSON object with each key once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Object(BTreeMap<String, Value>);

impl Object {
    /// Takes a key's value out, where the key is there.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key)
    }

    /// The keys that are left.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// How our own complaint is told from `serde_json`'s, which carries no kind of its own for it.
const DUPLICATE_KEY: &str = "duplicate key";

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.insert(key, map.next_value()?).is_some() {
                return Err(A::Error::custom(DUPLICATE_KEY));
            }
        }
        Ok(Value::Object(Object(object)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(value) = seq.next_element()? {
            array.push(value);
        }
        Ok(Value::Array(array))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Boolean(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Other, Value::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other)
    }
}

/// Writes an answer's body.
///
/// # Errors
/// Only when a value's own `Serialize` fails.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(512);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut body, Spaced))?;
    Ok(body)
}

/// One space behind each colon and comma, and no other.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_sources_spacing() {
        let answer = serde_json::json!({"status": "success", "list": [1, 2, 3], "none": {}});
        assert_eq!(
            String::from_utf8(to_vec(&answer).unwrap()).unwrap(),
            r#"{"list": [1, 2, 3], "none": {}, "status": "success"}"#
        );
    }

    #[test]
    fn a_body_is_one_json_value_whose_objects_have_each_key_once() {
        for (body, why) in [
            ("", Malformed::NotJson),
            (r#"{"a": 1} x"#, Malformed::NotJson),
            (r#"{"a": "\ud800"}"#, Malformed::NotJson),
            (r#"{"a": 1e999}"#, Malformed::NotJson),
            (r#"{"a": 1, "a": 1}"#, Malformed::DuplicateKey),
            (r#"{"a": 1, "\u0061": 2}"#, Malformed::DuplicateKey),
            (r#"{"other": [{"a": 1, "a": 2}]}"#, Malformed::DuplicateKey),
        ] {
            assert_eq!(Value::parse(body.as_bytes()), Err(why), "{body}");
        }
        assert_eq!(Value::parse(b"{\"a\": \"\xff\"}"), Err(Malformed::NotJson));
        assert_eq!(Value::parse("[".repeat(100_000).as_bytes()), Err(Malformed::NotJson));
        assert!(Value::parse(br#"{"a": {"b": [null, true, 1, -1, 1.5, "x"]}}"#).is_ok());
    }
}
