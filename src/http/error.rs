//! Errors as a client sees them: the only mapping from what went wrong to an HTTP response.
//!
//! Every body is an object with the single attribute `error`, a sentence for a person. It never echoes what was
//! submitted and shows nothing of the inside. What an operator needs is logged once, under the request's id.

use std::error::Error;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use bytesize::ByteSize;
use serde::Serialize;

use crate::accounts::administer::AdministerError;
use crate::accounts::identities::{IdentityError, LinkOffer};
use crate::accounts::mail_requests::QueueFull;
use crate::accounts::passkeys::{NoPasskeys, PasskeyError, PasskeySignInError};
use crate::accounts::second_factor::{FactorError, SealingError, SecondFactorError};
use crate::accounts::throttle::Throttled;
use crate::accounts::{
    AskError, ConfirmError, MailProofError, NameError, NoMail, ReauthenticationError, RegisterError, SecondFactorDue,
    ServiceError, SessionError, SignInByMailError, SignInError,
};
use crate::domain::field::InvalidField;
use crate::http::json::{self, Malformed};
use crate::http::views::second_factor::SecondFactorResponse;
use crate::passwords::PasswordError;
use crate::passwords::threads::HashingError;
use crate::repository::{RepositoryError, UniqueField};

/// Why neither a passkey nor an identity is removed that is the only way into its account.
pub(crate) const LAST_WAY_IN: &str = "This is the last way into the account. Add another one first.";

/// Every way in which a request may fail.
#[derive(Debug)]
pub enum ApiError {
    /// What was submitted is invalid. The sentence follows `Invalid Data: `.
    InvalidData(String),
    /// The request presents no token, or one without a live session.
    Unauthorized,
    /// The name and the password do not open an account. Which of the two is wrong is not told.
    LoginFailed,
    /// The first factor is right, and the second is due.
    SecondFactorDue(Box<SecondFactorDue>),
    /// The second factor is wrong, was used before, or its login has expired.
    SecondFactorWrong,
    /// What a passkey, or a provider of identities, said opens no account.
    NotSignedIn(&'static str),
    /// An identity is linked to no account. It is, once its owner has logged in otherwise and gives the token of this.
    LinkOffered(Box<LinkOffer>),
    /// Something stands in the way. The sentence says what.
    Conflict(&'static str),
    /// There is nothing that this call could do: the configuration does not offer it. The sentence says what.
    NotOffered(&'static str),
    /// The session is live, but has no right to do this.
    Forbidden,
    /// No service has the name and the key that were presented.
    NoService,
    /// A proxy's check is refused because it cannot be understood. The sentence says what may be asked.
    CheckRefused(&'static str),
    /// A page of another origin has sent a form of ours.
    ForeignForm,
    /// It would leave no active superuser.
    LastSuperuser,
    /// There were too many attempts.
    TooManyRequests {
        /// When to try again, in seconds.
        retry_after: u64,
    },
    /// The password is right, and a login needs a verified address.
    EmailNotVerified,
    /// Where mail is sent, staff start a reset and set no passwords.
    SetsNoPasswords,
    /// There is nothing at this path.
    NotFound,
    /// There is nothing that this call could do: the configuration does not offer it.
    NoMail(NoMail),
    /// The path has other methods.
    MethodNotAllowed {
        /// The methods that it has: the value of `Allow`.
        allow: &'static str,
    },
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body is larger than the limit.
    BodyTooLarge {
        /// The limit.
        limit: ByteSize,
    },
    /// The body is not JSON by its content type, or is compressed.
    UnsupportedMediaType {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The framework refused the request by itself.
    Framework(StatusCode),
    /// The service, or a part that it needs, cannot do this now.
    Unavailable {
        /// When to try again, in seconds.
        retry_after: u64,
        /// The cause, for the log.
        cause: Option<Box<dyn Error + Send + Sync>>,
    },
    /// A fault of the service. The client is told that there was one, and nothing else.
    Internal(Box<dyn Error + Send + Sync>),
}

/// The body of an error response.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    second_factor: Option<SecondFactorResponse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

impl ApiError {
    /// The sentence for the client.
    fn sentence(&self) -> String {
        match self {
            Self::InvalidData(why) => format!("Invalid Data: {why}"),
            Self::Unauthorized => "A valid token is required.".to_owned(),
            Self::NoService => "A service's name and key are required.".to_owned(),
            Self::LoginFailed => "The username or the password is wrong.".to_owned(),
            Self::SecondFactorDue(_) => "The second factor is required.".to_owned(),
            Self::SecondFactorWrong => "The code is wrong, was used before, or the login has expired.".to_owned(),
            Self::NotSignedIn(sentence)
            | Self::Conflict(sentence)
            | Self::NotOffered(sentence)
            | Self::CheckRefused(sentence) => (*sentence).to_owned(),
            Self::LinkOffered(_) => "Log in to your account otherwise, and link this identity there.".to_owned(),
            Self::Forbidden => "This account may not do that.".to_owned(),
            Self::ForeignForm => "This form was sent by a page of somebody else.".to_owned(),
            Self::LastSuperuser => "The last superuser must stay. Make another one first.".to_owned(),
            Self::EmailNotVerified => {
                "The address of this account is not verified. Open the link that was mailed to it, or reset the password."
                    .to_owned()
            }
            Self::SetsNoPasswords => {
                "Passwords are set by their owners. POST /api/users/{username}/reset mails them a link.".to_owned()
            }
            Self::NoMail(NoMail::Off) => "This service sends no mail.".to_owned(),
            Self::NoMail(NoMail::NoLogin) => "This service opens no session by mail.".to_owned(),
            Self::TooManyRequests { .. } => "There were too many attempts. Try again later.".to_owned(),
            Self::MethodNotAllowed { allow } => format!("This path answers only to {allow}."),
            Self::BodyTooLarge { limit } => format!("The body must be at most {limit}."),
            Self::UnsupportedMediaType { why } => (*why).to_owned(),
            Self::Unavailable { .. } => "The service cannot do this now. Try again later.".to_owned(),
            Self::NotFound | Self::BodyTimeout | Self::Framework(_) | Self::Internal(_) => {
                sentence_for(self.status_code()).to_owned()
            }
        }
    }

    /// The name belongs to another account. The sentence is the API specification's.
    fn taken() -> Self {
        Self::InvalidData("column username is not unique".to_owned())
    }

    /// The address is another account's, which has verified it.
    fn email_taken() -> Self {
        Self::InvalidData("another account has verified this address".to_owned())
    }

    /// What was presented of a mail is worth nothing. Why is not told.
    pub(crate) fn worthless() -> Self {
        Self::InvalidData("the code or the link is wrong, was used, or has expired".to_owned())
    }

    /// The session is not fresh, and the call takes nothing in the place of that.
    pub(crate) fn not_fresh() -> Self {
        Self::InvalidData("the session is not fresh: POST /api/user/reauthenticate first".to_owned())
    }

    /// The error for the password that was sent in `field`, or left out. Not a 401: the session stays live, and a client
    /// must not take it for ended.
    pub(crate) fn of_reauthentication(error: ReauthenticationError, field: &'static str) -> Self {
        match error {
            ReauthenticationError::WrongPassword => Self::InvalidData(format!("{field} is wrong")),
            ReauthenticationError::NotFresh => Malformed::Missing(field).into(),
            ReauthenticationError::Throttled(error) => error.into(),
            ReauthenticationError::Password(error) => error.into(),
            ReauthenticationError::Repository(error) => error.into(),
        }
    }

    /// Whether the client has to do something differently.
    pub(crate) fn is_of_the_client(&self) -> bool {
        self.status_code().is_client_error()
    }

    /// The same error, with a page of ours as its body.
    pub(crate) fn shown_as(self, html: String) -> ErrorPage {
        ErrorPage { error: self, html }
    }

    /// The cause that is logged with the request's line and that the client is not told.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Internal(cause) | Self::Unavailable { cause: Some(cause), .. } => Some(cause.as_ref()),
            _ => None,
        }
    }
}

/// The sentence for an error of which only the status is known.
#[must_use]
pub fn sentence_for(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "There is nothing at this path.",
        StatusCode::REQUEST_TIMEOUT => "The request did not arrive in time.",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "The request's head is too large.",
        status if status.is_client_error() => "The request cannot be understood.",
        _ => "Something went wrong on our side.",
    }
}

/// The body of an error response.
#[must_use]
pub fn body_for(sentence: &str) -> Vec<u8> {
    json::to_vec(&ErrorBody { error: sentence, second_factor: None, link_token: None, expires: None })
        .unwrap_or_default()
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::InvalidData(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized
            | Self::NoService
            | Self::LoginFailed
            | Self::SecondFactorDue(_)
            | Self::SecondFactorWrong
            | Self::NotSignedIn(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden
            | Self::CheckRefused(_)
            | Self::ForeignForm
            | Self::EmailNotVerified
            | Self::SetsNoPasswords => StatusCode::FORBIDDEN,
            Self::LastSuperuser | Self::LinkOffered(_) | Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound | Self::NoMail(_) | Self::NotOffered(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Framework(status) => *status,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        let extra: Option<(HeaderName, HeaderValue)> = match self {
            Self::Unauthorized
            | Self::LoginFailed
            | Self::SecondFactorDue(_)
            | Self::SecondFactorWrong
            | Self::NotSignedIn(_) => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Token"))),
            Self::NoService => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"authtokens\""))),
            Self::MethodNotAllowed { allow } => Some((header::ALLOW, HeaderValue::from_static(allow))),
            Self::Unavailable { retry_after, .. } | Self::TooManyRequests { retry_after } => {
                Some((header::RETRY_AFTER, HeaderValue::from(*retry_after)))
            }
            _ => None,
        };
        if let Some(pair) = extra {
            response.insert_header(pair);
        }
        let second_factor = match self {
            Self::SecondFactorDue(due) => Some(SecondFactorResponse::from(&**due)),
            _ => None,
        };
        let link = match self {
            Self::LinkOffered(offer) => Some(offer),
            _ => None,
        };
        let body = ErrorBody {
            error: &self.sentence(),
            second_factor,
            link_token: link.map(|offer| offer.token.reveal()),
            expires: link.map(|offer| offer.expires.to_string()),
        };
        response.body(json::to_vec(&body).unwrap_or_default())
    }
}

/// An error as one of our pages shows it: of the same status, and logged alike.
#[derive(Debug)]
pub(crate) struct ErrorPage {
    error: ApiError,
    html: String,
}

impl fmt::Display for ErrorPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl ResponseError for ErrorPage {
    fn status_code(&self) -> StatusCode {
        self.error.status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = self.error.error_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        response.set_body(self.html.clone()).map_into_boxed_body()
    }
}

/// The error behind a response; `None` where there is none, or it is not one of ours.
pub(crate) fn behind(response: &HttpResponse) -> Option<&ApiError> {
    let error = response.error()?;
    error.as_error::<ApiError>().or_else(|| error.as_error::<ErrorPage>().map(|page| &page.error))
}

impl From<InvalidField> for ApiError {
    fn from(error: InvalidField) -> Self {
        Self::InvalidData(error.to_string())
    }
}

impl From<Malformed> for ApiError {
    fn from(error: Malformed) -> Self {
        Self::InvalidData(error.to_string())
    }
}

impl From<RepositoryError> for ApiError {
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Conflict(UniqueField::Username) => Self::taken(),
            RepositoryError::NoSession => Self::Unauthorized,
            RepositoryError::Forbidden => Self::Forbidden,
            RepositoryError::LastSuperuser => Self::LastSuperuser,
            RepositoryError::ListFull => Self::InvalidData("the list is full".to_owned()),
            RepositoryError::Unavailable(_) | RepositoryError::OutcomeUnknown(_) => {
                Self::Unavailable { retry_after: 1, cause: Some(Box::new(error)) }
            }
            RepositoryError::Inconsistent(_) | RepositoryError::Backend(_) => Self::Internal(Box::new(error)),
        }
    }
}

impl From<PasswordError> for ApiError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Hashing(HashingError::Full { retry_after }) => {
                Self::Unavailable { retry_after, cause: None }
            }
            // Only a client that closed just its sending half can read this answer.
            PasswordError::Hashing(HashingError::Abandoned) => Self::Unavailable { retry_after: 1, cause: None },
            PasswordError::Hashing(HashingError::Failed) | PasswordError::MalformedHash(_) => {
                Self::Internal(Box::new(error))
            }
        }
    }
}

impl From<Throttled> for ApiError {
    fn from(Throttled { retry_after }: Throttled) -> Self {
        Self::TooManyRequests { retry_after }
    }
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Invalid(error) => error.into(),
            RegisterError::Taken => Self::taken(),
            RegisterError::Password(error) => error.into(),
            RegisterError::Repository(error) => error.into(),
        }
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        match error {
            NameError::Invalid(error) => error.into(),
            NameError::Repository(error) => error.into(),
        }
    }
}

impl From<SignInError> for ApiError {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Refused => Self::LoginFailed,
            SignInError::SecondFactorDue(due) => Self::SecondFactorDue(due),
            SignInError::SecondFactorRefused => Self::SecondFactorWrong,
            SignInError::EmailNotVerified => Self::EmailNotVerified,
            SignInError::Sealing(error) => error.into(),
            SignInError::Throttled(error) => error.into(),
            SignInError::Password(error) => error.into(),
            SignInError::Repository(error) => error.into(),
        }
    }
}

impl From<IdentityError> for ApiError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::NotOffered => {
                Self::NotOffered("This service does not offer this provider, or not this way.")
            }
            IdentityError::Refused => Self::NotSignedIn("What the provider said opens no account."),
            IdentityError::SecondFactorDue(due) => Self::SecondFactorDue(due),
            IdentityError::EmailNotVerified => Self::EmailNotVerified,
            IdentityError::NotLinked(offer) => Self::LinkOffered(offer),
            IdentityError::Taken => Self::Conflict("Another account is linked to this identity."),
            IdentityError::Full => Self::Conflict("The account has as many identities as it may have."),
            IdentityError::LastWayIn => Self::Conflict(LAST_WAY_IN),
            IdentityError::NotFound => Self::NotFound,
            IdentityError::NotFresh => Self::not_fresh(),
            IdentityError::Invalid(error) => error.into(),
            IdentityError::Throttled(error) => error.into(),
            IdentityError::Unreachable(error) => Self::Unavailable { retry_after: 5, cause: Some(Box::new(error)) },
            IdentityError::Repository(error) => error.into(),
        }
    }
}

impl From<SealingError> for ApiError {
    fn from(error: SealingError) -> Self {
        match error {
            SealingError::NoKey => Self::NotOffered("This service has no key to seal secrets with."),
            SealingError::Repository(error) => error.into(),
            SealingError::Unsealing(_) | SealingError::Malformed => Self::Internal(Box::new(error)),
        }
    }
}

impl From<SignInByMailError> for ApiError {
    fn from(error: SignInByMailError) -> Self {
        match error {
            SignInByMailError::SecondFactorDue(due) => Self::SecondFactorDue(due),
            SignInByMailError::Proof(error) => error.into(),
            SignInByMailError::Repository(error) => error.into(),
        }
    }
}

impl From<SecondFactorError> for ApiError {
    fn from(error: SecondFactorError) -> Self {
        match error {
            SecondFactorError::Refused => Self::SecondFactorWrong,
            SecondFactorError::Throttled(error) => error.into(),
            SecondFactorError::Sealing(error) => error.into(),
            SecondFactorError::Repository(error) => error.into(),
        }
    }
}

impl From<FactorError> for ApiError {
    fn from(error: FactorError) -> Self {
        match error {
            FactorError::WrongCode => Self::InvalidData("the code is wrong, or was used before".to_owned()),
            FactorError::AlreadyOn => Self::Conflict("The account has an authenticator app. Remove it first."),
            FactorError::Off => Self::Conflict("The account has no authenticator app."),
            FactorError::Reauthentication(ReauthenticationError::NotFresh) => Self::not_fresh(),
            FactorError::Reauthentication(error) => Self::of_reauthentication(error, "password"),
            FactorError::Sealing(error) => error.into(),
            FactorError::Repository(error) => error.into(),
        }
    }
}

impl From<NoPasskeys> for ApiError {
    fn from(_: NoPasskeys) -> Self {
        Self::NotOffered("This service has no passkeys.")
    }
}

impl From<PasskeyError> for ApiError {
    fn from(error: PasskeyError) -> Self {
        match error {
            PasskeyError::NoPasskeys(error) => error.into(),
            PasskeyError::Refused => {
                Self::InvalidData("the passkey does not verify, or its challenge has expired".to_owned())
            }
            PasskeyError::Taken => Self::Conflict("This passkey is an account's already."),
            PasskeyError::Full => Self::Conflict("The account has as many passkeys as it may have. Remove one first."),
            PasskeyError::NotFound => Self::NotFound,
            PasskeyError::LastWayIn => Self::Conflict(LAST_WAY_IN),
            PasskeyError::CodeMissing => Malformed::Missing("code").into(),
            PasskeyError::Factor(error) => error.into(),
            PasskeyError::Reauthentication(ReauthenticationError::NotFresh) => Self::not_fresh(),
            PasskeyError::Reauthentication(error) => Self::of_reauthentication(error, "password"),
            PasskeyError::Throttled(error) => error.into(),
            PasskeyError::Repository(error) => error.into(),
        }
    }
}

impl From<PasskeySignInError> for ApiError {
    fn from(error: PasskeySignInError) -> Self {
        match error {
            PasskeySignInError::NoPasskeys(error) => error.into(),
            PasskeySignInError::Refused => Self::NotSignedIn("The passkey opens no account."),
            PasskeySignInError::EmailNotVerified => Self::EmailNotVerified,
            PasskeySignInError::Repository(error) => error.into(),
        }
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Refused => Self::NoService,
            ServiceError::Throttled(error) => error.into(),
            ServiceError::Repository(error) => error.into(),
        }
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NotFound => Self::NotFound,
            SessionError::Repository(error) => error.into(),
        }
    }
}

impl From<NoMail> for ApiError {
    fn from(error: NoMail) -> Self {
        Self::NoMail(error)
    }
}

impl From<QueueFull> for ApiError {
    fn from(_: QueueFull) -> Self {
        Self::Unavailable { retry_after: 60, cause: None }
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NotVerified => Self::InvalidData("the account has no verified address".to_owned()),
            AskError::Throttled(error) => error.into(),
            AskError::Full(error) => error.into(),
            AskError::Repository(error) => error.into(),
        }
    }
}

impl From<MailProofError> for ApiError {
    fn from(error: MailProofError) -> Self {
        match error {
            MailProofError::Refused => Self::worthless(),
            MailProofError::Password(error) => error.into(),
            MailProofError::Repository(error) => error.into(),
        }
    }
}

impl From<ConfirmError> for ApiError {
    fn from(error: ConfirmError) -> Self {
        match error {
            ConfirmError::Refused => Self::worthless(),
            ConfirmError::Taken => Self::email_taken(),
            ConfirmError::Repository(error) => error.into(),
        }
    }
}

impl From<AdministerError> for ApiError {
    fn from(error: AdministerError) -> Self {
        match error {
            AdministerError::NoAccount | AdministerError::NoSession => Self::NotFound,
            AdministerError::Taken => Self::taken(),
            AdministerError::LastSuperuser => Self::LastSuperuser,
            AdministerError::NoAddress => {
                Self::InvalidData("the account has no address that mail can be sent to".to_owned())
            }
            AdministerError::EmailTaken => Self::email_taken(),
            AdministerError::SetsNoPasswords => Self::SetsNoPasswords,
            AdministerError::Full(error) => error.into(),
            AdministerError::Throttled(error) => error.into(),
            AdministerError::Password(error) => error.into(),
            AdministerError::Repository(error) => error.into(),
        }
    }
}
