//! Pages for browsers: the documentation of the API, and where the links of mails lead.
//!
//! A link's token stands behind a `#`, which no browser sends. So opening a page changes nothing, and tells nobody
//! anything: a form must be sent. No page has a cookie, and none shows what is stored of an account.

pub(crate) mod account;
pub(crate) mod assets;
pub(crate) mod confirm;
pub(crate) mod dev_mail;
pub(crate) mod docs;
pub(crate) mod eml;
pub(crate) mod not_me;
pub(crate) mod proof;
pub(crate) mod reset;
pub(crate) mod sign_in;
pub mod templates;
