//! Identities that are linked, used or unlinked by several at once, and their revocations.

use std::collections::HashSet;
use std::sync::Arc;

use authtokens::domain::identity::MAX_IDENTITIES;
use authtokens::domain::token::TokenDigest;
use authtokens::repository::{IdentityRegistered, Linked, Proof, Repository, SecondFactor, VerifiedIdentity};

use crate::at_once::{ROUNDS, all, both, handles};
use crate::fixture::Fixture;
use crate::ways::{by_address, by_identity, link, log_in_on, says, says_with_token, security, subject};
use crate::words::{
    at, caller, list_session_ids, name, new_session, new_user, reauthenticate, register, register_verified,
};

async fn link_on(repository: Arc<dyn Repository>, session: TokenDigest, identity: VerifiedIdentity) -> Linked {
    repository.link_identity(&caller(session), false, identity, at(4_000)).await.unwrap()
}

pub async fn of_two_accounts_that_link_one_identity_at_once_one_has_it(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let (_, first) = register(fixture, &format!("first{round}")).await;
        let (_, second) = register(fixture, &format!("second{round}")).await;
        let [one, other] = handles(fixture, round);
        let identity = says(&format!("somebody {round}"));
        // By one ID token, or by one each.
        let another = if round % 4 < 2 { identity.clone() } else { says(&format!("somebody {round}")) };
        let (one, other) = both(link_on(one, first, identity), link_on(other, second, another)).await;
        assert!((one == Linked::Done) != (other == Linked::Done), "{round}: {one:?} {other:?}");
        let is_refused = |linked| matches!(linked, Linked::Done | Linked::Taken | Linked::TokenUsed);
        assert!(is_refused(one) && is_refused(other), "{round}: {one:?} {other:?}");
        let counts = (security(fixture, first).await.identities, security(fixture, second).await.identities);
        assert_eq!(counts, (u32::from(one == Linked::Done), u32::from(other == Linked::Done)), "{round}");
    }
}

pub async fn of_a_link_and_a_registration_by_one_identity_at_once_one_is_made(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let (_, session) = register(fixture, &format!("first{round}")).await;
        let [one, other] = handles(fixture, round);
        let (of, username) = (format!("somebody {round}"), format!("second{round}"));
        let identity = says(&of);
        let user = new_user(&username);
        let (linked, registered) = both(link_on(one, session, says(&of)), async move {
            other.register_by_identity(user, false, None, identity, new_session(), at(4_000)).await.unwrap()
        })
        .await;
        let is_registered = matches!(registered, IdentityRegistered::Opened(_));
        assert!((linked == Linked::Done) != is_registered, "{round}: {linked:?} {registered:?}");
        let found = fixture.repository.find_credentials(&name(&username)).await.unwrap();
        assert_eq!(found.is_some(), is_registered, "{round}");
    }
}

pub async fn of_two_registrations_by_one_identity_at_once_one_is_made(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let [one, other] = handles(fixture, round);
        let of = format!("somebody {round}");
        let register = |repository: Arc<dyn Repository>, username: String| {
            let (user, identity) = (new_user(&username), says(&of));
            async move {
                let registered = repository
                    .register_by_identity(user, false, None, identity, new_session(), at(4_000))
                    .await
                    .unwrap();
                matches!(registered, IdentityRegistered::Opened(_))
            }
        };
        let (first, second) =
            both(register(one, format!("first{round}")), register(other, format!("second{round}"))).await;
        assert!(first != second, "{round}");
        let owner = fixture.repository.find_identity_owner(&subject(&of)).await.unwrap().unwrap();
        let expected = if first { format!("first{round}") } else { format!("second{round}") };
        assert_eq!(owner.username.as_str(), expected, "{round}");
    }
}

pub async fn of_two_logins_by_one_id_token_at_once_one_opens_a_session(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let address = format!("{username}@diamond.example");
        let (user_id, session) = register_verified(fixture, &username, &address).await;
        let identity = says(&username);
        let is_linked = round % 4 < 2;
        if is_linked {
            link(fixture, session, says(&username)).await;
        }
        let [one, other] = handles(fixture, round);
        let try_on = |repository: Arc<dyn Repository>| {
            let identity = identity.clone();
            let first =
                if is_linked { by_identity(user_id, identity) } else { by_address(user_id, identity, &address) };
            async move { log_in_on(repository.as_ref(), first, SecondFactor::NotGiven, 6_000).await }
        };
        let (one, other) = both(try_on(one), try_on(other)).await;
        assert!(one.is_opened() != other.is_opened(), "{round}: {:?} {:?}", one.outcome, other.outcome);
        assert_eq!(list_session_ids(fixture, &username).await.len(), 2, "{round}");
        assert_eq!(security(fixture, session).await.identities, 1, "{round}");
    }
}

pub async fn of_two_logins_that_find_an_identity_by_its_address_at_once_both_open_and_it_is_linked_once(
    fixture: &Fixture,
) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let address = format!("{username}@diamond.example");
        let (user_id, session) = register_verified(fixture, &username, &address).await;
        let [one, other] = handles(fixture, round);
        let try_on = |repository: Arc<dyn Repository>| {
            let first = by_address(user_id, says(&username), &address);
            async move { log_in_on(repository.as_ref(), first, SecondFactor::NotGiven, 6_000).await }
        };
        let (one, other) = both(try_on(one), try_on(other)).await;
        assert!(one.is_opened() && other.is_opened(), "{round}: {:?} {:?}", one.outcome, other.outcome);
        assert_eq!(security(fixture, session).await.identities, 1, "{round}");
    }
}

pub async fn however_many_are_linked_at_once_an_account_has_no_more_than_it_may(fixture: &Fixture) {
    for round in 0..ROUNDS / 10 {
        let (_, session) = register(fixture, &format!("user{round}")).await;
        for number in 1..MAX_IDENTITIES {
            link(fixture, session, says(&format!("{round} {number}"))).await;
        }
        let handles = handles(fixture, round);
        let contenders = (0..4)
            .map(|number| link_on(Arc::clone(&handles[number % 2]), session, says(&format!("{round} late {number}"))));
        let linked = all(contenders.collect()).await;
        assert_eq!(linked.iter().filter(|linked| **linked == Linked::Done).count(), 1, "{round}: {linked:?}");
        assert_eq!(security(fixture, session).await.identities, MAX_IDENTITIES, "{round}");
    }
}

pub async fn nothing_is_left_of_an_account_that_is_deleted_beside_a_login_by_its_identity(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let address = format!("{username}@diamond.example");
        let (user_id, session) = register_verified(fixture, &username, &address).await;
        link(fixture, session, says_with_token(&username)).await;
        reauthenticate(fixture, session).await;
        let [one, other] = handles(fixture, round);
        let owner = caller(session);
        let first = if round % 4 < 2 {
            by_identity(user_id, says(&username))
        } else {
            by_address(user_id, says(&format!("another {username}")), &address)
        };
        let (deleted, login) =
            both(async move { one.delete_user(&owner, Proof::FreshSession, at(5_000)).await.unwrap() }, async move {
                log_in_on(other.as_ref(), first, SecondFactor::NotGiven, 6_000).await
            })
            .await;
        assert!(deleted && (login.is_opened() || login.is_refused()), "{round}: {:?}", login.outcome);
        assert_eq!((fixture.count_rows_of)(user_id), 0, "{round}");
        let due = fixture.repository.claim_revocations(10, at(7_000), at(7_001)).await.unwrap();
        assert_eq!(due.len(), 1, "{round}: its refresh token is to be revoked");
        assert!(fixture.repository.settle_revocation(due[0].id, None).await.unwrap());
    }
}

pub async fn of_many_who_claim_at_once_no_two_hold_one_revocation_and_all_together_hold_each(fixture: &Fixture) {
    for round in 0..ROUNDS / 10 {
        let mut expected = HashSet::new();
        for number in 0..6 {
            let of = format!("user{round}x{number}");
            let (_, session) = register(fixture, &of).await;
            link(fixture, session, says_with_token(&of)).await;
            reauthenticate(fixture, session).await;
            let deleted = fixture.repository.delete_user(&caller(session), Proof::FreshSession, at(4_000)).await;
            assert!(deleted.unwrap());
            expected.insert(subject(&of).binding());
        }
        let handles = handles(fixture, round);
        let contenders = (0..4).map(|number| {
            let repository = Arc::clone(&handles[number % 2]);
            async move {
                let mut held = Vec::new();
                loop {
                    let claimed = repository.claim_revocations(2, at(5_000), at(60_000)).await.unwrap();
                    if claimed.is_empty() {
                        return held;
                    }
                    held.extend(claimed);
                }
            }
        });
        let held: Vec<_> = all(contenders.collect()).await.into_iter().flatten().collect();
        assert_eq!(held.len(), 6, "{round}: none is held by two");
        assert_eq!(held.iter().map(|held| held.binding).collect::<HashSet<_>>(), expected, "{round}");
        for revocation in held {
            assert!(fixture.repository.settle_revocation(revocation.id, None).await.unwrap(), "{round}");
        }
    }
}

pub async fn a_revocation_whose_claim_ends_while_it_is_settled_is_settled_by_one(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let of = format!("user{round}");
        let (_, session) = register(fixture, &of).await;
        link(fixture, session, says_with_token(&of)).await;
        reauthenticate(fixture, session).await;
        assert!(fixture.repository.delete_user(&caller(session), Proof::FreshSession, at(4_000)).await.unwrap());
        let first = fixture.repository.claim_revocations(1, at(5_000), at(6_000)).await.unwrap().remove(0);
        let [one, other] = handles(fixture, round);
        let (settled, claimed) =
            both(async move { one.settle_revocation(first.id, None).await.unwrap() }, async move {
                other.claim_revocations(1, at(6_000), at(9_000)).await.unwrap()
            })
            .await;
        assert_eq!(claimed.len(), usize::from(!settled), "{round}");
        for revocation in claimed {
            assert!(fixture.repository.settle_revocation(revocation.id, None).await.unwrap(), "{round}");
        }
    }
}
