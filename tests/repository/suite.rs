//! The sentences, each against any backend.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use authtokens::clock::Timestamp;
use authtokens::item::{ItemId, List};
use authtokens::repository::{Repository, RepositoryError, UniqueField, VerifiedLogin};
use authtokens::session::{Caller, Liveness, NewSession, SessionId, UserAgent};
use authtokens::token::{PlainToken, TokenDigest};
use authtokens::user::{NewUser, PasswordHash, Profile, ProfileField, ProfileText, User, UserId, Username};

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

fn text(field: ProfileField, text: &str) -> ProfileText {
    ProfileText::parse(field, text.to_owned()).unwrap()
}

/// A caller whose session, of whatever age and rest, is live.
fn caller(digest: TokenDigest) -> Caller {
    Caller { digest, live: Liveness { created_after: Timestamp::MIN, used_after: Timestamp::MIN } }
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
    fixture.repository.revoke_own_session(&caller(first)).await.unwrap();
    let again = fixture.repository.revoke_own_session(&caller(first)).await;
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
            tokio::spawn(async move { repository.revoke_own_session(&caller(digest)).await.is_ok() })
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
    assert!(matches!(repository.revoke_own_session(&caller(digest)).await, Err(RepositoryError::NoSession)));
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

pub async fn a_session_ends_by_its_age_and_by_its_rest(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let live = |created_after, used_after| Caller {
        digest,
        live: Liveness { created_after: at(created_after), used_after: at(used_after) },
    };
    for (created_after, used_after, expected) in
        [(999, 999, true), (1_000, 999, false), (999, 1_000, false), (5_000, 5_000, false)]
    {
        let found = fixture.repository.find_session(&live(created_after, used_after)).await.unwrap();
        assert_eq!(found.is_some(), expected, "created after {created_after}, used after {used_after}");
    }
    fixture.repository.record_use(vec![(digest, at(3_000))]).await.unwrap();
    fixture.repository.record_use(vec![(digest, at(2_000))]).await.unwrap();
    let session = fixture.repository.find_session(&live(999, 2_999)).await.unwrap().unwrap();
    assert_eq!(session.last_used, at(3_000), "the later use stands");
}

pub async fn dead_sessions_are_forgotten_and_live_ones_are_not(fixture: &Fixture) {
    let (user_id, old) = register(fixture, "AzureDiamond").await;
    let (_, newer) = open(fixture, user_id, HASH).await;
    let live = Liveness { created_after: at(1_000), used_after: Timestamp::MIN };
    assert_eq!(fixture.repository.prune_sessions(live).await.unwrap(), 1);
    assert_eq!(fixture.repository.prune_sessions(live).await.unwrap(), 0);
    assert!(!is_live(fixture, old).await);
    assert!(is_live(fixture, newer).await);
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
    assert!(!fixture.repository.revoke_session(&caller(others), SessionId::of(&second)).await.unwrap());
    assert!(fixture.repository.revoke_session(&caller(first), SessionId::of(&second)).await.unwrap());
    assert!(!fixture.repository.revoke_session(&caller(first), SessionId::of(&second)).await.unwrap());
    fixture.repository.revoke_all_sessions(&caller(first)).await.unwrap();
    assert!(!is_live(fixture, first).await);
    assert!(is_live(fixture, others).await);
}

pub async fn nothing_is_done_for_a_session_that_is_over(fixture: &Fixture) {
    let repository: &dyn Repository = fixture.repository.as_ref();
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let over = caller(digest);
    repository.revoke_own_session(&over).await.unwrap();
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
        repository.change_password(&over, hash(HASH), hash("$new")),
        repository.delete_user(&over, hash(HASH)),
        repository.list_sessions(&over),
        repository.revoke_own_session(&over),
        repository.revoke_session(&over, SessionId::of(&digest)),
        repository.revoke_all_sessions(&over),
        repository.list_items(&over, List::Cellar),
        repository.replace_items(&over, List::Cellar, BTreeSet::from([item]), at(2_000)),
        repository.add_item(&over, List::Cellar, item, 10, at(2_000)),
        repository.remove_item(&over, List::Cellar, item, at(2_000)),
    );
    let credentials = repository.find_credentials(&name("AzureDiamond")).await.unwrap().unwrap();
    assert!(credentials.password_hash.as_stored() == HASH);
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
    let stale = fixture.repository.change_password(&caller(second), hash("$other"), hash("$new")).await.unwrap();
    assert!(!stale && is_live(fixture, first).await);
    assert!(fixture.repository.change_password(&caller(second), hash(HASH), hash("$new")).await.unwrap());
    assert!(!is_live(fixture, first).await);
    assert!(is_live(fixture, second).await);
    assert!(open(fixture, user_id, HASH).await.0.is_none());
    assert!(open(fixture, user_id, "$new").await.0.is_some());
}

pub async fn a_deleted_account_is_gone_with_all_that_was_its_own(fixture: &Fixture) {
    let (user_id, digest) = register(fixture, "AzureDiamond").await;
    let item = ItemId::new(1).unwrap();
    fixture.repository.add_item(&caller(digest), List::Wants, item, 10, at(2_000)).await.unwrap();
    assert!(!fixture.repository.delete_user(&caller(digest), hash("$other")).await.unwrap());
    assert!(fixture.repository.delete_user(&caller(digest), hash(HASH)).await.unwrap());
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
