//! Webhooks that several change at once, and events that are committed beside a cursor.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use authtokens::domain::event::EventKind;
use authtokens::domain::rights::{AccountChange, Actor};
use authtokens::domain::webhook::MAX_WEBHOOKS;
use authtokens::repository::DeliveryOutcome;

use crate::at_once::{ROUNDS, all, both, handles};
use crate::fixture::Fixture;
use crate::webhooks::{add, all as settled, claim, is_due, new_webhook};
use crate::words::{at, hash, name, register};

pub async fn of_two_who_claim_at_once_one_has_the_webhook(fixture: &Fixture) {
    let id = add(fixture, &[EventKind::Registered]).await;
    for round in 0..ROUNDS / 2 {
        register(fixture, &format!("user{round}")).await;
        let [first, second] = handles(fixture, round);
        for repository in [&first, &second] {
            assert!(is_due(repository.as_ref(), &id, 1_000, 1_000).await, "{round}");
        }
        let [one, other] = [id.clone(), id.clone()];
        let claims = both(async move { first.claim_webhook(&one, at(1_000), at(2_000)).await.unwrap() }, async move {
            second.claim_webhook(&other, at(1_000), at(2_000)).await.unwrap()
        })
        .await;
        let claimed = match claims {
            (Some(claimed), None) | (None, Some(claimed)) => claimed,
            (first, second) => panic!("{round}: {} {}", first.is_some(), second.is_some()),
        };
        let settlement = settled(&claimed, &DeliveryOutcome::Delivered, 1_000);
        assert!(fixture.repository.settle_webhook(&claimed.claim, settlement, at(1_000)).await.unwrap(), "{round}");
    }
}

pub async fn no_event_that_is_committed_beside_others_is_missed(fixture: &Fixture) {
    const WRITERS: usize = 6;
    const EACH: usize = 12;
    // Numbers are given in one order and may be committed in another.
    for number in 0..WRITERS {
        register(fixture, &format!("user{number}")).await;
    }
    let id = add(fixture, &[EventKind::PasswordSet]).await;
    for round in 0..ROUNDS / 20 {
        let handles = handles(fixture, 1);
        let reader = Arc::clone(&fixture.repository);
        let finished = Arc::new(AtomicUsize::new(0));
        let mut contenders: Vec<Pin<Box<dyn Future<Output = BTreeSet<i64>> + Send>>> = Vec::new();
        for writer in 0..WRITERS {
            let (repository, finished) = (Arc::clone(&handles[writer % 2]), Arc::clone(&finished));
            contenders.push(Box::pin(async move {
                for _ in 0..EACH {
                    let set = AccountChange { password_hash: Some(hash("$new")), ..AccountChange::default() };
                    let username = name(&format!("user{writer}"));
                    repository.change_account(&Actor::CommandLine, &username, set, at(3_000)).await.unwrap().unwrap();
                }
                finished.fetch_add(1, Ordering::SeqCst);
                BTreeSet::new()
            }));
        }
        let id = id.clone();
        contenders.push(Box::pin(async move {
            let (mut sent, mut looks) = (BTreeSet::new(), 0);
            loop {
                let is_last = finished.load(Ordering::SeqCst) == WRITERS;
                while is_due(reader.as_ref(), &id, 3_000, 2).await
                    && let Some(claimed) = reader.claim_webhook(&id, at(3_000), at(4_000)).await.unwrap()
                {
                    for delivery in &claimed.deliveries {
                        assert!(sent.insert(delivery.event), "it is sent once where nothing fails");
                    }
                    let settlement = settled(&claimed, &DeliveryOutcome::Delivered, 3_000);
                    assert!(reader.settle_webhook(&claimed.claim, settlement, at(3_000)).await.unwrap());
                }
                if is_last && sent.len() >= WRITERS * EACH {
                    return sent;
                }
                assert!(!is_last || looks < 200, "{sent:?}");
                looks += usize::from(is_last);
            }
        }));
        assert_eq!(all(contenders).await.pop().unwrap().len(), WRITERS * EACH, "{round}");
    }
}

pub async fn a_webhook_that_is_removed_beside_its_settlement_is_gone(fixture: &Fixture) {
    for round in 0..ROUNDS / 4 {
        let id = add(fixture, &[EventKind::Registered]).await;
        register(fixture, &format!("user{round}")).await;
        let claimed = claim(fixture.repository.as_ref(), &id, 1_000, 2_000).await.unwrap();
        let failed = DeliveryOutcome::Failed { answer: "500".to_owned(), retry: Some(at(9_000)) };
        let settlement = settled(&claimed, &failed, 1_000);
        let [first, second] = handles(fixture, round);
        let (_, is_removed) = both(
            async move { first.settle_webhook(&claimed.claim, settlement, at(1_000)).await.unwrap() },
            async move { second.remove_webhook(&Actor::CommandLine, &id, at(1_000)).await.unwrap() },
        )
        .await;
        assert!(is_removed, "{round}");
        assert!(fixture.repository.list_webhooks(&Actor::CommandLine).await.unwrap().is_empty(), "{round}");
    }
}

pub async fn of_many_who_add_webhooks_at_once_as_many_as_may_be_are_added(fixture: &Fixture) {
    let handles = handles(fixture, 1);
    let adding = (0..MAX_WEBHOOKS as usize + 4).map(|number| {
        let repository = Arc::clone(&handles[number % 2]);
        async move { repository.add_webhook(&Actor::CommandLine, new_webhook(&[]), at(1_000)).await.unwrap() }
    });
    let added = all(adding.collect()).await.into_iter().filter(|is_added| *is_added).count();
    assert_eq!(added, MAX_WEBHOOKS as usize);
}
