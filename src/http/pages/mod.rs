//! Pages for people.

pub(crate) mod docs;
