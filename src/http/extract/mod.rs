//! The extractors: who asks, from where, the body or the form, the query, and which other service.

pub mod body;
pub mod caller;
pub mod client;
pub mod form;
pub mod mail_proof;
pub mod passkey;
pub mod profile;
pub mod proxy;
pub mod query;
pub mod second_factor;
pub mod service;
