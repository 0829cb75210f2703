//! Other services: whether a caller is one, and what it is told of a token.

use std::net::IpAddr;

use thiserror::Error;

use super::service::Accounts;
use super::throttle::Throttled;
use crate::domain::holder::HeldToken;
use crate::domain::service::ServiceName;
use crate::domain::session::Caller;
use crate::domain::token::{PlainToken, PresentedToken};
use crate::repository::RepositoryError;

/// Why a caller is not let in as a service.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// No service has this name and this key.
    #[error("there is no service of this name and this key")]
    Refused,
    /// The service has asked too often, or too many callers from this address had a wrong key.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The store failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl Accounts {
    /// Lets a service in by its name and its key, where what was presented is both, and notes that it is in use.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub async fn admit_service(
        &self,
        presented: Option<(ServiceName, PlainToken)>,
        ip: Option<IpAddr>,
    ) -> Result<(), ServiceError> {
        let name = match presented {
            Some((name, key)) if self.repository.has_service(&name, &key.digest()).await? => name,
            _ => {
                self.throttle.count_wrong_key(ip)?;
                return Err(ServiceError::Refused);
            }
        };
        self.throttle.admit_service(&name, ip)?;
        self.service_uses.note(&name, self.clock.now());
        Ok(())
    }

    /// The caller's session with what other services are told of it. It is noted to be in use: its person is at work.
    ///
    /// # Errors
    /// [`RepositoryError::NoSession`] where it is over, or never was.
    pub async fn find_held_token(&self, token: &PresentedToken, caller: &Caller) -> Result<HeldToken, RepositoryError> {
        let find = async || self.repository.find_held_token(caller).await;
        let held = self.look_up(token, caller, find).await?;
        self.note_use(caller, &held.session);
        Ok(held)
    }
}
