//! Deleting one's own account.

use super::reauthenticate::ReauthenticationError;
use super::service::{Accounts, Client};
use super::throttle::Admission;
use super::throttle::limits::Call;
use crate::domain::session::Caller;
use crate::passwords::PlainPassword;

impl Accounts {
    /// Deletes the caller's account with its lists and its sessions.
    ///
    /// # Errors
    /// See [`ReauthenticationError`].
    pub async fn delete(
        &self,
        admission: Admission<'_>,
        caller: &Caller,
        password: PlainPassword,
        client: &impl Client,
    ) -> Result<(), ReauthenticationError> {
        admission.confirm(Call::LogIn);
        let delete = async |verified_against| {
            Ok(self.repository.delete_user(caller, verified_against, self.clock.now()).await?)
        };
        self.reauthenticated(caller, password, client, delete).await
    }
}
