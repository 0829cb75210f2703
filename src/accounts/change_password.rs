//! Changing one's own password.

use super::reauthenticate::ReauthenticationError;
use super::service::{Accounts, Client, NewPassword};
use super::throttle::Admission;
use super::throttle::limits::Call;
use crate::domain::session::Caller;
use crate::passwords::PlainPassword;

/// A request for another password.
pub struct PasswordChange {
    /// What the caller says the account's password is. Without it, the session must be fresh.
    pub current: Option<PlainPassword>,
    /// The password that the account is to have.
    pub new: NewPassword,
}

impl Accounts {
    /// Changes the password of the caller's account, which ends its other sessions, and the freshness of this one.
    ///
    /// # Errors
    /// See [`ReauthenticationError`].
    pub async fn change_password(
        &self,
        admission: Admission<'_>,
        caller: &Caller,
        PasswordChange { current, new }: PasswordChange,
        client: &impl Client,
    ) -> Result<(), ReauthenticationError> {
        admission.confirm(Call::LogIn);
        let change = async |proof| {
            let new_hash = self.passwords.hash(new.0.clone(), client.gone()).await?;
            Ok(self.repository.change_password(caller, proof, new_hash, self.clock.now()).await?)
        };
        // With a password the attempt itself has cleared the account's failures.
        let is_by_freshness = current.is_none();
        self.as_owner(caller, current, client, change).await?;
        if is_by_freshness {
            let username = self.repository.find_own_credentials(caller).await?.username;
            self.clear_failures_after_one_factor(&username).await?;
        }
        Ok(())
    }
}
