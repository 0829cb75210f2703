//! The passkeys of the caller's account: added, listed, renamed, removed.

use super::outcome::{NoPasskeys, PasskeyError, accepted, fault};
use super::relying_party::{CreationOptions, PasskeyAttestation, RelyingParty, challenge_of, digest_of};
use crate::accounts::reauthenticate::ReauthenticationError;
use crate::accounts::second_factor::GivenFactor;
use crate::accounts::service::{Accounts, Client};
use crate::accounts::throttle::Admission;
use crate::domain::challenge::{ChallengePurpose, NewChallenge};
use crate::domain::factor::RecoveryCode;
use crate::domain::passkey::{PasskeyDetails, PasskeyId, PasskeyName};
use crate::domain::session::Caller;
use crate::repository::{FactorChange, NewPasskey, PasskeyAdded, Removal, RepositoryError, SecondFactor};

impl Accounts {
    /// What passkeys are made for and verified by.
    ///
    /// # Errors
    /// [`NoPasskeys`] where there are none.
    pub fn passkeys(&self) -> Result<&RelyingParty, NoPasskeys> {
        self.passkeys.as_ref().ok_or(NoPasskeys)
    }

    /// The caller's passkeys, oldest first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn list_passkeys(&self, caller: &Caller) -> Result<Vec<PasskeyDetails>, RepositoryError> {
        self.repository.list_passkeys(caller).await
    }

    /// Begins to add a passkey, in a fresh session, and with the second factor where there is an authenticator app:
    /// whoever has one factor alone would get both by it. Where a recovery code was used, the one that takes its place.
    ///
    /// # Errors
    /// See [`PasskeyError`].
    pub async fn begin_passkey(
        &self,
        admission: Admission<'_>,
        caller: &Caller,
        given: Option<&GivenFactor>,
        client: &impl Client,
    ) -> Result<(CreationOptions, Option<RecoveryCode>), PasskeyError> {
        let relying_party = self.passkeys()?;
        self.require_fresh_session(caller).await?;
        let owner = self.repository.find_passkey_owner(caller).await?;
        let user_id = owner.user_id;
        let (options, state) = relying_party.begin_making(owner).map_err(fault)?;
        let challenge = self.challenge(&options.challenge, ChallengePurpose::AddPasskey, state);
        let begin =
            async |second| self.repository.begin_passkey(caller, second, challenge.clone(), self.clock.now()).await;
        if self.has_second_factor(user_id).await? {
            let given = given.ok_or(PasskeyError::CodeMissing)?;
            let replacement = self.change_factors(admission, caller, given, client, begin).await?;
            return Ok((options, replacement));
        }
        match begin(SecondFactor::NotGiven).await? {
            FactorChange::Done => Ok((options, None)),
            FactorChange::NotFresh => Err(ReauthenticationError::NotFresh.into()),
            // It has got an app just now.
            FactorChange::NoSuchState | FactorChange::Refused => Err(PasskeyError::CodeMissing),
        }
    }

    /// Adds the passkey that an authenticator has made, in a fresh session.
    ///
    /// # Errors
    /// See [`PasskeyError`].
    pub async fn add_passkey(
        &self,
        caller: &Caller,
        name: PasskeyName,
        made: PasskeyAttestation,
    ) -> Result<PasskeyDetails, PasskeyError> {
        let relying_party = self.passkeys()?;
        self.require_fresh_session(caller).await?;
        let digest = challenge_of(&made.client_data).ok_or(PasskeyError::Refused)?;
        let (purpose, now) = (ChallengePurpose::AddPasskey, self.clock.now());
        let taken = self.repository.take_challenge(Some(caller), purpose, digest, now).await?;
        let taken = taken.ok_or(PasskeyError::Refused)?;
        let made = accepted(relying_party.finish_making(&made, &taken.state))?.ok_or(PasskeyError::Refused)?;
        let passkey = NewPasskey {
            credential_id: made.credential_id,
            user_handle: made.user_handle,
            rp_id: relying_party.id().to_owned(),
            name,
            credential: made.credential,
        };
        match self.repository.add_passkey(caller, passkey, now).await? {
            PasskeyAdded::Done(details) => Ok(details),
            PasskeyAdded::NotFresh => Err(ReauthenticationError::NotFresh.into()),
            PasskeyAdded::Taken => Err(PasskeyError::Taken),
            PasskeyAdded::Full => Err(PasskeyError::Full),
        }
    }

    /// Calls one of the caller's passkeys otherwise.
    ///
    /// # Errors
    /// See [`PasskeyError`].
    pub async fn rename_passkey(
        &self,
        caller: &Caller,
        id: PasskeyId,
        name: PasskeyName,
    ) -> Result<PasskeyDetails, PasskeyError> {
        self.repository.rename_passkey(caller, id, name).await?.ok_or(PasskeyError::NotFound)
    }

    /// Removes one of the caller's passkeys, in a fresh session.
    ///
    /// # Errors
    /// See [`PasskeyError`].
    pub async fn remove_passkey(&self, caller: &Caller, id: PasskeyId) -> Result<(), PasskeyError> {
        match self.repository.remove_passkey(caller, id, self.offered_ways(), self.clock.now()).await? {
            Removal::Done => Ok(()),
            Removal::NotFound => Err(PasskeyError::NotFound),
            Removal::NotFresh => Err(ReauthenticationError::NotFresh.into()),
            Removal::LastWayIn => Err(PasskeyError::LastWayIn),
        }
    }

    /// A challenge as it is stored.
    pub(super) fn challenge(&self, challenge: &[u8], purpose: ChallengePurpose, state: String) -> NewChallenge {
        let expires = self.clock.now().plus(purpose.lifetime());
        NewChallenge { digest: digest_of(challenge), purpose, state, expires }
    }
}
