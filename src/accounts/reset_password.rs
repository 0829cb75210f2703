//! Resetting a password by means of a mail: its owner gets back in without the former one.

use super::mail_proof::{MailProof, MailProofError};
use super::service::{Accounts, Client, MailPolicy, NewPassword};
use super::throttle::Admission;
use super::throttle::limits::Call;
use crate::domain::one_time::Purpose;

impl Accounts {
    /// Sets a new password for whoever presents the code or the link of a mail, and opens no session. What is presented
    /// is checked before anything is hashed, and once more in the transaction that sets the password.
    ///
    /// # Errors
    /// See [`MailProofError`].
    pub async fn reset_password(
        &self,
        policy: &MailPolicy,
        admission: Admission<'_>,
        proof: MailProof,
        new: NewPassword,
        client: &impl Client,
    ) -> Result<(), MailProofError> {
        admission.confirm(Call::LogIn);
        self.check_mail_proof(Purpose::ResetPassword, &proof, client).await?;
        let new_hash = self.passwords.hash(new.0, client.gone()).await?;
        let reset = self.repository.reset_password(proof.presented(), new_hash, client.ip(), self.clock.now()).await?;
        let username = reset.ok_or(MailProofError::Refused)?;
        self.clear_failures_after_one_factor(&username).await?;
        policy.requests.wake();
        Ok(())
    }
}
