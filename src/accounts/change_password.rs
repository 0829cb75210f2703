//! Changing one's own password.

use super::reauthenticate::ReauthenticationError;
use super::service::{Accounts, Client, NewPassword};
use super::throttle::Admission;
use crate::domain::session::Caller;
use crate::passwords::PlainPassword;

/// One password for another.
pub struct PasswordChange {
    /// The account's password, they say.
    pub current: PlainPassword,
    /// What it is to be.
    pub new: NewPassword,
}

impl Accounts {
    /// Gives the caller's account another password, which ends its other sessions.
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
        admission.spend();
        let change = async |verified_against| {
            let new_hash = self.passwords.hash(new.0.clone(), client.gone()).await?;
            Ok(self.repository.change_password(caller, verified_against, new_hash, self.clock.now()).await?)
        };
        self.reauthenticated(caller, current, client, change).await
    }
}
