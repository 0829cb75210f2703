//! Linking an identity to one's own account, and unlinking it.

use std::time::Duration;

use super::outcome::{GivenIdentity, IdentityError};
use super::told::Told;
use crate::accounts::service::Accounts;
use crate::accounts::throttle::Admission;
use crate::accounts::throttle::limits::Call;
use crate::domain::challenge::ChallengePurpose;
use crate::domain::identity::{IdentityDetails, IdentityId};
use crate::domain::session::{Caller, SessionId};
use crate::domain::token::PlainToken;
use crate::providers::Provider;
use crate::repository::{Linked, OfferedWays, Removal, RepositoryError};

/// How long a session may be open for a link token: whoever was told to log in has just done so.
const JUST_OPENED: Duration = Duration::from_secs(10 * 60);

/// What is to be linked.
pub enum Linking {
    /// An identity that is shown. It needs a fresh session.
    Shown(GivenIdentity),
    /// What a login has kept, for lack of a link.
    Token(PlainToken),
}

impl Accounts {
    /// Links an identity to the caller's account.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub async fn link_identity(
        &self,
        admission: Admission<'_>,
        caller: &Caller,
        linking: Linking,
    ) -> Result<(), IdentityError> {
        admission.confirm(Call::LogIn);
        match linking {
            Linking::Shown(given) => self.link_shown(caller, &given).await,
            Linking::Token(token) => self.link_by_token(caller, &token).await,
        }
    }

    async fn link_shown(&self, caller: &Caller, given: &GivenIdentity) -> Result<(), IdentityError> {
        // Before a code is used up: it can be given again once the session is fresh.
        self.require_fresh_session(caller).await?;
        let mut told = self.find_told(given).await?;
        self.fetch_refresh_token(&mut told).await;
        self.link(caller, true, told).await
    }

    /// A token that was stolen must not be enough to add a way in: the session was shown to be its owner's less than ten
    /// minutes ago, by its login or later.
    async fn link_by_token(&self, caller: &Caller, token: &PlainToken) -> Result<(), IdentityError> {
        let now = self.clock.now();
        // Before the token is taken: it can be given again once the session is fresh.
        if !self.is_just_opened(caller).await? {
            self.require_fresh_session(caller).await?;
        }
        let purpose = ChallengePurpose::LinkIdentity;
        let found = self.repository.take_challenge(None, purpose, token.digest(), now).await?;
        let told = found.and_then(|found| Told::from_json(&found.state)).ok_or(IdentityError::Refused)?;
        self.link(caller, false, told).await
    }

    async fn link(&self, caller: &Caller, needs_fresh_session: bool, told: Told) -> Result<(), IdentityError> {
        let linked = self.repository.link_identity(caller, needs_fresh_session, told.identity, self.clock.now());
        match linked.await? {
            Linked::Done => {
                if let Some(policy) = &self.mail {
                    policy.requests.wake();
                }
                Ok(())
            }
            Linked::NotFresh => Err(IdentityError::NotFresh),
            Linked::Taken => Err(IdentityError::Taken),
            Linked::TokenUsed => Err(IdentityError::Refused),
            Linked::Full => Err(IdentityError::Full),
        }
    }

    async fn is_just_opened(&self, caller: &Caller) -> Result<bool, RepositoryError> {
        let (own, now) = (SessionId::of(&caller.digest), self.clock.now());
        let sessions = self.repository.list_sessions(caller).await?;
        let own = sessions.iter().find(|session| session.id == own);
        Ok(own.is_some_and(|session| now.since(session.created) < JUST_OPENED))
    }

    /// The caller's identities, oldest first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn list_identities(&self, caller: &Caller) -> Result<Vec<IdentityDetails>, RepositoryError> {
        self.repository.list_identities(caller).await
    }

    /// The ways in that the configuration offers: an identity of a provider that it has no more is none.
    pub(in crate::accounts) fn offered_ways(&self) -> OfferedWays {
        let issuers = self.identities.providers.iter().filter_map(Provider::issuer).map(str::to_owned).collect();
        OfferedWays { passkeys: self.passkeys.is_some(), issuers }
    }

    /// Unlinks one of the caller's identities, in a fresh session.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub async fn unlink_identity(&self, caller: &Caller, id: IdentityId) -> Result<(), IdentityError> {
        match self.repository.unlink_identity(caller, id, self.offered_ways(), self.clock.now()).await? {
            Removal::Done => {
                if let Some(policy) = &self.mail {
                    policy.requests.wake();
                }
                Ok(())
            }
            Removal::NotFresh => Err(IdentityError::NotFresh),
            Removal::NotFound => Err(IdentityError::NotFound),
            Removal::LastWayIn => Err(IdentityError::LastWayIn),
        }
    }
}
