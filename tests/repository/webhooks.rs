//! Who is sent events: what is due, who has it, and what becomes of it.

use std::time::Duration;

use authtokens::domain::event::EventKind;
use authtokens::domain::rights::{AccountChange, Actor};
use authtokens::domain::webhook::{
    AT_ONCE, DisabledBy, MAX_GIVEN_UP, MAX_WAITING, MAX_WEBHOOKS, WebhookId, WebhookKinds,
};
use authtokens::repository::{
    ClaimedWebhook, DeliveryOutcome, Enabled, NewWebhook, Replay, Repository, RepositoryError, Settlement,
    StoredWebhook,
};

use crate::fixture::Fixture;
use crate::ways::{KEY_ID, sealed, sealed_with};
use crate::words::{at, create, events, name, refused, register, register_verified, take};

const OPERATOR: Actor = Actor::CommandLine;

pub fn new_webhook(kinds: &[EventKind]) -> NewWebhook {
    NewWebhook {
        id: WebhookId::generate(),
        url: "https://diamond.example/".to_owned(),
        kinds: WebhookKinds::new(kinds.to_vec()),
        allow_private: false,
        secret: sealed("secret"),
    }
}

pub async fn add(fixture: &Fixture, kinds: &[EventKind]) -> WebhookId {
    let webhook = new_webhook(kinds);
    let id = webhook.id.clone();
    assert!(fixture.repository.add_webhook(&OPERATOR, webhook, at(1_000)).await.unwrap());
    id
}

/// How often a store is looked at before nothing is due in it. One look is enough for a store whose numbers are committed in
/// their order; others wait for what is under way, also in other tests.
const LOOKS: u32 = 40;

/// Waits until a webhook is due; `false` where it is not.
pub async fn is_due(repository: &dyn Repository, id: &WebhookId, now: i64, looks: u32) -> bool {
    for look in 0..looks {
        if repository.list_due_webhooks(at(now)).await.unwrap().contains(id) {
            return true;
        }
        if look > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    false
}

/// Claims a webhook once it is due; `None` where it is not.
pub async fn claim(repository: &dyn Repository, id: &WebhookId, now: i64, until: i64) -> Option<ClaimedWebhook> {
    while is_due(repository, id, now, LOOKS).await {
        if let Some(claimed) = repository.claim_webhook(id, at(now), at(until)).await.unwrap() {
            return Some(claimed);
        }
    }
    None
}

pub fn all(claimed: &ClaimedWebhook, outcome: &DeliveryOutcome, next: i64) -> Settlement {
    Settlement {
        outcomes: claimed.deliveries.iter().map(|delivery| (delivery.clone(), outcome.clone())).collect(),
        cursor: claimed.cursor,
        next: at(next),
        is_back: false,
        disable: None,
    }
}

fn failed(retry: Option<i64>) -> DeliveryOutcome {
    DeliveryOutcome::Failed { answer: "500".to_owned(), retry: retry.map(at) }
}

async fn settle(fixture: &Fixture, claimed: &ClaimedWebhook, outcome: &DeliveryOutcome, now: i64) -> bool {
    fixture.repository.settle_webhook(&claimed.claim, all(claimed, outcome, now), at(now)).await.unwrap()
}

/// The names that a claimed webhook is sent events of.
fn names(claimed: &ClaimedWebhook) -> Vec<String> {
    let name = |body: &str| body.split("\"username\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    claimed.deliveries.iter().map(|delivery| name(&delivery.message.body)).collect()
}

async fn find(fixture: &Fixture, id: &WebhookId) -> StoredWebhook {
    fixture.repository.list_webhooks(&OPERATOR).await.unwrap().into_iter().find(|webhook| webhook.id == *id).unwrap()
}

async fn register_some(fixture: &Fixture, count: usize) {
    for number in 0..count {
        register(fixture, &format!("user{number}")).await;
    }
}

pub async fn a_webhook_is_sent_what_happens_from_then_on_in_the_order_of_the_numbers(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    assert!(repository.list_due_webhooks(at(1_000)).await.unwrap().is_empty());
    register(fixture, "before").await;
    let id = add(fixture, &[]).await;
    assert!(claim(repository, &id, 1_000, 2_000).await.is_none(), "nothing has happened since");
    register_some(fixture, 3).await;
    assert_eq!(find(fixture, &id).await.behind, 3);
    let claimed = claim(repository, &id, 1_000, 2_000).await.unwrap();
    assert_eq!(names(&claimed), ["user0", "user1", "user2"]);
    assert!(claimed.deliveries.is_sorted_by_key(|delivery| delivery.event));
    assert_eq!(
        (claimed.target.url.as_str(), &claimed.target.secrets),
        ("https://diamond.example/", &vec![sealed("secret")])
    );
    assert!(settle(fixture, &claimed, &DeliveryOutcome::Delivered, 1_000).await);
    assert!(claim(repository, &id, 1_000, 2_000).await.is_none());
    let stored = find(fixture, &id).await;
    assert_eq!((stored.behind, stored.waiting, stored.last_success), (0, 0, Some(at(1_000))));
}

pub async fn a_claim_is_nobody_elses_until_it_ends_and_then_it_is_worth_nothing(fixture: &Fixture) {
    let id = add(fixture, &[]).await;
    register_some(fixture, 2).await;
    let first = claim(fixture.repository.as_ref(), &id, 1_000, 5_000).await.unwrap();
    for now in [1_000, 4_999] {
        assert!(claim(fixture.second.as_ref(), &id, now, 9_000).await.is_none());
    }
    let second = claim(fixture.second.as_ref(), &id, 5_000, 9_000).await.unwrap();
    assert_eq!(first.deliveries, second.deliveries, "the same messages with the same ids");
    assert!(!settle(fixture, &first, &DeliveryOutcome::Delivered, 5_000).await, "that claim is over");
    assert_eq!(find(fixture, &id).await.behind, 3);
    assert!(settle(fixture, &second, &DeliveryOutcome::Delivered, 5_000).await);
    assert!(!settle(fixture, &second, &failed(None), 5_000).await, "it is settled once");
    assert_eq!(find(fixture, &id).await.given_up, 0);
}

pub async fn what_has_failed_is_due_again_at_its_time_and_gone_once_it_is_delivered(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let id = add(fixture, &[EventKind::Registered]).await;
    register(fixture, "AzureDiamond").await;
    let first = claim(repository, &id, 1_000, 2_000).await.unwrap();
    assert!(settle(fixture, &first, &failed(Some(6_000)), 1_000).await);
    assert!(claim(repository, &id, 5_999, 7_000).await.is_none());
    let listed = repository.list_failed_deliveries(&OPERATOR, &id, 10).await.unwrap().unwrap();
    assert_eq!((listed.len(), listed[0].attempts, &*listed[0].answer), (1, 1, "500"));
    assert_eq!((listed[0].tried, listed[0].due), (Some(at(1_000)), Some(at(6_000))));
    let second = claim(repository, &id, 6_000, 7_000).await.unwrap();
    assert_eq!(second.deliveries[0].message, first.deliveries[0].message);
    assert_eq!((second.deliveries[0].attempts, second.failing_since, second.failures), (1, Some(at(1_000)), 1));
    assert!(settle(fixture, &second, &DeliveryOutcome::Delivered, 6_000).await);
    let stored = find(fixture, &id).await;
    assert_eq!((stored.waiting, stored.failing_since, stored.last_success), (0, None, Some(at(6_000))));
    let replayed = repository.replay_webhook(&OPERATOR, &id, Replay::Event(first.deliveries[0].event), at(6_000)).await;
    assert_eq!(replayed.unwrap().unwrap().count, 1);
    let again = claim(repository, &id, 6_000, 7_000).await.unwrap();
    assert_eq!((&again.deliveries[0].message, again.deliveries[0].attempts), (&first.deliveries[0].message, 0));
}

pub async fn a_webhook_that_fails_is_tried_one_at_a_time_and_its_first_failure_is_known(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let id = add(fixture, &[EventKind::Registered]).await;
    register_some(fixture, AT_ONCE as usize + 4).await;
    let first = claim(repository, &id, 1_000, 2_000).await.unwrap();
    assert_eq!(first.deliveries.len(), AT_ONCE as usize);
    assert!(settle(fixture, &first, &failed(Some(900_000)), 1_000).await);
    for round in 1..=2 {
        let claimed = claim(repository, &id, 2_000 * round, 2_000 * round + 1).await.unwrap();
        assert_eq!((claimed.deliveries.len(), claimed.failures), (1, u32::try_from(round).unwrap()));
        assert_eq!(claimed.failing_since, Some(at(1_000)));
        assert!(settle(fixture, &claimed, &failed(Some(900_000)), 2_000 * round).await);
    }
    let claimed = claim(repository, &id, 9_000, 9_001).await.unwrap();
    let mut settlement = all(&claimed, &DeliveryOutcome::Delivered, 9_000);
    settlement.is_back = true;
    assert!(repository.settle_webhook(&claimed.claim, settlement, at(9_000)).await.unwrap());
    let claimed = claim(repository, &id, 9_000, 9_001).await.unwrap();
    assert!(claimed.deliveries.len() > 1, "what waits is due at once");
    // While it is to be left alone, nobody has it.
    assert!(
        repository
            .settle_webhook(&claimed.claim, all(&claimed, &failed(Some(9_001)), 20_000), at(9_000))
            .await
            .unwrap()
    );
    assert!(claim(repository, &id, 19_999, 30_000).await.is_none());
    assert!(claim(repository, &id, 20_000, 30_000).await.is_some());
}

pub async fn only_the_kinds_that_are_wanted_are_sent_and_none_of_webhooks(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let [all, one] = [add(fixture, &[]).await, add(fixture, &[EventKind::LoginFailed]).await];
    register(fixture, "AzureDiamond").await;
    let attempts =
        vec![refused(EventKind::LoginFailed, "AzureDiamond", 2_000), refused(EventKind::LoginFailed, "nobody", 2_000)];
    repository.record_failed_attempts(attempts, at(2_000)).await.unwrap();
    assert_eq!(names(&claim(repository, &all, 2_000, 3_000).await.unwrap()), ["AzureDiamond", "AzureDiamond", ""]);
    let claimed = claim(repository, &one, 2_000, 3_000).await.unwrap();
    assert_eq!(names(&claimed), ["AzureDiamond", ""]);
    assert!(settle(fixture, &claimed, &DeliveryOutcome::Delivered, 2_000).await);
    register(fixture, "bob").await;
    assert!(claim(repository, &one, 2_000, 3_000).await.is_none());
    assert_eq!(find(fixture, &one).await.behind, 0, "what it does not want is passed");
}

pub async fn no_more_deliveries_wait_than_may_and_given_up_ones_are_remembered(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let id = add(fixture, &[EventKind::LoginFailed]).await;
    register(fixture, "AzureDiamond").await;
    let attempts = (0..MAX_WAITING + 5).map(|_| refused(EventKind::LoginFailed, "AzureDiamond", 2_000)).collect();
    repository.record_failed_attempts(attempts, at(2_000)).await.unwrap();
    let mut waiting = 0;
    while let Some(claimed) = claim(repository, &id, 2_000, 3_000).await {
        // A success each time, so that rounds stay long.
        let mut settlement = all(&claimed, &failed(Some(900_000)), 2_000);
        if waiting + claimed.deliveries.len() < MAX_WAITING as usize && claimed.deliveries.len() > 1 {
            settlement.outcomes[0].1 = DeliveryOutcome::Delivered;
        }
        waiting += settlement.outcomes.iter().filter(|(_, outcome)| *outcome != DeliveryOutcome::Delivered).count();
        assert!(waiting <= MAX_WAITING as usize);
        assert!(repository.settle_webhook(&claimed.claim, settlement, at(2_000)).await.unwrap());
    }
    let attempts = (0..100).map(|_| refused(EventKind::LoginFailed, "AzureDiamond", 2_000)).collect();
    repository.record_failed_attempts(attempts, at(2_000)).await.unwrap();
    while let Some(claimed) = claim(repository, &id, 2_000, 3_000).await {
        assert!(settle(fixture, &claimed, &failed(Some(900_000)), 2_000).await);
    }
    let stored = find(fixture, &id).await;
    assert_eq!(stored.waiting, u64::from(MAX_WAITING));
    assert!(stored.behind > 0);
    assert_eq!(
        repository.replay_webhook(&OPERATOR, &id, Replay::Since(at(0)), at(2_000)).await.unwrap().unwrap().count,
        0
    );
    // One that is given up leaves room, and the newest of them are remembered.
    let given_up = u64::from(MAX_GIVEN_UP) + 10;
    let mut given = 0;
    while given < given_up {
        let claimed = claim(repository, &id, 900_000, 900_001).await.unwrap();
        assert!(claimed.is_full || given > 0);
        given += claimed.deliveries.len() as u64;
        assert!(settle(fixture, &claimed, &failed(None), 900_000).await);
    }
    let stored = find(fixture, &id).await;
    assert_eq!(stored.given_up, u64::from(MAX_GIVEN_UP));
    assert!(stored.waiting < u64::from(MAX_WAITING));
}

pub async fn a_disabled_webhook_is_claimed_by_nobody_and_goes_on_where_it_stopped(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    register_verified(fixture, "Admin", "admin@diamond.example").await;
    let superuser = AccountChange { is_superuser: Some(true), ..AccountChange::default() };
    repository.change_account(&OPERATOR, &name("Admin"), superuser, at(1_000)).await.unwrap().unwrap();
    // One has no verified address, the other no rights.
    create(fixture, "Root", false, true).await;
    register_verified(fixture, "bob", "bob@diamond.example").await;
    take(fixture, 1_000).await;
    let id = add(fixture, &[EventKind::Registered]).await;
    register(fixture, "first").await;
    let claimed = claim(repository, &id, 1_000, 2_000).await.unwrap();
    assert!(repository.disable_webhook(&OPERATOR, &id, at(1_000)).await.unwrap());
    assert!(!repository.disable_webhook(&OPERATOR, &id, at(1_000)).await.unwrap());
    assert_eq!(find(fixture, &id).await.disabled, Some((at(1_000), DisabledBy::Operator)));
    // What is under way is stored all the same, and changes nothing of that.
    assert!(settle(fixture, &claimed, &failed(Some(5_000)), 1_000).await);
    let witness = add(fixture, &[EventKind::Registered]).await;
    register(fixture, "second").await;
    assert!(is_due(repository, &witness, 9_000, 1_000).await, "it is known by now");
    assert!(claim(repository, &id, 9_000, 10_000).await.is_none());
    assert_eq!(repository.enable_webhook(&OPERATOR, &id, at(2_000)).await.unwrap(), Enabled::Done);
    assert_eq!(find(fixture, &id).await.disabled, None);
    let claimed = claim(repository, &id, 2_000, 3_000).await.unwrap();
    assert_eq!(names(&claimed), ["first", "second"], "what waits is due at once");
    let mut settlement = all(&claimed, &failed(Some(5_000)), 2_000);
    settlement.disable = Some(DisabledBy::Receiver);
    assert!(repository.settle_webhook(&claimed.claim, settlement, at(2_500)).await.unwrap());
    assert_eq!(find(fixture, &id).await.disabled, Some((at(2_500), DisabledBy::Receiver)));
    let told = events(fixture).await;
    let told: Vec<_> =
        told.iter().filter(|event| event.starts_with("webhook_") && event.ends_with(id.as_str())).collect();
    let by = |kind: &str, by: &str| format!("webhook_{kind}  {by} {id}");
    let by_operator = |kind| by(kind, "command line");
    assert_eq!(told, [&by_operator("added"), &by_operator("disabled"), &by_operator("enabled"), &by("disabled", "")]);
    assert_eq!(take(fixture, 3_000).await, ["webhook_disabled admin@diamond.example"]);
    let unknown = WebhookId::generate();
    assert_eq!(repository.enable_webhook(&OPERATOR, &unknown, at(1_000)).await.unwrap(), Enabled::NoWebhook);
    assert!(!repository.remove_webhook(&OPERATOR, &unknown, at(1_000)).await.unwrap());
    assert!(repository.replay_webhook(&OPERATOR, &unknown, Replay::Event(1), at(1_000)).await.unwrap().is_none());
    assert!(repository.list_failed_deliveries(&OPERATOR, &unknown, 1).await.unwrap().is_none());
    assert!(repository.remove_webhook(&OPERATOR, &id, at(1_000)).await.unwrap());
    assert_eq!(repository.list_webhooks(&OPERATOR).await.unwrap().len(), 1);
}

pub async fn a_former_secret_is_given_until_its_end(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let id = add(fixture, &[]).await;
    assert!(repository.rotate_webhook(&OPERATOR, &id, sealed("new"), at(5_000), at(1_000)).await.unwrap());
    let secrets = async |now| repository.find_webhook_target(&OPERATOR, &id, at(now)).await.unwrap().unwrap().secrets;
    assert_eq!(secrets(4_999).await, [sealed("new"), sealed("secret")]);
    assert_eq!(secrets(5_000).await, [sealed("new")]);
    assert_eq!(find(fixture, &id).await.rotated_until, Some(at(5_000)));
    register(fixture, "AzureDiamond").await;
    let claimed = claim(repository, &id, 5_000, 6_000).await.unwrap();
    assert_eq!(claimed.target.secrets, [sealed("new")]);
    assert!(settle(fixture, &claimed, &DeliveryOutcome::Delivered, 5_000).await);
    assert_eq!(find(fixture, &id).await.rotated_until, None, "it is forgotten");
    assert!(!repository.rotate_webhook(&OPERATOR, &WebhookId::generate(), sealed("x"), at(2), at(1)).await.unwrap());
}

pub async fn events_that_are_pruned_before_they_are_sent_are_counted_as_lost(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let [all, one] = [add(fixture, &[]).await, add(fixture, &[EventKind::Deleted]).await];
    register_some(fixture, 3).await;
    let claimed = claim(repository, &all, 1_000, 2_000).await.unwrap();
    assert!(settle(fixture, &claimed, &DeliveryOutcome::Delivered, 1_000).await);
    for username in ["ana", "bob"] {
        register(fixture, username).await;
    }
    while repository.prune_events(at(900_000), 1_000, at(900_000)).await.unwrap() > 0 {}
    assert_eq!((find(fixture, &all).await.lost, find(fixture, &one).await.lost), (2, 0));
    assert_eq!(find(fixture, &all).await.behind, 0);
    register(fixture, "cleo").await;
    assert_eq!(names(&claim(repository, &all, 1_000, 2_000).await.unwrap()), ["cleo"]);
}

pub async fn secrets_of_webhooks_are_counted_and_forgotten_with_their_key(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let [kept, lost] = [add(fixture, &[]).await, add(fixture, &[]).await];
    let other = sealed_with(b"key-id-9", "other");
    for id in [&kept, &lost] {
        assert!(repository.rotate_webhook(&OPERATOR, id, other.clone(), at(9_000), at(1_000)).await.unwrap());
    }
    assert!(repository.rotate_webhook(&OPERATOR, &kept, sealed("third"), at(9_000), at(1_000)).await.unwrap());
    let count = async || {
        let (own, others) = repository.count_sealed(KEY_ID.to_vec()).await.unwrap();
        (own.webhooks, others.webhooks)
    };
    assert_eq!(count().await, (2, 2));
    assert_eq!(repository.forget_sealed(KEY_ID.to_vec(), at(2_000)).await.unwrap().webhooks, 2);
    assert_eq!(count().await, (1, 0));
    assert_eq!(find(fixture, &kept).await.disabled, None);
    assert_eq!(find(fixture, &lost).await.disabled, Some((at(2_000), DisabledBy::LostKey)));
    assert_eq!(repository.enable_webhook(&OPERATOR, &lost, at(3_000)).await.unwrap(), Enabled::NoSecret);
    assert!(repository.rotate_webhook(&OPERATOR, &lost, sealed("fourth"), at(9_000), at(3_000)).await.unwrap());
    assert_eq!(repository.enable_webhook(&OPERATOR, &lost, at(3_000)).await.unwrap(), Enabled::Done);
    let target = repository.find_webhook_target(&OPERATOR, &lost, at(3_000)).await.unwrap().unwrap();
    assert_eq!(target.secrets, [sealed("fourth")]);
}

pub async fn webhooks_are_for_superusers_and_the_operator_and_no_more_than_there_may_be(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let staff = create(fixture, "staff", true, false).await;
    let superuser = create(fixture, "root", false, true).await;
    let id = add(fixture, &[]).await;
    for refusal in [
        repository.add_webhook(&staff, new_webhook(&[]), at(1_000)).await.map(drop),
        repository.list_webhooks(&staff).await.map(drop),
        repository.find_webhook_target(&staff, &id, at(1_000)).await.map(drop),
        repository.rotate_webhook(&staff, &id, sealed("x"), at(1), at(1)).await.map(drop),
        repository.disable_webhook(&staff, &id, at(1_000)).await.map(drop),
        repository.enable_webhook(&staff, &id, at(1_000)).await.map(drop),
        repository.replay_webhook(&staff, &id, Replay::Event(1), at(1_000)).await.map(drop),
        repository.list_failed_deliveries(&staff, &id, 1).await.map(drop),
        repository.remove_webhook(&staff, &id, at(1_000)).await.map(drop),
    ] {
        assert!(matches!(refusal, Err(RepositoryError::Forbidden)), "{refusal:?}");
    }
    for _ in 1..MAX_WEBHOOKS {
        assert!(repository.add_webhook(&superuser, new_webhook(&[]), at(1_000)).await.unwrap());
    }
    assert!(!repository.add_webhook(&superuser, new_webhook(&[]), at(1_000)).await.unwrap());
    assert_eq!(repository.list_webhooks(&superuser).await.unwrap().len(), MAX_WEBHOOKS as usize);
}

pub async fn what_was_written_while_the_clock_was_ahead_waits_for_nobody(fixture: &Fixture) {
    const YEAR: i64 = 365 * 24 * 60 * 60_000;
    let repository = fixture.repository.as_ref();
    let id = add(fixture, &[EventKind::Registered]).await;
    register(fixture, "AzureDiamond").await;
    let claimed = claim(repository, &id, YEAR, YEAR + 1_000).await.unwrap();
    assert!(settle(fixture, &claimed, &failed(Some(YEAR + 5_000)), YEAR).await);
    assert_eq!(claim(repository, &id, 1_000, 2_000).await.unwrap().deliveries.len(), 1);
}
