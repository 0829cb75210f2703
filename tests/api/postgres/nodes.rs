//! Several servers on one database.

use std::thread;

use reqwest::Method;
use serde_json::json;

use crate::cluster;
use crate::helpers::{TestApp, session_of};
use crate::metrics::{ANY_PORT, read_metrics, value};

/// A new database's URL; `None` where PostgreSQL is not installed.
pub fn new_database() -> Option<String> {
    let cluster = cluster::cluster();
    if cluster.is_none() {
        cluster::left_out("a test of several servers");
    }
    Some(cluster?.new_database())
}

fn server_on(url: &str) -> TestApp {
    TestApp::spawn_with(|config| config.database.url = Some(url.to_owned().into()))
}

#[tokio::test]
async fn what_one_server_has_acknowledged_holds_on_the_others_from_the_very_next_request() {
    let Some(url) = new_database() else { return };
    let apps = [server_on(&url), server_on(&url)];
    let status =
        async |app: &TestApp, token: &str| app.ask(Method::GET, "/api/user", token, None).await.status().as_u16();
    for round in 0..5 {
        let (here, there) = (&apps[round % 2], &apps[1 - round % 2]);
        let name = format!("user{round}");
        let token = here.new_user(&name).await;
        let (second, _) = session_of(there.log_in(&name, "hunter2").await).await;
        for app in &apps {
            assert_eq!((status(app, &token).await, status(app, &second).await), (200, 200));
        }
        assert_eq!(here.log_out(&token).await.status(), 200);
        assert_eq!((status(there, &token).await, status(there, &second).await), (401, 200));
        let change = json!({"current_password": "hunter2", "new_password": "hunter3"});
        let (third, _) = session_of(here.log_in(&name, "hunter2").await).await;
        assert_eq!(status(there, &third).await, 200);
        there.get(Method::POST, "/api/user/password", &second, Some(&change)).await;
        assert_eq!((status(here, &third).await, status(here, &second).await), (401, 200));
        here.get(Method::DELETE, "/api/user", &second, Some(&json!({"password": "hunter3"}))).await;
        assert_eq!(status(there, &second).await, 401);
        assert_eq!(there.log_in(&name, "hunter3").await.status(), 401);
    }
}

#[tokio::test]
async fn servers_that_start_at_once_on_an_empty_database_all_serve() {
    let Some(url) = new_database() else { return };
    let apps: Vec<TestApp> = thread::scope(|scope| {
        let starting: Vec<_> = (0..4).map(|_| scope.spawn(|| server_on(&url))).collect();
        starting.into_iter().map(|app| app.join().unwrap()).collect()
    });
    for (number, app) in apps.iter().enumerate() {
        app.new_user(&format!("user{number}")).await;
    }
    for app in &apps {
        assert_eq!(app.count("users"), 4);
        assert_eq!(app.log_in("user0", "hunter2").await.status(), 200);
    }
}

#[tokio::test]
async fn the_pool_the_feed_and_what_was_lost_are_among_a_nodes_metrics() {
    let Some(url) = new_database() else { return };
    let app = TestApp::spawn_with(|config| {
        config.database.url = Some(url.into());
        config.metrics.listen = Some(ANY_PORT);
    });
    app.new_user("AzureDiamond").await;
    let text = read_metrics(&app);
    let figure = |name: &str| value(&text, &format!("authtokens_store_{name}"));
    for name in
        ["retries_total", "settled_commits_total", "unknown_commits_total", "leases_lost_total", "failovers_total"]
    {
        assert_eq!(figure(name), Some(0.0), "{name}: {text}");
    }
    for name in ["connections", "max_connections", "connections_made_total", "commits_total"] {
        assert!(figure(name) >= Some(1.0), "{name}: {text}");
    }
    let of_the_feed = figure("looks_total").is_some() && figure("feed_changes_total").is_some();
    assert!(of_the_feed, "{text}");
}
