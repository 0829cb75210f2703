//! Types that cannot hold a bad value.

pub mod authentication_methods;
pub mod challenge;
pub mod email;
pub mod event;
pub mod factor;
pub mod field;
pub mod holder;
pub mod identity;
pub mod item;
pub mod mail;
pub mod one_time;
pub mod passkey;
pub mod profile;
pub mod public_id;
pub mod rate;
pub mod rights;
pub mod service;
pub mod session;
pub mod token;
pub mod user;
pub mod webhook;
