//! Staff, where two act at once: the last superuser, and who loses its rights meanwhile.

use std::sync::Arc;

use authtokens::domain::event::{EventKind, EventQuery};
use authtokens::domain::rights::{AccountChange, Actor, UserQuery};
use authtokens::repository::{Repository, RepositoryError};

use crate::at_once::{ROUNDS, both, handles};
use crate::fixture::Fixture;
use crate::words::{EVER, HASH, at, by_password, create, name, register};

/// How a superuser stops being one.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Demotion,
    Deactivation,
    Deletion,
    OwnDeletion,
}

/// Takes an account's rights, in the actor's name. Whether it did so.
async fn take(
    repository: Arc<dyn Repository>,
    actor: Actor,
    username: String,
    loss: Loss,
) -> Result<bool, RepositoryError> {
    let username = name(&username);
    let change = match loss {
        Loss::Demotion => AccountChange { is_superuser: Some(false), ..AccountChange::default() },
        Loss::Deactivation => AccountChange { is_active: Some(false), ..AccountChange::default() },
        Loss::Deletion => return repository.delete_account(&actor, &username, at(3_000)).await,
        Loss::OwnDeletion => {
            let Actor::Session(caller) = actor else { unreachable!() };
            return repository.delete_user(&caller, by_password(HASH), at(3_000)).await;
        }
    };
    Ok(repository.change_account(&actor, &username, change, at(3_000)).await?.is_some())
}

/// Who may log in and is a superuser.
async fn superusers(fixture: &Fixture) -> Vec<String> {
    let query = UserQuery { is_superuser: Some(true), is_active: Some(true), limit: 10, ..UserQuery::default() };
    let found = fixture.repository.list_accounts(&Actor::CommandLine, query).await.unwrap().rows;
    found.iter().map(|user| user.username.as_str().to_owned()).collect()
}

pub async fn of_two_superusers_who_end_each_other_at_once_one_is_refused_and_stays(fixture: &Fixture) {
    const LOSSES: [Loss; 3] = [Loss::Demotion, Loss::Deactivation, Loss::Deletion];
    let mut one = ("root".to_owned(), create(fixture, "root", false, true).await);
    for round in 0..ROUNDS {
        let username = format!("root{round}");
        let other = (username.clone(), create(fixture, &username, false, true).await);
        let [first, second] = handles(fixture, round);
        let losses = (LOSSES[round / 2 % 3], LOSSES[round / 6 % 3]);
        let outcomes =
            both(take(first, one.1, other.0.clone(), losses.0), take(second, other.1, one.0.clone(), losses.1)).await;
        let (winner, refusal) = match outcomes {
            (Ok(true), Err(refusal)) => (one, refusal),
            (Err(refusal), Ok(true)) => (other, refusal),
            outcomes => panic!("{round} {losses:?}: {outcomes:?}"),
        };
        let is_refusal =
            matches!(refusal, RepositoryError::LastSuperuser | RepositoryError::NoSession | RepositoryError::Forbidden);
        assert!(is_refusal, "{round} {losses:?}: {refusal:?}");
        assert_eq!(superusers(fixture).await, [winner.0.as_str()], "{round} {losses:?}");
        one = winner;
    }
}

pub async fn of_two_last_superusers_who_go_at_once_one_is_refused_and_stays(fixture: &Fixture) {
    const LOSSES: [Loss; 4] = [Loss::Demotion, Loss::Deactivation, Loss::Deletion, Loss::OwnDeletion];
    let going = |repository, (username, session): &(String, Actor), loss| {
        let actor = if matches!(loss, Loss::OwnDeletion) { *session } else { Actor::CommandLine };
        take(repository, actor, username.clone(), loss)
    };
    let mut one = ("root".to_owned(), create(fixture, "root", false, true).await);
    for round in 0..ROUNDS {
        let username = format!("root{round}");
        let other = (username.clone(), create(fixture, &username, false, true).await);
        let [first, second] = handles(fixture, round);
        let losses = (LOSSES[round / 2 % 4], LOSSES[round / 8 % 4]);
        let outcomes = both(going(first, &one, losses.0), going(second, &other, losses.1)).await;
        one = match outcomes {
            (Ok(true), Err(RepositoryError::LastSuperuser)) => other,
            (Err(RepositoryError::LastSuperuser), Ok(true)) => one,
            outcomes => panic!("{round} {losses:?}: {outcomes:?}"),
        };
        assert_eq!(superusers(fixture).await, [one.0.as_str()], "{round} {losses:?}");
    }
}

pub async fn what_an_actor_does_who_loses_its_rights_at_once_comes_before_that_or_is_not_done(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let (staff, username) = (format!("staff{round}"), format!("user{round}"));
        // Whichever of the two accounts is the older one.
        if round % 4 < 2 {
            register(fixture, &username).await;
        }
        let actor = create(fixture, &staff, true, false).await;
        if round % 4 >= 2 {
            register(fixture, &username).await;
        }
        let [first, second] = handles(fixture, round);
        let (target, going) = (name(&username), name(&staff));
        let way = round / 4 % 4;
        let (acted, lost) = both(
            async move {
                let change = AccountChange { is_active: Some(false), ..AccountChange::default() };
                first.change_account(&actor, &target, change, at(3_000)).await.map(|user| assert!(user.is_some()))
            },
            async move {
                let change = match way {
                    0 => AccountChange { is_staff: Some(false), ..AccountChange::default() },
                    1 => AccountChange { is_active: Some(false), ..AccountChange::default() },
                    2 => return second.delete_account(&Actor::CommandLine, &going, at(3_000)).await.unwrap(),
                    _ => {
                        let ended = second.revoke_account_sessions(&Actor::CommandLine, &going, None, EVER, at(3_000));
                        return ended.await.unwrap() == Some(1);
                    }
                };
                second.change_account(&Actor::CommandLine, &going, change, at(3_000)).await.unwrap().is_some()
            },
        )
        .await;
        assert!(lost, "{round}");
        let query = EventQuery { username: None, kind: None, before: None, limit: 2 };
        let told = fixture.repository.list_events(&Actor::CommandLine, query).await.unwrap().rows;
        let told: Vec<_> = told.iter().rev().map(|event| (event.kind, event.actor.as_str())).collect();
        let done = (EventKind::Deactivated, staff.as_str());
        match acted {
            Ok(()) => assert_eq!(told[0], done, "{round}: {told:?}"),
            Err(RepositoryError::Forbidden | RepositoryError::NoSession) => {
                assert!(!told.contains(&done), "{round}: {told:?}");
            }
            Err(other) => panic!("{round}: {other:?}"),
        }
        let is_active = fixture.repository.find_credentials(&name(&username)).await.unwrap().unwrap().is_active;
        assert_ne!(is_active, told.contains(&done), "{round}");
    }
}
