//! Services that are added, revoked and used by several at once.

use std::sync::Arc;

use authtokens::domain::rights::Actor;
use authtokens::repository::ServiceAdded;

use crate::at_once::{ROUNDS, all, handles};
use crate::fixture::Fixture;
use crate::services::{new_key, service};
use crate::words::at;

const OPERATOR: Actor = Actor::CommandLine;

pub async fn of_many_who_add_one_name_at_once_one_gets_it(fixture: &Fixture) {
    for round in 0..ROUNDS / 8 {
        let handles = handles(fixture, round);
        let contenders = (0..8).map(|number| {
            let (repository, name, key) = (Arc::clone(&handles[number % 2]), service(&format!("s{round}")), new_key());
            async move {
                let added = repository.add_service(&OPERATOR, name.clone(), key, at(1_000)).await.unwrap();
                // Whoever has it finds it with its own key, and nobody else does.
                assert_eq!(repository.has_service(&name, &key).await.unwrap(), added == ServiceAdded::Done);
                added
            }
        });
        let added = all(contenders.collect()).await;
        assert_eq!(added.iter().filter(|added| **added == ServiceAdded::Done).count(), 1, "{round}: {added:?}");
    }
}

pub async fn once_its_revocation_is_acknowledged_a_service_that_is_in_use_is_known_nowhere(fixture: &Fixture) {
    for round in 0..ROUNDS / 8 {
        let handles = handles(fixture, round);
        let (name, key) = (service(&format!("s{round}")), new_key());
        assert_eq!(handles[0].add_service(&OPERATOR, name.clone(), key, at(1_000)).await.unwrap(), ServiceAdded::Done);
        let (other, used) = (Arc::clone(&handles[1]), name.clone());
        let use_it = tokio::spawn(async move {
            while other.has_service(&used, &key).await.unwrap() {
                other.record_service_use(vec![(used.clone(), at(2_000))]).await.unwrap();
            }
        });
        for handle in &handles {
            assert!(handle.has_service(&name, &key).await.unwrap());
        }
        assert!(handles[0].revoke_service(&OPERATOR, name.clone(), at(3_000)).await.unwrap());
        for handle in &handles {
            assert!(!handle.has_service(&name, &key).await.unwrap(), "{round}");
        }
        use_it.await.unwrap();
        assert!(handles[0].list_services(&OPERATOR).await.unwrap().is_empty(), "a use brings nothing back");
    }
}
