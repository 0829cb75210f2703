//! Accounts, where two make, change or delete one at once.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use authtokens::domain::event::{EventKind, EventQuery};
use authtokens::domain::item::{ItemId, List};
use authtokens::domain::profile::ProfileField;
use authtokens::domain::rights::{AccountChange, Actor, Rights};
use authtokens::domain::session::SessionId;
use authtokens::repository::{Proof, RepositoryError, UniqueField, VerifiedLogin};

use crate::at_once::{ROUNDS, all, both, handles};
use crate::fixture::Fixture;
use crate::words::{
    HASH, OpensSessions as _, at, by_password, caller, hash, is_fresh, is_live, list_session_ids, login, name,
    new_session, new_user, open, reauthenticate, refused, register, text, with_password,
};

/// The stored hash of an account's password.
async fn stored_hash(fixture: &Fixture, username: &str) -> String {
    let credentials = fixture.repository.find_credentials(&name(username)).await.unwrap().unwrap();
    credentials.password_hash.as_stored().to_owned()
}

pub async fn of_many_who_take_one_name_at_once_in_whatever_case_one_gets_it(fixture: &Fixture) {
    for round in 0..ROUNDS / 2 {
        let handles = handles(fixture, round);
        let contenders = (0..8).map(|number| {
            let repository = Arc::clone(&handles[number % 2]);
            let username = match number % 4 {
                0 => format!("name{round}"),
                1 => format!("NAME{round}"),
                2 => format!("Name{round}"),
                _ => format!("nAME{round}"),
            };
            let session = new_session();
            let digest = session.digest;
            async move {
                // The last two are the operator's, who opens no session.
                let made = if number < 6 {
                    repository.register_user(new_user(&username), session, None, at(1_000)).await
                } else {
                    repository.create_account(new_user(&username), Rights::default(), at(1_000)).await
                };
                (made.map(|user| user.username), (number < 6).then_some(digest), username)
            }
        });
        let (mut winners, mut expected) = (0, Vec::new());
        for (made, digest, username) in all(contenders.collect()).await {
            match made {
                Ok(made) => {
                    winners += 1;
                    assert_eq!(made.as_str(), username, "{round}");
                    expected.extend(digest.map(|digest| SessionId::of(&digest)));
                }
                Err(RepositoryError::Conflict(UniqueField::Username)) => {
                    if let Some(digest) = digest {
                        assert!(!is_live(fixture, digest).await, "{round}");
                    }
                }
                Err(other) => panic!("{round}: {other:?}"),
            }
        }
        assert_eq!(winners, 1, "{round}");
        assert_eq!(list_session_ids(fixture, &format!("name{round}")).await, expected, "{round}");
        assert_eq!(fixture.repository.count().await.unwrap().users, u64::try_from(round).unwrap() + 1);
    }
}

pub async fn of_two_changes_of_a_password_at_once_one_is_made(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (user_id, session) = register(fixture, &username).await;
        let (_, other) = open(fixture, user_id, HASH).await;
        // In one session's name, or in that of two, of which one ends the other.
        let digests = if round % 4 < 2 { [session, session] } else { [session, other] };
        let handles = handles(fixture, round);
        let [first, second] = [0, 1].map(|number| {
            let (repository, caller) = (Arc::clone(&handles[number]), caller(digests[number]));
            let new_hash = hash(&format!("$new{number}"));
            async move { repository.change_password(&caller, by_password(HASH), new_hash, at(3_000)).await }
        });
        let outcomes: (_, _) = both(first, second).await;
        let (winner, refused) = match &outcomes {
            (Ok(true), refused) => (0, refused),
            (refused, Ok(true)) => (1, refused),
            outcomes => panic!("{round}: {outcomes:?}"),
        };
        match refused {
            Ok(false) => {}
            Err(RepositoryError::NoSession) if digests[0] != digests[1] => {}
            refused => panic!("{round}: {refused:?}"),
        }
        assert_eq!(stored_hash(fixture, &username).await, format!("$new{winner}"), "{round}");
        assert_eq!(list_session_ids(fixture, &username).await, [SessionId::of(&digests[winner])], "{round}");
    }
}

pub async fn no_session_that_an_old_password_opened_outlives_the_new_one(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (user_id, digest) = register(fixture, &username).await;
        let [first, second] = handles(fixture, round);
        let is_reset = round % 4 < 2;
        let target = name(&username);
        let change = async move {
            if is_reset {
                let reset = AccountChange { password_hash: Some(hash("$new")), ..AccountChange::default() };
                first.change_account(&Actor::CommandLine, &target, reset, at(3_000)).await.unwrap().unwrap();
            } else {
                assert!(
                    first.change_password(&caller(digest), by_password(HASH), hash("$new"), at(3_000)).await.unwrap()
                );
            }
        };
        let login = async move { second.log_in(login(user_id, HASH), new_session(), 100, at(3_000)).await.unwrap() };
        both(change, login).await;
        let expected = if is_reset { Vec::new() } else { vec![SessionId::of(&digest)] };
        assert_eq!(list_session_ids(fixture, &username).await, expected, "{round}");
        assert!(open(fixture, user_id, HASH).await.0.is_none(), "{round}");
        assert!(open(fixture, user_id, "$new").await.0.is_some(), "{round}");
    }
}

pub async fn a_login_that_brings_a_new_hash_of_the_old_password_never_undoes_the_new_one(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (user_id, digest) = register(fixture, &username).await;
        let [first, second] = handles(fixture, round);
        let session = new_session();
        let opened = session.digest;
        let login = VerifiedLogin { rehashed: Some(hash("$rehashed")), ..login(user_id, HASH) };
        let (is_changed, user) =
            both(
                async move {
                    first.change_password(&caller(digest), by_password(HASH), hash("$new"), at(3_000)).await.unwrap()
                },
                async move { second.log_in(login, session, 100, at(3_000)).await.unwrap() },
            )
            .await;
        assert_ne!(is_changed, user.is_some(), "{round}: whoever comes second meets another hash");
        let expected = if is_changed { "$new" } else { "$rehashed" };
        assert_eq!(stored_hash(fixture, &username).await, expected, "{round}");
        assert_eq!(
            list_session_ids(fixture, &username).await.contains(&SessionId::of(&opened)),
            !is_changed,
            "{round}"
        );
    }
}

pub async fn a_password_that_staff_set_stands_beside_a_change_by_its_owner(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (_, digest) = register(fixture, &username).await;
        let [first, second] = handles(fixture, round);
        let target = name(&username);
        let reset = AccountChange { password_hash: Some(hash("$reset")), ..AccountChange::default() };
        let (_, own) = both(
            async move { first.change_account(&Actor::CommandLine, &target, reset, at(3_000)).await.unwrap().unwrap() },
            async move { second.change_password(&caller(digest), by_password(HASH), hash("$own"), at(3_000)).await },
        )
        .await;
        assert!(matches!(own, Ok(true) | Err(RepositoryError::NoSession)), "{round}: {own:?}");
        assert_eq!(stored_hash(fixture, &username).await, "$reset", "{round}");
        assert_eq!(list_session_ids(fixture, &username).await, [], "{round}");
    }
}

pub async fn nothing_is_left_of_a_deleted_account_that_was_in_use(fixture: &Fixture) {
    type Contender = Pin<Box<dyn Future<Output = Result<(), RepositoryError>> + Send>>;
    for round in 0..ROUNDS / 2 {
        let username = format!("user{round}");
        let (user_id, digest) = register(fixture, &username).await;
        let (caller, target) = (caller(digest), name(&username));
        // Deleted by one process, and used in both.
        let [deleter, other] = handles(fixture, round);
        let (adder, opener, guesser) = (Arc::clone(&other), Arc::clone(&deleter), Arc::clone(&other));
        let (replacer, recorder, renamer) = (Arc::clone(&deleter), Arc::clone(&deleter), other);
        let id = ItemId::new(7).unwrap();
        let attempts = vec![refused(EventKind::LoginFailed, &username, 3_000)];
        let by_owner = round % 4 < 2;
        let contenders: Vec<Contender> = vec![
            Box::pin(async move {
                let is_deleted = if by_owner {
                    deleter.delete_user(&caller, by_password(HASH), at(3_000)).await
                } else {
                    deleter.delete_account(&Actor::CommandLine, &target, at(3_000)).await
                };
                assert!(is_deleted.unwrap());
                Ok(())
            }),
            Box::pin(async move { adder.add_item(&caller, List::Cellar, id, 10, at(3_000)).await.map(drop) }),
            Box::pin(async move {
                replacer.replace_items(&caller, List::Wants, BTreeSet::from([id]), at(3_000)).await.map(drop)
            }),
            Box::pin(async move { opener.log_in(login(user_id, HASH), new_session(), 100, at(3_000)).await.map(drop) }),
            Box::pin(async move { guesser.record_failed_attempts(attempts, at(3_000)).await }),
            Box::pin(async move { recorder.record_use(vec![(digest, at(3_000))]).await }),
            Box::pin(async move {
                renamer
                    .update_profile(&caller, vec![text(ProfileField::City, "Springfield")], at(3_000))
                    .await
                    .map(drop)
            }),
        ];
        for outcome in all(contenders).await {
            assert!(matches!(outcome, Ok(()) | Err(RepositoryError::NoSession)), "{round}: {outcome:?}");
        }
        assert_eq!((fixture.count_rows_of)(user_id), 0, "{round}");
        assert!(fixture.repository.find_credentials(&name(&username)).await.unwrap().is_none(), "{round}");
    }
}

pub async fn a_deletion_by_a_fresh_session_comes_before_a_change_of_the_password_or_is_not_made(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (user_id, session) = register(fixture, &username).await;
        let (_, other) = open(fixture, user_id, HASH).await;
        reauthenticate(fixture, session).await;
        // Changed in the same session, whose freshness ends, or in another one, which ends it.
        let by = if round % 4 < 2 { session } else { other };
        let [first, second] = handles(fixture, round);
        let (deleted, changed) = both(
            async move { first.delete_user(&caller(session), Proof::FreshSession, at(4_000)).await },
            async move { second.change_password(&caller(by), by_password(HASH), hash("$new"), at(4_000)).await },
        )
        .await;
        match (&deleted, &changed) {
            (Ok(true), Err(RepositoryError::NoSession)) => assert_eq!((fixture.count_rows_of)(user_id), 0, "{round}"),
            (Ok(false), Ok(true)) if by == session => {}
            (Err(RepositoryError::NoSession), Ok(true)) if by == other => {}
            outcomes => panic!("{round}: {outcomes:?}"),
        }
        if changed.is_ok() {
            assert_eq!(stored_hash(fixture, &username).await, "$new", "{round}");
            assert_eq!(list_session_ids(fixture, &username).await, [SessionId::of(&by)], "{round}");
        }
    }
}

pub async fn of_two_deletions_by_fresh_sessions_at_once_one_is_made(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (user_id, session) = register(fixture, &username).await;
        let (_, other) = open(fixture, user_id, HASH).await;
        let digests = if round % 4 < 2 { [session, session] } else { [session, other] };
        for digest in digests {
            reauthenticate(fixture, digest).await;
        }
        let handles = handles(fixture, round);
        let [first, second] = [0, 1].map(|number| {
            let (repository, caller) = (Arc::clone(&handles[number]), caller(digests[number]));
            async move { repository.delete_user(&caller, Proof::FreshSession, at(4_000)).await }
        });
        let outcomes = both(first, second).await;
        assert!(
            matches!(
                outcomes,
                (Ok(true), Err(RepositoryError::NoSession)) | (Err(RepositoryError::NoSession), Ok(true))
            ),
            "{round}: {outcomes:?}"
        );
        assert_eq!((fixture.count_rows_of)(user_id), 0, "{round}");
        let query =
            EventQuery { username: Some(name(&username)), kind: Some(EventKind::Deleted), before: None, limit: 9 };
        let told = fixture.repository.list_events(&Actor::CommandLine, query).await.unwrap().rows;
        assert_eq!(told.len(), 1, "{round}");
    }
}

pub async fn of_two_changes_of_a_password_by_one_fresh_session_at_once_one_is_made(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (_, session) = register(fixture, &username).await;
        reauthenticate(fixture, session).await;
        let handles = handles(fixture, round);
        let [first, second] = [0, 1].map(|number| {
            let repository = Arc::clone(&handles[number]);
            let new_hash = hash(&format!("$new{number}"));
            async move {
                repository.change_password(&caller(session), Proof::FreshSession, new_hash, at(4_000)).await.unwrap()
            }
        });
        let (first, second) = both(first, second).await;
        assert_ne!(first, second, "{round}");
        let expected = if first { "$new0" } else { "$new1" };
        assert_eq!(stored_hash(fixture, &username).await, expected, "{round}");
    }
}

pub async fn no_session_is_fresh_by_a_password_that_is_changed_beside_it(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let (_, session) = register(fixture, &format!("user{round}")).await;
        let [first, second] = handles(fixture, round);
        let (_, changed) = both(
            async move { first.reauthenticate(&caller(session), with_password(HASH), at(4_000)).await.unwrap() },
            async move { second.change_password(&caller(session), by_password(HASH), hash("$new"), at(4_000)).await },
        )
        .await;
        assert!(changed.unwrap(), "{round}");
        assert!(!is_fresh(fixture, session, 4_000).await, "{round}");
    }
}

pub async fn of_two_changes_of_an_account_at_once_neither_is_lost(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (_, digest) = register(fixture, &username).await;
        let [first, second] = handles(fixture, round);
        let other = caller(digest);
        // Two fields of a profile, or two rights.
        if round % 4 < 2 {
            let change = |field, content: &str| vec![text(field, content)];
            let (city, state) = (change(ProfileField::City, "Springfield"), change(ProfileField::State, "Oregon"));
            both(async move { first.update_profile(&caller(digest), city, at(3_000)).await.unwrap() }, async move {
                second.update_profile(&other, state, at(3_000)).await.unwrap()
            })
            .await;
            let (_, user) = fixture.repository.find_user(&caller(digest)).await.unwrap();
            assert_eq!((&*user.profile.city, &*user.profile.state), ("Springfield", "Oregon"), "{round}");
        } else {
            let (target, same) = (name(&username), name(&username));
            let staff = AccountChange { is_staff: Some(true), ..AccountChange::default() };
            let superuser = AccountChange { is_superuser: Some(true), ..AccountChange::default() };
            both(
                async move { first.change_account(&Actor::CommandLine, &target, staff, at(3_000)).await.unwrap() },
                async move { second.change_account(&Actor::CommandLine, &same, superuser, at(3_000)).await.unwrap() },
            )
            .await;
            let (_, user) = fixture.repository.find_user(&caller(digest)).await.unwrap();
            assert!(user.is_staff && user.is_superuser, "{round}");
        }
    }
}
