//! How many attempts are let through in a time.

use std::time::Duration;

/// So many attempts in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many at once.
    pub count: u32,
    /// In which time as many come again.
    pub period: Duration,
}

/// The configured limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsPolicy {
    /// Whether there are any.
    pub enabled: bool,
    /// How many registrations an address may try.
    pub register: Rate,
    /// How many logins an address may try.
    pub login: Rate,
}
