//! What nodes believe: nothing that has ended, however its end was made and whatever their connections do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use authtokens::repository::Sessions as _;
use tokio::time::sleep;

use crate::nodes::{LEASE, at, by_hand, caller, database, is_live, open, open_behind_proxy, register};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_ends_a_session_by_hand_ends_it_on_every_node_within_a_lease() {
    let Some(url) = database() else { return };
    let nodes = [open(&url), open(&url)];
    for (number, sql) in [
        "UPDATE users SET is_active = FALSE WHERE username = 'user0'",
        "DELETE FROM tokens USING users WHERE users.id = user_id AND username = 'user1'",
        "DELETE FROM users WHERE username = 'user2'",
        "UPDATE tokens SET digest = sha256(digest)",
        "TRUNCATE tokens",
    ]
    .into_iter()
    .enumerate()
    {
        let digest = register(&nodes[0], &format!("user{number}")).await;
        for node in &nodes {
            assert!(is_live(node, digest).await.unwrap(), "{sql}");
        }
        by_hand(&url, sql);
        sleep(LEASE).await;
        for node in &nodes {
            assert!(!is_live(node, digest).await.unwrap(), "{sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_whose_connections_hang_answers_for_no_session_that_has_ended_and_goes_on_when_they_do() {
    let Some(url) = database() else { return };
    let node = open(&url);
    let (stuck, proxy) = open_behind_proxy(&url).await;
    let (digest, other) = (register(&node, "user").await, register(&node, "other").await);
    assert!(is_live(&stuck, digest).await.unwrap() && is_live(&stuck, other).await.unwrap());
    proxy.set_stuck(true);
    // What was cached is worth something for as long as the lease lasts, and the other node waits as long.
    node.revoke_own_session(&caller(digest), at(2_000)).await.unwrap();
    assert!(!matches!(is_live(&stuck, digest).await, Ok(true)));
    sleep(LEASE).await;
    for _ in 0..3 {
        assert!(is_live(&stuck, other).await.is_err(), "nothing says that it is still live");
    }
    proxy.set_stuck(false);
    let since = Instant::now();
    while !matches!(is_live(&stuck, other).await, Ok(true)) {
        assert!(since.elapsed() < Duration::from_secs(60), "it does not go on");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(!is_live(&stuck, digest).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_node_answers_for_a_session_whose_end_another_has_acknowledged_however_often_it_is_asked() {
    let Some(url) = database() else { return };
    let revoking = open(&url);
    let nodes = [open(&url), open(&url)];
    let (ended, checks, stale) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let until = Instant::now() + Duration::from_secs(4);
    let mut round = 0;
    while Instant::now() < until {
        let mut digests = Vec::new();
        for number in 0..8 {
            digests.push(register(&revoking, &format!("user{round}x{number}")).await);
        }
        round += 1;
        let revoked: Arc<Vec<AtomicBool>> = Arc::new(digests.iter().map(|_| AtomicBool::new(false)).collect());
        let is_over = Arc::new(AtomicBool::new(false));
        let checking: Vec<_> = nodes
            .iter()
            .flat_map(|node| [node, node])
            .map(|node| {
                let (node, digests, revoked) = (Arc::clone(node), digests.clone(), Arc::clone(&revoked));
                let (is_over, checks, stale) = (Arc::clone(&is_over), Arc::clone(&checks), Arc::clone(&stale));
                tokio::spawn(async move {
                    while !is_over.load(Ordering::SeqCst) {
                        for (digest, revoked) in digests.iter().zip(revoked.iter()) {
                            // Before it is asked.
                            let was_revoked = revoked.load(Ordering::SeqCst);
                            let is_live = is_live(&node, *digest).await.unwrap();
                            checks.fetch_add(1, Ordering::Relaxed);
                            stale.fetch_add(u64::from(was_revoked && is_live), Ordering::Relaxed);
                        }
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        let revocations = digests.iter().zip(revoked.iter()).map(async |(digest, revoked)| {
            revoking.revoke_own_session(&caller(*digest), at(2_000)).await.unwrap();
            revoked.store(true, Ordering::SeqCst);
            ended.fetch_add(1, Ordering::Relaxed);
        });
        futures_util::future::join_all(revocations).await;
        sleep(Duration::from_millis(20)).await;
        is_over.store(true, Ordering::SeqCst);
        for task in checking {
            task.await.unwrap();
        }
    }
    let (ended, checks, stale) = (ended.into_inner(), checks.load(Ordering::SeqCst), stale.load(Ordering::SeqCst));
    println!("{ended} sessions ended, {checks} checks on two other nodes, {stale} stale");
    assert_eq!(stale, 0, "of {checks} checks");
    assert!(ended > 0 && checks > ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_told_to_leave_joins_again_and_answers_for_nothing_that_ended_meanwhile() {
    let Some(url) = database() else { return };
    let [node, other] = [open(&url), open(&url)];
    let digest = register(&node, "AzureDiamond").await;
    assert!(is_live(&node, digest).await.unwrap() && is_live(&other, digest).await.unwrap());
    by_hand(&url, "UPDATE nodes SET is_leaving = TRUE");
    other.revoke_own_session(&caller(digest), at(3_000)).await.unwrap();
    assert!(!is_live(&node, digest).await.unwrap() && !is_live(&other, digest).await.unwrap());
    let digest = register(&node, "Cthon98").await;
    assert!(is_live(&node, digest).await.unwrap() && is_live(&other, digest).await.unwrap());
}
