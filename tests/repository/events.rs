//! Security events, and the failed attempts that are counted at an account.

use std::net::IpAddr;

use authtokens::domain::event::{Event, EventCursor, EventKind, EventQuery};
use authtokens::domain::one_time::Purpose;
use authtokens::domain::rights::{AccountChange, Actor};
use authtokens::domain::session::Caller;
use authtokens::repository::RepositoryError;

use crate::fixture::Fixture;
use crate::ways::set_up_totp;
use crate::words::{
    HASH, at, by_password, caller, create, events, hash, mailed, name, open, reauthenticate, refused, register,
    register_at, register_verified,
};

pub async fn a_change_is_told_in_events_once_and_an_event_outlives_its_account(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let root = create(fixture, "Root", false, true).await;
    register(fixture, "AzureDiamond").await;
    let change = AccountChange {
        is_active: Some(false),
        is_staff: Some(true),
        is_superuser: Some(false),
        password_hash: Some(hash("$newer")),
    };
    repository.change_account(&root, &name("azurediamond"), change, at(3_000)).await.unwrap().unwrap();
    assert!(repository.delete_account(&root, &name("azurediamond"), at(4_000)).await.unwrap());
    assert!(!repository.delete_account(&root, &name("azurediamond"), at(5_000)).await.unwrap());
    let told = events(fixture).await;
    let sessions_aside: Vec<_> = told.iter().filter(|event| !event.contains("logged_in")).collect();
    assert_eq!(sessions_aside[..2], ["created Root command line ", "promoted Root command line superuser"]);
    assert!(sessions_aside[2].starts_with("registered AzureDiamond AzureDiamond "));
    assert_eq!(
        sessions_aside[3..],
        [
            "promoted AzureDiamond Root staff",
            "deactivated AzureDiamond Root ",
            "password_set AzureDiamond Root ",
            "deleted AzureDiamond Root ",
        ]
    );
}

pub async fn a_refused_attempt_is_kept_without_a_name_that_is_nobodys(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let (user_id, _) = register(fixture, "AzureDiamond").await;
    let attempts = vec![
        refused(EventKind::LoginFailed, "azureDIAMOND", 1_500),
        refused(EventKind::LoginFailed, "MyPassword", 1_501),
        refused(EventKind::ReauthenticationFailed, "AzureDiamond", 1_502),
        refused(EventKind::Throttled, "AzureDiamond", 1_503),
        refused(EventKind::Throttled, "MyPassword", 1_504),
    ];
    repository.record_failed_attempts(attempts, at(9_999)).await.unwrap();
    assert_eq!(
        events(fixture).await[1..],
        [
            "login_failed AzureDiamond  ",
            "login_failed   ",
            "reauthentication_failed AzureDiamond AzureDiamond ",
            "throttled AzureDiamond  ",
            "throttled   ",
        ]
    );
    let failures = async || {
        let stored = fixture.repository.list_failures(10).await.unwrap();
        stored.iter().map(|stored| (stored.username.as_str().to_owned(), stored.count, stored.last)).collect::<Vec<_>>()
    };
    assert_eq!(failures().await, [("AzureDiamond".to_owned(), 1, at(1_500))]);
    // A success resets them, and a failure before it does not count.
    open(fixture, user_id, HASH).await.0.unwrap();
    repository
        .record_failed_attempts(vec![refused(EventKind::LoginFailed, "AzureDiamond", 1_999)], at(9_999))
        .await
        .unwrap();
    assert_eq!(failures().await, []);
    repository
        .record_failed_attempts(vec![refused(EventKind::LoginFailed, "AzureDiamond", 2_001); 3], at(9_999))
        .await
        .unwrap();
    register(fixture, "other").await;
    repository
        .record_failed_attempts(vec![refused(EventKind::LoginFailed, "other", 2_002); 4], at(9_999))
        .await
        .unwrap();
    assert_eq!(failures().await, [("other".to_owned(), 4, at(2_002)), ("AzureDiamond".to_owned(), 3, at(2_001))]);
    assert_eq!(repository.list_failures(1).await.unwrap().len(), 1, "those with the most");
}

pub async fn the_failures_that_were_counted_come_with_the_credentials(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let (user_id, digest) = register(fixture, "AzureDiamond").await;
    register(fixture, "other").await;
    let counted = async |username: &str| {
        let found = fixture.second.find_credentials(&name(username)).await.unwrap().unwrap();
        found.failures.map(|failures| (failures.count, failures.last))
    };
    assert_eq!(counted("azureDIAMOND").await, None);
    for times in [&[2_000, 2_001][..], &[2_005]] {
        let attempts = times.iter().map(|millis| refused(EventKind::LoginFailed, "AzureDiamond", *millis)).collect();
        repository.record_failed_attempts(attempts, at(9_999)).await.unwrap();
    }
    assert_eq!(counted("azureDIAMOND").await, Some((3, at(2_005))));
    assert_eq!(counted("other").await, None);
    let own = repository.find_own_credentials(&caller(digest)).await.unwrap();
    assert_eq!(own.failures.map(|failures| failures.count), Some(3));
    open(fixture, user_id, HASH).await.0.unwrap();
    assert_eq!(counted("azureDIAMOND").await, None);
}

pub async fn a_reauthentication_resets_the_failures_of_its_account(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let failed = vec![refused(EventKind::LoginFailed, "AzureDiamond", 2_000)];
    repository.record_failed_attempts(failed, at(2_500)).await.unwrap();
    assert_eq!(repository.list_failures(10).await.unwrap().len(), 1);
    reauthenticate(fixture, digest).await;
    assert!(repository.list_failures(10).await.unwrap().is_empty());
}

pub async fn a_password_that_was_set_is_found_behind_the_event_that_one_knew(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    register(fixture, "AzureDiamond").await;
    register(fixture, "other").await;
    repository
        .record_failed_attempts(vec![refused(EventKind::LoginFailed, "AzureDiamond", 2_000)], at(9_999))
        .await
        .unwrap();
    let start = repository.list_resets(None).await.unwrap();
    assert_eq!(start.usernames, []);
    let reset = AccountChange { password_hash: Some(hash("$newer")), ..AccountChange::default() };
    repository.change_account(&Actor::CommandLine, &name("AZUREdiamond"), reset, at(3_000)).await.unwrap().unwrap();
    assert!(repository.list_failures(10).await.unwrap().is_empty());
    let found = repository.list_resets(Some(start.next)).await.unwrap();
    assert_eq!(found.usernames, [name("AzureDiamond")]);
    assert_eq!(repository.list_resets(Some(found.next)).await.unwrap().usernames, []);
}

pub async fn a_failure_that_a_new_password_has_followed_by_now_is_not_counted(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let (_, digest) = register(fixture, "AzureDiamond").await;
    register(fixture, "other").await;
    let reset = AccountChange { password_hash: Some(hash("$newer")), ..AccountChange::default() };
    let failures = async |times: &[i64]| {
        for name in ["AzureDiamond", "other"] {
            let attempts = times.iter().map(|millis| refused(EventKind::LoginFailed, name, *millis)).collect();
            repository.record_failed_attempts(attempts, at(9_999)).await.unwrap();
        }
        let stored = repository.list_failures(10).await.unwrap();
        stored.iter().map(|stored| (stored.username.as_str().to_owned(), stored.count)).collect::<Vec<_>>()
    };
    assert!(repository.change_password(&caller(digest), by_password(HASH), hash("$new"), at(3_000)).await.unwrap());
    assert_eq!(failures(&[2_001, 2_002]).await, [("other".to_owned(), 2)], "its owner's");
    repository.change_account(&Actor::CommandLine, &name("azurediamond"), reset, at(9_000)).await.unwrap().unwrap();
    assert_eq!(failures(&[8_001, 8_999]).await, [("other".to_owned(), 4)], "an operator's");
    let after = failures(&[8_500, 9_001, 9_002]).await;
    assert_eq!(after, [("other".to_owned(), 7), ("AzureDiamond".to_owned(), 2)], "what comes after it counts");
}

pub async fn a_wrong_code_counts_though_its_owner_has_a_new_password_by_now_where_the_app_stays(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    for (number, is_changed) in [true, false].into_iter().enumerate() {
        let (username, address) = (format!("user{number}"), format!("user{number}@diamond.example"));
        let (user_id, session) = register_verified(fixture, &username, &address).await;
        set_up_totp(fixture, session).await;
        let set = if is_changed {
            repository.change_password(&caller(session), by_password(HASH), hash("$new"), at(5_000)).await.unwrap()
        } else {
            let mailed = mailed(fixture, Purpose::ResetPassword, user_id, &address).await;
            repository.reset_password(mailed.by_code(), hash("$new"), None, at(5_000)).await.unwrap().is_some()
        };
        assert!(set);
        let guesses = vec![refused(EventKind::SecondFactorFailed, &username, 4_000); 3];
        repository.record_failed_attempts(guesses, at(6_000)).await.unwrap();
        let counted = repository.find_credentials(&name(&username)).await.unwrap().unwrap().failures;
        assert_eq!(counted.map(|failures| failures.count), Some(3), "{is_changed}");
        let reset = AccountChange { password_hash: Some(hash("$newer")), ..AccountChange::default() };
        repository.change_account(&Actor::CommandLine, &name(&username), reset, at(9_000)).await.unwrap().unwrap();
        let late = vec![refused(EventKind::SecondFactorFailed, &username, 8_000)];
        repository.record_failed_attempts(late, at(9_999)).await.unwrap();
        let counted = repository.find_credentials(&name(&username)).await.unwrap().unwrap().failures;
        assert!(counted.is_none(), "an operator's clears them");
    }
}

pub async fn a_failure_counts_though_the_clock_was_ahead_at_the_login_and_the_new_password_before_it(
    fixture: &Fixture,
) {
    let repository = fixture.repository.as_ref();
    let (_, digest) = register(fixture, "AzureDiamond").await;
    assert!(repository.change_password(&caller(digest), by_password(HASH), hash("$new"), at(900_000)).await.unwrap());
    register_at(fixture, "other", at(900_000)).await;
    for (number, name) in [(1, "AzureDiamond"), (2, "other")] {
        let attempts = vec![refused(EventKind::LoginFailed, name, 5_000); number];
        repository.record_failed_attempts(attempts, at(5_000)).await.unwrap();
    }
    let stored = repository.list_failures(10).await.unwrap();
    let counts: Vec<_> = stored.iter().map(|stored| (stored.username.as_str(), stored.count)).collect();
    assert_eq!(counts, [("other", 2), ("AzureDiamond", 1)]);
}

pub async fn where_an_account_has_logged_in_from_is_known(fixture: &Fixture) {
    register(fixture, "AzureDiamond").await;
    let ip: IpAddr = "2001:db8::1".parse().unwrap();
    assert_eq!(fixture.repository.list_familiar_addresses(&name("azurediamond")).await.unwrap(), [ip]);
    let mut attempt = refused(EventKind::LoginFailed, "AzureDiamond", 2_000);
    attempt.ip = Some("203.0.113.9".parse().unwrap());
    fixture.repository.record_failed_attempts(vec![attempt], at(9_999)).await.unwrap();
    assert_eq!(
        fixture.repository.list_familiar_addresses(&name("azurediamond")).await.unwrap(),
        [ip],
        "not a failure's"
    );
    assert_eq!(fixture.repository.list_familiar_addresses(&name("nobody")).await.unwrap(), [] as [IpAddr; 0]);
}

pub async fn old_events_are_pruned_and_no_number_is_given_twice(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    register(fixture, "AzureDiamond").await;
    let attempts = (0..2_500).map(|number| refused(EventKind::LoginFailed, "AzureDiamond", 2_000 + number)).collect();
    repository.record_failed_attempts(attempts, at(9_999)).await.unwrap();
    let prune = async |before, keep| {
        let mut pruned = 0;
        loop {
            match fixture.repository.prune_events(at(before), keep, at(1_000_000)).await.unwrap() {
                0 => return pruned,
                count => pruned += count,
            }
        }
    };
    assert_eq!(prune(999, 10_000).await, 0);
    assert_eq!(prune(2_000, 10_000).await, 2, "no younger than");
    assert_eq!(prune(0, 1_000).await, 1_499, "beyond the most");
    assert_eq!(prune(1_000_000, 1_000).await, 1_000);
    assert_eq!(events(fixture).await, [""; 0]);
    repository
        .record_failed_attempts(vec![refused(EventKind::LoginFailed, "AzureDiamond", 9_000)], at(9_999))
        .await
        .unwrap();
    let query = EventQuery { username: None, kind: None, before: None, limit: 100 };
    let left = repository.list_events(&Actor::CommandLine, query).await.unwrap().rows;
    assert_eq!(left.iter().map(|event| event.id).collect::<Vec<_>>(), [2_502]);
}

/// An account's own events as it sees them, as `kind actor ip detail`, and the cursor of the next page.
async fn own_events(fixture: &Fixture, caller: &Caller, query: EventQuery) -> (Vec<String>, Option<EventCursor>) {
    let page = fixture.repository.list_own_events(caller, query).await.unwrap();
    let shown = |event: &Event| {
        let ip = event.ip.map(|ip| ip.to_string()).unwrap_or_default();
        format!("{} {} {ip} {}", event.kind.name(), event.actor, event.detail)
    };
    assert!(page.rows.is_sorted_by(|newer, older| newer.id > older.id), "newest first: {:?}", page.rows);
    (page.rows.iter().map(shown).collect(), page.next)
}

pub async fn an_account_sees_its_own_events_and_of_what_others_did_not_who_and_where_from(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let everything = || EventQuery { username: None, kind: None, before: None, limit: 100 };
    let root = create(fixture, "root", false, true).await;
    let Actor::Session(by_root) = root else { unreachable!() };
    let root = Actor::Session(Caller { ip: Some("203.0.113.9".parse().unwrap()), ..by_root });
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let (_, other) = register(fixture, "other").await;
    let own = caller(digest);
    let mut attempt = refused(EventKind::LoginFailed, "azurediamond", 1_500);
    attempt.ip = Some("203.0.113.7".parse().unwrap());
    repository
        .record_failed_attempts(vec![attempt, refused(EventKind::LoginFailed, "other", 1_500)], at(1_500))
        .await
        .unwrap();
    let change = |right| AccountChange { is_staff: Some(right), ..AccountChange::default() };
    repository.change_account(&root, &name("azurediamond"), change(true), at(2_000)).await.unwrap().unwrap();
    let operator = Actor::CommandLine;
    repository.change_account(&operator, &name("azurediamond"), change(false), at(3_000)).await.unwrap().unwrap();
    let own_ip = Caller { ip: Some("198.51.100.1".parse().unwrap()), ..own };
    assert!(repository.change_password(&own_ip, by_password(HASH), hash("$new"), at(4_000)).await.unwrap());

    let (shown, _) = own_events(fixture, &own, everything()).await;
    assert_eq!(
        shown[..4],
        [
            "password_changed AzureDiamond 198.51.100.1 ",
            "demoted staff  staff",
            "promoted staff  staff",
            "login_failed  203.0.113.7 ",
        ]
    );
    assert!(shown[4].starts_with("registered AzureDiamond 2001:db8::1 "), "{shown:?}");
    assert_eq!(shown.len(), 5, "none of root's and none of the other's");
    // Asked for by another's name they are still one's own.
    let by_name = EventQuery { username: Some(name("root")), ..everything() };
    assert_eq!(own_events(fixture, &own, by_name).await.0, shown);
    let exported = repository.export_user(&own).await.unwrap().events;
    assert_eq!(exported, repository.list_own_events(&own, everything()).await.unwrap().rows);

    // Page by page, and of one kind.
    let mut query = EventQuery { limit: 2, ..everything() };
    let mut paged = Vec::new();
    loop {
        let (page, next) = own_events(fixture, &own, query.clone()).await;
        assert!(page.len() <= 2);
        paged.extend(page);
        let Some(next) = next else { break };
        query.before = Some(next);
    }
    assert_eq!(paged, shown);
    let demotions = EventQuery { kind: Some(EventKind::Demoted), ..everything() };
    assert_eq!(own_events(fixture, &own, demotions.clone()).await.0, shown[1..2]);
    let (_, behind_two) = own_events(fixture, &own, EventQuery { limit: 2, ..everything() }).await;
    assert_eq!(own_events(fixture, &own, EventQuery { before: behind_two, ..demotions }).await.0, [""; 0]);

    let (of_other, _) = own_events(fixture, &caller(other), everything()).await;
    assert_eq!(of_other.len(), 2, "a failed login and a registration: {of_other:?}");
    repository.revoke_own_session(&own, at(5_000)).await.unwrap();
    let refused = repository.list_own_events(&own, everything()).await;
    assert!(matches!(refused, Err(RepositoryError::NoSession)), "{refused:?}");
}
