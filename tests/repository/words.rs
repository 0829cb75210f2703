//! What the cases are written in: short names for values, and accounts that are ready.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use authtokens::domain::authentication_methods::AuthenticationMethods;
use authtokens::domain::challenge::{ChallengePurpose, NewChallenge};
use authtokens::domain::email::EmailAddress;
use authtokens::domain::event::{Event, EventKind, EventQuery, FailedAttempt};
use authtokens::domain::mail::MailKind;
use authtokens::domain::one_time::{Code, CodeMac, Presented, Purpose};
use authtokens::domain::profile::{Profile, ProfileField, ProfileText};
use authtokens::domain::rights::{Actor, Rights};
use authtokens::domain::session::{Caller, NewSession, SessionCutoffs, SessionId, UserAgent};
use authtokens::domain::token::{PlainToken, TokenDigest};
use authtokens::domain::user::{NewUser, PasswordHash, User, UserId, Username};
use authtokens::repository::{
    EmailVerification, FirstFactor, NewEmailChange, NewOffer, OutboxMail, Proof, Reauthentication, Repository,
    RepositoryError, SecondFactor, SessionOutcome, SessionRequest, VerifiedLogin,
};
use authtokens::system::clock::Timestamp;

use crate::fixture::Fixture;

pub const HASH: &str = "$bcrypt-sha256$v=2,t=2b,r=4$first";

/// Live whatever its age and last use.
pub const EVER: SessionCutoffs = SessionCutoffs::EVER;

pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

pub fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

pub fn hash(text: &str) -> PasswordHash {
    PasswordHash::from_stored(text.to_owned())
}

pub fn by_password(verified_against: &str) -> Proof {
    Proof::Password(hash(verified_against))
}

/// What makes a session fresh by a password.
pub fn with_password(verified_against: &str) -> Reauthentication {
    Reauthentication::Password(hash(verified_against))
}

/// A challenge of this purpose, which has a minute from `now` on, and its token.
pub fn new_challenge(purpose: ChallengePurpose, now: Timestamp) -> (NewChallenge, TokenDigest) {
    let digest = PlainToken::generate().digest();
    let expires = now.plus(Duration::from_secs(60));
    (NewChallenge { digest, purpose, state: "{}".to_owned(), expires }, digest)
}

/// A login without a second factor, and the token of the challenge that is stored where one is due.
pub fn session_request(first: FirstFactor, session: NewSession, now: Timestamp) -> (SessionRequest, TokenDigest) {
    let (challenge, token) = new_challenge(ChallengePurpose::SecondFactor, now);
    (
        SessionRequest {
            first,
            second: SecondFactor::NotGiven,
            session,
            challenge,
            max_sessions: 100,
            needs_verified_email: false,
        },
        token,
    )
}

/// Logins to accounts without a second factor.
#[async_trait]
pub trait OpensSessions {
    /// By a password. `None` where no session was opened.
    async fn log_in(
        &self,
        login: VerifiedLogin,
        session: NewSession,
        max_sessions: u32,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError>;

    /// By a mail. `None` where no session was opened.
    async fn log_in_by_mail(
        &self,
        presented: Presented,
        session: NewSession,
        max_sessions: u32,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError>;
}

#[async_trait]
impl<R: Repository + ?Sized> OpensSessions for R {
    async fn log_in(
        &self,
        login: VerifiedLogin,
        session: NewSession,
        max_sessions: u32,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError> {
        open_by(self, FirstFactor::Password(login), session, max_sessions, now).await
    }

    async fn log_in_by_mail(
        &self,
        presented: Presented,
        session: NewSession,
        max_sessions: u32,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError> {
        open_by(self, FirstFactor::Mail(presented), session, max_sessions, now).await
    }
}

async fn open_by(
    repository: &(impl Repository + ?Sized),
    first: FirstFactor,
    session: NewSession,
    max_sessions: u32,
    now: Timestamp,
) -> Result<Option<User>, RepositoryError> {
    let (request, _) = session_request(first, session, now);
    match repository.open_session(SessionRequest { max_sessions, ..request }, now).await? {
        SessionOutcome::Opened(user) => Ok(Some(*user)),
        SessionOutcome::Refused => Ok(None),
        other => panic!("the account has no second factor: {other:?}"),
    }
}

pub fn text(field: ProfileField, text: &str) -> ProfileText {
    ProfileText::parse(field, text.to_owned()).unwrap()
}

/// A caller whose session is live whatever its age and last use.
pub fn caller(digest: TokenDigest) -> Caller {
    Caller { digest, cutoffs: EVER, ip: None }
}

pub async fn is_fresh(fixture: &Fixture, digest: TokenDigest, millis: i64) -> bool {
    fixture.repository.is_session_fresh(&caller(digest), at(millis)).await.unwrap()
}

/// Makes a session fresh at 3,000 ms.
pub async fn reauthenticate(fixture: &Fixture, digest: TokenDigest) {
    assert!(fixture.repository.reauthenticate(&caller(digest), with_password(HASH), at(3_000)).await.unwrap());
}

pub async fn is_live(fixture: &Fixture, digest: TokenDigest) -> bool {
    fixture.repository.find_session(&caller(digest)).await.unwrap().is_some()
}

pub fn new_user(username: &str) -> NewUser {
    let mut profile = Profile::default();
    profile.set(text(ProfileField::City, "Chicago"));
    NewUser { username: name(username), password_hash: hash(HASH), profile }
}

pub fn new_session() -> NewSession {
    let ip: IpAddr = "2001:db8::1".parse().unwrap();
    NewSession {
        digest: PlainToken::generate().digest(),
        user_agent: UserAgent::from_header("Cellar/1.0"),
        ip: Some(ip),
        methods: AuthenticationMethods::PASSWORD,
    }
}

/// Registers a user at 1,000 ms; its id and the digest of its first session.
pub async fn register(fixture: &Fixture, username: &str) -> (UserId, TokenDigest) {
    register_at(fixture, username, at(1_000)).await
}

pub async fn register_at(fixture: &Fixture, username: &str, now: Timestamp) -> (UserId, TokenDigest) {
    let session = new_session();
    let digest = session.digest;
    fixture.repository.register_user(new_user(username), session, None, now).await.unwrap();
    let credentials = fixture.repository.find_credentials(&name(username)).await.unwrap().unwrap();
    (credentials.user_id, digest)
}

pub fn login(user_id: UserId, verified_against: &str) -> VerifiedLogin {
    VerifiedLogin { user_id, verified_against: hash(verified_against), rehashed: None }
}

/// Opens a session at 2,000 ms for a login verified against `verified_against`.
pub async fn open(fixture: &Fixture, user_id: UserId, verified_against: &str) -> (Option<User>, TokenDigest) {
    let session = new_session();
    let digest = session.digest;
    let login = login(user_id, verified_against);
    (fixture.repository.log_in(login, session, 100, at(2_000)).await.unwrap(), digest)
}

/// Makes an account by a command, with these rights; a session of it.
pub async fn create(fixture: &Fixture, username: &str, is_staff: bool, is_superuser: bool) -> Actor {
    let rights = Rights { is_staff, is_superuser };
    fixture.repository.create_account(new_user(username), rights, at(1_000)).await.unwrap();
    let credentials = fixture.repository.find_credentials(&name(username)).await.unwrap().unwrap();
    Actor::Session(caller(open(fixture, credentials.user_id, HASH).await.1))
}

/// Which events there are, oldest first, as `kind username actor detail`.
pub async fn events(fixture: &Fixture) -> Vec<String> {
    let query = EventQuery { username: None, kind: None, before: None, limit: 100 };
    let events = fixture.repository.list_events(&Actor::CommandLine, query).await.unwrap().rows;
    let shown = |event: &Event| format!("{} {} {} {}", event.kind.name(), event.username, event.actor, event.detail);
    events.iter().rev().map(shown).collect()
}

pub fn refused(kind: EventKind, username: &str, millis: i64) -> FailedAttempt {
    FailedAttempt { at: at(millis), kind, username: Some(name(username)), ip: None, detail: "" }
}

pub fn email(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

/// Registers a user with an address at 1,000 ms.
pub async fn register_with(fixture: &Fixture, username: &str, address: &str) -> (UserId, TokenDigest) {
    let (mut user, session) = (new_user(username), new_session());
    user.profile.set(text(ProfileField::Email, address));
    let digest = session.digest;
    fixture.repository.register_user(user, session, None, at(1_000)).await.unwrap();
    let credentials = fixture.repository.find_credentials(&name(username)).await.unwrap().unwrap();
    (credentials.user_id, digest)
}

/// Registers a user with a verified address.
pub async fn register_verified(fixture: &Fixture, username: &str, address: &str) -> (UserId, TokenDigest) {
    let registered = register_with(fixture, username, address).await;
    let verified = fixture.repository.verify_account_email(&Actor::CommandLine, &name(username), at(1_000)).await;
    assert_eq!(verified.unwrap(), Some(EmailVerification::Verified));
    registered
}

/// What a mail carries, and what only the client that asked for it knows.
pub struct Mailed {
    pub request: PlainToken,
    pub code: Code,
    pub token: PlainToken,
}

impl Mailed {
    pub fn new() -> Self {
        let code = Code::parse("123456").unwrap();
        Self { request: PlainToken::generate(), code, token: PlainToken::generate() }
    }

    pub fn mac(&self) -> CodeMac {
        self.code.mac(&self.request)
    }

    pub fn wrong_mac(&self) -> CodeMac {
        Code::parse("654321").unwrap().mac(&self.request)
    }

    pub fn by_code(&self) -> Presented {
        Presented::Code(self.request.digest(), self.mac())
    }

    pub fn by_wrong_code(&self) -> Presented {
        Presented::Code(self.request.digest(), self.wrong_mac())
    }

    pub fn by_link(&self) -> Presented {
        Presented::Link(self.token.digest())
    }

    pub fn offer(&self, purpose: Purpose, user_id: UserId, address: &str, is_familiar: bool) -> NewOffer {
        NewOffer {
            purpose,
            user_id,
            email_key: email(address).key().to_owned(),
            is_familiar,
            request: self.request.digest(),
            mac: self.mac(),
            token: self.token.digest(),
        }
    }
}

/// Stores what is about to be mailed, at 2,000 ms, for somebody in a network that is new to the account.
pub async fn mailed(fixture: &Fixture, purpose: Purpose, user_id: UserId, address: &str) -> Mailed {
    let mailed = Mailed::new();
    let offer = mailed.offer(purpose, user_id, address, false);
    assert!(fixture.repository.store_offer(offer, None, at(2_000)).await.unwrap());
    mailed
}

/// A change to an address, and the request id of it.
pub fn change_to(address: &str) -> (NewEmailChange, TokenDigest) {
    let request = PlainToken::generate().digest();
    (NewEmailChange { email: email(address), request, link: None }, request)
}

/// Begins a change of the address at `millis`, in a session that is fresh enough by its password; its request.
pub async fn request_change(fixture: &Fixture, session: TokenDigest, address: &str, millis: i64) -> TokenDigest {
    let (change, request) = change_to(address);
    let caller = caller(session);
    assert!(fixture.repository.request_email_change(&caller, by_password(HASH), change, at(millis)).await.unwrap());
    request
}

/// Claims every mail that is due, for a minute.
pub async fn claim(fixture: &Fixture, millis: i64) -> Vec<OutboxMail> {
    fixture.repository.claim_mails(100, at(millis), at(millis + 60_000)).await.unwrap()
}

/// The kinds and the recipients of the mails that are due, which are then gone.
pub async fn take(fixture: &Fixture, millis: i64) -> Vec<String> {
    let mut taken = Vec::new();
    for mail in claim(fixture, millis).await {
        assert!(fixture.repository.complete_mail(mail.id).await.unwrap());
        taken.push(format!("{} {}", mail.kind.name(), mail.recipient));
    }
    taken
}

/// Sends a claimed mail: the token of its link, and its code where it confirms an address.
pub async fn send(fixture: &Fixture, mail: &OutboxMail, millis: i64) -> (TokenDigest, Code) {
    let (code, token) = (Code::parse("123456").unwrap(), PlainToken::generate().digest());
    let purpose = mail.kind.purpose().unwrap();
    let of_mail = (purpose == Purpose::ConfirmEmail).then(|| code.clone());
    assert!(fixture.repository.store_outbox_offer(mail.id, purpose, of_mail, token, at(millis)).await.unwrap());
    assert!(fixture.repository.complete_mail(mail.id).await.unwrap());
    (token, code)
}

/// Sends the only mail of this kind that is due.
pub async fn send_only(fixture: &Fixture, kind: MailKind, millis: i64) -> (TokenDigest, Code) {
    let mails = claim(fixture, millis).await;
    let [mail] = &mails[..] else { panic!("{mails:?}") };
    assert_eq!(mail.kind, kind);
    send(fixture, mail, millis).await
}

/// Changes the password in a session; `false` where the proof does not hold.
pub async fn change_password(fixture: &Fixture, session: TokenDigest, from: &str, to: &str, millis: i64) -> bool {
    let caller = caller(session);
    fixture.repository.change_password(&caller, by_password(from), hash(to), at(millis)).await.unwrap()
}

/// Which sessions an account has, newest first.
pub async fn list_session_ids(fixture: &Fixture, username: &str) -> Vec<SessionId> {
    let listed = fixture.repository.list_account_sessions(&Actor::CommandLine, &name(username), EVER).await.unwrap();
    listed.unwrap_or_default().into_iter().map(|session| session.id).collect()
}
