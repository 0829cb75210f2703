//! Passkeys that are added, used or removed by several at once.

use std::sync::Arc;

use authtokens::domain::passkey::{MAX_PASSKEYS, PasskeyId};
use authtokens::domain::token::TokenDigest;
use authtokens::repository::{
    FirstFactor, NewPasskey, PasskeyAdded, PasskeyUse, Proof, Removal, Repository, SecondFactor,
};

use crate::at_once::{ROUNDS, all, both, handles};
use crate::fixture::Fixture;
use crate::ways::{
    add_passkey, all_ways, credential, log_in_on, new_passkey, reauthenticate_by, register_by, says, security, signed,
    subject,
};
use crate::words::{at, caller, list_session_ids, reauthenticate, register};

async fn add(repository: Arc<dyn Repository>, session: TokenDigest, passkey: NewPasskey) -> PasskeyAdded {
    repository.add_passkey(&caller(session), passkey, at(4_000)).await.unwrap()
}

fn is_done(added: &PasskeyAdded) -> bool {
    matches!(added, PasskeyAdded::Done(_))
}

pub async fn of_two_accounts_that_add_one_credential_at_once_one_has_it(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let (_, first) = register(fixture, &format!("first{round}")).await;
        let (_, second) = register(fixture, &format!("second{round}")).await;
        reauthenticate(fixture, first).await;
        reauthenticate(fixture, second).await;
        let [one, other] = handles(fixture, round);
        let id = format!("passkey {round}");
        let (one, other) = both(add(one, first, new_passkey(&id)), add(other, second, new_passkey(&id))).await;
        assert!(is_done(&one) != is_done(&other), "{round}: {one:?} {other:?}");
        assert!(one == PasskeyAdded::Taken || other == PasskeyAdded::Taken, "{round}: {one:?} {other:?}");
        let counts = (security(fixture, first).await.passkeys, security(fixture, second).await.passkeys);
        assert_eq!(counts, (u32::from(is_done(&one)), u32::from(is_done(&other))), "{round}");
    }
}

pub async fn however_many_are_added_at_once_an_account_has_no_more_than_it_may(fixture: &Fixture) {
    for round in 0..ROUNDS / 10 {
        let (_, session) = register(fixture, &format!("user{round}")).await;
        reauthenticate(fixture, session).await;
        let handles = handles(fixture, round);
        let passkey = |number: u32| new_passkey(&format!("{round} {number}"));
        for number in 1..MAX_PASSKEYS {
            assert!(is_done(&add(Arc::clone(&handles[0]), session, passkey(number)).await), "{round} {number}");
        }
        let contenders = (0_u8..6).map(|number| {
            let passkey = NewPasskey { user_handle: [number; 16], ..passkey(100 + u32::from(number)) };
            add(Arc::clone(&handles[usize::from(number) % 2]), session, passkey)
        });
        let added = all(contenders.collect()).await;
        assert_eq!(added.iter().filter(|added| is_done(added)).count(), 1, "{round}: {added:?}");
        assert_eq!(security(fixture, session).await.passkeys, MAX_PASSKEYS, "{round}");
    }
}

pub async fn of_two_signatures_that_move_one_counter_at_once_one_counts(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (user_id, session) = register(fixture, &username).await;
        add_passkey(fixture, session, &username).await;
        let [one, other] = handles(fixture, round);
        let sign = |repository: Arc<dyn Repository>| {
            let after = Some("{\"counter\":1}".to_owned());
            let first = FirstFactor::Passkey(PasskeyUse { after, ..signed(user_id, &username) });
            async move { log_in_on(repository.as_ref(), first, SecondFactor::NotGiven, 6_000).await }
        };
        let (one, other) = both(sign(one), sign(other)).await;
        assert!(one.is_opened() != other.is_opened(), "{round}: {:?} {:?}", one.outcome, other.outcome);
        assert_eq!(list_session_ids(fixture, &username).await.len(), 2, "{round}");
    }
}

pub async fn of_two_last_ways_into_an_account_that_go_at_once_one_stays(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (user_id, session) = register_by(fixture, &username, says(&username)).await;
        reauthenticate_by(fixture, user_id, session, says(&username)).await;
        let [one, other] = handles(fixture, round);
        assert!(is_done(&add(Arc::clone(&one), session, new_passkey(&username)).await));
        let owner = caller(session);
        let id = PasskeyId::of(&credential(&username));
        let (removed, unlinked) =
            both(async move { one.remove_passkey(&owner, id, all_ways(), at(5_000)).await.unwrap() }, async move {
                other.unlink_identity(&owner, subject(&username).id(), all_ways(), at(5_000)).await.unwrap()
            })
            .await;
        let expected = [(Removal::Done, Removal::LastWayIn), (Removal::LastWayIn, Removal::Done)];
        assert!(expected.contains(&(removed, unlinked)), "{round}: {removed:?} {unlinked:?}");
        let state = security(fixture, session).await;
        assert_eq!(state.passkeys + state.identities, 1, "{round}");
    }
}

pub async fn nothing_is_left_of_an_account_that_is_deleted_beside_a_login_or_a_new_passkey(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (user_id, session) = register(fixture, &username).await;
        add_passkey(fixture, session, &username).await;
        let [one, other] = handles(fixture, round);
        let owner = caller(session);
        let delete = async move { one.delete_user(&owner, Proof::FreshSession, at(5_000)).await.unwrap() };
        let deleted = if round % 4 < 2 {
            let first = FirstFactor::Passkey(signed(user_id, &username));
            let login = async move {
                log_in_on(other.as_ref(), first, SecondFactor::NotGiven, 6_000).await.is_second_refused()
            };
            let (deleted, is_refused) = both(delete, login).await;
            assert!(!is_refused, "{round}");
            deleted
        } else {
            let passkey = new_passkey(&format!("late {round}"));
            both(delete, async move { drop(other.add_passkey(&owner, passkey, at(5_000)).await) }).await.0
        };
        assert!(deleted, "{round}");
        assert_eq!((fixture.count_rows_of)(user_id), 0, "{round}");
    }
}
