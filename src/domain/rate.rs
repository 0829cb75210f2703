//! The settings of the throttle: how many attempts are allowed in a time.

use std::time::Duration;

/// A rate with a burst (GCRA): `count` attempts at once, and as many again spread over each `period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Rate {
    pub count: u32,
    pub period: Duration,
}

/// The configured limits of each address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct LimitsPolicy {
    pub enabled: bool,
    pub register: Rate,
    pub login: Rate,
    /// Of each service that asks whose tokens are, and not of an address.
    pub introspect: Rate,
}
