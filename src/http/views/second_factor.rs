//! The JSON of second factors: what a login lacks, what was set up, and how an account can be got into.

use serde::Serialize;
use utoipa::ToSchema;

use crate::accounts::SecondFactorDue;
use crate::accounts::second_factor::NewTotp;
use crate::domain::factor::RecoveryCode;
use crate::repository::SecurityState;

/// What a login lacks whose first factor was right.
#[derive(Serialize, ToSchema)]
#[schema(as = SecondFactor)]
pub(crate) struct SecondFactorResponse {
    /// What `POST /api/login/second` takes with the factor.
    #[schema(example = "d96163b8bc9127d8c5d5839018580123c64a324b", pattern = "^[0-9a-f]{40}$")]
    token: String,
    /// How the factor may be given: `totp`, `recovery_code`, `passkey`.
    #[schema(example = json!(["totp", "recovery_code"]))]
    methods: Vec<&'static str>,
    /// When the token is worth nothing.
    #[schema(example = "2015-01-04T22:56:35.144Z", format = DateTime)]
    expires: String,
}

impl From<&SecondFactorDue> for SecondFactorResponse {
    fn from(due: &SecondFactorDue) -> Self {
        Self {
            token: due.token.reveal().to_owned(),
            methods: due.methods.iter().map(|method| method.name()).collect(),
            expires: due.expires.to_string(),
        }
    }
}

/// How a login is refused. One that lacks its second factor is an error for a client that knows nothing of factors.
#[derive(Serialize, ToSchema)]
pub(crate) struct SecondFactorDueResponse {
    #[schema(example = "The second factor is required.")]
    error: String,
    /// It is there where all that is missing is the second factor.
    #[schema(nullable = false)]
    second_factor: Option<SecondFactorResponse>,
}

/// The secret of an authenticator app that waits for its first code. No other answer shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = Totp)]
pub(crate) struct TotpResponse {
    /// In base 32, to be typed.
    #[schema(example = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")]
    secret: String,
    /// The same as a link that opens an app.
    #[schema(
        example = "otpauth://totp/authtokens:AzureDiamond?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=authtokens"
    )]
    uri: String,
    /// The same as a picture that an app scans.
    #[schema(example = "<svg>…</svg>")]
    qr_svg: String,
}

impl From<&NewTotp> for TotpResponse {
    fn from(totp: &NewTotp) -> Self {
        Self { secret: totp.secret(), uri: totp.uri(), qr_svg: totp.qr_svg() }
    }
}

/// New recovery codes. No other answer shows them.
#[derive(Serialize, ToSchema)]
#[schema(as = RecoveryCodes)]
pub(crate) struct RecoveryCodesResponse {
    /// Ten, each good for one login.
    #[schema(example = json!(["0a1b-2c3d-4e5f-6g7h-8j9k-mnpq"]))]
    recovery_codes: Vec<String>,
}

impl From<&[RecoveryCode]> for RecoveryCodesResponse {
    fn from(codes: &[RecoveryCode]) -> Self {
        Self { recovery_codes: codes.iter().map(RecoveryCode::reveal).collect() }
    }
}

/// How an account can be got into: facts without secrets.
#[derive(Serialize, ToSchema)]
#[schema(as = Security)]
pub(crate) struct SecurityResponse {
    #[schema(example = true)]
    has_password: bool,
    totp: TotpState,
    /// How many are left.
    #[schema(example = 10)]
    recovery_codes: u32,
    /// How many there are.
    #[schema(example = 1)]
    passkeys: u32,
    /// How many there are.
    #[schema(example = 0)]
    identities: u32,
    /// Until when this session is fresh; `null` where it is not.
    #[schema(example = "2015-01-04T23:01:35.144Z", format = DateTime, required)]
    fresh_until: Option<String>,
}

/// The authenticator app of an account.
#[derive(Serialize, ToSchema)]
pub(crate) struct TotpState {
    /// Whether a login needs its code.
    #[schema(example = true)]
    enabled: bool,
    /// When it was added; `null` where there is none.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime, required)]
    since: Option<String>,
}

impl From<SecurityState> for SecurityResponse {
    fn from(state: SecurityState) -> Self {
        Self {
            has_password: state.has_password,
            totp: TotpState { enabled: state.totp.is_some(), since: state.totp.map(|at| at.to_string()) },
            recovery_codes: state.recovery_codes,
            passkeys: state.passkeys,
            identities: state.identities,
            fresh_until: state.fresh_until.map(|at| at.to_string()),
        }
    }
}
