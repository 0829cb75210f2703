//! Setting up the second factor: an authenticator app is begun, confirmed, removed; its recovery codes are replaced.

use qrcode::QrCode;
use qrcode::render::svg;
use thiserror::Error;
use totp_rs::Totp;

use super::given::{GivenFactor, SealingError};
use super::totp::{codes_of, generate_secret, step_of};
use crate::accounts::reauthenticate::ReauthenticationError;
use crate::accounts::service::{Accounts, Client};
use crate::accounts::throttle::limits::Call;
use crate::accounts::throttle::{Admission, Throttled};
use crate::domain::event::EventKind;
use crate::domain::factor::{CONFIRMED_WITHIN, RECOVERY_CODES, RecoveryCode, totp_binding};
use crate::domain::one_time::Code;
use crate::domain::session::Caller;
use crate::repository::{
    FactorChange, Reauthentication, RepositoryError, SecondFactor, SecurityState, StoredTotp, TotpUse,
};

/// Why a factor was not changed.
#[derive(Debug, Error)]
pub enum FactorError {
    /// The code is wrong, or was used before.
    #[error("the code is wrong, or was used before")]
    WrongCode,
    /// The account has an authenticator app already.
    #[error("the account has an authenticator app already")]
    AlreadyOn,
    /// The account has no authenticator app.
    #[error("the account has no authenticator app")]
    Off,
    /// The session is not fresh, or there were too many attempts.
    #[error(transparent)]
    Reauthentication(#[from] ReauthenticationError),
    /// A secret cannot be sealed or opened.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// The store failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<Throttled> for FactorError {
    fn from(error: Throttled) -> Self {
        Self::Reauthentication(error.into())
    }
}

/// The secret of an authenticator app, for the one answer that gives it to its owner. It has no `Debug`.
pub struct NewTotp(Totp);

impl NewTotp {
    /// The secret in base 32, to be typed.
    #[must_use]
    pub fn secret(&self) -> String {
        self.0.secret().to_base32()
    }

    /// The same as an `otpauth:` URI, which an app opens.
    #[must_use]
    pub fn uri(&self) -> String {
        self.0.to_url().unwrap_or_default()
    }

    /// The URI as a QR code in SVG, which an app scans.
    #[must_use]
    pub fn qr_svg(&self) -> String {
        // Only a text of some thousand characters would not fit.
        QrCode::new(self.uri()).map(|code| code.render::<svg::Color<'_>>().build()).unwrap_or_default()
    }
}

impl Accounts {
    /// How the caller's account can be got into.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn find_security(&self, caller: &Caller) -> Result<SecurityState, RepositoryError> {
        self.repository.find_security(caller, self.clock.now()).await
    }

    /// Begins to set up an authenticator app, in a fresh session. It waits for its first code.
    ///
    /// # Errors
    /// See [`FactorError`].
    pub async fn begin_totp(&self, caller: &Caller) -> Result<NewTotp, FactorError> {
        let owner = self.repository.find_own_credentials(caller).await?;
        let secret = generate_secret();
        let sealed = self.sealing_key()?.seal(&totp_binding(owner.user_id), secret.as_slice());
        let codes = codes_of(secret.as_slice(), &self.service_name, owner.username.as_str())?;
        match self.repository.begin_totp(caller, sealed, self.clock.now()).await? {
            FactorChange::Done => Ok(NewTotp(codes)),
            FactorChange::NotFresh => Err(ReauthenticationError::NotFresh.into()),
            FactorChange::NoSuchState | FactorChange::Refused => Err(FactorError::AlreadyOn),
        }
    }

    /// Confirms the authenticator app that waits by its first code, and returns the recovery codes. Other sessions end.
    ///
    /// # Errors
    /// See [`FactorError`].
    pub async fn confirm_totp(
        &self,
        admission: Admission<'_>,
        caller: &Caller,
        code: &Code,
        client: &impl Client,
    ) -> Result<Vec<RecoveryCode>, FactorError> {
        let now = self.clock.now();
        let waiting = self.repository.find_own_totp(caller).await?.ok_or(FactorError::Off)?;
        if waiting.is_confirmed {
            return Err(FactorError::AlreadyOn);
        }
        if now.since(waiting.created) >= CONFIRMED_WITHIN {
            return Err(FactorError::Off);
        }
        admission.confirm(Call::LogIn);
        let attempt = self.throttle.begin_reauthentication(&waiting.username, client.ip())?;
        let StoredTotp { user_id, username, secret, .. } = waiting;
        let step = step_of(self.sealing_key()?, user_id, &secret, code, now)?;
        let codes: Vec<_> = std::iter::repeat_with(RecoveryCode::generate).take(RECOVERY_CODES).collect();
        if let Some(step) = step {
            let digests = codes.iter().map(RecoveryCode::digest).collect();
            let confirmed = self.repository.confirm_totp(caller, TotpUse { secret, step }, digests, now).await?;
            if confirmed == FactorChange::Done {
                attempt.succeeded();
                return Ok(codes);
            }
        }
        let kind = EventKind::ReauthenticationFailed;
        self.throttle.fail(attempt, kind, Some(username), client.ip()).await;
        Err(FactorError::WrongCode)
    }

    /// Removes the authenticator app and the recovery codes, in a fresh session and with the second factor.
    ///
    /// # Errors
    /// See [`FactorError`].
    pub async fn remove_totp(
        &self,
        admission: Admission<'_>,
        caller: &Caller,
        given: &GivenFactor,
        client: &impl Client,
    ) -> Result<(), FactorError> {
        // It removes every recovery code, also the one that would take the place of one that was used.
        self.change_factors(admission, caller, given, client, async |second| {
            self.repository.remove_totp(caller, second, self.clock.now()).await
        })
        .await?;
        Ok(())
    }

    /// Makes recovery codes in the place of those that are left, in a fresh session and with the second factor.
    ///
    /// # Errors
    /// See [`FactorError`].
    pub async fn replace_recovery_codes(
        &self,
        admission: Admission<'_>,
        caller: &Caller,
        given: &GivenFactor,
        client: &impl Client,
    ) -> Result<Vec<RecoveryCode>, FactorError> {
        let codes: Vec<_> = std::iter::repeat_with(RecoveryCode::generate).take(RECOVERY_CODES).collect();
        // It replaces every recovery code, as the removal removes them.
        self.change_factors(admission, caller, given, client, async |second| {
            let digests = codes.iter().map(RecoveryCode::digest).collect();
            self.repository.replace_recovery_codes(caller, second, digests, self.clock.now()).await
        })
        .await?;
        Ok(codes)
    }

    /// Makes the caller's session fresh by a code of the authenticator app.
    ///
    /// # Errors
    /// See [`FactorError`].
    pub async fn reauthenticate_by_totp(
        &self,
        admission: Admission<'_>,
        caller: &Caller,
        code: &Code,
        client: &impl Client,
    ) -> Result<(), FactorError> {
        let totp = self.repository.find_own_totp(caller).await?.filter(|totp| totp.is_confirmed);
        let StoredTotp { user_id, username, secret, .. } = totp.ok_or(FactorError::Off)?;
        admission.confirm(Call::LogIn);
        let attempt = self.throttle.begin_reauthentication(&username, client.ip())?;
        let now = self.clock.now();
        if let Some(step) = step_of(self.sealing_key()?, user_id, &secret, code, now)? {
            let shown = Reauthentication::Totp(TotpUse { secret, step });
            if self.repository.reauthenticate(caller, shown, now).await? {
                attempt.succeeded();
                return Ok(());
            }
        }
        let kind = EventKind::ReauthenticationFailed;
        self.throttle.fail(attempt, kind, Some(username), client.ip()).await;
        Err(FactorError::WrongCode)
    }

    /// Makes a change that needs the second factor, and returns the recovery code that is in the place of one that was
    /// used. Wrong codes count as wrong passwords do where a session's holder gives the password again.
    pub(in crate::accounts) async fn change_factors(
        &self,
        admission: Admission<'_>,
        caller: &Caller,
        given: &GivenFactor,
        client: &impl Client,
        change: impl AsyncFn(SecondFactor) -> Result<FactorChange, RepositoryError>,
    ) -> Result<Option<RecoveryCode>, FactorError> {
        self.require_fresh_session(caller).await?;
        let totp = self.repository.find_own_totp(caller).await?.filter(|totp| totp.is_confirmed);
        let StoredTotp { user_id, username, secret, .. } = totp.ok_or(FactorError::Off)?;
        admission.confirm(Call::LogIn);
        let attempt = self.throttle.begin_reauthentication(&username, client.ip())?;
        if let Some((second, replacement)) = self.read_second_factor(user_id, Some(secret), given).await? {
            match change(second).await? {
                FactorChange::Done => {
                    attempt.succeeded();
                    return Ok(replacement);
                }
                FactorChange::NotFresh => return Err(ReauthenticationError::NotFresh.into()),
                FactorChange::NoSuchState => return Err(FactorError::Off),
                FactorChange::Refused => {}
            }
        }
        let kind = EventKind::ReauthenticationFailed;
        self.throttle.fail(attempt, kind, Some(username), client.ip()).await;
        Err(FactorError::WrongCode)
    }
}
