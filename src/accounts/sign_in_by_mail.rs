//! Signing in by means of a mail: its code or its link opens a session, without a password.

use thiserror::Error;

use super::mail_proof::{MailProof, MailProofError};
use super::service::{Accounts, Client, MailPolicy};
use super::sign_in::{OpenedSession, Opening, SecondFactorDue, Verified};
use super::throttle::Admission;
use super::throttle::limits::Call;
use crate::domain::one_time::Purpose;
use crate::repository::{FirstFactor, RepositoryError, SecondFactor};

/// Why a mail opened no session.
#[derive(Debug, Error)]
pub enum SignInByMailError {
    /// What was presented is right, and the second factor is due.
    #[error("the second factor is due")]
    SecondFactorDue(Box<SecondFactorDue>),
    /// What was presented is worth nothing.
    #[error(transparent)]
    Proof(#[from] MailProofError),
    /// The store failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl Accounts {
    /// Opens a session for whoever presents the code or the link of a mail. An inactive account is refused like a wrong
    /// code.
    ///
    /// # Errors
    /// See [`SignInByMailError`].
    pub async fn sign_in_by_mail(
        &self,
        policy: &MailPolicy,
        admission: Admission<'_>,
        proof: MailProof,
        client: &impl Client,
    ) -> Result<OpenedSession, SignInByMailError> {
        admission.confirm(Call::LogIn);
        self.check_mail_proof(Purpose::SignIn, &proof, client).await?;
        let first = FirstFactor::Mail(proof.presented());
        let opening = self.open_session(Verified::Factors(first, SecondFactor::NotGiven), client).await?;
        policy.requests.wake();
        match opening {
            Opening::Session(opened) => {
                self.throttle.clear_failures(&opened.user.username);
                Ok(opened)
            }
            Opening::SecondFactorDue(due) => Err(SignInByMailError::SecondFactorDue(Box::new(due))),
            Opening::SecondFactorRefused(_)
            | Opening::EmailNotVerified
            | Opening::Refused
            | Opening::IdentityRefused => Err(MailProofError::Refused.into()),
        }
    }
}
