//! Signing in by means of a mail: its code or its link opens a session, without a password.

use super::mail_proof::{MailProof, MailProofError};
use super::service::{Accounts, Client, MailPolicy};
use super::sign_in::{OpenedSession, Verified};
use super::throttle::Admission;
use super::throttle::limits::Call;
use crate::domain::one_time::Purpose;

impl Accounts {
    /// Opens a session for whoever presents the code or the link of a mail. An inactive account is refused like a wrong
    /// code.
    ///
    /// # Errors
    /// See [`MailProofError`].
    pub async fn sign_in_by_mail(
        &self,
        policy: &MailPolicy,
        admission: Admission<'_>,
        proof: MailProof,
        client: &impl Client,
    ) -> Result<OpenedSession, MailProofError> {
        admission.confirm(Call::LogIn);
        self.check_mail_proof(Purpose::SignIn, &proof, client).await?;
        let opened = self.open_session(Verified::Mail(proof.presented()), client).await?;
        let opened = opened.ok_or(MailProofError::Refused)?;
        self.throttle.clear_failures(&opened.user.username);
        policy.requests.wake();
        Ok(opened)
    }
}
