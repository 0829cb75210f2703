//! Pages for browsers.

pub(crate) mod docs;
