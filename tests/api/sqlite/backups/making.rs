//! How a backup is made beside a server that goes on.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use authtokens::repository::sqlite::backup;
use authtokens::repository::{BackupError, Existing, Progress, Stop};
use reqwest::Method;
use rusqlite::Connection;
use serde_json::json;
use tokio::sync::oneshot;

use super::{Stopped, back_up, bytes, check, fill, names, restore, rows, sentence, stopped};
use crate::helpers::{TestApp, left_out};
use crate::sqlite::SmallDisk;
use crate::sqlite::connect;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_restored_elsewhere_holds_everything_that_was_acknowledged_before_it_began() {
    let app = Arc::new(TestApp::spawn());
    app.new_user("filler").await;
    fill(&connect(&app), "filler");

    let acknowledged: Arc<Mutex<Vec<(String, u32)>>> = Arc::default();
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..6)
        .map(|client| {
            let (app, acknowledged, done) = (Arc::clone(&app), Arc::clone(&acknowledged), Arc::clone(&done));
            tokio::spawn(async move {
                for user in 0.. {
                    let token = app.new_user(&format!("client-{client}-{user}")).await;
                    acknowledged.lock().unwrap().push((token.clone(), 0));
                    for item in 1..=5 {
                        app.get(Method::PUT, &format!("/api/user/cellar/{item}"), &token, None).await;
                        acknowledged.lock().unwrap().push((token.clone(), item));
                    }
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                }
            })
        })
        .collect();
    while acknowledged.lock().unwrap().len() < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("backup.db");
    let before = acknowledged.lock().unwrap().clone();
    let (sender, made) = oneshot::channel();
    thread::spawn({
        let (source, target) = (app.database.clone(), target.clone());
        move || sender.send(back_up(&source, &target)).unwrap()
    });
    let report = made.await.unwrap().unwrap();
    assert!(acknowledged.lock().unwrap().len() > before.len(), "nothing was written meanwhile");
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }

    assert_eq!(names(folder.path()), ["backup.db"], "it needs nothing beside it");
    assert_eq!(report.check, check(&target).unwrap());
    let database = folder.path().join("second/authtokens.db");
    let restored = restore(&target, &database).unwrap();
    assert_eq!((restored.kept, &restored.check.tables), (None, &report.check.tables));
    let second = TestApp::spawn_with(|config| config.database.path.clone_from(&database));
    for (token, item) in before {
        let cellar = second.get(Method::GET, "/api/user/cellar", &token, None).await;
        assert!(item == 0 || cellar.as_array().unwrap().contains(&json!(item)), "{item} is not in {cellar}");
    }
    // It is as of one moment: nobody has an item without the one that was acknowledged before it.
    let gaps: i64 = connect(&second)
        .query_row(
            "SELECT count(*) FROM cellar WHERE item_id > 1 AND NOT EXISTS (SELECT 1 FROM cellar AS earlier \
             WHERE earlier.user_id = cellar.user_id AND earlier.item_id = cellar.item_id - 1)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(gaps, 0);
}

#[tokio::test]
async fn writes_during_a_backup_are_not_in_it_and_do_not_make_it_begin_again() {
    let app = TestApp::spawn();
    app.new_user("AzureDiamond").await;
    let writer = connect(&app);
    fill(&writer, "AzureDiamond");
    let wants = u64::try_from(app.count("wants")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut written = 0_i64;
    let mut last = 0;
    let mut write = |progress| {
        if let Progress::Copying { done, .. } = progress {
            assert!(done > last, "it began again at {last}");
            last = done;
            let inserted = writer
                .execute("INSERT INTO wants (user_id, item_id, added) SELECT id, ?1, 0 FROM users", [written + 1])
                .unwrap();
            written += i64::try_from(inserted).unwrap();
        }
    };
    let target = folder.path().join("backup.db");
    let report = backup::back_up(&app.database, &target, Existing::Refuse, &Stop::default(), &mut write).unwrap();
    assert!(written > 3, "{written}");
    assert_eq!(last, report.check.pages);
    assert_eq!(rows(&report.check, "wants"), wants);
    assert_eq!(app.count("wants"), i64::try_from(wants).unwrap() + written);
}

#[tokio::test]
async fn a_backup_takes_the_place_of_nothing_unasked_and_of_the_database_never() {
    let app = TestApp::spawn();
    let folder = app.database.parent().unwrap().to_owned();
    let elsewhere = tempfile::tempdir().unwrap();
    let there = elsewhere.path().join("there.db");
    fs::write(&there, "a diary").unwrap();
    assert_eq!(sentence(back_up(&app.database, &there)), format!("{} exists already", there.display()));
    assert_eq!(bytes(&there), b"a diary");

    symlink("nowhere", elsewhere.path().join("dangling.db")).unwrap();
    assert!(sentence(back_up(&app.database, &elsewhere.path().join("dangling.db"))).ends_with("exists already"));
    symlink(&app.database, elsewhere.path().join("link.db")).unwrap();
    symlink(&folder, elsewhere.path().join("folder")).unwrap();
    fs::hard_link(&app.database, folder.join("twin.db")).unwrap();
    let name = app.database.file_name().unwrap().to_str().unwrap();
    let before = names(&folder);
    let replace =
        |target: &Path| backup::back_up(&app.database, target, Existing::Replace, &Stop::default(), &mut |_| {});
    for target in [
        app.database.clone(),
        folder.join("twin.db"),
        elsewhere.path().join("link.db"),
        elsewhere.path().join("folder").join(name),
        elsewhere.path().join("folder").join(format!("{name}-wal")),
        elsewhere.path().join("folder").join(format!("{name}.lock")),
        elsewhere.path().join("folder").join(format!("{name}.restore.lock")),
    ] {
        assert!(sentence(replace(&target)).ends_with("belongs to the database itself"), "{}", target.display());
    }
    assert!(sentence(replace(&elsewhere.path().join("dangling.db"))).ends_with("is not a plain file"));
    assert!(sentence(replace(elsewhere.path())).ends_with("is not a plain file"));
    assert_eq!(names(&folder), before);

    replace(&there).unwrap();
    check(&there).unwrap();
    // SQLite would read another database's WAL as the backup's own.
    fs::write(elsewhere.path().join("new.db-wal"), "").unwrap();
    assert!(sentence(replace(&elsewhere.path().join("new.db"))).contains("new.db-wal is in the way"));
    assert!(!elsewhere.path().join("new.db").exists());
    fs::remove_file(folder.join("twin.db")).unwrap();
}

#[tokio::test]
async fn a_backup_that_fails_or_is_stopped_leaves_nothing_behind() {
    let app = TestApp::spawn();
    app.new_user("AzureDiamond").await;
    fill(&connect(&app), "AzureDiamond");
    let folder = tempfile::tempdir().unwrap();
    for target in [Path::new("/proc/backup.db"), &folder.path().join("missing/backup.db"), Path::new("/")] {
        let said = sentence(back_up(&app.database, target));
        assert!(said.starts_with("cannot write ") || said.ends_with("exists already"), "{said}");
    }
    let target = folder.path().join("backup.db");
    let missing = folder.path().join("missing.db");
    assert_eq!(sentence(back_up(&missing, &target)), format!("there is no database at {}", missing.display()));

    for stop_at in ["copying", "checking"] {
        let stop = Stop::default();
        let mut watch = |progress| match progress {
            Progress::Copying { done, .. } if stop_at == "copying" && done > 100 => {
                assert_eq!(names(folder.path()).len(), 1, "it grows under another name");
                assert!(!target.exists());
                stop.ask();
            }
            Progress::Checking => stop.ask(),
            Progress::Copying { .. } => {}
        };
        let result = backup::back_up(&app.database, &target, Existing::Refuse, &stop, &mut watch);
        assert!(matches!(result, Err(BackupError::Stopped)), "{result:?}");
        assert_eq!(names(folder.path()), Vec::<String>::new(), "{stop_at}");
    }
}

#[tokio::test]
async fn a_full_disk_leaves_no_backup_and_the_database_as_it_was() {
    let Some(disk) = SmallDisk::mount(1) else {
        left_out("only root can make a small disk");
        return;
    };
    let Stopped { folder: _folder, database, backup } = stopped().await;
    let small = disk.0.path().join("authtokens.db");
    fs::copy(&database, &small).unwrap();
    fill(&Connection::open(&backup).unwrap(), "AzureDiamond");
    let target = disk.0.path().join("backup.db");
    let said = sentence(back_up(&backup, &target));
    assert!(said.contains("backup.db") && said.ends_with("full"), "{said}");
    let said = sentence(restore(&backup, &small));
    assert!(said.contains("authtokens.db") && said.ends_with("full"), "{said}");
    assert_eq!(names(disk.0.path()), ["authtokens.db", "authtokens.db.lock", "authtokens.db.restore.lock"]);
    assert_eq!(bytes(&small), bytes(&database));
}

#[tokio::test]
async fn what_a_killed_backup_left_behind_is_swept_by_the_next_one_and_what_is_in_use_stays() {
    let app = TestApp::spawn();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let stale = [".old.db.authtokens-partial-1", ".old.db.authtokens-partial-1-wal", ".x.authtokens-partial-4194304"];
    let others = [
        ".old.db.partial-1",
        "old.db.authtokens-partial-1",
        ".old.db.authtokens-partial-1x",
        ".held.db.authtokens-partial-2",
    ];
    for name in stale.iter().chain(&others) {
        fs::write(path(name), "").unwrap();
    }
    let held = File::open(path(".held.db.authtokens-partial-2")).unwrap();
    held.lock().unwrap();
    symlink(&app.database, path(".link.db.authtokens-partial-3")).unwrap();
    back_up(&app.database, &path("new.db")).unwrap();
    let mut expected: Vec<_> = others.iter().map(|name| (*name).to_owned()).collect();
    expected.extend([".link.db.authtokens-partial-3".to_owned(), "new.db".to_owned()]);
    expected.sort();
    assert_eq!(names(folder.path()), expected);
    drop(held);
    assert_eq!(app.register("AzureDiamond", "hunter2").await.status(), 201);
}

#[tokio::test]
async fn a_backup_may_have_as_long_a_name_as_leaves_room_for_a_journals() {
    let Stopped { folder, database, .. } = stopped().await;
    let copies = folder.path().join("copies");
    fs::create_dir(&copies).unwrap();
    let name = "ü".repeat(123) + "x";
    back_up(&database, &copies.join(&name)).unwrap();
    assert_eq!(names(&copies), [name.as_str()]);
    assert_eq!(rows(&check(&copies.join(&name)).unwrap(), "users"), 0);
}
