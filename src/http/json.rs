//! The API's JSON: read strictly, and written with the API specification's spacing.
//!
//! Reading: [`read`] parses a body into a request's struct with serde, more strictly than serde alone. A body must be
//! one object: serde would also read a struct from an array. No object in it may have a key twice, at any depth: serde
//! would not notice that in objects that it skips. An error is one of our sentences: serde's own can echo what was
//! submitted. Of a key that the struct does not have, only an eight-byte digest is kept, and only while the body is
//! read. Depth is bounded by `serde_json`'s own limit of 128.
//!
//! Writing: one space after every colon and comma, as the API specification prints `{"status": "success"}`.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::io;

use serde::Serialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer as _, MapAccess,
    SeqAccess, Visitor,
};
use serde_json::Error;
use serde_json::de::SliceRead;
use serde_json::ser::Formatter;
use thiserror::Error as ThisError;

/// Why a body is refused. It never holds a part of the body.
#[derive(Debug, ThisError, PartialEq, Eq)]
pub enum Malformed {
    /// Not JSON at all, or too deep, or not UTF-8.
    #[error("the body must be valid JSON in UTF-8")]
    NotJson,
    /// JSON, but not an object.
    #[error("the body must be a JSON object")]
    NotAnObject,
    /// JSON, but not an array.
    #[error("the body must be a list of item ids")]
    NotAList,
    /// Somewhere in it, an object has a key twice.
    #[error("the body must not have a key twice")]
    DuplicateKey,
    /// A required key is missing.
    #[error("{0} is required")]
    Missing(&'static str),
    /// A key's value has another type.
    #[error("{field} must be {expected}")]
    Mistyped {
        /// The key.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// It has a key that this call does not take.
    #[error("{0}")]
    Refused(String),
}

/// A request's body: a struct that derives [`Deserialize`]. Its fields are the keys that are read.
pub trait Request: DeserializeOwned {
    /// The error for a key that is none of its fields; `None` where such keys are ignored.
    #[must_use]
    fn refuse(_key: &str) -> Option<String> {
        None
    }
}

/// Reads a body that is an object.
///
/// # Errors
/// [`Malformed`] says why it is refused.
pub fn read<T: Request>(body: &[u8]) -> Result<T, Malformed> {
    read_with(body, b'{', Malformed::NotAnObject, |json, reading| {
        T::deserialize(Root { json, reading, refuse: T::refuse })
    })
}

/// Reads a body that is an array, element by element, so that a long array need not be kept. `take` is given each whole
/// number, and `None` for anything else. `1.0` is a whole number, as in JSON Schema.
///
/// # Errors
/// [`Malformed`] says why it is not an array.
pub fn read_numbers(body: &[u8], take: &mut dyn FnMut(Option<i64>)) -> Result<(), Malformed> {
    read_with(body, b'[', Malformed::NotAList, |json, reading| json.deserialize_seq(Numbers { reading, take }))
}

type Json<'de> = serde_json::Deserializer<SliceRead<'de>>;

fn read_with<'de, T>(
    body: &'de [u8],
    begins_with: u8,
    otherwise: Malformed,
    read: impl FnOnce(&mut Json<'de>, &Reading) -> Result<T, Error>,
) -> Result<T, Malformed> {
    let reading = Reading::default();
    let mut json = Json::from_slice(body);
    let outcome = if body.trim_ascii_start().first() == Some(&begins_with) {
        read(&mut json, &reading).and_then(|value| json.end().map(|()| value))
    } else {
        let skipped = AnyValue(&reading).deserialize(&mut json).and_then(|_| json.end());
        skipped.and_then(|()| Err(reading.fail(otherwise)))
    };
    outcome.map_err(|error| reading.explain(&error))
}

/// The state of reading a body.
#[derive(Default)]
struct Reading {
    /// The first error that is not one of syntax.
    found: RefCell<Option<Malformed>>,
    /// The keys that the struct has.
    fields: Cell<&'static [&'static str]>,
    /// Seeded for each body, so that nobody can choose keys that collide.
    hasher: RandomState,
}

impl Reading {
    /// Notes what is wrong, and returns the error that ends the reading.
    fn fail<E: serde::de::Error>(&self, malformed: Malformed) -> E {
        let error = E::custom(&malformed);
        self.found.borrow_mut().get_or_insert(malformed);
        error
    }

    fn explain(self, error: &Error) -> Malformed {
        if let Some(found) = self.found.into_inner() {
            return found;
        }
        // serde's message for a missing field of a derived struct.
        let text = error.to_string();
        if text.starts_with(&Malformed::DuplicateKey.to_string()) {
            return Malformed::DuplicateKey;
        }
        let name = text.strip_prefix("missing field `").and_then(|after| after.split('`').next());
        let missing = name.and_then(|name| self.fields.get().iter().find(|field| **field == name));
        missing.map_or(Malformed::NotJson, |field| Malformed::Missing(field))
    }
}

/// The body of a request, from which its struct is read.
struct Root<'a, D> {
    json: D,
    reading: &'a Reading,
    refuse: fn(&str) -> Option<String>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Root<'_, D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.reading.fields.set(fields);
        self.json.deserialize_map(Object { reading: self.reading, known: fields, refuse: self.refuse, visitor })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, D::Error> {
        Err(D::Error::custom("a request is a struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// An object that a struct is read from: the outermost, or one in it.
struct Object<'a, V> {
    reading: &'a Reading,
    known: &'static [&'static str],
    refuse: fn(&str) -> Option<String>,
    visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Object<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let keys = Keys::default();
        let Self { reading, known, refuse, visitor } = self;
        visitor.visit_map(Fields { map, keys, field: "", reading, known, refuse })
    }
}

/// Its keys and values. The struct sees only its own.
struct Fields<'a, A> {
    map: A,
    keys: Keys,
    field: &'static str,
    reading: &'a Reading,
    known: &'static [&'static str],
    refuse: fn(&str) -> Option<String>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let key = Key { reading: self.reading, known: Some((self.known, self.refuse)) };
        while let Some((digest, field)) = self.map.next_key_seed(key)? {
            self.keys.insert(digest, self.reading)?;
            if let Some(field) = field {
                self.field = field;
                let name: StrDeserializer<'_, A::Error> = field.into_deserializer();
                return seed.deserialize(name).map(Some);
            }
            self.map.next_value_seed(AnyValue(self.reading))?;
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.map.next_value_seed(Typed { inner: seed, field: self.field, reading: self.reading })
    }
}

/// A field's value, or its visitor: notes which type was expected where the value has another.
struct Typed<'a, T> {
    inner: T,
    field: &'static str,
    reading: &'a Reading,
}

impl Typed<'_, ()> {
    /// `serde_json` stops at the first byte of a value of the wrong type, so later errors are not found.
    fn note<V, E: serde::de::Error>(
        reading: &Reading,
        field: &'static str,
        expected: &'static str,
        outcome: Result<V, E>,
    ) -> Result<V, E> {
        outcome.map_err(|error| {
            let is_mistyped = error.to_string().starts_with("invalid type");
            if is_mistyped { reading.fail(Malformed::Mistyped { field, expected }) } else { error }
        })
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Typed<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<T::Value, D::Error> {
        self.inner.deserialize(Typed { inner: json, field: self.field, reading: self.reading })
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Typed<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        Typed::note(self.reading, self.field, "a string", self.inner.deserialize_string(visitor))
    }

    /// `null` does not stand for a missing field: it is a value of the wrong type.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        visitor.visit_some(self)
    }

    /// An object in the body. Keys that are none of its fields are ignored.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let object = Object { reading: self.reading, known: fields, refuse: |_| None, visitor };
        Typed::note(self.reading, self.field, "an object", self.inner.deserialize_map(object))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf unit unit_struct newtype_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

/// The error for a key that is none of a struct's fields, where such a key is one.
type Refuse = fn(&str) -> Option<String>;

/// Reads a key: its digest, and the field that it names, if any.
#[derive(Clone, Copy)]
struct Key<'a> {
    reading: &'a Reading,
    /// Given where a struct is read: its fields, and the error for a key that is none of them.
    known: Option<(&'static [&'static str], Refuse)>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = (u64, Option<&'static str>);

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = (u64, Option<&'static str>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        let digest = self.reading.hasher.hash_one(key);
        let Some((fields, refuse)) = self.known else { return Ok((digest, None)) };
        let field = fields.iter().find(|field| **field == key).copied();
        match field.map_or_else(|| refuse(key), |_| None) {
            Some(sentence) => Err(self.reading.fail(Malformed::Refused(sentence))),
            None => Ok((digest, field)),
        }
    }
}

/// The keys of an object so far, by their digests. Most objects have few.
#[derive(Default)]
struct Keys {
    first: [u64; 8],
    count: usize,
    others: HashSet<u64>,
}

impl Keys {
    fn insert<E: serde::de::Error>(&mut self, digest: u64, reading: &Reading) -> Result<(), E> {
        let first = &self.first[..self.count.min(self.first.len())];
        let is_new = !first.contains(&digest) && !self.others.contains(&digest);
        if !is_new {
            return Err(reading.fail(Malformed::DuplicateKey));
        }
        match self.first.get_mut(self.count) {
            Some(slot) => *slot = digest,
            None => drop(self.others.insert(digest)),
        }
        self.count += 1;
        Ok(())
    }
}

/// Reads a value of any type. Nothing of it is kept, unless it is a whole number.
#[derive(Clone, Copy)]
struct AnyValue<'a>(&'a Reading);

impl<'de> DeserializeSeed<'de> for AnyValue<'_> {
    type Value = Option<i64>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<i64>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue<'_> {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<i64>, A::Error> {
        let mut keys = Keys::default();
        while let Some((digest, _)) = map.next_key_seed(Key { reading: self.0, known: None })? {
            keys.insert(digest, self.0)?;
            map.next_value_seed(self)?;
        }
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<i64>, A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(None)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Option<i64>, E> {
        Ok(Some(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Option<i64>, E> {
        Ok(i64::try_from(number).ok())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Option<i64>, E> {
        // Below 2^53, every whole number has a floating-point value of its own.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        #[expect(clippy::cast_possible_truncation, reason = "it is a whole number of at most 53 bits")]
        let whole = (number.fract() == 0.0 && number.abs() < EXACT).then_some(number as i64);
        Ok(whole)
    }

    fn visit_str<E>(self, _: &str) -> Result<Option<i64>, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<i64>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<i64>, E> {
        Ok(None)
    }
}

/// The outermost array.
struct Numbers<'a> {
    reading: &'a Reading,
    take: &'a mut dyn FnMut(Option<i64>),
}

impl<'de> Visitor<'de> for Numbers<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(number) = seq.next_element_seed(AnyValue(self.reading))? {
            (self.take)(number);
        }
        Ok(())
    }
}

/// How many numbers of an array are kept: as many as a list may ever hold.
pub const MAX_NUMBERS: usize = 100_000;

/// A value whose type is checked later: after the caller's rights, or after a look at the account.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string.
    String(String),
    /// `true` or `false`.
    Boolean(bool),
    /// An array of at most [`MAX_NUMBERS`] whole numbers.
    Numbers(Vec<i64>),
    /// Anything else.
    Other,
}

impl Value {
    /// The string.
    ///
    /// # Errors
    /// [`Malformed::Mistyped`] where it is none.
    pub fn string(self, field: &'static str) -> Result<String, Malformed> {
        match self {
            Self::String(text) => Ok(text),
            _ => Err(Malformed::Mistyped { field, expected: "a string" }),
        }
    }

    /// The boolean.
    ///
    /// # Errors
    /// [`Malformed::Mistyped`] where it is none.
    pub fn boolean(self, field: &'static str) -> Result<bool, Malformed> {
        match self {
            Self::Boolean(truth) => Ok(truth),
            _ => Err(Malformed::Mistyped { field, expected: "true or false" }),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        AnyValue(&Reading::default()).visit_map(map).map(|_| Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Value, A::Error> {
        let mut numbers = Some(Vec::new());
        let mut take = |number| {
            let fits = |kept: &Vec<i64>| kept.len() < MAX_NUMBERS;
            match (number, numbers.as_mut().filter(|kept| fits(kept))) {
                (Some(number), Some(kept)) => kept.push(number),
                _ => numbers = None,
            }
        };
        Numbers { reading: &Reading::default(), take: &mut take }.visit_seq(seq)?;
        Ok(numbers.map_or(Value::Other, Value::Numbers))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Boolean(truth))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Other)
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

/// A formatter with one space after each colon and comma, and no other.
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
    fn an_answer_has_the_specifications_spacing() {
        let answer = serde_json::json!({"status": "success", "list": [1, 2, 3], "none": {}});
        assert_eq!(
            String::from_utf8(to_vec(&answer).unwrap()).unwrap(),
            r#"{"list": [1, 2, 3], "none": {}, "status": "success"}"#
        );
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Sample {
        name: String,
        note: Option<String>,
        flag: Option<Value>,
    }

    impl Request for Sample {
        fn refuse(key: &str) -> Option<String> {
            (key == "refused").then(|| "refused cannot be set here".to_owned())
        }
    }

    #[test]
    fn a_body_is_read_into_its_struct_and_other_keys_are_ignored() {
        let body = br#" {"x": [{"": 0}, {"": 0}], "name": "a\u0062", "flag": [1.0, 2], "y": null} "#;
        let flag = Some(Value::Numbers(vec![1, 2]));
        assert_eq!(read::<Sample>(body), Ok(Sample { name: "ab".to_owned(), note: None, flag }));
        let flag = |body: &str| read::<Sample>(body.as_bytes()).unwrap().flag.unwrap();
        assert_eq!(flag(r#"{"name": "", "flag": true}"#), Value::Boolean(true));
        assert_eq!(flag(r#"{"name": "", "flag": {"a": 1, "b": 1}}"#), Value::Other);
        assert_eq!(flag(r#"{"name": "", "flag": null}"#), Value::Other);
        assert_eq!(flag(r#"{"name": "", "flag": [1, "x"]}"#), Value::Other);
        let many = |count| format!(r#"{{"name": "", "flag": [{}]}}"#, vec!["7"; count].join(", "));
        assert_eq!(flag(&many(MAX_NUMBERS)), Value::Numbers(vec![7; MAX_NUMBERS]));
        assert_eq!(flag(&many(MAX_NUMBERS + 1)), Value::Other, "and nothing of it is kept");
    }

    #[test]
    fn a_body_is_one_json_object_that_has_each_key_once_and_its_fields_types() {
        let many: Vec<_> = (0..20).map(|number| format!(r#""{}": 0"#, number % 19)).collect();
        for (body, why) in [
            ("", Malformed::NotJson),
            (r#"{"name": "a"} x"#, Malformed::NotJson),
            (r#"{"name": "\ud800"}"#, Malformed::NotJson),
            (r#"{"name": "a", "x": 1e999}"#, Malformed::NotJson),
            (r#"[{"a": 1e999}]"#, Malformed::NotJson),
            ("[1, 2", Malformed::NotJson),
            ("[1, 2]", Malformed::NotAnObject),
            ("7", Malformed::NotAnObject),
            (r#"{"name": "a", "name": "a"}"#, Malformed::DuplicateKey),
            (r#"{"name": "a", "n\u0061me": "a"}"#, Malformed::DuplicateKey),
            (r#"{"x": 1, "\u0078": 2}"#, Malformed::DuplicateKey),
            (r#"{"other": [{"a": 1, "a": 2}]}"#, Malformed::DuplicateKey),
            (r#"{"flag": {"a": 1, "a": 2}}"#, Malformed::DuplicateKey),
            (&format!(r#"{{"x": {{{}}}}}"#, many.join(", ")), Malformed::DuplicateKey),
            ("{}", Malformed::Missing("name")),
            (r#"{"note": "missing field `note`"}"#, Malformed::Missing("name")),
            (r#"{"name": 7}"#, Malformed::Mistyped { field: "name", expected: "a string" }),
            (r#"{"name": "a", "note": null}"#, Malformed::Mistyped { field: "note", expected: "a string" }),
            (r#"{"name": "a", "note": {"a": "b"}}"#, Malformed::Mistyped { field: "note", expected: "a string" }),
            (r#"{"name": "a", "refused": 1}"#, Malformed::Refused("refused cannot be set here".to_owned())),
        ] {
            assert_eq!(read::<Sample>(body.as_bytes()).err(), Some(why), "{body}");
        }
        assert_eq!(read::<Sample>(b"{\"name\": \"\xff\"}"), Err(Malformed::NotJson));
        assert_eq!(read::<Sample>("[".repeat(100_000).as_bytes()), Err(Malformed::NotJson));
        assert_eq!(read::<Sample>(r#"{"a":"#.repeat(100_000).as_bytes()), Err(Malformed::NotJson));
    }

    #[test]
    fn the_numbers_of_an_array_are_told_one_by_one() {
        let numbers = |body: &str| {
            let mut numbers = Vec::new();
            read_numbers(body.as_bytes(), &mut |number| numbers.push(number)).map(|()| numbers)
        };
        assert_eq!(numbers("[1, -2, 3.0, 1e3]").unwrap(), [Some(1), Some(-2), Some(3), Some(1000)]);
        assert_eq!(numbers(r#"["1", null, [1], {"a": 1}, 1.5, 18446744073709551615, 1e300]"#).unwrap(), [None; 7]);
        assert_eq!(numbers("[]").unwrap(), []);
        assert_eq!(numbers("{}"), Err(Malformed::NotAList));
        assert_eq!(numbers("[1"), Err(Malformed::NotJson));
        assert_eq!(numbers("[1] 2"), Err(Malformed::NotJson));
        assert_eq!(numbers(r#"[{"a": 1, "a": 1}]"#), Err(Malformed::DuplicateKey));
    }

    proptest::proptest! {
        #[test]
        fn a_whole_number_is_the_same_however_it_is_written(number in 1_i64..9_007_199_254_740_992, end in "(\\.0{1,4})?(e0)?") {
            let mut numbers = Vec::new();
            read_numbers(format!("[{number}{end}]").as_bytes(), &mut |number| numbers.push(number)).unwrap();
            proptest::prop_assert_eq!(numbers, [Some(number)]);
        }
    }
}
