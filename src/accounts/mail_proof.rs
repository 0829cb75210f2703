//! What a mail carries, presented: the token of its link, or its code with the request id that the asking client has.
//!
//! Wrong, used, expired and unknown are one and the same refusal. A wrong code counts like a wrong password that comes
//! with the name or the address for which the mail was asked, but the account's lockout does not keep codes out: a
//! refusal by it would tell whose the request id is, and a code ends by itself after a few tries.

use thiserror::Error;

use super::service::{Accounts, Client};
use super::sign_in::NameError;
use super::throttle::guesses::Guess;
use super::throttle::limits::Origin;
use crate::domain::one_time::{Code, Presented, Purpose};
use crate::domain::token::PlainToken;
use crate::domain::user::Username;
use crate::passwords::PasswordError;
use crate::repository::{RepositoryError, Tried};

/// What somebody presents of a mail.
pub enum MailProof {
    /// The token of its link.
    Link(PlainToken),
    /// The request id, and the code.
    Code(PlainToken, Code),
}

/// Why what was presented of a mail did nothing.
#[derive(Debug, Error)]
pub enum MailProofError {
    /// It is worth nothing, or no more.
    #[error("the code or the link is wrong, was used, or has expired")]
    Refused,
    /// The new password was not hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl MailProof {
    pub(super) fn presented(&self) -> Presented {
        match self {
            Self::Link(token) => Presented::Link(token.digest()),
            Self::Code(request, code) => Presented::Code(request.digest(), code.mac(request)),
        }
    }
}

impl Accounts {
    /// Finds the account that a proof is for, and uses nothing up.
    pub(super) async fn check_mail_proof(
        &self,
        purpose: Purpose,
        proof: &MailProof,
        client: &impl Client,
    ) -> Result<Username, MailProofError> {
        let (now, origin) = (self.clock.now(), Origin::Anywhere(client.ip()));
        match proof.presented() {
            Presented::Link(token) => {
                self.repository.find_link(purpose, token, now).await?.ok_or(MailProofError::Refused)
            }
            Presented::Code(request, mac) => {
                let guess = self.throttle.guesses.begin(&request, self.clock.monotonic());
                // One too many is refused after the same work, whatever it is.
                let tried = if guess == Guess::Over { PlainToken::generate().digest() } else { request };
                let tried = self.repository.try_code(purpose, tried, mac, now).await;
                match (guess, &tried) {
                    (Guess::Under(name), Ok(wrong @ (Tried::Wrong(_) | Tried::Unknown))) => {
                        self.count_wrong_code(&name, wrong, origin).await?;
                    }
                    (Guess::Under(_), _) => self.throttle.guesses.give_back(&request),
                    (Guess::Over | Guess::Unknown, _) => {}
                }
                self.outcome_of(tried?, origin, client)
            }
        }
    }

    /// Counts a wrong code where a wrong password counts that comes with the name for which it was asked: so the
    /// lockout does not tell whether there is such an account. Where that is the account of the code, it is counted
    /// there already.
    async fn count_wrong_code(&self, name: &str, tried: &Tried, origin: Origin) -> Result<(), RepositoryError> {
        let name = match self.read_login_name(name).await {
            Ok(name) => name,
            Err(NameError::Repository(error)) => return Err(error),
            Err(NameError::Invalid(_)) => return Ok(()),
        };
        let counted = self.count_login_at(&name).await?;
        if !matches!(tried, Tried::Wrong(username) if username.key() == counted.key()) {
            self.throttle.limits.note_failure(&counted, origin, self.clock.monotonic());
        }
        Ok(())
    }

    /// The account whose code was right. A wrong one is counted.
    pub(super) fn outcome_of(
        &self,
        tried: Tried,
        origin: Origin,
        client: &impl Client,
    ) -> Result<Username, MailProofError> {
        match tried {
            Tried::Right(username) => Ok(username),
            Tried::Wrong(username) => {
                self.throttle.note_wrong_code(username, origin, client.ip());
                Err(MailProofError::Refused)
            }
            Tried::Unknown => Err(MailProofError::Refused),
        }
    }
}
