//! Disowning what a notice tells of: "this was not me".

use super::mail_proof::MailProofError;
use super::mail_requests::{MailRequest, Requested};
use super::service::{Accounts, Client, MailPolicy};
use super::throttle::Admission;
use super::throttle::limits::Call;
use crate::domain::one_time::Purpose;
use crate::domain::token::PlainToken;

impl Accounts {
    /// Ends what a notice tells of, and starts a reset: whoever did it may know the password. The reset's mail goes to
    /// the account's own address, and its link is known to nobody else.
    ///
    /// # Errors
    /// See [`MailProofError`].
    pub async fn disown(
        &self,
        policy: &MailPolicy,
        admission: Admission<'_>,
        token: &PlainToken,
        client: &impl Client,
    ) -> Result<(), MailProofError> {
        admission.confirm(Call::LogIn);
        let disowned = self.repository.disown(token.digest(), client.ip(), self.clock.now()).await?;
        let disowned = disowned.ok_or(MailProofError::Refused)?;
        let reset = MailRequest {
            whom: Requested::Entitled(disowned.username),
            purpose: Purpose::ResetPassword,
            request: PlainToken::generate(),
            ip: client.ip(),
            link: None,
        };
        if policy.requests.push(reset).is_err() {
            log::warn!(
                "a notice was disowned, but so many mails wait that the one that resets the password is not sent"
            );
        }
        Ok(())
    }
}
