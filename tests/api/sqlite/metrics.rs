//! The metrics of a file, and of the backups of it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::helpers::{PATIENCE, TestApp};
use crate::mail::mailbox::Post;
use crate::metrics::{ANY_PORT, last_success, names, read_metrics, runs, value, wait_for};

#[tokio::test]
async fn the_size_of_the_file_and_of_its_wal_are_shown_and_how_many_writes_wait() {
    let app = TestApp::spawn_with(|config| config.metrics.listen = Some(ANY_PORT));
    app.new_user("AzureDiamond").await;
    let text = read_metrics(&app);
    for series in ["authtokens_store_bytes", "authtokens_store_wal_bytes"] {
        assert!(value(&text, series) >= Some(4096.0), "{series}: {text}");
    }
    for series in ["authtokens_store_waiting_writes", "authtokens_rejected_total{reason=\"write_queue_full\"}"] {
        assert_eq!(value(&text, series), Some(0.0), "{series}: {text}");
    }
    assert!(value(&text, "authtokens_store_writes_total") >= Some(1.0), "{text}");
    assert!(value(&text, "authtokens_store_reads_total").is_some(), "{text}");
}

#[tokio::test]
async fn a_backup_that_fails_is_counted_and_is_no_success() {
    let app = TestApp::spawn_with(|config| {
        config.metrics.listen = Some(ANY_PORT);
        config.backup.every = Some(Duration::from_secs(60 * 60));
        config.backup.folder = config.database.path.with_file_name("backups");
        // No folder can be made below a file.
        std::fs::create_dir_all(config.database.path.parent().unwrap()).unwrap();
        std::fs::write(&config.backup.folder, "").unwrap();
    });
    let text = wait_for(&app, &runs("backup", "failure"), 1.0);
    assert_eq!(value(&text, &runs("backup", "success")), Some(0.0), "{text}");
    assert_eq!(value(&text, &last_success("backup")), None, "{text}");
}

#[tokio::test]
async fn every_expression_of_the_dashboard_names_metrics_that_there_are() {
    let post = Post::spawn_with(|config| {
        config.metrics.listen = Some(ANY_PORT);
        config.backup.every = Some(Duration::from_secs(60 * 60));
        config.backup.folder = config.database.path.with_file_name("backups");
    });
    post.register("AzureDiamond", "azure@diamond.example").await;
    let app = &post.app;
    let deadline = Instant::now() + PATIENCE;
    let text = loop {
        let text = read_metrics(app);
        // The first backup is made at the start, and is there a moment later. So is a mail's count after its arrival.
        let expected = ["authtokens_last_backup_timestamp_seconds 1", "authtokens_mails_total{"];
        if expected.iter().all(|series| text.contains(series)) || Instant::now() > deadline {
            break text;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let there = names(&text);
    let dashboard: Value = serde_json::from_str(include_str!("../../../deploy/grafana.json")).unwrap();
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            expressions.push(target["expr"].as_str().unwrap());
        }
    }
    assert!(expressions.len() > 10);
    for mails in [
        "authtokens_mails_total{job=~\"$job\", outcome=\"sent\"}",
        "authtokens_mails_total{job=~\"$job\", outcome=\"failed\"}",
        "authtokens_mail_queue",
        "authtokens_mail_outbox_oldest_seconds",
    ] {
        assert!(expressions.iter().any(|expression| expression.contains(mails)), "{mails}");
    }
    for expression in expressions {
        let used: Vec<&str> = expression
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("authtokens_") || word.starts_with("process_"))
            .collect();
        assert!(!used.is_empty(), "{expression}");
        for name in used {
            assert!(there.contains(&name), "{name} in {expression}");
        }
    }
}
