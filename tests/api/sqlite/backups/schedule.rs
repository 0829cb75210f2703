//! Backups that the server makes by itself.

use std::fs::{self};
use std::io::SeekFrom;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use authtokens::config::Config;
use authtokens::system::clock::Timestamp;
use serde_json::{Value, json};

use super::{bytes, check, mode, names, overwrite, rows};
use crate::helpers::{PATIENCE, START_MILLIS, TestApp, left_out};
use crate::sqlite::SmallDisk;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A server that keeps three backups, one a day.
fn scheduled(folder: &Path) -> TestApp {
    TestApp::spawn_with(|config| {
        config.database.path = folder.join("authtokens.db");
        config.backup.every = Some(DAY);
        config.backup.keep = 3;
        config.backup.folder = folder.join("backups");
    })
}

async fn ready(app: &TestApp) -> Value {
    app.client.get(app.url("/readyz")).send().await.unwrap().json().await.unwrap()
}

/// Waits until the newest good backup is the one of this moment.
async fn backed_up(app: &TestApp, moment: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = ready(app).await;
        if said == json!({"status": "ready", "last_backup": moment}) {
            return;
        }
        assert!(Instant::now() < deadline, "{said}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn these_are_there(folder: &Path, expected: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    while names(folder) != expected {
        assert!(Instant::now() < deadline, "{:?}", names(folder));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn backups_are_made_by_the_clock_the_newest_are_kept_and_readyz_tells() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    // What is not a backup by its name and its kind is nobody's to delete.
    fs::create_dir_all(backups.join("authtokens-20000101T000000Z.db")).unwrap();
    fs::write(backups.join("authtokens-2000.db"), "mine").unwrap();
    let app = scheduled(folder.path());
    app.new_user("AzureDiamond").await;
    backed_up(&app, "2015-01-04T22:51:35.144Z").await;
    for moment in ["2015-01-05T22:51:35.144Z", "2015-01-06T22:51:35.144Z", "2015-01-07T22:51:35.144Z"] {
        app.clock.advance(DAY);
        backed_up(&app, moment).await;
    }
    let expected = [
        "authtokens-2000.db",
        "authtokens-20000101T000000Z.db",
        "authtokens-20150105T225135Z.db",
        "authtokens-20150106T225135Z.db",
        "authtokens-20150107T225135Z.db",
    ];
    these_are_there(&backups, &expected).await;
    for name in &expected[2..] {
        assert_eq!(mode(&backups.join(name)), 0o600);
        assert_eq!(rows(&check(&backups.join(name)).unwrap(), "users"), 1);
    }
}

#[tokio::test]
async fn a_restart_neither_repeats_nor_skips_a_backup_and_counts_only_good_ones() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    backed_up(&scheduled(folder.path()), "2015-01-04T22:51:35.144Z").await;
    {
        let app = scheduled(folder.path());
        backed_up(&app, "2015-01-04T22:51:35.000Z").await;
        app.clock.advance(DAY / 2);
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert_eq!(names(&backups), ["authtokens-20150104T225135Z.db"], "it is not repeated");
        app.clock.advance(DAY / 2);
        these_are_there(&backups, &["authtokens-20150104T225135Z.db", "authtokens-20150105T225135Z.db"]).await;
    }
    fs::remove_file(backups.join("authtokens-20150105T225135Z.db")).unwrap();
    overwrite(&backups.join("authtokens-20150104T225135Z.db"), SeekFrom::Start(0), b"spoilt");
    fs::rename(backups.join("authtokens-20150104T225135Z.db"), backups.join("authtokens-20150104T225134Z.db")).unwrap();
    let app = scheduled(folder.path());
    backed_up(&app, "2015-01-04T22:51:35.144Z").await;
}

#[tokio::test]
async fn a_damaged_backup_and_one_from_the_future_never_take_the_room_of_a_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    fs::create_dir_all(&backups).unwrap();
    let bad = ["authtokens-20150104T000000Z.db", "authtokens-20991231T000000Z.db"];
    for name in bad {
        fs::write(backups.join(name), "spoilt").unwrap();
    }
    let app = TestApp::spawn_with(|config| {
        config.database.path = folder.path().join("authtokens.db");
        config.backup.every = Some(DAY);
        config.backup.keep = 1;
        config.backup.folder.clone_from(&backups);
    });
    backed_up(&app, "2015-01-04T22:51:35.144Z").await;
    let aside = "authtokens-20150104T000000Z.db.damaged";
    these_are_there(&backups, &[aside, "authtokens-20150104T225135Z.db", bad[1]]).await;
    app.clock.advance(DAY);
    backed_up(&app, "2015-01-05T22:51:35.144Z").await;
    these_are_there(&backups, &[aside, "authtokens-20150105T225135Z.db", bad[1]]).await;
    check(&backups.join("authtokens-20150105T225135Z.db")).unwrap();
    // Nor after a restart, which finds a good one before it.
    let again = |config: &mut Config| {
        config.database.path = folder.path().join("authtokens.db");
        config.backup.every = Some(DAY);
        config.backup.keep = 1;
        config.backup.folder.clone_from(&backups);
    };
    let app = app.restart_with(again);
    app.clock.advance(DAY);
    backed_up(&app, "2015-01-06T22:51:35.144Z").await;
    these_are_there(&backups, &[aside, "authtokens-20150106T225135Z.db", bad[1]]).await;
    assert_eq!(bytes(&backups.join(aside)), b"spoilt");
}

#[tokio::test]
async fn a_database_that_is_named_like_a_backup_is_never_deleted_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    fs::create_dir_all(&backups).unwrap();
    let own = "authtokens-20100101T000000Z.db";
    let anothers = "authtokens-20110101T000000Z.db";
    let served = TestApp::spawn_with(|config| config.database.path = backups.join(anothers));
    let app = TestApp::spawn_with(|config| {
        // Under another name than the folder's, and so that only the file itself tells.
        symlink(&backups, folder.path().join("data")).unwrap();
        config.database.path = folder.path().join("data").join(own);
        config.backup.every = Some(DAY);
        config.backup.keep = 1;
        config.backup.folder.clone_from(&backups);
    });
    for moment in ["2015-01-04T22:51:35.144Z", "2015-01-05T22:51:35.144Z"] {
        backed_up(&app, moment).await;
        app.clock.advance(DAY);
    }
    backed_up(&app, "2015-01-06T22:51:35.144Z").await;
    let deadline = Instant::now() + PATIENCE;
    while backups.join("authtokens-20150105T225135Z.db").exists() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for name in [own, anothers, "authtokens-20150106T225135Z.db"] {
        assert!(backups.join(name).exists(), "{name} in {:?}", names(&backups));
    }
    assert_eq!(app.register("a", "hunter2").await.status(), 201);
    assert_eq!(served.register("a", "hunter2").await.status(), 201);
}

#[tokio::test]
async fn a_clock_that_was_ahead_and_is_set_back_does_not_stop_the_backups() {
    let folder = tempfile::tempdir().unwrap();
    let app = scheduled(folder.path());
    backed_up(&app, "2015-01-04T22:51:35.144Z").await;
    app.clock.advance(DAY * 3_652);
    backed_up(&app, "2025-01-03T22:51:35.144Z").await;
    app.clock.set(Timestamp::from_millis(START_MILLIS).unwrap());
    backed_up(&app, "2015-01-04T22:51:35.000Z").await;
    app.clock.advance(DAY);
    backed_up(&app, "2015-01-05T22:51:35.144Z").await;
}

#[tokio::test]
async fn a_clock_that_is_set_by_a_little_right_after_a_backup_makes_none_too_many_and_none_fail() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let app = scheduled(folder.path());
    backed_up(&app, "2015-01-04T22:51:35.144Z").await;
    app.clock.advance(DAY);
    let expected = ["authtokens-20150104T225135Z.db", "authtokens-20150105T225135Z.db"];
    these_are_there(&backups, &expected).await;
    backed_up(&app, "2015-01-05T22:51:35.144Z").await;
    let right = app.clock.now();
    // Back by a second, and to what it said before; then a day ahead.
    for set_to in [right.minus(Duration::from_secs(1)), right, right.plus(DAY)] {
        app.clock.set(set_to);
        tokio::time::sleep(Duration::from_millis(2_200)).await;
        assert_eq!(names(&backups), expected, "{set_to}");
        assert_eq!(ready(&app).await["last_backup"], "2015-01-05T22:51:35.144Z", "{set_to}");
    }
    app.clock.set(right);
    app.clock.advance(DAY);
    backed_up(&app, "2015-01-06T22:51:35.144Z").await;
}

#[tokio::test]
async fn readyz_tells_of_no_backup_that_is_gone_and_the_next_one_is_due_by_those_that_are_left() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let app = scheduled(folder.path());
    backed_up(&app, "2015-01-04T22:51:35.144Z").await;
    app.clock.advance(DAY);
    backed_up(&app, "2015-01-05T22:51:35.144Z").await;
    app.clock.advance(DAY / 2);
    fs::remove_file(backups.join("authtokens-20150105T225135Z.db")).unwrap();
    // Due half a day ago: it is made at once.
    backed_up(&app, "2015-01-06T10:51:35.144Z").await;
    fs::remove_dir_all(&backups).unwrap();
    fs::write(&backups, "in the way").unwrap();
    let deadline = Instant::now() + PATIENCE;
    while ready(&app).await["last_backup"] != Value::Null {
        assert!(Instant::now() < deadline, "it tells of one that is gone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_backup_that_fails_is_tried_again_soon_and_readyz_tells_that_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    fs::write(&backups, "in the way").unwrap();
    let app = scheduled(folder.path());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ready(&app).await, json!({"status": "ready", "last_backup": null}));
    fs::remove_file(&backups).unwrap();
    // The clock stands still until the first try is over for certain.
    tokio::time::sleep(Duration::from_millis(200)).await;
    app.clock.advance(Duration::from_secs(5 * 60));
    backed_up(&app, "2015-01-04T22:56:35.144Z").await;
}

#[tokio::test]
async fn no_backup_is_made_in_the_empty_folder_of_a_disk_that_is_unmounted_for_a_while() {
    let Some(disk) = SmallDisk::mount(1) else {
        left_out("only root can make a small disk");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let backups = disk.0.path().join("backups");
    let app = TestApp::spawn_with(|config| {
        config.database.path = folder.path().join("authtokens.db");
        config.backup.every = Some(DAY);
        config.backup.folder.clone_from(&backups);
    });
    backed_up(&app, "2015-01-04T22:51:35.144Z").await;
    let path = disk.0.path();
    let deadline = Instant::now() + PATIENCE;
    // It is busy for as long as the job looks at the folder.
    while !Command::new("umount").arg(path).status().unwrap().success() {
        assert!(Instant::now() < deadline, "it stays busy");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    app.clock.advance(DAY);
    let deadline = Instant::now() + PATIENCE;
    while ready(&app).await["last_backup"] != Value::Null {
        assert!(Instant::now() < deadline, "it tells of one that is gone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(names(path), Vec::<String>::new());
    // Another mount, which need not have the number of the last.
    assert!(
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(path).status().unwrap().success()
    );
    app.clock.advance(DAY);
    backed_up(&app, "2015-01-06T22:51:35.144Z").await;
    assert_eq!(names(&backups), ["authtokens-20150106T225135Z.db"]);
}

#[tokio::test]
async fn without_backups_readyz_says_no_more_than_that_it_is_ready() {
    let app = TestApp::spawn();
    let body = app.client.get(app.url("/readyz")).send().await.unwrap().text().await.unwrap();
    assert_eq!(body, "{\"status\": \"ready\"}");
}
