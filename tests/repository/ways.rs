//! Ways into accounts, ready: authenticator apps with their recovery codes, passkeys, identities, challenges.

use authtokens::domain::challenge::{ChallengePurpose, NewChallenge};
use authtokens::domain::factor::RECOVERY_CODES;
use authtokens::domain::identity::Subject;
use authtokens::domain::passkey::{CredentialId, PasskeyName, UserHandle};
use authtokens::domain::token::{PlainToken, TokenDigest};
use authtokens::domain::user::{NewUser, PasswordHash, UserId};
use authtokens::repository::{
    FactorChange, FirstFactor, IdTokenUse, IdentityRegistered, IdentityUse, Linked, NewPasskey, OfferedWays,
    PasskeyAdded, PasskeyUse, Repository, SecondFactor, SecurityState, SessionOutcome, SessionRequest, TotpUse,
    VerifiedIdentity,
};

use crate::fixture::Fixture;
use crate::words::{
    HASH, Mailed, at, caller, login, mailed, name, new_session, new_user, reauthenticate, register_verified,
    session_request,
};

/// The key that sealed what is sealed here.
pub const KEY_ID: &[u8] = b"key-id-1";

/// The step of the code that confirmed an authenticator app.
pub const FIRST_STEP: u64 = 100;

/// What is stored of a passkey.
pub const CREDENTIAL: &str = "{\"counter\":0}";

pub const HANDLE: UserHandle = [7; 16];

/// What looks like a secret that this key has sealed.
pub fn sealed_with(key_id: &[u8], secret: &str) -> Vec<u8> {
    [&[1], key_id, &[0; 12], secret.as_bytes(), &[0; 16]].concat()
}

pub fn sealed(secret: &str) -> Vec<u8> {
    sealed_with(KEY_ID, secret)
}

/// A code of the authenticator apps here.
pub fn code(step: u64) -> TotpUse {
    TotpUse { secret: sealed("totp"), step }
}

pub fn by_code(step: u64) -> SecondFactor {
    SecondFactor::Totp(code(step))
}

/// A recovery code as a second factor, and what takes its place.
pub fn by_recovery_code(used: TokenDigest) -> (SecondFactor, TokenDigest) {
    let replacement = PlainToken::generate().digest();
    (SecondFactor::RecoveryCode { used, replacement }, replacement)
}

pub fn new_codes() -> Vec<TokenDigest> {
    std::iter::repeat_with(|| PlainToken::generate().digest()).take(RECOVERY_CODES).collect()
}

/// Begins to set up an authenticator app at 3,000 ms.
pub async fn begin_totp(fixture: &Fixture, session: TokenDigest) {
    reauthenticate(fixture, session).await;
    let begun = fixture.repository.begin_totp(&caller(session), sealed("totp"), at(3_000)).await.unwrap();
    assert_eq!(begun, FactorChange::Done);
}

/// Gives an account an authenticator app at 3,000 ms; its recovery codes. The session is fresh then, and the only one.
pub async fn set_up_totp(fixture: &Fixture, session: TokenDigest) -> Vec<TokenDigest> {
    begin_totp(fixture, session).await;
    let codes = new_codes();
    let confirmed = fixture.repository.confirm_totp(&caller(session), code(FIRST_STEP), codes.clone(), at(3_000)).await;
    assert_eq!(confirmed.unwrap(), FactorChange::Done);
    codes
}

pub fn credential(id: &str) -> CredentialId {
    CredentialId::from_bytes(id.as_bytes().to_vec())
}

pub fn new_passkey(id: &str) -> NewPasskey {
    NewPasskey {
        credential_id: credential(id),
        user_handle: HANDLE,
        rp_id: "cellar.example".to_owned(),
        name: PasskeyName::parse("Laptop").unwrap(),
        credential: CREDENTIAL.to_owned(),
    }
}

/// Adds a passkey at 3,000 ms.
pub async fn add_passkey(fixture: &Fixture, session: TokenDigest, id: &str) {
    reauthenticate(fixture, session).await;
    let added = fixture.repository.add_passkey(&caller(session), new_passkey(id), at(3_000)).await.unwrap();
    assert!(matches!(added, PasskeyAdded::Done(_)), "{added:?}");
}

/// A signature of a passkey that has not changed.
pub fn signed(user_id: UserId, id: &str) -> PasskeyUse {
    PasskeyUse { user_id, credential_id: credential(id), before: CREDENTIAL.to_owned(), after: None }
}

/// Every way in is offered.
pub fn all_ways() -> OfferedWays {
    OfferedWays { passkeys: true, issuers: vec!["https://id.example".to_owned()] }
}

pub fn subject(subject: &str) -> Subject {
    Subject { issuer: "https://id.example".to_owned(), subject: subject.to_owned() }
}

/// What a provider says of somebody, by an ID token that was never used and is worth something until 600,000 ms.
pub fn says(of: &str) -> VerifiedIdentity {
    VerifiedIdentity {
        subject: subject(of),
        provider: "example".to_owned(),
        email: format!("{of}@id.example"),
        token: Some(IdTokenUse { digest: PlainToken::generate().digest(), expires: at(600_000) }),
        refresh_token: None,
    }
}

/// The same, with a refresh token.
pub fn says_with_token(of: &str) -> VerifiedIdentity {
    VerifiedIdentity { refresh_token: Some(sealed("refresh")), ..says(of) }
}

/// Links an identity at 3,000 ms.
pub async fn link(fixture: &Fixture, session: TokenDigest, identity: VerifiedIdentity) {
    let linked = fixture.repository.link_identity(&caller(session), false, identity, at(3_000)).await.unwrap();
    assert_eq!(linked, Linked::Done);
}

pub fn by_identity(user_id: UserId, identity: VerifiedIdentity) -> FirstFactor {
    FirstFactor::Identity(IdentityUse { user_id, identity, by_email: None })
}

pub fn by_address(user_id: UserId, identity: VerifiedIdentity, key: &str) -> FirstFactor {
    FirstFactor::Identity(IdentityUse { user_id, identity, by_email: Some(key.to_owned()) })
}

/// Registers an account without a password at 1,000 ms by an identity.
pub async fn register_by(fixture: &Fixture, username: &str, identity: VerifiedIdentity) -> (UserId, TokenDigest) {
    let (user, session) = (NewUser { password_hash: PasswordHash::none(), ..new_user(username) }, new_session());
    let digest = session.digest;
    let registered =
        fixture.repository.register_by_identity(user, false, None, identity, session, at(1_000)).await.unwrap();
    assert!(matches!(registered, IdentityRegistered::Opened(_)), "{registered:?}");
    let credentials = fixture.repository.find_credentials(&name(username)).await.unwrap().unwrap();
    (credentials.user_id, digest)
}

/// Makes a session fresh at 3,000 ms by its account's identity, where there may be no password.
pub async fn reauthenticate_by(fixture: &Fixture, user_id: UserId, session: TokenDigest, identity: VerifiedIdentity) {
    let shown = authtokens::repository::Reauthentication::Identity(IdentityUse { user_id, identity, by_email: None });
    assert!(fixture.repository.reauthenticate(&caller(session), shown, at(3_000)).await.unwrap());
}

/// What came of a login, the digest of its session's token, and that of its challenge's.
pub struct Tried {
    pub outcome: SessionOutcome,
    pub session: TokenDigest,
    pub challenge: TokenDigest,
}

impl Tried {
    pub fn is_opened(&self) -> bool {
        matches!(self.outcome, SessionOutcome::Opened(_))
    }

    pub fn is_due(&self) -> bool {
        matches!(self.outcome, SessionOutcome::SecondFactorDue(..))
    }

    pub fn is_second_refused(&self) -> bool {
        matches!(self.outcome, SessionOutcome::SecondFactorRefused(_))
    }

    pub fn is_refused(&self) -> bool {
        self.outcome == SessionOutcome::Refused
    }
}

/// Tries to open a session on one handle of the store.
pub async fn log_in_on(repository: &dyn Repository, first: FirstFactor, second: SecondFactor, millis: i64) -> Tried {
    let session = new_session();
    let digest = session.digest;
    let (request, challenge) = session_request(first, session, at(millis));
    let outcome = repository.open_session(SessionRequest { second, ..request }, at(millis)).await.unwrap();
    Tried { outcome, session: digest, challenge }
}

/// Tries to open a session.
pub async fn log_in(fixture: &Fixture, first: FirstFactor, second: SecondFactor, millis: i64) -> Tried {
    log_in_on(fixture.repository.as_ref(), first, second, millis).await
}

pub fn with_password(user_id: UserId) -> FirstFactor {
    FirstFactor::Password(login(user_id, HASH))
}

/// Begins a login that lacks its second factor, at 5,000 ms: its challenge, which ends at 65,000 ms.
pub async fn begin_login(fixture: &Fixture, user_id: UserId) -> TokenDigest {
    let tried = log_in(fixture, with_password(user_id), SecondFactor::NotGiven, 5_000).await;
    assert!(tried.is_due(), "{:?}", tried.outcome);
    tried.challenge
}

/// A challenge of this purpose, which ends at `expires`, and its token.
pub fn challenge_until(purpose: ChallengePurpose, expires: i64) -> (NewChallenge, TokenDigest) {
    let digest = PlainToken::generate().digest();
    (NewChallenge { digest, purpose, state: "{\"is\":\"state\"}".to_owned(), expires: at(expires) }, digest)
}

/// How the account of a session can be got into, at 4,000 ms.
pub async fn security(fixture: &Fixture, session: TokenDigest) -> SecurityState {
    fixture.repository.find_security(&caller(session), at(4_000)).await.unwrap()
}

/// An account with every way in.
pub struct Account {
    pub user_id: UserId,
    pub username: String,
    pub session: TokenDigest,
    /// Of its authenticator app, where that is confirmed.
    pub codes: Vec<TokenDigest>,
    pub passkey: String,
    /// What is mailed for a login.
    pub mailed: Mailed,
    /// Linked.
    pub identity: VerifiedIdentity,
    /// Not linked; its address is the account's.
    pub stranger: VerifiedIdentity,
    pub email: String,
    /// A login that lacks its second factor.
    pub challenge: TokenDigest,
}

/// What becomes of the authenticator app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum App {
    None,
    Waiting,
    Confirmed,
}

impl Account {
    /// Registers it at 1,000 ms; its passkey and its identity are there at 3,000 ms, and its session is fresh then.
    pub async fn register(fixture: &Fixture, username: &str, app: App) -> Self {
        let email = format!("{}@diamond.example", username.to_lowercase());
        let (user_id, session) = register_verified(fixture, username, &email).await;
        let codes = match app {
            App::None => Vec::new(),
            App::Waiting => {
                begin_totp(fixture, session).await;
                Vec::new()
            }
            App::Confirmed => set_up_totp(fixture, session).await,
        };
        let passkey = format!("passkey of {username}");
        add_passkey(fixture, session, &passkey).await;
        link(fixture, session, says_with_token(username)).await;
        let mailed = mailed(fixture, authtokens::domain::one_time::Purpose::SignIn, user_id, &email).await;
        let (challenge, digest) = challenge_until(ChallengePurpose::SecondFactor, 65_000);
        fixture.repository.store_challenge(Some(&caller(session)), challenge, at(5_000)).await.unwrap();
        Self {
            user_id,
            username: username.to_owned(),
            session,
            codes,
            passkey,
            mailed,
            identity: says(username),
            stranger: says(&format!("another {username}")),
            email,
            challenge: digest,
        }
    }
}
