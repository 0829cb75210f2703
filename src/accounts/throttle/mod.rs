//! How many attempts at a password are let through, and what is noted of those that are not.

pub mod failed_attempts;
pub mod limits;
