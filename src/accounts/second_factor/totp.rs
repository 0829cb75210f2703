//! Codes of authenticator apps: TOTP (RFC 6238) with SHA-1, six digits and 30 seconds, which every app knows.

use rand::TryRng as _;
use rand::rngs::SysRng;
use totp_rs::{Algorithm, Builder, Secret, Totp};
use zeroize::Zeroizing;

use super::{GivenFactor, SealingError};
use crate::accounts::service::Accounts;
use crate::domain::factor::RecoveryCode;
use crate::domain::one_time::Code;
use crate::domain::user::UserId;
use crate::repository::{SecondFactor, TotpUse};
use crate::system::clock::Timestamp;
use crate::system::sealing::SealingKey;

/// How many bytes a secret has: 160 bits, as RFC 4226 recommends.
pub(super) const SECRET_LENGTH: usize = 20;

/// How many steps of 30 seconds an app's clock may be wrong, either way.
const SKEW: u16 = 1;

/// What the secret of an account is sealed for.
pub(super) fn binding(user_id: UserId) -> String {
    format!("totp.secret:{}", user_id.0)
}

/// A new secret.
///
/// # Panics
/// When the operating system has no random numbers.
pub(super) fn generate_secret() -> Zeroizing<[u8; SECRET_LENGTH]> {
    let mut secret = Zeroizing::new([0; SECRET_LENGTH]);
    SysRng.try_fill_bytes(secret.as_mut_slice()).expect("the operating system gives random numbers");
    secret
}

/// The codes of a secret. A name with a colon would be read as an issuer and a name.
pub(super) fn codes_of(secret: &[u8], issuer: &str, account: &str) -> Result<Totp, SealingError> {
    let plain = |text: &str| text.replace(':', " ").trim().to_owned();
    let secret: [u8; SECRET_LENGTH] = secret.try_into().map_err(|_| SealingError::Malformed)?;
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(6)
        .with_skew(SKEW)
        .with_step_duration(30)
        .with_secret(Secret::new_stack(secret))
        .with_issuer(Some(plain(issuer)))
        .with_account_name(plain(account))
        .build()
        .map_err(|_| SealingError::Malformed)
}

/// The time step for which a code is right.
pub(super) fn step_of(
    key: &SealingKey,
    user_id: UserId,
    sealed: &[u8],
    code: &Code,
    now: Timestamp,
) -> Result<Option<u64>, SealingError> {
    let secret = key.open(&binding(user_id), sealed)?;
    let seconds = u64::try_from(now.as_millis() / 1_000).unwrap_or_default();
    Ok(codes_of(&secret, "", "account")?.check(code.reveal(), seconds))
}

impl Accounts {
    /// The key that secrets are sealed with.
    pub(super) fn sealing_key(&self) -> Result<&SealingKey, SealingError> {
        self.sealing.as_deref().ok_or(SealingError::NoKey)
    }

    /// Reads a second factor that was given for an account. `None` where it is wrong, or the account has no authenticator
    /// app. What was right is decided on by the store, once.
    pub(in crate::accounts) async fn read_second_factor(
        &self,
        user_id: UserId,
        given: &GivenFactor,
    ) -> Result<Option<SecondFactor>, SealingError> {
        match given {
            GivenFactor::RecoveryCode(code) => Ok(Some(self.recovery(code).0)),
            GivenFactor::Passkey(used) => {
                let used = self.verify_passkey(None, used).await?.filter(|used| used.user_id == user_id);
                Ok(used.map(SecondFactor::Passkey))
            }
            GivenFactor::Totp(code) => {
                let Some(secret) = self.repository.find_totp_secret(user_id).await? else {
                    // A code that nothing asked for does no harm.
                    return Ok(Some(SecondFactor::NotGiven));
                };
                let step = step_of(self.sealing_key()?, user_id, &secret, code, self.clock.now())?;
                Ok(step.map(|step| SecondFactor::Totp(TotpUse { secret, step })))
            }
        }
    }

    /// A recovery code as the store takes it, and the one that takes its place.
    pub(super) fn recovery(&self, code: &RecoveryCode) -> (SecondFactor, RecoveryCode) {
        let replacement = RecoveryCode::generate();
        (SecondFactor::RecoveryCode { used: code.digest(), replacement: replacement.digest() }, replacement)
    }
}
