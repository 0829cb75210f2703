//! Making a session fresh by an identity of its account.

use std::time::Duration;

use super::outcome::{GivenIdentity, IdentityError};
use crate::accounts::service::{Accounts, Client};
use crate::accounts::throttle::Admission;
use crate::accounts::throttle::limits::Call;
use crate::domain::event::EventKind;
use crate::domain::session::Caller;
use crate::repository::{IdentityUse, Reauthentication};

/// How long ago a person may have shown their provider who they are: they are to be asked now.
const RECENT: Duration = Duration::from_secs(5 * 60);

impl Accounts {
    /// Makes the caller's session fresh by an identity of the account that is shown anew.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub async fn reauthenticate_by_identity(
        &self,
        admission: Admission<'_>,
        caller: &Caller,
        given: GivenIdentity,
        client: &impl Client,
    ) -> Result<(), IdentityError> {
        admission.confirm(Call::LogIn);
        let credentials = self.repository.find_own_credentials(caller).await?;
        let attempt = self.throttle.begin_reauthentication(&credentials.username, client.ip())?;
        let now = self.clock.now();
        let is_shown = match self.find_told(&given).await {
            Ok(told) if now.since(told.authenticated) <= RECENT => {
                let used = IdentityUse { user_id: credentials.user_id, identity: told.identity, by_email: None };
                self.repository.reauthenticate(caller, Reauthentication::Identity(used), now).await?
            }
            Ok(_) | Err(IdentityError::Refused) => false,
            Err(error) => return Err(error),
        };
        if is_shown {
            // An identity is one factor: it gives no new guesses at the second.
            if !self.has_second_factor(credentials.user_id).await? {
                attempt.succeeded();
            }
            return Ok(());
        }
        let kind = EventKind::ReauthenticationFailed;
        self.throttle.fail(attempt, kind, Some(credentials.username), client.ip()).await;
        Err(IdentityError::Refused)
    }
}
