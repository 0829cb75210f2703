//! Reads a second factor that a request gives: a code of the authenticator app, or a recovery code. What cannot be one is
//! no guess, and costs none.

use crate::accounts::second_factor::GivenFactor;
use crate::domain::factor::RecoveryCode;
use crate::domain::one_time::Code;
use crate::http::error::ApiError;

/// Reads either of the two; `None` where neither is given.
pub(crate) fn read(code: Option<String>, recovery_code: Option<String>) -> Result<Option<GivenFactor>, ApiError> {
    match (code, recovery_code) {
        (None, None) => Ok(None),
        (Some(code), None) => Ok(Some(GivenFactor::Totp(read_code(&code)?))),
        (None, Some(code)) => Ok(Some(GivenFactor::RecoveryCode(read_recovery_code(&code)?))),
        (Some(_), Some(_)) => Err(ApiError::InvalidData("give either code or recovery_code".to_owned())),
    }
}

/// Reads a code of the authenticator app.
pub(crate) fn read_code(text: &str) -> Result<Code, ApiError> {
    Code::parse(text).ok_or_else(|| ApiError::InvalidData("code must be six digits".to_owned()))
}

fn read_recovery_code(text: &str) -> Result<RecoveryCode, ApiError> {
    let malformed = || ApiError::InvalidData("recovery_code must be 24 letters and digits".to_owned());
    RecoveryCode::parse(text).ok_or_else(malformed)
}
