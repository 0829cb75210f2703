//! The limits of other services: each has a rate of its own, whatever its address. Callers with a wrong key have one by
//! their address, as those who log in have.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Mutex;

use super::limits::{Table, TooMany, admit, admit_at, lock};
use crate::domain::rate::LimitsPolicy;
use crate::domain::service::{MAX_SERVICES, ServiceName};
use crate::system::address::network;
use crate::system::clock::Monotonic;

/// The counts.
pub struct ServiceLimits {
    policy: LimitsPolicy,
    hasher: RandomState,
    services: Mutex<HashMap<ServiceName, Monotonic>>,
    strangers: Mutex<Table<Monotonic>>,
}

impl ServiceLimits {
    /// Counts that all start at zero.
    #[must_use]
    pub fn new(policy: LimitsPolicy) -> Self {
        Self { policy, hasher: RandomState::new(), services: Mutex::default(), strangers: Mutex::default() }
    }

    /// Counts a question of a service that has shown its key.
    ///
    /// # Errors
    /// [`TooMany`] when it may not be let through; it is then not counted.
    pub fn admit_service(&self, name: &ServiceName, now: Monotonic) -> Result<(), TooMany> {
        if !self.policy.enabled {
            return Ok(());
        }
        let mut services = lock(&self.services);
        if let Some(arrival) = services.get_mut(name) {
            return admit_at(arrival, self.policy.introspect, now);
        }
        if services.len() >= MAX_SERVICES {
            // Some of them are revoked by now.
            services.retain(|_, arrival| *arrival > now);
        }
        admit_at(services.entry(name.clone()).or_default(), self.policy.introspect, now)
    }

    /// Counts a caller with a wrong key.
    ///
    /// # Errors
    /// [`TooMany`] when there were too many from its address; it is then not counted.
    pub fn admit_stranger(&self, ip: Option<IpAddr>, now: Monotonic) -> Result<(), TooMany> {
        if !self.policy.enabled {
            return Ok(());
        }
        admit(&mut lock(&self.strangers), self.hasher.hash_one(ip.map(network)), self.policy.login, 0, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::rate::Rate;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::default().plus(Duration::from_secs(seconds))
    }

    #[test]
    fn each_service_has_a_rate_of_its_own_and_strangers_have_one_by_their_address() {
        let rate = |count| Rate { count, period: Duration::from_secs(60) };
        let policy = LimitsPolicy { enabled: true, register: rate(1), login: rate(2), introspect: rate(3) };
        let limits = ServiceLimits::new(policy);
        let name = |text| ServiceName::parse(text).unwrap();
        for _ in 0..3 {
            assert_eq!(limits.admit_service(&name("wiki"), at(100)), Ok(()));
        }
        assert_eq!(limits.admit_service(&name("wiki"), at(100)), Err(TooMany { retry_after: 20 }));
        assert_eq!(limits.admit_service(&name("git"), at(100)), Ok(()));
        assert_eq!(limits.admit_service(&name("wiki"), at(120)), Ok(()));
        let ip = |text: &str| Some(text.parse().unwrap());
        for _ in 0..2 {
            assert_eq!(limits.admit_stranger(ip("192.0.2.1"), at(100)), Ok(()));
        }
        assert_eq!(limits.admit_stranger(ip("192.0.2.1"), at(100)), Err(TooMany { retry_after: 30 }));
        assert_eq!(limits.admit_stranger(ip("192.0.2.2"), at(100)), Ok(()));
        let off = ServiceLimits::new(LimitsPolicy { enabled: false, ..policy });
        assert!((0..10).all(|_| off.admit_stranger(None, at(0)).is_ok()));
        assert!((0..10).all(|_| off.admit_service(&name("wiki"), at(0)).is_ok()));
    }
}
