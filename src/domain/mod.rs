//! Types that cannot hold a bad value.

pub mod event;
pub mod field;
pub mod item;
pub mod profile;
pub mod rate;
pub mod rights;
pub mod session;
pub mod token;
pub mod user;
