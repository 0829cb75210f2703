//! Codes of authenticator apps: TOTP (RFC 6238) with SHA-1, six digits and 30 seconds, which every app knows.

use rand::TryRng as _;
use rand::rngs::SysRng;
use totp_rs::{Algorithm, Builder, Secret, Totp};
use zeroize::Zeroizing;

use super::given::{GivenFactor, SealingError};
use crate::accounts::service::Accounts;
use crate::domain::factor::{RecoveryCode, totp_binding};
use crate::domain::one_time::Code;
use crate::domain::user::{UserId, Username};
use crate::repository::{RepositoryError, SecondFactor, TotpUse};
use crate::system::clock::Timestamp;
use crate::system::sealing::SealingKey;

/// How many bytes a secret has: 160 bits, as RFC 4226 recommends.
pub(super) const SECRET_LENGTH: usize = 20;

/// How many steps of 30 seconds an app's clock may be wrong, either way.
const SKEW: u16 = 1;

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
    let secret = key.open(&totp_binding(user_id), sealed)?;
    let seconds = u64::try_from(now.as_millis() / 1_000).unwrap_or_default();
    Ok(codes_of(&secret, "", "account")?.check(code.reveal(), seconds))
}

impl Accounts {
    /// The key that secrets are sealed with.
    pub(super) fn sealing_key(&self) -> Result<&SealingKey, SealingError> {
        self.sealing.as_deref().ok_or(SealingError::NoKey)
    }

    /// Reads a second factor that was given for an account, whose app has this sealed secret, and makes the recovery code
    /// that takes the place of one. `None` where it is wrong. What was right is decided on by the store, once.
    pub(crate) async fn read_second_factor(
        &self,
        user_id: UserId,
        secret: Option<Vec<u8>>,
        given: &GivenFactor,
    ) -> Result<Option<(SecondFactor, Option<RecoveryCode>)>, SealingError> {
        // A code that nothing asks for does no harm.
        let Some(secret) = secret else { return Ok(Some((SecondFactor::NotGiven, None))) };
        Ok(match given {
            GivenFactor::RecoveryCode(code) => {
                let replacement = RecoveryCode::generate();
                let (used, digest) = (code.digest(), replacement.digest());
                Some((SecondFactor::RecoveryCode { used, replacement: digest }, Some(replacement)))
            }
            GivenFactor::Passkey(used) => {
                let used = self.verify_passkey(None, used).await?.filter(|used| used.user_id == user_id);
                used.map(|used| (SecondFactor::Passkey(used), None))
            }
            GivenFactor::Totp(code) => {
                let step = step_of(self.sealing_key()?, user_id, &secret, code, self.clock.now())?;
                step.map(|step| (SecondFactor::Totp(TotpUse { secret, step }), None))
            }
        })
    }

    /// Whether the account has a second factor. The first alone clears no failures there: whoever knows the password, or
    /// reads the mail, could guess at the second for ever.
    pub(crate) async fn has_second_factor(&self, user_id: UserId) -> Result<bool, RepositoryError> {
        Ok(self.repository.find_totp_secret(user_id).await?.is_some())
    }

    /// Clears the failures at an account whose owner has shown the first factor, unless it has a second.
    pub(crate) async fn clear_failures_after_one_factor(&self, username: &Username) -> Result<(), RepositoryError> {
        let Some(credentials) = self.repository.find_credentials(username).await? else { return Ok(()) };
        if !self.has_second_factor(credentials.user_id).await? {
            self.throttle.clear_failures(username);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_rfc_6238_appendix_b_in_six_digits() {
        let codes = codes_of(b"12345678901234567890", "", "account").unwrap();
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(codes.generate(seconds).to_string(), code);
            for (at, step) in [(seconds - 30, seconds / 30), (seconds, seconds / 30), (seconds + 30, seconds / 30)] {
                assert_eq!(codes.check(code, at), Some(step), "{code} at {at}");
            }
            let before = seconds.checked_sub(60).and_then(|at| codes.check(code, at));
            assert_eq!((before, codes.check(code, seconds + 60)), (None, None), "{code}");
        }
    }

    #[test]
    fn a_secret_is_as_long_as_an_app_expects_and_each_is_another() {
        assert_ne!(*generate_secret(), *generate_secret());
        assert!(codes_of(b"short", "", "account").is_err());
        let uri = codes_of(&[0; SECRET_LENGTH], "Cellar: home", "a:b").unwrap().to_url().unwrap();
        assert!(uri.starts_with("otpauth://totp/Cellar%20%20home:a%20b?"), "{uri}");
    }
}
