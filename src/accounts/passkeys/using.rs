//! Using a passkey: for a session without a password, as the second factor, or to make a session fresh.

use thiserror::Error;

use super::outcome::{NoPasskeys, PasskeyError, accepted, fault};
use super::relying_party::{PasskeyAssertion, RequestOptions, challenge_of};
use crate::accounts::reauthenticate::ReauthenticationError;
use crate::accounts::service::{Accounts, Client};
use crate::accounts::sign_in::{OpenedSession, Opening, Verified};
use crate::accounts::throttle::Admission;
use crate::accounts::throttle::limits::Call;
use crate::domain::challenge::ChallengePurpose;
use crate::domain::event::EventKind;
use crate::domain::session::Caller;
use crate::repository::{FirstFactor, PasskeyUse, Reauthentication, RepositoryError, SecondFactor};

/// Why a passkey opened no session.
#[derive(Debug, Error)]
pub enum PasskeySignInError {
    /// There are none here.
    #[error(transparent)]
    NoPasskeys(#[from] NoPasskeys),
    /// It does not verify, opens no active account, or comes too late: which of these is not told.
    #[error("the passkey opens no account")]
    Refused,
    /// It is right, and the account's address was never shown to be its own.
    #[error("the account's address is not verified")]
    EmailNotVerified,
    /// The store failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl Accounts {
    /// Begins to use a passkey: somebody without a session does, for a login or for the second factor of one. What all of
    /// them together may begin is limited beside what an address may, because the store keeps it.
    ///
    /// # Errors
    /// See [`PasskeyError`].
    pub async fn begin_passkey_sign_in(
        &self,
        admission: Admission<'_>,
        client: &impl Client,
    ) -> Result<RequestOptions, PasskeyError> {
        let relying_party = self.passkeys()?;
        admission.confirm(Call::LogIn);
        self.throttle.admit_ceremony(client.ip(), "passkeys")?;
        let (options, state) = relying_party.begin_use(Vec::new()).map_err(fault)?;
        let challenge = self.challenge(&options.challenge, ChallengePurpose::UsePasskey, state);
        self.repository.store_challenge(None, challenge, self.clock.now()).await?;
        Ok(options)
    }

    /// Opens a session by a passkey.
    ///
    /// # Errors
    /// See [`PasskeySignInError`].
    pub async fn sign_in_by_passkey(
        &self,
        admission: Admission<'_>,
        used: PasskeyAssertion,
        client: &impl Client,
    ) -> Result<OpenedSession, PasskeySignInError> {
        self.passkeys()?;
        admission.confirm(Call::LogIn);
        if let Some(used) = self.verify_passkey(None, &used).await? {
            let first = FirstFactor::Passkey(used);
            match self.open_session(Verified::Factors(first, SecondFactor::NotGiven), client).await? {
                Opening::Session(opened) => {
                    self.throttle.clear_failures(&opened.user.username);
                    return Ok(opened);
                }
                Opening::EmailNotVerified => return Err(PasskeySignInError::EmailNotVerified),
                // A passkey is both factors.
                Opening::SecondFactorDue(_)
                | Opening::SecondFactorRefused(_)
                | Opening::Refused
                | Opening::IdentityRefused => {}
            }
        }
        // Nobody guesses a passkey: failures count at the address alone, and lock no account.
        self.throttle.note_failed_login(client.ip());
        Err(PasskeySignInError::Refused)
    }

    /// Begins to make the caller's session fresh by a passkey of the account.
    ///
    /// # Errors
    /// See [`PasskeyError`].
    pub async fn begin_passkey_reauthentication(&self, caller: &Caller) -> Result<RequestOptions, PasskeyError> {
        let relying_party = self.passkeys()?;
        let owner = self.repository.find_passkey_owner(caller).await?;
        if owner.credentials.is_empty() {
            return Err(PasskeyError::NotFound);
        }
        let (options, state) = relying_party.begin_use(owner.credentials).map_err(fault)?;
        let challenge = self.challenge(&options.challenge, ChallengePurpose::ReauthenticateByPasskey, state);
        self.repository.store_challenge(Some(caller), challenge, self.clock.now()).await?;
        Ok(options)
    }

    /// Makes the caller's session fresh by a passkey of the account. One that is wrong counts as a wrong password does.
    ///
    /// # Errors
    /// See [`ReauthenticationError`].
    pub async fn reauthenticate_by_passkey(
        &self,
        admission: Admission<'_>,
        caller: &Caller,
        used: PasskeyAssertion,
        client: &impl Client,
    ) -> Result<(), ReauthenticationError> {
        admission.confirm(Call::LogIn);
        let username = self.repository.find_own_credentials(caller).await?.username;
        let attempt = self.throttle.begin_reauthentication(&username, client.ip())?;
        if let Some(used) = self.verify_passkey(Some(caller), &used).await? {
            let shown = Reauthentication::Passkey(used);
            if self.repository.reauthenticate(caller, shown, self.clock.now()).await? {
                attempt.succeeded();
                return Ok(());
            }
        }
        let kind = EventKind::ReauthenticationFailed;
        self.throttle.fail(attempt, kind, Some(username), client.ip()).await;
        Err(ReauthenticationError::WrongPassword)
    }

    /// Verifies the use of a passkey: by the caller, where there is one, to make the session fresh, and else by somebody
    /// without a session. `None` where it is refused. That it is of the right account, and has not changed meanwhile, is
    /// decided by the store.
    pub(in crate::accounts) async fn verify_passkey(
        &self,
        caller: Option<&Caller>,
        used: &PasskeyAssertion,
    ) -> Result<Option<PasskeyUse>, RepositoryError> {
        let Some(relying_party) = &self.passkeys else { return Ok(None) };
        let purpose = match caller {
            Some(_) => ChallengePurpose::ReauthenticateByPasskey,
            None => ChallengePurpose::UsePasskey,
        };
        let Some(digest) = challenge_of(&used.client_data) else { return Ok(None) };
        let taken = self.repository.take_challenge(caller, purpose, digest, self.clock.now()).await?;
        let Some(taken) = taken else { return Ok(None) };
        let Some(stored) = self.repository.find_passkey(&used.credential_id).await? else { return Ok(None) };
        accepted(relying_party.finish_use(used, &taken.state, stored, caller.is_some()))
    }
}
