//! Units of work whose connection is lost, or that are in each other's way: each is made once, or not at all, and the answer
//! says which.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use authtokens::repository::{Events as _, Maintenance as _, RepositoryError, Sessions as _};
use tokio::time::sleep;

use crate::cluster;
use crate::nodes::{
    LEASE, at, by_hand, caller, count, database, is_live, open, open_behind_proxy, register, try_to_register,
};
use crate::proxy::Fault;

/// How many accounts and events of a registration there are under a name.
fn registered(url: &str, username: &str) -> (i64, i64) {
    let accounts = count(url, &format!("SELECT count(*) FROM users WHERE username = '{username}'"));
    let kind = "kind = 'registered'";
    (accounts, count(url, &format!("SELECT count(*) FROM events WHERE username = '{username}' AND {kind}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_unit_whose_connection_is_lost_at_its_commit_is_made_once_and_acknowledged() {
    let Some(url) = database() else { return };
    let (node, proxy) = open_behind_proxy(&url).await;
    for (number, fault) in
        [Fault::CommitIsLost, Fault::AnswerIsLost, Fault::CommitIsLate].into_iter().cycle().take(6).enumerate()
    {
        let username = format!("user{number}");
        proxy.fail_next_commit(fault);
        let digest = register(&node, &username).await;
        assert_eq!(registered(&url, &username), (1, 1), "{fault:?}");
        assert!(is_live(&node, digest).await.unwrap(), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_transaction_that_was_told_to_have_failed_cannot_be_committed_any_more() {
    let Some(url) = database() else { return };
    drop(open(&url));
    by_hand(&url, "INSERT INTO receipts (id, is_fence) VALUES ('\\x01', TRUE)");
    let late = cluster::execute(&url, "BEGIN; INSERT INTO receipts (id) VALUES ('\\x01'); COMMIT");
    assert!(late.unwrap_err().contains("duplicate key"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_connections_are_ended_again_and_again_what_is_acknowledged_is_made_once_and_what_is_refused_is_not() {
    let Some(url) = database() else { return };
    let node = open(&url);
    let is_over = Arc::new(AtomicBool::new(false));
    let ending = tokio::spawn({
        let (url, is_over) = (url.clone(), Arc::clone(&is_over));
        async move {
            while !is_over.load(Ordering::SeqCst) {
                by_hand(
                    &url,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'authtokens' \
                     AND datname = current_database()",
                );
                sleep(Duration::from_millis(30)).await;
            }
        }
    });
    let registering: Vec<_> = (0..8)
        .map(|task| {
            let node = Arc::clone(&node);
            tokio::spawn(async move {
                let mut outcomes = Vec::new();
                for number in 0..25 {
                    let username = format!("user{task}x{number}");
                    let (_, outcome) = try_to_register(&node, &username).await;
                    outcomes.push((username, outcome.map(drop)));
                }
                outcomes
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in registering {
        outcomes.extend(task.await.unwrap());
    }
    is_over.store(true, Ordering::SeqCst);
    ending.await.unwrap();
    let mut made = 0;
    for (username, outcome) in outcomes {
        let expected = match outcome {
            Ok(()) => (1, 1),
            Err(RepositoryError::Unavailable(_)) => (0, 0),
            Err(error) => panic!("{username}: {error:?}"),
        };
        made += expected.0;
        assert_eq!(registered(&url, &username), expected, "{username}");
    }
    println!("{made} of 200 were made");
    assert!(made > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_unit_that_is_ended_for_a_deadlock_is_made_in_its_next_try() {
    let Some(url) = database() else { return };
    let node = open(&url);
    let digest = register(&node, "user").await;
    // It holds the session while the unit, which holds the account, waits for it; and then waits for the account.
    let other = tokio::spawn({
        let url = url.clone();
        async move {
            by_hand(
                &url,
                "SET deadlock_timeout = '20s'; BEGIN; SELECT FROM tokens FOR UPDATE; SELECT pg_sleep(0.4); \
                 SELECT FROM users FOR UPDATE; COMMIT",
            );
        }
    });
    sleep(Duration::from_millis(200)).await;
    node.revoke_own_session(&caller(digest), at(2_000)).await.unwrap();
    other.await.unwrap();
    assert_eq!(count(&url, "SELECT count(*) FROM tokens"), 0);
    assert_eq!(count(&url, "SELECT count(*) FROM events WHERE kind = 'logged_out'"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_that_could_be_lost_whatever_the_role_is_set_to() {
    let Some(url) = database() else { return };
    drop(open(&url));
    by_hand(
        &url,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$; \
         CREATE TABLE noticed (setting TEXT); \
         CREATE FUNCTION notice() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO noticed VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$; \
         CREATE TRIGGER notice AFTER INSERT ON tokens FOR EACH ROW EXECUTE FUNCTION notice()",
    );
    register(&open(&url), "AzureDiamond").await;
    assert_eq!(count(&url, "SELECT count(*) FROM noticed WHERE setting = 'on'"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_restored_from_the_dump_of_another_server_are_old_whatever_their_number() {
    let Some(url) = database() else { return };
    let node = open(&url);
    let digest = register(&node, "AzureDiamond").await;
    by_hand(
        &url,
        "UPDATE events SET xid = '1000000000000', kind = 'password_set'; \
         INSERT INTO changes (xid, user_id, is_text) VALUES ('1000000000000', 0, FALSE)",
    );
    let cursor = node.list_resets(None).await.unwrap().next;
    assert!(is_live(&node, digest).await.unwrap());
    let changes = async || {
        let figures = node.statistics().await.figures;
        figures.into_iter().find(|figure| figure.name == "authtokens_store_feed_changes_total").unwrap().value
    };
    let before = changes().await;
    for _ in 0..10 {
        assert!(is_live(&node, digest).await.unwrap());
        tokio::time::sleep(LEASE / 10).await;
    }
    assert_eq!(changes().await, before, "no look reads it");
    assert!(node.list_resets(Some(cursor)).await.unwrap().usernames.is_empty());
}
