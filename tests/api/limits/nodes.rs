//! Failures at an account of several servers on one database.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{OWNER, STRANGER, accounts_alone, lock_out, log_in_from, new_owner, post_from, retry_after};
use crate::cluster;
use crate::helpers::{TestApp, session_of, until};

/// Servers on one new database; `None` where there is nothing that they could share.
fn servers<const N: usize>() -> Option<[TestApp; N]> {
    let cluster = cluster::cluster();
    if cluster.is_none() {
        cluster::left_out("a test of several servers");
    }
    let url = cluster?.new_database();
    Some(std::array::from_fn(|_| {
        TestApp::spawn_with(|config| {
            accounts_alone(config);
            config.database.url = Some(url.clone().into());
        })
    }))
}

#[tokio::test]
async fn a_hundred_failures_in_a_row_are_those_of_all_servers() {
    let Some(apps) = servers::<3>() else { return };
    new_owner(&apps[0]).await;
    let mut failed: i64 = 0;
    for round in 0..40 {
        for app in &apps {
            match log_in_from(app, STRANGER, "AzureDiamond", "wrong").await {
                401 => failed += 1,
                status => assert_eq!(status, 429),
            }
            app.clock.advance(Duration::from_secs(20 * 60));
        }
        if failed < 60 && round % 3 == 2 {
            // They are stored a moment later, and no clock that a test sets makes it any earlier.
            until("storing", || apps[0].store.failures() == [failed]).await;
        }
    }
    assert!((90..=100).contains(&failed), "{failed}");
    assert_eq!(apps[0].store.failures(), [failed], "near the end each is stored before it is answered");
    for app in &apps {
        let refused = post_from(app, STRANGER, "/api/login", "AzureDiamond", "hunter2").await;
        assert!(retry_after(refused).await > 3_600);
    }
    assert_eq!(log_in_from(&apps[1], OWNER, "AzureDiamond", "hunter2").await, 200, "a familiar address");
    for app in &apps {
        assert_eq!(log_in_from(app, STRANGER, "AzureDiamond", "hunter2").await, 200, "a success counts for all");
    }
}

#[tokio::test]
async fn what_ends_the_failures_on_one_server_ends_them_on_the_others() {
    let Some([one, other]) = servers() else { return };
    let token = new_owner(&one).await;
    let (root, _) = session_of(post_from(&one, OWNER, "/api/register", "root", "hunter2").await).await;
    one.make_superuser("root");
    let mut stored = 0;
    for how in ["a login", "the owner's new password", "one that staff set"] {
        // What fails in the millisecond of a new password does not count.
        for app in [&one, &other] {
            app.clock.advance(Duration::from_secs(1));
        }
        lock_out(&one, "AzureDiamond").await;
        stored += 10;
        until("storing", || one.count_events("login_failed") == stored).await;
        assert_eq!(log_in_from(&one, STRANGER, "AzureDiamond", "hunter2").await, 429, "{how}");
        match how {
            "a login" => assert_eq!(log_in_from(&other, OWNER, "AzureDiamond", "hunter2").await, 200),
            "one that staff set" => {
                let change = json!({"password": "hunter2"});
                other.get(Method::PATCH, "/api/users/azurediamond", &root, Some(&change)).await;
            }
            _ => {
                let change = json!({"current_password": "hunter2", "new_password": "hunter2"});
                other.get(Method::POST, "/api/user/password", &token, Some(&change)).await;
            }
        }
        assert_eq!(log_in_from(&one, STRANGER, "AzureDiamond", "hunter2").await, 200, "{how}");
    }
}

#[tokio::test]
async fn the_delay_does_not_tell_which_names_are_accounts() {
    let Some([one, other]) = servers() else { return };
    new_owner(&one).await;
    for name in ["AzureDiamond", "nobody"] {
        lock_out(&one, name).await;
    }
    until("storing", || one.store.failures() == [10]).await;
    for name in ["AzureDiamond", "nobody"] {
        lock_out(&other, name).await;
    }
}
