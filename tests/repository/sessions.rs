//! Sessions: what opens one, how long it lives, what ends it.

use std::collections::BTreeSet;

use authtokens::domain::item::{ItemId, List};
use authtokens::domain::profile::ProfileField;
use authtokens::domain::session::{Caller, SessionCutoffs, SessionId, UserAgent};
use authtokens::repository::{Proof, Repository, RepositoryError};
use authtokens::system::clock::Timestamp;
use bytes::Bytes;

use crate::fixture::Fixture;
use crate::words::{
    EVER, HASH, OpensSessions as _, at, by_password, caller, events, hash, is_fresh, is_live, login, name, new_session,
    open, reauthenticate, register, text, with_password,
};

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

pub async fn a_session_ends_by_its_age_and_by_its_idle_timeout(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let cutoffs = |created_after, used_after| Caller {
        digest,
        cutoffs: SessionCutoffs { created_after: at(created_after), used_after: at(used_after), ..EVER },
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
    let stored = fixture.second.list_sessions(&cutoffs(999, 2_999)).await.unwrap();
    assert_eq!(stored[0].last_used, at(3_000), "also where it is stored");
}

pub async fn dead_sessions_are_pruned_and_live_ones_are_not(fixture: &Fixture) {
    let (user_id, old) = register(fixture, "AzureDiamond").await;
    let (_, newer) = open(fixture, user_id, HASH).await;
    let cutoffs = SessionCutoffs { created_after: at(1_000), ..EVER };
    assert_eq!(fixture.repository.prune_sessions(cutoffs).await.unwrap(), 1);
    assert_eq!(fixture.repository.prune_sessions(cutoffs).await.unwrap(), 0);
    assert!(!is_live(fixture, old).await);
    assert!(is_live(fixture, newer).await);
}

pub async fn a_session_that_was_pruned_is_not_found_whatever_the_clock_says_next(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let caller = caller(digest);
    let found = async || fixture.repository.find_rendered_user(&caller, |_| Ok(Bytes::from_static(b"{}"))).await;
    // Until it is surely cached.
    for _ in 0..50 {
        assert!(found().await.is_ok());
    }
    let later = SessionCutoffs { used_after: Timestamp::MAX, ..EVER };
    assert_eq!(fixture.repository.prune_sessions(later).await.unwrap(), 1);
    assert!(matches!(found().await, Err(RepositoryError::NoSession)));
    // A use of it that was on its way.
    fixture.repository.record_use(vec![(digest, at(1_500))]).await.unwrap();
    assert!(matches!(found().await, Err(RepositoryError::NoSession)));
}

pub async fn the_least_recently_used_session_is_evicted(fixture: &Fixture) {
    let (user_id, first) = register(fixture, "AzureDiamond").await;
    let (_, second) = open(fixture, user_id, HASH).await;
    fixture.repository.record_use(vec![(first, at(9_000))]).await.unwrap();
    let session = new_session();
    let third = session.digest;
    fixture.repository.log_in(login(user_id, HASH), session, 2, at(3_000)).await.unwrap().unwrap();
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
        repository.change_password(&over, by_password(HASH), hash("$new"), at(5_000)),
        repository.delete_user(&over, by_password(HASH), at(5_000)),
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
                3 => assert!(repository.change_password(&other, by_password(HASH), hash("$new"), now).await.unwrap()),
                4 => assert!(repository.delete_user(&other, by_password(HASH), now).await.unwrap()),
                _ => {
                    let opened = repository.log_in(login(user_id, HASH), new_session(), 1, now).await.unwrap();
                    assert!(opened.is_some(), "the others made room");
                }
            }
        };
        // In this order, and as likely as not in one commit.
        let (before, (), behind) = tokio::join!(biased; add(1), end, add(2));
        assert!(before.is_ok() || !fixture.is_in_order, "{number}: {before:?}");
        // Without a queue it may come first after all.
        let is_before = behind.is_ok() && !fixture.is_in_order;
        assert!(is_before || matches!(behind, Err(RepositoryError::NoSession)), "{number}: {behind:?}");
        assert!(!is_live(fixture, ended).await, "{number}");
    }
}

pub async fn a_session_is_fresh_for_ten_minutes_by_the_password_of_its_account_and_by_nothing_else(fixture: &Fixture) {
    let (user_id, digest) = register(fixture, "AzureDiamond").await;
    let (_, other) = open(fixture, user_id, HASH).await;
    fixture.repository.record_use(vec![(digest, at(2_500))]).await.unwrap();
    assert!(!is_fresh(fixture, digest, 2_500).await && !is_fresh(fixture, other, 2_500).await);
    assert!(!fixture.repository.reauthenticate(&caller(digest), with_password("$other"), at(3_000)).await.unwrap());
    assert!(!is_fresh(fixture, digest, 3_000).await);

    reauthenticate(fixture, digest).await;
    for (millis, expected) in [(3_000, true), (602_999, true), (603_000, false), (2_999, false)] {
        assert_eq!(is_fresh(fixture, digest, millis).await, expected, "{millis}");
        let seen = fixture.second.is_session_fresh(&caller(digest), at(millis)).await.unwrap();
        assert_eq!(seen, expected, "{millis}: in another process");
        assert!(!is_fresh(fixture, other, millis).await, "{millis}: another session");
    }
    let told = events(fixture).await;
    let expected = format!("reauthenticated AzureDiamond AzureDiamond {}", SessionId::of(&digest).as_str());
    assert_eq!(told.iter().filter(|event| **event == expected).count(), 1, "{told:?}");
    assert_eq!(told.iter().filter(|event| event.starts_with("reauthenticated")).count(), 1, "{told:?}");
}

pub async fn a_session_that_is_over_is_neither_fresh_nor_made_so(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    reauthenticate(fixture, digest).await;
    let cutoffs = SessionCutoffs { created_after: at(1_000), ..EVER };
    let over = Caller { cutoffs, ..caller(digest) };
    fixture.repository.revoke_own_session(&caller(digest), at(4_000)).await.unwrap();
    for caller in [over, caller(digest)] {
        let fresh = fixture.repository.is_session_fresh(&caller, at(4_000)).await;
        assert!(matches!(fresh, Err(RepositoryError::NoSession)), "{fresh:?}");
        let reauthenticated = fixture.repository.reauthenticate(&caller, with_password(HASH), at(4_000)).await;
        assert!(matches!(reauthenticated, Err(RepositoryError::NoSession)), "{reauthenticated:?}");
        let deleted = fixture.repository.delete_user(&caller, Proof::FreshSession, at(4_000)).await;
        assert!(matches!(deleted, Err(RepositoryError::NoSession)), "{deleted:?}");
    }
}
