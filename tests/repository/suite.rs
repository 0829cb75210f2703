//! The sentences, each against any backend.

use std::net::IpAddr;
use std::sync::Arc;

use authtokens::clock::Timestamp;
use authtokens::repository::{Repository, RepositoryError, UniqueField, VerifiedLogin};
use authtokens::token::{NewSession, PlainToken, TokenDigest, UserAgent};
use authtokens::user::{NewUser, PasswordHash, Profile, ProfileField, User, UserId, Username};

use crate::Fixture;

const HASH: &str = "$bcrypt-sha256$v=2,t=2b,r=4$first";

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

fn hash(text: &str) -> PasswordHash {
    PasswordHash::from_stored(text.to_owned())
}

fn new_user(username: &str) -> NewUser {
    let mut profile = Profile::default();
    profile.set(ProfileField::City, "Chicago".to_owned()).unwrap();
    NewUser { username: name(username), password_hash: hash(HASH), profile }
}

fn new_session() -> NewSession {
    let ip: IpAddr = "2001:db8::1".parse().unwrap();
    NewSession {
        digest: PlainToken::generate().digest(),
        user_agent: UserAgent::from_header("Cellar/1.0"),
        ip: Some(ip),
    }
}

/// Registers a user at 1,000 ms; its id and the digest of its first session.
async fn register(fixture: &Fixture, username: &str) -> (UserId, TokenDigest) {
    let session = new_session();
    let digest = session.digest;
    fixture.repository.register_user(new_user(username), session, at(1_000)).await.unwrap();
    let credentials = fixture.repository.find_credentials(&name(username)).await.unwrap().unwrap();
    (credentials.user_id, digest)
}

fn login(user_id: UserId, verified_against: &str) -> VerifiedLogin {
    VerifiedLogin { user_id, verified_against: hash(verified_against), rehashed: None }
}

/// Opens a session at 2,000 ms for a login verified against `verified_against`.
async fn open(fixture: &Fixture, user_id: UserId, verified_against: &str) -> (Option<User>, TokenDigest) {
    let session = new_session();
    let digest = session.digest;
    let login = login(user_id, verified_against);
    (fixture.repository.open_session(login, session, at(2_000)).await.unwrap(), digest)
}

pub async fn a_registered_user_is_found_by_any_case_of_its_name(fixture: &Fixture) {
    register(fixture, "AzureDiamond").await;
    for username in ["AzureDiamond", "azurediamond", "AZUREDIAMOND"] {
        let credentials = fixture.repository.find_credentials(&name(username)).await.unwrap().unwrap();
        assert!(credentials.is_active);
        assert!(credentials.password_hash.as_stored() == HASH);
    }
}

pub async fn a_registration_answers_the_user_with_its_defaults_and_its_times(fixture: &Fixture) {
    let user = fixture.repository.register_user(new_user("AzureDiamond"), new_session(), at(1_000)).await.unwrap();
    let profile = Profile { city: "Chicago".to_owned(), ..Profile::default() };
    let expected = User {
        username: name("AzureDiamond"),
        profile,
        is_active: true,
        is_superuser: false,
        is_staff: false,
        last_login: at(1_000),
        cellar: Vec::new(),
        wants: Vec::new(),
        created: at(1_000),
        modified: at(1_000),
        date_joined: at(1_000),
    };
    assert_eq!(user, expected);
}

pub async fn a_taken_name_is_a_conflict_and_leaves_nothing_behind(fixture: &Fixture) {
    register(fixture, "AzureDiamond").await;
    let session = new_session();
    let digest = session.digest;
    let refused = fixture.repository.register_user(new_user("azureDIAMOND"), session, at(2_000)).await;
    assert!(matches!(refused, Err(RepositoryError::Conflict(UniqueField::Username))));
    assert!(fixture.repository.find_session(&digest).await.unwrap().is_none());
}

pub async fn of_many_registrations_of_one_name_at_once_one_succeeds(fixture: &Fixture) {
    let attempts: Vec<_> = (0..64)
        .map(|_| {
            let repository = Arc::clone(&fixture.repository);
            tokio::spawn(async move { repository.register_user(new_user("one"), new_session(), at(1_000)).await })
        })
        .collect();
    let mut won = 0;
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert!(matches!(error, RepositoryError::Conflict(UniqueField::Username)), "{error:?}"),
        }
    }
    assert_eq!(won, 1);
}

pub async fn the_first_session_is_live_with_the_registration(fixture: &Fixture) {
    let (user_id, digest) = register(fixture, "AzureDiamond").await;
    assert_eq!(fixture.repository.find_session(&digest).await.unwrap(), Some(user_id));
}

pub async fn a_verified_login_opens_a_session_and_moves_last_login_alone(fixture: &Fixture) {
    let (user_id, first) = register(fixture, "AzureDiamond").await;
    let (user, second) = open(fixture, user_id, HASH).await;
    let user = user.unwrap();
    assert_eq!(user.last_login, at(2_000));
    assert_eq!((user.created, user.modified, user.date_joined), (at(1_000), at(1_000), at(1_000)));
    for digest in [first, second] {
        assert_eq!(fixture.repository.find_session(&digest).await.unwrap(), Some(user_id));
    }
}

pub async fn a_login_against_a_hash_that_is_no_longer_stored_opens_nothing(fixture: &Fixture) {
    let (user_id, _) = register(fixture, "AzureDiamond").await;
    let (user, digest) = open(fixture, user_id, "$bcrypt-sha256$v=2,t=2b,r=4$older").await;
    assert!(user.is_none());
    assert!(fixture.repository.find_session(&digest).await.unwrap().is_none());
}

pub async fn a_login_may_bring_a_new_hash(fixture: &Fixture) {
    let (user_id, _) = register(fixture, "AzureDiamond").await;
    let login = VerifiedLogin { rehashed: Some(hash("$newer")), ..login(user_id, HASH) };
    assert!(fixture.repository.open_session(login, new_session(), at(2_000)).await.unwrap().is_some());
    let credentials = fixture.repository.find_credentials(&name("AzureDiamond")).await.unwrap().unwrap();
    assert!(credentials.password_hash.as_stored() == "$newer");
    assert!(open(fixture, user_id, HASH).await.0.is_none());
    assert!(open(fixture, user_id, "$newer").await.0.is_some());
}

pub async fn an_account_that_may_not_be_used_has_no_live_session_and_opens_none(fixture: &Fixture) {
    let (user_id, digest) = register(fixture, "AzureDiamond").await;
    (fixture.deactivate)("AzureDiamond");
    assert!(fixture.repository.find_session(&digest).await.unwrap().is_none());
    assert!(open(fixture, user_id, HASH).await.0.is_none());
    let credentials = fixture.repository.find_credentials(&name("AzureDiamond")).await.unwrap().unwrap();
    assert!(!credentials.is_active);
}

pub async fn a_revoked_session_is_gone_and_the_others_stay(fixture: &Fixture) {
    let (user_id, first) = register(fixture, "AzureDiamond").await;
    let (_, second) = open(fixture, user_id, HASH).await;
    let (_, others) = register(fixture, "other").await;
    assert!(fixture.repository.revoke_session(&first).await.unwrap());
    assert!(!fixture.repository.revoke_session(&first).await.unwrap());
    assert!(fixture.repository.find_session(&first).await.unwrap().is_none());
    assert!(fixture.repository.find_session(&second).await.unwrap().is_some());
    assert!(fixture.repository.find_session(&others).await.unwrap().is_some());
}

pub async fn of_many_revocations_of_one_session_at_once_one_succeeds(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let attempts: Vec<_> = (0..64)
        .map(|_| {
            let repository = Arc::clone(&fixture.repository);
            tokio::spawn(async move { repository.revoke_session(&digest).await.unwrap() })
        })
        .collect();
    let mut ended = 0;
    for attempt in attempts {
        ended += usize::from(attempt.await.unwrap());
    }
    assert_eq!(ended, 1);
}

pub async fn what_was_never_there_is_none_and_not_an_error(fixture: &Fixture) {
    let repository: &dyn Repository = fixture.repository.as_ref();
    let digest = PlainToken::generate().digest();
    assert!(repository.find_credentials(&name("nobody")).await.unwrap().is_none());
    assert!(repository.find_session(&digest).await.unwrap().is_none());
    assert!(!repository.revoke_session(&digest).await.unwrap());
    assert!(open(fixture, UserId(4_711), HASH).await.0.is_none());
}

pub async fn a_store_that_can_work_says_so(fixture: &Fixture) {
    fixture.repository.check_ready().await.unwrap();
}

pub async fn a_closed_store_takes_no_more_writes(fixture: &Fixture) {
    register(fixture, "AzureDiamond").await;
    fixture.repository.close().await.unwrap();
    let refused = fixture.repository.register_user(new_user("late"), new_session(), at(2_000)).await;
    assert!(matches!(refused, Err(RepositoryError::Unavailable(_))), "{refused:?}");
}
