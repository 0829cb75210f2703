//! What shows who asks: proofs of the first factor and of the second. The store checks each in the transaction of what it
//! allows, and uses up there what counts once.

use crate::domain::authentication_methods::AuthenticationMethods;
use crate::domain::challenge::NewChallenge;
use crate::domain::factor::Method;
use crate::domain::identity::Subject;
use crate::domain::one_time::Presented;
use crate::domain::passkey::CredentialId;
use crate::domain::session::NewSession;
use crate::domain::token::TokenDigest;
use crate::domain::user::{PasswordHash, User, UserId, Username};
use crate::system::clock::Timestamp;

/// What shows that the account's owner asks for a change.
pub enum Proof {
    /// The hash that a password was verified against. It holds as long as the account has no other.
    Password(PasswordHash),
    /// The caller's session. It holds while that is fresh.
    FreshSession,
}

/// What makes a session fresh.
pub enum Reauthentication {
    /// The hash that a password was verified against.
    Password(PasswordHash),
    /// A code of the authenticator app.
    Totp(TotpUse),
    /// A passkey of the account.
    Passkey(PasskeyUse),
    /// An identity of the account.
    Identity(IdentityUse),
}

impl Reauthentication {
    /// Whether it is more than the first factor, so that it clears the failures also of an account that has a second.
    #[must_use]
    pub fn is_second_factor(&self) -> bool {
        matches!(self, Self::Totp(_) | Self::Passkey(_))
    }
}

/// A login whose password has been verified, and that is to open a session.
pub struct VerifiedLogin {
    /// The account.
    pub user_id: UserId,
    /// The hash that the password was verified against. Where the account has another by now, no session is opened.
    pub verified_against: PasswordHash,
    /// A new hash of the password, where the stored one is of another scheme or cost than is configured.
    pub rehashed: Option<PasswordHash>,
}

/// A code of an authenticator app that was right.
pub struct TotpUse {
    /// The secret that it was right for, sealed as it was read. Where the account has another by now, it is worth nothing.
    pub secret: Vec<u8>,
    /// Its time step. It counts where no code of this step or a later one was accepted before.
    pub step: u64,
}

/// A signature of a passkey that was right.
pub struct PasskeyUse {
    /// Whose it is.
    pub user_id: UserId,
    /// Which it is.
    pub credential_id: CredentialId,
    /// What is stored of it, as it was read. Where it has changed by now, the signature is worth nothing.
    pub before: String,
    /// What is to be stored, where its counter or its flags have changed.
    pub after: Option<String>,
}

/// An ID token, which counts once.
#[derive(Clone)]
pub struct IdTokenUse {
    /// Its digest.
    pub digest: TokenDigest,
    /// When it is worth nothing by itself.
    pub expires: Timestamp,
}

/// What a provider has said of somebody.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct VerifiedIdentity {
    pub subject: Subject,
    /// The provider's name in the configuration.
    pub provider: String,
    /// Empty where it says none.
    pub email: String,
    /// What it was read from; `None` where the provider was asked directly.
    pub token: Option<IdTokenUse>,
    /// A refresh token, sealed for [`Subject::binding`].
    pub refresh_token: Option<Vec<u8>>,
}

/// An identity that is to be a login.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct IdentityUse {
    pub user_id: UserId,
    pub identity: VerifiedIdentity,
    /// Where the account is not linked to it yet: the key of the address, which both sides have verified. It is linked
    /// where the account still has it, when a session is opened: not while the second factor is due, but once it is given.
    pub by_email: Option<String>,
}

/// How somebody has shown that an account is theirs.
pub enum FirstFactor {
    /// They know its password.
    Password(VerifiedLogin),
    /// They read the mail that was sent to its address.
    Mail(Presented),
    /// They have a passkey, whose authenticator has verified them: that is both factors.
    Passkey(PasskeyUse),
    /// A provider says that they are.
    Identity(IdentityUse),
    /// They had shown it before, and were asked for the second factor: the digest of the challenge's token. What they had
    /// shown may be an identity that is to be linked by its address now, where that still may be.
    Challenge(TokenDigest, Option<Box<IdentityUse>>),
}

/// The second factor, where one was given.
pub enum SecondFactor {
    /// None was.
    NotGiven,
    /// A code of the authenticator app.
    Totp(TotpUse),
    /// A recovery code, and the one that takes its place.
    #[expect(missing_docs, reason = "the names say it")]
    RecoveryCode { used: TokenDigest, replacement: TokenDigest },
    /// A passkey.
    Passkey(PasskeyUse),
}

impl FirstFactor {
    /// How it is called in `amr`. That of a login whose first factor was shown before is kept with its challenge.
    #[must_use]
    pub fn methods(&self) -> AuthenticationMethods {
        match self {
            Self::Password(_) => AuthenticationMethods::PASSWORD,
            Self::Passkey(_) => AuthenticationMethods::PASSKEY.and(AuthenticationMethods::SEVERAL),
            Self::Mail(_) | Self::Identity(_) | Self::Challenge(..) => AuthenticationMethods::NONE,
        }
    }
}

impl SecondFactor {
    /// How it, beside a first factor, is called in `amr`.
    #[must_use]
    pub fn methods(&self) -> AuthenticationMethods {
        let method = match self {
            Self::NotGiven => return AuthenticationMethods::NONE,
            Self::Totp(_) | Self::RecoveryCode { .. } => AuthenticationMethods::ONE_TIME_CODE,
            Self::Passkey(_) => AuthenticationMethods::PASSKEY,
        };
        method.and(AuthenticationMethods::SEVERAL)
    }
}

/// A session that is to be opened.
#[expect(missing_docs, reason = "the names say it")]
pub struct SessionRequest {
    pub first: FirstFactor,
    pub second: SecondFactor,
    pub session: NewSession,
    /// Stored for the account where a second factor is due and none was given.
    pub challenge: NewChallenge,
    /// Where the account has as many already, the least recently used are evicted.
    pub max_sessions: u32,
    /// Whether the account's address must be verified. A mail that is shown verifies it.
    pub needs_verified_email: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionOutcome {
    /// The session is there.
    Opened(Box<User>),
    /// The first factor was right and is used up. The challenge is stored: these are the ways to finish it.
    SecondFactorDue(Username, Vec<Method>),
    /// The first factor was right, and the second is worth nothing (any more). Nothing was used up.
    SecondFactorRefused(Username),
    /// The first factor was right, and the account's address is not verified, as it must be. Nothing was used up.
    EmailNotVerified,
    /// The account is gone, is not active, or the first factor is worth nothing (any more). Nothing was used up; a wrong
    /// code of a mail was counted.
    Refused,
}
