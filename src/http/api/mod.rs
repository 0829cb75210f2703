//! The handlers, a file a resource.

pub(crate) mod account;
pub(crate) mod by_mail;
pub(crate) mod check;
pub(crate) mod email;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod identities;
pub(crate) mod index;
pub(crate) mod introspection;
pub(crate) mod items;
pub(crate) mod passkeys;
pub(crate) mod second_factor;
pub(crate) mod sessions;
pub(crate) mod staff;
pub(crate) mod user;
pub(crate) mod well_known;
