//! The sentences, each against any backend.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use authtokens::domain::event::{Event, EventCursor, EventKind, EventQuery, FailedAttempt};
use authtokens::domain::item::{ItemId, List};
use authtokens::domain::rights::{AccountChange, AccountCursor, Actor, Rights, UserQuery};
use authtokens::domain::session::{Caller, NewSession, SessionCutoffs, SessionId, UserAgent};
use authtokens::domain::token::{PlainToken, TokenDigest};
use authtokens::domain::user::{NewUser, PasswordHash, Profile, ProfileField, ProfileText, User, UserId, Username};
use authtokens::repository::{FigureValue, Repository, RepositoryError, StoreCounts, UniqueField, VerifiedLogin};
use authtokens::system::clock::Timestamp;
use bytes::Bytes;

use crate::Fixture;

const HASH: &str = "$bcrypt-sha256$v=2,t=2b,r=4$first";

/// Live at whatever age and rest.
const EVER: SessionCutoffs = SessionCutoffs { created_after: Timestamp::MIN, used_after: Timestamp::MIN };

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

fn hash(text: &str) -> PasswordHash {
    PasswordHash::from_stored(text.to_owned())
}

fn text(field: ProfileField, text: &str) -> ProfileText {
    ProfileText::parse(field, text.to_owned()).unwrap()
}

/// A caller whose session, of whatever age and rest, is live.
fn caller(digest: TokenDigest) -> Caller {
    Caller { digest, cutoffs: EVER, ip: None }
}

async fn is_live(fixture: &Fixture, digest: TokenDigest) -> bool {
    fixture.repository.find_session(&caller(digest)).await.unwrap().is_some()
}

fn new_user(username: &str) -> NewUser {
    let mut profile = Profile::default();
    profile.set(text(ProfileField::City, "Chicago"));
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
    register_at(fixture, username, at(1_000)).await
}

async fn register_at(fixture: &Fixture, username: &str, now: Timestamp) -> (UserId, TokenDigest) {
    let session = new_session();
    let digest = session.digest;
    fixture.repository.register_user(new_user(username), session, now).await.unwrap();
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
    (fixture.repository.open_session(login, session, 100, at(2_000)).await.unwrap(), digest)
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
    assert!(!is_live(fixture, digest).await);
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
    assert_eq!(fixture.repository.find_session(&caller(digest)).await.unwrap().unwrap().user_id, user_id);
}

pub async fn a_verified_login_opens_a_session_and_moves_last_login_alone(fixture: &Fixture) {
    let (user_id, first) = register(fixture, "AzureDiamond").await;
    let (user, second) = open(fixture, user_id, HASH).await;
    let user = user.unwrap();
    assert_eq!(user.last_login, at(2_000));
    assert_eq!((user.created, user.modified, user.date_joined), (at(1_000), at(1_000), at(1_000)));
    for digest in [first, second] {
        assert_eq!(fixture.repository.find_session(&caller(digest)).await.unwrap().unwrap().user_id, user_id);
    }
}

pub async fn a_login_against_a_hash_that_is_no_longer_stored_opens_nothing(fixture: &Fixture) {
    let (user_id, _) = register(fixture, "AzureDiamond").await;
    let (user, digest) = open(fixture, user_id, "$bcrypt-sha256$v=2,t=2b,r=4$older").await;
    assert!(user.is_none());
    assert!(!is_live(fixture, digest).await);
}

pub async fn a_login_may_bring_a_new_hash(fixture: &Fixture) {
    let (user_id, _) = register(fixture, "AzureDiamond").await;
    let login = VerifiedLogin { rehashed: Some(hash("$newer")), ..login(user_id, HASH) };
    assert!(fixture.repository.open_session(login, new_session(), 100, at(2_000)).await.unwrap().is_some());
    let credentials = fixture.repository.find_credentials(&name("AzureDiamond")).await.unwrap().unwrap();
    assert!(credentials.password_hash.as_stored() == "$newer");
    assert!(open(fixture, user_id, HASH).await.0.is_none());
    assert!(open(fixture, user_id, "$newer").await.0.is_some());
}

pub async fn an_account_that_may_not_be_used_has_no_live_session_and_opens_none(fixture: &Fixture) {
    let (user_id, digest) = register(fixture, "AzureDiamond").await;
    (fixture.deactivate)("AzureDiamond");
    assert!(!is_live(fixture, digest).await);
    assert!(open(fixture, user_id, HASH).await.0.is_none());
    let credentials = fixture.repository.find_credentials(&name("AzureDiamond")).await.unwrap().unwrap();
    assert!(!credentials.is_active);
}

pub async fn a_revoked_session_is_gone_and_the_others_stay(fixture: &Fixture) {
    let (user_id, first) = register(fixture, "AzureDiamond").await;
    let (_, second) = open(fixture, user_id, HASH).await;
    let (_, others) = register(fixture, "other").await;
    fixture.repository.revoke_own_session(&caller(first), at(5_000)).await.unwrap();
    let again = fixture.repository.revoke_own_session(&caller(first), at(5_000)).await;
    assert!(matches!(again, Err(RepositoryError::NoSession)));
    assert!(!is_live(fixture, first).await);
    assert!(is_live(fixture, second).await);
    assert!(is_live(fixture, others).await);
}

pub async fn of_many_revocations_of_one_session_at_once_one_succeeds(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let attempts: Vec<_> = (0..64)
        .map(|_| {
            let repository = Arc::clone(&fixture.repository);
            tokio::spawn(async move { repository.revoke_own_session(&caller(digest), at(5_000)).await.is_ok() })
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
    assert!(!is_live(fixture, digest).await);
    assert!(matches!(repository.revoke_own_session(&caller(digest), at(5_000)).await, Err(RepositoryError::NoSession)));
    assert!(open(fixture, UserId(4_711), HASH).await.0.is_none());
}

pub async fn a_store_that_can_work_says_so(fixture: &Fixture) {
    fixture.repository.check_ready().await.unwrap();
}

pub async fn a_store_tells_how_much_it_did_and_holds(fixture: &Fixture) {
    let before = fixture.repository.statistics().await;
    assert_eq!(fixture.repository.count().await.unwrap(), StoreCounts { users: 0, sessions: 0 });
    let (user_id, _) = register(fixture, "AzureDiamond").await;
    register(fixture, "other").await;
    let login = VerifiedLogin { user_id, verified_against: hash(HASH), rehashed: None };
    fixture.repository.open_session(login, new_session(), 100, at(2_000)).await.unwrap().unwrap();
    assert_eq!(fixture.repository.count().await.unwrap(), StoreCounts { users: 2, sessions: 3 });
    let after = fixture.repository.statistics().await;
    let names: Vec<_> = after.figures.iter().map(|figure| figure.name).collect();
    assert_eq!(
        names,
        before.figures.iter().map(|figure| figure.name).collect::<Vec<_>>(),
        "the same in the same order"
    );
    assert!(names.iter().all(|name| name.starts_with("authtokens_store_")), "{names:?}");
    let mut steps =
        before.figures.iter().zip(&after.figures).filter_map(|(before, after)| match (before.value, after.value) {
            (FigureValue::Counter(before), FigureValue::Counter(after)) => Some(after.checked_sub(before).unwrap()),
            _ => None,
        });
    assert!(steps.any(|step| step >= 3), "three writes are told: {after:?}");
    assert!(after.refused.iter().all(|(_, count)| *count == 0), "{after:?}");
}

pub async fn a_closed_store_takes_no_more_writes(fixture: &Fixture) {
    register(fixture, "AzureDiamond").await;
    fixture.repository.close().await.unwrap();
    let refused = fixture.repository.register_user(new_user("late"), new_session(), at(2_000)).await;
    assert!(matches!(refused, Err(RepositoryError::Unavailable(_))), "{refused:?}");
}

pub async fn a_session_ends_by_its_age_and_by_its_rest(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let cutoffs = |created_after, used_after| Caller {
        digest,
        cutoffs: SessionCutoffs { created_after: at(created_after), used_after: at(used_after) },
        ip: None,
    };
    for (created_after, used_after, expected) in
        [(999, 999, true), (1_000, 999, false), (999, 1_000, false), (5_000, 5_000, false)]
    {
        let found = fixture.repository.find_session(&cutoffs(created_after, used_after)).await.unwrap();
        assert_eq!(found.is_some(), expected, "created after {created_after}, used after {used_after}");
    }
    fixture.repository.record_use(vec![(digest, at(3_000))]).await.unwrap();
    fixture.repository.record_use(vec![(digest, at(2_000))]).await.unwrap();
    let session = fixture.repository.find_session(&cutoffs(999, 2_999)).await.unwrap().unwrap();
    assert_eq!(session.last_used, at(3_000), "the later use stands");
}

pub async fn dead_sessions_are_forgotten_and_live_ones_are_not(fixture: &Fixture) {
    let (user_id, old) = register(fixture, "AzureDiamond").await;
    let (_, newer) = open(fixture, user_id, HASH).await;
    let cutoffs = SessionCutoffs { created_after: at(1_000), used_after: Timestamp::MIN };
    assert_eq!(fixture.repository.prune_sessions(cutoffs).await.unwrap(), 1);
    assert_eq!(fixture.repository.prune_sessions(cutoffs).await.unwrap(), 0);
    assert!(!is_live(fixture, old).await);
    assert!(is_live(fixture, newer).await);
}

pub async fn a_session_that_was_forgotten_is_known_to_nobody_whatever_the_clock_says_next(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let caller = caller(digest);
    let found = async || fixture.repository.find_rendered_user(&caller, |_| Ok(Bytes::from_static(b"{}"))).await;
    // Asked for until it is remembered as well as it ever is.
    for _ in 0..50 {
        assert!(found().await.is_ok());
    }
    let later = SessionCutoffs { created_after: Timestamp::MIN, used_after: Timestamp::MAX };
    assert_eq!(fixture.repository.prune_sessions(later).await.unwrap(), 1);
    assert!(matches!(found().await, Err(RepositoryError::NoSession)));
    // A use of it that was on its way.
    fixture.repository.record_use(vec![(digest, at(1_500))]).await.unwrap();
    assert!(matches!(found().await, Err(RepositoryError::NoSession)));
}

pub async fn what_is_stored_from_the_future_is_set_to_now_and_the_rest_is_not(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    // Made at 1,000, and one of them used later.
    let (_, used) = register(fixture, "AzureDiamond").await;
    let (_, other) = register(fixture, "other").await;
    repository.record_use(vec![(used, at(900_000))]).await.unwrap();
    repository
        .record_failed_attempts(vec![refused(EventKind::LoginFailed, "other", 900_000)], at(900_000))
        .await
        .unwrap();
    let used_after = async |digest, millis| {
        let cutoffs = SessionCutoffs { created_after: Timestamp::MIN, used_after: at(millis) };
        repository.find_session(&Caller { digest, cutoffs, ip: None }).await.unwrap().is_some()
    };
    for _ in 0..50 {
        assert!(used_after(used, 899_999).await, "remembered as well as it ever is");
    }
    assert_eq!(repository.clamp_times(at(840_000)).await.unwrap(), 0, "a minute is nothing");
    assert_eq!(repository.clamp_times(at(500_000)).await.unwrap(), 2);
    assert_eq!(repository.clamp_times(at(500_000)).await.unwrap(), 0);
    assert!(used_after(used, 499_999).await && !used_after(used, 500_000).await);
    assert!(used_after(other, 999).await && !used_after(other, 1_000).await);
    assert_eq!(repository.list_failures(1).await.unwrap()[0].last, at(500_000));
    let sessions = repository.list_sessions(&caller(used)).await.unwrap();
    assert_eq!((sessions[0].created, sessions[0].last_used), (at(1_000), at(500_000)));
}

pub async fn the_session_that_was_used_least_recently_makes_room(fixture: &Fixture) {
    let (user_id, first) = register(fixture, "AzureDiamond").await;
    let (_, second) = open(fixture, user_id, HASH).await;
    fixture.repository.record_use(vec![(first, at(9_000))]).await.unwrap();
    let session = new_session();
    let third = session.digest;
    fixture.repository.open_session(login(user_id, HASH), session, 2, at(3_000)).await.unwrap().unwrap();
    assert!(is_live(fixture, first).await, "used later than the second");
    assert!(!is_live(fixture, second).await);
    assert!(is_live(fixture, third).await);
}

pub async fn sessions_are_listed_newest_first_and_ended_by_their_owner_only(fixture: &Fixture) {
    let (user_id, first) = register(fixture, "AzureDiamond").await;
    let (_, second) = open(fixture, user_id, HASH).await;
    let (_, others) = register(fixture, "other").await;
    let listed = fixture.repository.list_sessions(&caller(first)).await.unwrap();
    assert_eq!(listed.iter().map(|session| session.created).collect::<Vec<_>>(), [at(2_000), at(1_000)]);
    assert_eq!(listed[0].id, SessionId::of(&second));
    assert_eq!(listed[0].user_agent, UserAgent::from_header("Cellar/1.0"));
    assert_eq!(listed[0].ip, Some("2001:db8::1".parse().unwrap()));
    assert!(!fixture.repository.revoke_session(&caller(others), SessionId::of(&second), at(5_000)).await.unwrap());
    assert!(fixture.repository.revoke_session(&caller(first), SessionId::of(&second), at(5_000)).await.unwrap());
    assert!(!fixture.repository.revoke_session(&caller(first), SessionId::of(&second), at(5_000)).await.unwrap());
    fixture.repository.revoke_all_sessions(&caller(first), at(5_000)).await.unwrap();
    assert!(!is_live(fixture, first).await);
    assert!(is_live(fixture, others).await);
}

pub async fn nothing_is_done_for_a_session_that_is_over(fixture: &Fixture) {
    let repository: &dyn Repository = fixture.repository.as_ref();
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let over = caller(digest);
    repository.revoke_own_session(&over, at(5_000)).await.unwrap();
    let city = vec![text(ProfileField::City, "Springfield")];
    let item = ItemId::new(1).unwrap();
    macro_rules! refused {
        ($($call:expr),* $(,)?) => { $(assert!(matches!($call.await, Err(RepositoryError::NoSession)));)* };
    }
    refused!(
        repository.find_user(&over),
        repository.export_user(&over),
        repository.update_profile(&over, city, at(2_000)),
        repository.find_own_credentials(&over),
        repository.change_password(&over, hash(HASH), hash("$new"), at(5_000)),
        repository.delete_user(&over, hash(HASH), at(5_000)),
        repository.list_sessions(&over),
        repository.revoke_own_session(&over, at(5_000)),
        repository.revoke_session(&over, SessionId::of(&digest), at(5_000)),
        repository.revoke_all_sessions(&over, at(5_000)),
        repository.list_items(&over, List::Cellar),
        repository.replace_items(&over, List::Cellar, BTreeSet::from([item]), at(2_000)),
        repository.add_item(&over, List::Cellar, item, 10, at(2_000)),
        repository.remove_item(&over, List::Cellar, item, at(2_000)),
    );
    let credentials = repository.find_credentials(&name("AzureDiamond")).await.unwrap().unwrap();
    assert!(credentials.password_hash.as_stored() == HASH);
}

pub async fn what_queues_behind_the_end_of_its_session_is_not_done(fixture: &Fixture) {
    let repository: &dyn Repository = fixture.repository.as_ref();
    let now = at(3_000);
    for number in 0..60 {
        let (user_id, ended) = register(fixture, &format!("user{number}")).await;
        let (_, other) = open(fixture, user_id, HASH).await;
        // A store may know both from now on, without a look.
        assert!(is_live(fixture, ended).await && is_live(fixture, other).await);
        let (caller, other) = (caller(ended), caller(other));
        let add = |number| repository.add_item(&caller, List::Cellar, ItemId::new(number).unwrap(), 10, now);
        let end = async {
            match number % 6 {
                0 => repository.revoke_own_session(&caller, now).await.unwrap(),
                1 => repository.revoke_all_sessions(&other, now).await.unwrap(),
                2 => assert!(repository.revoke_session(&other, SessionId::of(&ended), now).await.unwrap()),
                3 => assert!(repository.change_password(&other, hash(HASH), hash("$new"), now).await.unwrap()),
                4 => assert!(repository.delete_user(&other, hash(HASH), now).await.unwrap()),
                _ => {
                    let opened = repository.open_session(login(user_id, HASH), new_session(), 1, now).await.unwrap();
                    assert!(opened.is_some(), "the others made room");
                }
            }
        };
        // In this order, and as likely as not in one commit.
        let (before, (), behind) = tokio::join!(biased; add(1), end, add(2));
        before.unwrap();
        assert!(matches!(behind, Err(RepositoryError::NoSession)), "{number}: {behind:?}");
    }
}

pub async fn a_profile_changes_field_by_field_and_modified_moves_with_a_change(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let caller = caller(digest);
    let change = |field, to: &str, when| fixture.repository.update_profile(&caller, vec![text(field, to)], at(when));
    let user = change(ProfileField::City, "Chicago", 2_000).await.unwrap();
    assert_eq!(user.modified, at(1_000), "nothing was different");
    change(ProfileField::State, "IL", 3_000).await.unwrap();
    let user = change(ProfileField::City, "Springfield", 4_000).await.unwrap();
    assert_eq!((user.profile.city.as_str(), user.profile.state.as_str()), ("Springfield", "IL"));
    assert_eq!((user.created, user.modified), (at(1_000), at(4_000)));
    assert_eq!(fixture.repository.find_user(&caller).await.unwrap().1, user);
}

pub async fn a_new_password_ends_every_other_session(fixture: &Fixture) {
    let (user_id, first) = register(fixture, "AzureDiamond").await;
    let (_, second) = open(fixture, user_id, HASH).await;
    let stale =
        fixture.repository.change_password(&caller(second), hash("$other"), hash("$new"), at(5_000)).await.unwrap();
    assert!(!stale && is_live(fixture, first).await);
    assert!(fixture.repository.change_password(&caller(second), hash(HASH), hash("$new"), at(5_000)).await.unwrap());
    assert!(!is_live(fixture, first).await);
    assert!(is_live(fixture, second).await);
    assert!(open(fixture, user_id, HASH).await.0.is_none());
    assert!(open(fixture, user_id, "$new").await.0.is_some());
}

pub async fn a_deleted_account_is_gone_with_all_that_was_its_own(fixture: &Fixture) {
    let (user_id, digest) = register(fixture, "AzureDiamond").await;
    let item = ItemId::new(1).unwrap();
    fixture.repository.add_item(&caller(digest), List::Wants, item, 10, at(2_000)).await.unwrap();
    assert!(!fixture.repository.delete_user(&caller(digest), hash("$other"), at(5_000)).await.unwrap());
    assert!(fixture.repository.delete_user(&caller(digest), hash(HASH), at(5_000)).await.unwrap());
    assert!(!is_live(fixture, digest).await);
    assert!(fixture.repository.find_credentials(&name("AzureDiamond")).await.unwrap().is_none());
    let (successor, digest) = register(fixture, "AzureDiamond").await;
    assert_ne!(successor, user_id, "an id is never given twice");
    let (_, user) = fixture.repository.find_user(&caller(digest)).await.unwrap();
    assert!(user.wants.is_empty());
}

pub async fn a_list_holds_each_item_once_ascending_and_modified_moves_with_a_change(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let (_, others) = register(fixture, "other").await;
    let (caller, others) = (caller(digest), caller(others));
    let id = |number| ItemId::new(number).unwrap();
    let repository = &fixture.repository;
    let modified = || async { repository.find_user(&caller).await.unwrap().1.modified };

    repository.add_item(&caller, List::Cellar, id(3), 3, at(2_000)).await.unwrap();
    let list = repository.add_item(&caller, List::Cellar, id(1), 3, at(3_000)).await.unwrap();
    assert_eq!(list, [id(1), id(3)]);
    assert_eq!(repository.add_item(&caller, List::Cellar, id(3), 3, at(4_000)).await.unwrap(), list);
    assert_eq!(modified().await, at(3_000));
    repository.add_item(&caller, List::Cellar, id(2), 3, at(5_000)).await.unwrap();
    let full = repository.add_item(&caller, List::Cellar, id(4), 3, at(6_000)).await;
    assert!(matches!(full, Err(RepositoryError::ListFull)));
    assert_eq!(repository.list_items(&caller, List::Cellar).await.unwrap(), [id(1), id(2), id(3)]);
    assert_eq!(repository.add_item(&caller, List::Cellar, id(2), 3, at(6_000)).await.unwrap().len(), 3);
    assert_eq!(modified().await, at(5_000));
    assert_eq!(repository.remove_item(&caller, List::Cellar, id(9), at(7_000)).await.unwrap().len(), 3);
    assert_eq!(modified().await, at(5_000));
    assert_eq!(repository.remove_item(&caller, List::Cellar, id(2), at(7_000)).await.unwrap(), [id(1), id(3)]);
    assert_eq!(modified().await, at(7_000));

    let items = BTreeSet::from([id(3), id(7), id(5)]);
    let replaced = repository.replace_items(&caller, List::Cellar, items.clone(), at(8_000)).await.unwrap();
    assert_eq!(replaced, [id(3), id(5), id(7)]);
    repository.replace_items(&caller, List::Cellar, items, at(9_000)).await.unwrap();
    assert_eq!(modified().await, at(8_000));
    let export = repository.export_user(&caller).await.unwrap();
    assert_eq!(export.cellar, [(id(3), at(2_000)), (id(5), at(8_000)), (id(7), at(8_000))]);
    assert_eq!((export.wants.len(), export.sessions.len(), export.user.cellar), (0, 1, replaced));
    assert!(repository.list_items(&caller, List::Wants).await.unwrap().is_empty());
    assert!(repository.list_items(&others, List::Cellar).await.unwrap().is_empty());
}

pub async fn of_many_edits_at_once_none_is_lost(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let edits: Vec<_> = (1..=64)
        .map(|number| {
            let repository = Arc::clone(&fixture.repository);
            let field = ProfileField::ALL[usize::try_from(number).unwrap() % 8];
            tokio::spawn(async move {
                let caller = caller(digest);
                let item = ItemId::new(number).unwrap();
                repository.add_item(&caller, List::Cellar, item, 100, at(2_000)).await.unwrap();
                if number % 2 == 0 {
                    repository.remove_item(&caller, List::Cellar, item, at(2_000)).await.unwrap();
                }
                if field != ProfileField::Email {
                    let change = vec![text(field, field.name())];
                    repository.update_profile(&caller, change, at(2_000)).await.unwrap();
                }
            })
        })
        .collect();
    for edit in edits {
        edit.await.unwrap();
    }
    let (_, user) = fixture.repository.find_user(&caller(digest)).await.unwrap();
    let odd: Vec<i64> = (1..=64).filter(|number| number % 2 == 1).collect();
    assert_eq!(user.cellar.iter().map(|item| item.get()).collect::<Vec<_>>(), odd);
    let profile = user.profile;
    assert_eq!(
        [profile.first_name, profile.last_name, profile.address, profile.address2, profile.city, profile.state],
        ["first_name", "last_name", "address", "address2", "city", "state"]
    );
}

/// Makes an account by a command, with these rights; a session of it.
async fn create(fixture: &Fixture, username: &str, is_staff: bool, is_superuser: bool) -> Actor {
    let rights = Rights { is_staff, is_superuser };
    fixture.repository.create_account(new_user(username), rights, at(1_000)).await.unwrap();
    let credentials = fixture.repository.find_credentials(&name(username)).await.unwrap().unwrap();
    Actor::Session(caller(open(fixture, credentials.user_id, HASH).await.1))
}

/// Which events there are, oldest first, as `kind username actor detail`.
async fn events(fixture: &Fixture) -> Vec<String> {
    let query = EventQuery { username: None, kind: None, before: None, limit: 100 };
    let events = fixture.repository.list_events(&Actor::CommandLine, query).await.unwrap().rows;
    let shown = |event: &Event| format!("{} {} {} {}", event.kind.name(), event.username, event.actor, event.detail);
    events.iter().rev().map(shown).collect()
}

fn refused(kind: EventKind, username: &str, millis: i64) -> FailedAttempt {
    FailedAttempt { at: at(millis), kind, username: Some(name(username)), ip: None, detail: "" }
}

pub async fn a_right_is_looked_up_in_the_transaction_that_uses_it(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let staff = create(fixture, "staff", true, false).await;
    register(fixture, "AzureDiamond").await;
    let target = name("azurediamond");
    assert!(repository.find_account(&staff, &target).await.unwrap().is_some());
    let demotion = AccountChange { is_staff: Some(false), ..AccountChange::default() };
    repository.change_account(&Actor::CommandLine, &name("staff"), demotion, at(3_000)).await.unwrap().unwrap();
    let before = events(fixture).await;
    for target in [&target, &name("staff"), &name("nobody")] {
        let change = AccountChange { is_active: Some(false), ..AccountChange::default() };
        let query = EventQuery { username: None, kind: None, before: None, limit: 1 };
        let failed_attempts = [
            repository.list_accounts(&staff, UserQuery { limit: 1, ..UserQuery::default() }).await.err(),
            repository.find_account(&staff, target).await.err(),
            repository.change_account(&staff, target, change, at(4_000)).await.err(),
            repository.delete_account(&staff, target, at(4_000)).await.err(),
            repository.list_account_sessions(&staff, target, EVER).await.err(),
            repository.revoke_account_sessions(&staff, target, None, EVER, at(4_000)).await.err(),
            repository.list_events(&staff, query).await.err(),
        ];
        for refusal in failed_attempts {
            assert!(matches!(refusal, Some(RepositoryError::Forbidden)), "{refusal:?}");
        }
    }
    assert_eq!(events(fixture).await, before);
}

pub async fn the_last_active_superuser_stays_whoever_asks(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let Actor::Session(last) = create(fixture, "last", true, true).await else { unreachable!() };
    create(fixture, "inactive", false, true).await;
    (fixture.deactivate)("inactive");
    let before = events(fixture).await;
    for change in [
        AccountChange { is_superuser: Some(false), ..AccountChange::default() },
        AccountChange { is_active: Some(false), password_hash: Some(hash("$newer")), ..AccountChange::default() },
    ] {
        let kept = repository.change_account(&Actor::CommandLine, &name("last"), change, at(3_000)).await;
        assert!(matches!(kept, Err(RepositoryError::LastSuperuser)));
    }
    let kept = repository.delete_account(&Actor::CommandLine, &name("last"), at(3_000)).await;
    assert!(matches!(kept, Err(RepositoryError::LastSuperuser)));
    let kept = repository.delete_user(&last, hash(HASH), at(3_000)).await;
    assert!(matches!(kept, Err(RepositoryError::LastSuperuser)));
    assert_eq!(events(fixture).await, before);
    assert!(is_live(fixture, last.digest).await);

    let activation = AccountChange { is_active: Some(true), ..AccountChange::default() };
    repository.change_account(&Actor::CommandLine, &name("inactive"), activation, at(4_000)).await.unwrap().unwrap();
    assert!(repository.delete_user(&last, hash(HASH), at(5_000)).await.unwrap());
}

pub async fn accounts_are_listed_in_the_order_of_their_folded_names(fixture: &Fixture) {
    for username in ["b", "C", "a", "B2", "_"] {
        register(fixture, username).await;
    }
    let list = async |after: Option<&str>, limit| {
        let query =
            UserQuery { after: after.map(|text| AccountCursor::parse(text).unwrap()), limit, ..UserQuery::default() };
        let users = fixture.repository.list_accounts(&Actor::CommandLine, query).await.unwrap().rows;
        users.iter().map(|user| user.username.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 10).await, ["_", "a", "b", "B2", "C"]);
    assert_eq!(list(Some("B"), 2).await, ["B2", "C"]);
    assert_eq!(list(Some("c"), 2).await, [""; 0]);
}

pub async fn a_change_is_told_in_events_once_and_an_event_outlives_its_account(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let root = create(fixture, "Root", false, true).await;
    register(fixture, "AzureDiamond").await;
    let change = AccountChange {
        is_active: Some(false),
        is_staff: Some(true),
        is_superuser: Some(false),
        password_hash: Some(hash("$newer")),
    };
    repository.change_account(&root, &name("azurediamond"), change, at(3_000)).await.unwrap().unwrap();
    assert!(repository.delete_account(&root, &name("azurediamond"), at(4_000)).await.unwrap());
    assert!(!repository.delete_account(&root, &name("azurediamond"), at(5_000)).await.unwrap());
    let told = events(fixture).await;
    let sessions_aside: Vec<_> = told.iter().filter(|event| !event.contains("logged_in")).collect();
    assert_eq!(sessions_aside[..2], ["created Root command line ", "promoted Root command line superuser"]);
    assert!(sessions_aside[2].starts_with("registered AzureDiamond AzureDiamond "));
    assert_eq!(
        sessions_aside[3..],
        [
            "promoted AzureDiamond Root staff",
            "deactivated AzureDiamond Root ",
            "password_set AzureDiamond Root ",
            "deleted AzureDiamond Root ",
        ]
    );
}

pub async fn a_list_goes_on_where_its_page_ended_until_nothing_is_left(fixture: &Fixture) {
    let (repository, actor) = (fixture.repository.as_ref(), Actor::CommandLine);
    for username in ["a", "B", "c", "D"] {
        register(fixture, username).await;
    }
    let mut query = UserQuery { limit: 2, ..UserQuery::default() };
    let mut pages = Vec::new();
    loop {
        let page = repository.list_accounts(&actor, query.clone()).await.unwrap();
        pages.push(page.rows.iter().map(|user| user.username.as_str().to_owned()).collect::<Vec<_>>());
        let Some(next) = page.next else { break };
        assert_eq!(AccountCursor::parse(&next.to_string()), Some(next.clone()), "as a client gives it back");
        query.after = Some(next);
    }
    assert_eq!(pages, [vec!["a", "B"], vec!["c", "D"], vec![]], "a full page may be the last one");
    let mut query = EventQuery { username: None, kind: None, before: None, limit: 3 };
    let mut pages = Vec::new();
    loop {
        let page = repository.list_events(&actor, query.clone()).await.unwrap();
        pages.push(page.rows.iter().map(|event| event.username.clone()).collect::<Vec<_>>());
        let Some(next) = page.next else { break };
        assert_eq!(EventCursor::parse(&next.to_string()), Some(next), "as a client gives it back");
        query.before = Some(next);
    }
    assert_eq!(pages, [vec!["D", "c", "B"], vec!["a"]]);
}

pub async fn a_list_of_accounts_ends_where_their_lists_come_to_enough_items(fixture: &Fixture) {
    for username in ["a", "b", "c", "d"] {
        let (_, digest) = register(fixture, username).await;
        let items = (1..=10).map(|id| ItemId::new(id).unwrap()).collect();
        fixture.repository.replace_items(&caller(digest), List::Wants, items, at(2_000)).await.unwrap();
    }
    for (enough_items, found, is_full) in
        [(Some(1), 1, true), (Some(10), 1, true), (Some(11), 2, true), (Some(41), 4, false), (None, 4, false)]
    {
        let query = UserQuery { limit: 5, enough_items, ..UserQuery::default() };
        let page = fixture.repository.list_accounts(&Actor::CommandLine, query).await.unwrap();
        assert_eq!((page.rows.len(), page.next.is_some()), (found, is_full), "{enough_items:?}");
    }
}

pub async fn a_refused_attempt_is_kept_without_a_name_that_is_nobodys(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let (user_id, _) = register(fixture, "AzureDiamond").await;
    let attempts = vec![
        refused(EventKind::LoginFailed, "azureDIAMOND", 1_500),
        refused(EventKind::LoginFailed, "MyPassword", 1_501),
        refused(EventKind::ReauthenticationFailed, "AzureDiamond", 1_502),
        refused(EventKind::Throttled, "AzureDiamond", 1_503),
        refused(EventKind::Throttled, "MyPassword", 1_504),
    ];
    repository.record_failed_attempts(attempts, at(9_999)).await.unwrap();
    assert_eq!(
        events(fixture).await[1..],
        [
            "login_failed AzureDiamond  ",
            "login_failed   ",
            "reauthentication_failed AzureDiamond AzureDiamond ",
            "throttled AzureDiamond  ",
            "throttled   ",
        ]
    );
    let failures = async || {
        let stored = fixture.repository.list_failures(10).await.unwrap();
        stored.iter().map(|stored| (stored.username.as_str().to_owned(), stored.count, stored.last)).collect::<Vec<_>>()
    };
    assert_eq!(failures().await, [("AzureDiamond".to_owned(), 1, at(1_500))]);
    // A success forgets them, and one that was before it counts no more.
    open(fixture, user_id, HASH).await.0.unwrap();
    repository
        .record_failed_attempts(vec![refused(EventKind::LoginFailed, "AzureDiamond", 1_999)], at(9_999))
        .await
        .unwrap();
    assert_eq!(failures().await, []);
    repository
        .record_failed_attempts(vec![refused(EventKind::LoginFailed, "AzureDiamond", 2_001); 3], at(9_999))
        .await
        .unwrap();
    register(fixture, "other").await;
    repository
        .record_failed_attempts(vec![refused(EventKind::LoginFailed, "other", 2_002); 4], at(9_999))
        .await
        .unwrap();
    assert_eq!(failures().await, [("other".to_owned(), 4, at(2_002)), ("AzureDiamond".to_owned(), 3, at(2_001))]);
    assert_eq!(repository.list_failures(1).await.unwrap().len(), 1, "those with the most");
}

pub async fn a_password_that_was_set_is_found_behind_the_event_that_one_knew(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    register(fixture, "AzureDiamond").await;
    register(fixture, "other").await;
    repository
        .record_failed_attempts(vec![refused(EventKind::LoginFailed, "AzureDiamond", 2_000)], at(9_999))
        .await
        .unwrap();
    let start = repository.list_resets(None).await.unwrap();
    assert_eq!(start.usernames, []);
    let reset = AccountChange { password_hash: Some(hash("$newer")), ..AccountChange::default() };
    repository.change_account(&Actor::CommandLine, &name("AZUREdiamond"), reset, at(3_000)).await.unwrap().unwrap();
    assert!(repository.list_failures(10).await.unwrap().is_empty());
    let found = repository.list_resets(Some(start.next)).await.unwrap();
    assert_eq!(found.usernames, [name("AzureDiamond")]);
    assert_eq!(repository.list_resets(Some(found.next)).await.unwrap().usernames, []);
}

pub async fn a_failure_that_a_new_password_has_followed_by_now_is_not_counted(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let (_, digest) = register(fixture, "AzureDiamond").await;
    register(fixture, "other").await;
    let reset = AccountChange { password_hash: Some(hash("$newer")), ..AccountChange::default() };
    let failures = async |times: &[i64]| {
        for name in ["AzureDiamond", "other"] {
            let attempts = times.iter().map(|millis| refused(EventKind::LoginFailed, name, *millis)).collect();
            repository.record_failed_attempts(attempts, at(9_999)).await.unwrap();
        }
        let stored = repository.list_failures(10).await.unwrap();
        stored.iter().map(|stored| (stored.username.as_str().to_owned(), stored.count)).collect::<Vec<_>>()
    };
    assert!(repository.change_password(&caller(digest), hash(HASH), hash("$new"), at(3_000)).await.unwrap());
    assert_eq!(failures(&[2_001, 2_002]).await, [("other".to_owned(), 2)], "its owner's");
    repository.change_account(&Actor::CommandLine, &name("azurediamond"), reset, at(9_000)).await.unwrap().unwrap();
    assert_eq!(failures(&[8_001, 8_999]).await, [("other".to_owned(), 4)], "an operator's");
    let after = failures(&[8_500, 9_001, 9_002]).await;
    assert_eq!(after, [("other".to_owned(), 7), ("AzureDiamond".to_owned(), 2)], "what comes after it counts");
}

pub async fn a_failure_counts_though_the_clock_was_ahead_at_the_login_and_the_new_password_before_it(
    fixture: &Fixture,
) {
    let repository = fixture.repository.as_ref();
    let (_, digest) = register(fixture, "AzureDiamond").await;
    assert!(repository.change_password(&caller(digest), hash(HASH), hash("$new"), at(900_000)).await.unwrap());
    register_at(fixture, "other", at(900_000)).await;
    for (number, name) in [(1, "AzureDiamond"), (2, "other")] {
        let attempts = vec![refused(EventKind::LoginFailed, name, 5_000); number];
        repository.record_failed_attempts(attempts, at(5_000)).await.unwrap();
    }
    let stored = repository.list_failures(10).await.unwrap();
    let counts: Vec<_> = stored.iter().map(|stored| (stored.username.as_str(), stored.count)).collect();
    assert_eq!(counts, [("other", 2), ("AzureDiamond", 1)]);
}

pub async fn where_an_account_has_logged_in_from_is_known(fixture: &Fixture) {
    register(fixture, "AzureDiamond").await;
    let ip: IpAddr = "2001:db8::1".parse().unwrap();
    assert_eq!(fixture.repository.list_familiar_addresses(&name("azurediamond")).await.unwrap(), [ip]);
    let mut attempt = refused(EventKind::LoginFailed, "AzureDiamond", 2_000);
    attempt.ip = Some("203.0.113.9".parse().unwrap());
    fixture.repository.record_failed_attempts(vec![attempt], at(9_999)).await.unwrap();
    assert_eq!(
        fixture.repository.list_familiar_addresses(&name("azurediamond")).await.unwrap(),
        [ip],
        "not a failure's"
    );
    assert_eq!(fixture.repository.list_familiar_addresses(&name("nobody")).await.unwrap(), [] as [IpAddr; 0]);
}

pub async fn old_events_are_forgotten_and_no_number_is_given_twice(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    register(fixture, "AzureDiamond").await;
    let attempts = (0..2_500).map(|number| refused(EventKind::LoginFailed, "AzureDiamond", 2_000 + number)).collect();
    repository.record_failed_attempts(attempts, at(9_999)).await.unwrap();
    let prune = async |before, keep| {
        let mut forgotten = 0;
        loop {
            match fixture.repository.prune_events(at(before), keep, at(1_000_000)).await.unwrap() {
                0 => return forgotten,
                count => forgotten += count,
            }
        }
    };
    assert_eq!(prune(999, 10_000).await, 0);
    assert_eq!(prune(2_000, 10_000).await, 2, "no younger than");
    assert_eq!(prune(0, 1_000).await, 1_499, "beyond the most");
    assert_eq!(prune(1_000_000, 1_000).await, 1_000);
    assert_eq!(events(fixture).await, [""; 0]);
    repository
        .record_failed_attempts(vec![refused(EventKind::LoginFailed, "AzureDiamond", 9_000)], at(9_999))
        .await
        .unwrap();
    let query = EventQuery { username: None, kind: None, before: None, limit: 100 };
    let left = repository.list_events(&Actor::CommandLine, query).await.unwrap().rows;
    assert_eq!(left.iter().map(|event| event.id).collect::<Vec<_>>(), [2_502]);
}
