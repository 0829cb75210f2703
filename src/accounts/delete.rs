//! Deleting one's own account.

use super::reauthenticate::ReauthenticationError;
use super::service::{Accounts, Client};
use super::throttle::Admission;
use super::throttle::limits::Call;
use crate::domain::session::Caller;
use crate::passwords::PlainPassword;

impl Accounts {
    /// Deletes the caller's account with its lists and its sessions. Without the password, the session must be fresh.
    ///
    /// # Errors
    /// See [`ReauthenticationError`].
    pub async fn delete(
        &self,
        admission: Admission<'_>,
        caller: &Caller,
        password: Option<PlainPassword>,
        client: &impl Client,
    ) -> Result<(), ReauthenticationError> {
        admission.confirm(Call::LogIn);
        let delete = async |proof| Ok(self.repository.delete_user(caller, proof, self.clock.now()).await?);
        self.as_owner(caller, password, client, delete).await
    }
}
