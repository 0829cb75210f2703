//! Other services, and what they are told of a token.

use authtokens::domain::authentication_methods::AuthenticationMethods;
use authtokens::domain::rights::{Actor, Rights};
use authtokens::domain::service::{MAX_SERVICES, ServiceName};
use authtokens::domain::session::{Caller, SessionCutoffs};
use authtokens::domain::token::{PlainToken, TokenDigest};
use authtokens::repository::{RepositoryError, SecondFactor, ServiceAdded};

use crate::fixture::Fixture;
use crate::words::{HASH, at, caller, create, events, name, open, reauthenticate, register};

const OPERATOR: Actor = Actor::CommandLine;

pub fn service(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

pub fn new_key() -> TokenDigest {
    PlainToken::generate().digest()
}

async fn has(fixture: &Fixture, text: &str, key: TokenDigest) -> bool {
    fixture.repository.has_service(&service(text), &key).await.unwrap()
}

pub async fn a_service_is_known_by_its_name_and_its_key_until_it_is_revoked(fixture: &Fixture) {
    let store = &fixture.repository;
    let (key, other) = (new_key(), new_key());
    assert!(!has(fixture, "wiki", key).await);
    assert_eq!(store.add_service(&OPERATOR, service("wiki"), key, at(1_000)).await.unwrap(), ServiceAdded::Done);
    assert_eq!(store.add_service(&OPERATOR, service("git"), other, at(2_000)).await.unwrap(), ServiceAdded::Done);
    assert_eq!(store.add_service(&OPERATOR, service("wiki"), other, at(3_000)).await.unwrap(), ServiceAdded::Taken);
    assert!(has(fixture, "wiki", key).await && has(fixture, "git", other).await);
    assert!(!has(fixture, "wiki", other).await && !has(fixture, "git", key).await && !has(fixture, "x", key).await);
    let listed = store.list_services(&OPERATOR).await.unwrap();
    let names: Vec<_> = listed.iter().map(|one| (one.name.as_str(), one.created, one.last_used)).collect();
    assert_eq!(names, [("git", at(2_000), None), ("wiki", at(1_000), None)]);
    assert!(store.revoke_service(&OPERATOR, service("wiki"), at(4_000)).await.unwrap());
    assert!(!store.revoke_service(&OPERATOR, service("wiki"), at(5_000)).await.unwrap());
    assert!(!has(fixture, "wiki", key).await && has(fixture, "git", other).await);
    assert_eq!(store.add_service(&OPERATOR, service("wiki"), other, at(6_000)).await.unwrap(), ServiceAdded::Done);
    assert!(!has(fixture, "wiki", key).await && has(fixture, "wiki", other).await);
}

pub async fn services_are_for_the_operator_and_superusers_and_leave_events(fixture: &Fixture) {
    let store = &fixture.repository;
    let (staff, superuser) = (create(fixture, "staff", true, false).await, create(fixture, "boss", false, true).await);
    let refused = |outcome: Result<(), RepositoryError>| matches!(outcome, Err(RepositoryError::Forbidden));
    assert!(refused(store.add_service(&staff, service("wiki"), new_key(), at(1_000)).await.map(drop)));
    assert!(refused(store.revoke_service(&staff, service("wiki"), at(1_000)).await.map(drop)));
    assert!(refused(store.list_services(&staff).await.map(drop)));
    assert_eq!(
        store.add_service(&superuser, service("my.wiki-2"), new_key(), at(2_000)).await.unwrap(),
        ServiceAdded::Done
    );
    assert_eq!(store.list_services(&superuser).await.unwrap().len(), 1);
    assert!(store.revoke_service(&OPERATOR, service("my.wiki-2"), at(3_000)).await.unwrap());
    let told: Vec<_> = events(fixture).await.into_iter().filter(|event| event.starts_with("service_")).collect();
    assert_eq!(told, ["service_added  boss my.wiki-2", "service_revoked  command line my.wiki-2"]);
}

pub async fn there_are_no_more_services_than_there_may_be(fixture: &Fixture) {
    let store = &fixture.repository;
    for number in 0..MAX_SERVICES {
        let added = store.add_service(&OPERATOR, service(&format!("s{number}")), new_key(), at(1_000)).await.unwrap();
        assert_eq!(added, ServiceAdded::Done, "{number}");
    }
    assert_eq!(store.add_service(&OPERATOR, service("more"), new_key(), at(1_000)).await.unwrap(), ServiceAdded::Full);
    assert_eq!(store.add_service(&OPERATOR, service("s0"), new_key(), at(1_000)).await.unwrap(), ServiceAdded::Taken);
    assert!(store.revoke_service(&OPERATOR, service("s0"), at(1_000)).await.unwrap());
    assert_eq!(store.add_service(&OPERATOR, service("more"), new_key(), at(1_000)).await.unwrap(), ServiceAdded::Done);
}

pub async fn a_use_is_stored_where_it_is_later_or_the_stored_one_is_of_the_future(fixture: &Fixture) {
    let store = &fixture.repository;
    store.add_service(&OPERATOR, service("wiki"), new_key(), at(1_000)).await.unwrap();
    for (millis, expected) in [(5_000, 5_000), (4_000, 5_000), (9_000_000, 9_000_000), (6_000, 6_000)] {
        store.record_service_use(vec![(service("wiki"), at(millis)), (service("gone"), at(millis))]).await.unwrap();
        assert_eq!(store.list_services(&OPERATOR).await.unwrap()[0].last_used, Some(at(expected)), "{millis}");
    }
}

pub async fn a_live_token_tells_whose_it_is_as_it_is_now(fixture: &Fixture) {
    let store = &fixture.repository;
    let (user_id, digest) = register(fixture, "Ana").await;
    let held = store.find_held_token(&caller(digest)).await.unwrap();
    assert_eq!((held.session.user_id, held.created, held.expires), (user_id, at(1_000), None));
    let holder = held.holder.as_ref().clone();
    assert_eq!((holder.username.as_str(), &holder.verified_email, holder.reauthenticated), ("Ana", &None, None));
    assert_eq!((holder.rights, holder.methods), (Rights::default(), AuthenticationMethods::PASSWORD));
    // The same account, by another session; another account.
    let (_, second) = open(fixture, user_id, HASH).await;
    assert_eq!(store.find_held_token(&caller(second)).await.unwrap().holder.public_id, holder.public_id);
    let (_, other) = register(fixture, "bob").await;
    assert_ne!(store.find_held_token(&caller(other)).await.unwrap().holder.public_id, holder.public_id);
    reauthenticate(fixture, digest).await;
    let held = store.find_held_token(&caller(digest)).await.unwrap();
    assert_eq!((held.holder.reauthenticated, held.authenticated()), (Some(at(3_000)), Some(at(3_000))));
    let change = authtokens::domain::rights::AccountChange { is_staff: Some(true), ..Default::default() };
    store.change_account(&OPERATOR, &name("ana"), change, at(4_000)).await.unwrap().unwrap();
    let held = store.find_held_token(&caller(digest)).await.unwrap();
    assert_eq!(held.holder.rights, Rights { is_staff: true, is_superuser: false });
    assert_eq!(held.holder.public_id, holder.public_id);
}

pub async fn a_token_that_is_over_tells_nothing(fixture: &Fixture) {
    let store = &fixture.repository;
    let (_, digest) = register(fixture, "ana").await;
    store.find_held_token(&caller(digest)).await.unwrap();
    let cutoffs = SessionCutoffs { created_after: at(1_000), ..SessionCutoffs::EVER };
    let over = store.find_held_token(&Caller { cutoffs, ..caller(digest) }).await;
    assert!(matches!(over, Err(RepositoryError::NoSession)));
    store.revoke_own_session(&caller(digest), at(2_000)).await.unwrap();
    assert!(matches!(store.find_held_token(&caller(digest)).await, Err(RepositoryError::NoSession)));
    assert!(matches!(store.find_held_token(&caller(new_key())).await, Err(RepositoryError::NoSession)));
    assert_eq!(SecondFactor::NotGiven.methods(), AuthenticationMethods::NONE);
}
