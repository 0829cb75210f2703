//! Sessions that are opened, used, ended or pruned by several at once.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use authtokens::domain::rights::{AccountChange, Actor};
use authtokens::domain::session::{Caller, SessionCutoffs, SessionId};
use authtokens::domain::token::TokenDigest;
use authtokens::domain::user::UserId;
use authtokens::repository::{Repository, RepositoryError};
use authtokens::system::clock::Timestamp;
use bytes::Bytes;

use crate::at_once::{ROUNDS, all, both, handles};
use crate::fixture::Fixture;
use crate::words::{
    EVER, HASH, OpensSessions as _, at, by_password, caller, hash, is_live, list_session_ids, login, name, new_session,
    open, register,
};

pub async fn of_many_logins_at_once_as_many_sessions_are_left_as_there_may_be_and_the_newest(fixture: &Fixture) {
    for round in 0..ROUNDS / 2 {
        let username = format!("user{round}");
        let (user_id, _) = register(fixture, &username).await;
        let (_, second) = open(fixture, user_id, HASH).await;
        let handles = handles(fixture, round);
        let logins = if round % 4 < 2 { 2 } else { 8 };
        let contenders = (0..logins).map(|number| {
            let repository = Arc::clone(&handles[number % 2]);
            let (session, username) = (new_session(), name(&username));
            let now = at(3_000 + i64::try_from(number).unwrap());
            async move {
                let id = SessionId::of(&session.digest);
                assert!(repository.log_in(login(user_id, HASH), session, 3, now).await.unwrap().is_some());
                let listed = repository.list_account_sessions(&Actor::CommandLine, &username, EVER).await;
                let count = listed.unwrap().unwrap().len();
                assert!(count <= 3, "{count} at once");
                id
            }
        });
        let opened = all(contenders.collect()).await;
        let left = list_session_ids(fixture, &username).await;
        assert_eq!(left.len(), 3, "{round}");
        let [.., last_but_one, last] = opened.as_slice() else { unreachable!() };
        assert!(left.contains(last) && left.contains(last_but_one), "{round}: the newest stay");
        // Beside a login that was early, or the newest of those that were there before.
        let is_expected = |id| opened.contains(id) || (logins == 2 && *id == SessionId::of(&second));
        assert!(left.iter().all(is_expected), "{round}");
    }
}

pub async fn of_many_revocations_of_one_session_at_once_one_succeeds(fixture: &Fixture) {
    for round in 0..ROUNDS / 4 {
        let (_, digest) = register(fixture, &format!("user{round}")).await;
        assert!(is_live(fixture, digest).await);
        let handles = handles(fixture, round);
        let contenders = (0..16).map(|number| {
            let repository = Arc::clone(&handles[number % 2]);
            async move { repository.revoke_own_session(&caller(digest), at(5_000)).await }
        });
        let mut ended = 0;
        for outcome in all(contenders.collect()).await {
            match outcome {
                Ok(()) => ended += 1,
                Err(error) => assert!(matches!(error, RepositoryError::NoSession), "{round}: {error:?}"),
            }
        }
        assert_eq!(ended, 1, "{round}");
    }
}

/// How many ways there are to end a session.
const WAYS: usize = 12;

/// Ends a session in one of the [`WAYS`], by another one of its account where it does not end itself.
async fn end(
    repository: &dyn Repository,
    way: usize,
    username: &str,
    user_id: UserId,
    [digest, other]: [TokenDigest; 2],
) {
    let (own, other, id, now) = (caller(digest), caller(other), SessionId::of(&digest), at(5_000));
    let (operator, username) = (Actor::CommandLine, name(username));
    let change = |change| repository.change_account(&operator, &username, change, now);
    let revoke = |id| repository.revoke_account_sessions(&operator, &username, id, EVER, now);
    match way % WAYS {
        0 => repository.revoke_own_session(&own, now).await.unwrap(),
        1 => assert!(repository.revoke_session(&other, id, now).await.unwrap()),
        2 => repository.revoke_all_sessions(&other, now).await.unwrap(),
        3 => assert!(repository.change_password(&other, by_password(HASH), hash("$new"), now).await.unwrap()),
        4 => assert!(repository.delete_user(&other, by_password(HASH), now).await.unwrap()),
        5 => {
            let opened = repository.log_in(login(user_id, HASH), new_session(), 1, now).await.unwrap();
            assert!(opened.is_some(), "the others made room");
        }
        6 => assert_eq!(revoke(None).await.unwrap(), Some(2)),
        7 => assert_eq!(revoke(Some(id)).await.unwrap(), Some(1)),
        8 => drop(change(AccountChange { is_active: Some(false), ..AccountChange::default() }).await.unwrap().unwrap()),
        9 => {
            let reset = AccountChange { password_hash: Some(hash("$new")), ..AccountChange::default() };
            drop(change(reset).await.unwrap().unwrap());
        }
        10 => assert!(repository.delete_account(&operator, &username, now).await.unwrap()),
        _ => {
            let all = SessionCutoffs { used_after: Timestamp::MAX, ..EVER };
            while repository.prune_sessions(all).await.unwrap() > 0 {}
        }
    }
}

pub async fn once_its_end_is_acknowledged_a_session_that_is_in_use_is_found_no_more(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (user_id, digest) = register(fixture, &username).await;
        let (_, other) = open(fixture, user_id, HASH).await;
        let is_over = Arc::new(AtomicBool::new(false));
        let mut contenders: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
        for number in 0..3 {
            let (repository, is_over) = (Arc::clone(&fixture.repository), Arc::clone(&is_over));
            contenders.push(Box::pin(async move {
                let mut times_over = 0;
                while times_over < 3 {
                    let was_over = is_over.load(Ordering::SeqCst);
                    let is_found = if number == 0 {
                        repository.find_session(&caller(digest)).await.unwrap().is_some()
                    } else {
                        let render = |_| Ok(Bytes::from_static(b"{}"));
                        repository.find_rendered_user(&caller(digest), render).await.is_ok()
                    };
                    assert!(!was_over || !is_found, "{round}: way {} leaves it", round % WAYS);
                    times_over += usize::from(was_over);
                    tokio::task::yield_now().await;
                }
            }));
        }
        let (repository, pause) = (Arc::clone(&fixture.repository), round / WAYS);
        contenders.push(Box::pin(async move {
            // In some rounds before it is cached, in others after that.
            for _ in 0..pause * pause {
                tokio::task::yield_now().await;
            }
            end(repository.as_ref(), round, &username, user_id, [digest, other]).await;
            is_over.store(true, Ordering::SeqCst);
        }));
        all(contenders).await;
    }
}

pub async fn an_end_of_a_session_is_not_acknowledged_before_the_other_process_knows_of_it(fixture: &Fixture) {
    for way in 0..WAYS * 2 {
        let username = format!("user{way}");
        let (user_id, digest) = register(fixture, &username).await;
        let (_, other) = open(fixture, user_id, HASH).await;
        for _ in 0..20 {
            assert!(is_live(fixture, digest).await, "remembered as well as it ever is");
        }
        end(fixture.second.as_ref(), way, &username, user_id, [digest, other]).await;
        assert!(!is_live(fixture, digest).await, "{way}");
    }
}

pub async fn a_use_that_is_noted_beside_the_end_of_its_session_brings_nothing_back(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (user_id, digest) = register(fixture, &username).await;
        let (_, other) = open(fixture, user_id, HASH).await;
        assert!(is_live(fixture, digest).await);
        let [first, second] = handles(fixture, round);
        let ender = Arc::clone(&first);
        let name = username.clone();
        both(async move { end(ender.as_ref(), round / 2, &name, user_id, [digest, other]).await }, async move {
            for used in 0..3 {
                second.record_use(vec![(digest, at(4_000 + used))]).await.unwrap();
            }
        })
        .await;
        assert!(first.find_session(&caller(digest)).await.unwrap().is_none(), "{round}");
        assert!(!list_session_ids(fixture, &username).await.contains(&SessionId::of(&digest)), "{round}");
    }
}

pub async fn a_session_that_is_used_before_it_is_pruned_stays_and_one_that_is_pruned_is_not_served(fixture: &Fixture) {
    // Dead by its last use, until it is used once more.
    let cutoffs = SessionCutoffs { used_after: at(1_000), ..EVER };
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (_, digest) = register(fixture, &username).await;
        let [first, second] = handles(fixture, round);
        let who = Caller { digest, cutoffs, ip: None };
        let (pruned, is_served) = both(async move { first.prune_sessions(cutoffs).await.unwrap() }, async move {
            assert!(second.find_session(&who).await.unwrap().is_none(), "it has ended");
            second.record_use(vec![(digest, at(2_000))]).await.unwrap();
            second.find_session(&who).await.unwrap().is_some()
        })
        .await;
        let is_left = !list_session_ids(fixture, &username).await.is_empty();
        assert_eq!((is_served, pruned), (is_left, usize::from(!is_left)), "{round}");
    }
}
