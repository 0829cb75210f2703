//! Links, mounts and other names instead of files.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use authtokens::repository::sqlite::backup;
use authtokens::repository::{BackupError, Existing, Progress, Stop};
use rusqlite::Connection;

use super::password;
use crate::helpers::left_out;
use crate::process::{Server, failure_of, run};
use crate::sqlite::backups::{Stopped, bytes, check, command, mode, names, restore, rows, rules, sentence, stopped};

#[tokio::test]
async fn neither_a_backup_nor_a_restore_writes_to_what_replaced_an_unfinished_file() {
    let Stopped { folder, database, backup } = stopped().await;
    let others = tempfile::tempdir().unwrap();
    let victim = others.path().join("victim.db");
    let other = Connection::open(&victim).unwrap();
    other.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE theirs (a TEXT)").unwrap();
    drop(other);
    let before = bytes(&victim);
    let copies = folder.path().join("copies");
    fs::create_dir(&copies).unwrap();
    let swap = |folder: &Path, how: &dyn Fn(&Path)| {
        let names = names(folder);
        let partial = folder.join(names.iter().find(|name| name.contains(".authtokens-partial-")).unwrap());
        fs::rename(&partial, folder.join("moved")).unwrap();
        how(&partial);
    };
    let backup_bytes = bytes(&backup);
    let link = |partial: &Path| symlink(&victim, partial).unwrap();
    let hard_link = |partial: &Path| fs::hard_link(&victim, partial).unwrap();
    let own = |partial: &Path| fs::write(partial, &backup_bytes).unwrap();
    for how in [&link as &dyn Fn(&Path), &hard_link, &own] {
        for moment in ["copied", "checking"] {
            let swapped = |folder: &Path, progress: Progress| match progress {
                Progress::Copying { done, of } if done == of && moment == "copied" => swap(folder, how),
                Progress::Checking if moment == "checking" => swap(folder, how),
                _ => {}
            };
            let target = copies.join("copy.db");
            let made = backup::back_up(&database, &target, Existing::Refuse, &Stop::default(), &mut |progress| {
                swapped(&copies, progress);
            });
            assert_eq!(
                sentence(made),
                format!("what was made for {} was moved or replaced by another program meanwhile", target.display())
            );
            assert_eq!(names(&copies), ["moved"]);
            let data = database.parent().unwrap();
            let before_it = names(data);
            let restored = backup::restore(&backup, &database, &rules(), &Stop::default(), &mut |progress| {
                swapped(data, progress);
            });
            assert!(matches!(restored, Err(BackupError::Replaced { .. })), "{restored:?}");
            fs::remove_file(data.join("moved")).unwrap();
            let left: Vec<_> = before_it.into_iter().filter(|name| data.join(name).exists()).collect();
            assert_eq!(names(data), left, "nothing new is there");
            assert_eq!(rows(&check(&database).unwrap(), "users"), 0);
            fs::remove_file(copies.join("moved")).unwrap();
            assert!(bytes(&victim) == before, "another program's database was written to");
            assert_eq!(names(others.path()), ["victim.db"]);
        }
    }
}

#[tokio::test]
async fn a_restore_gives_nobody_what_a_link_instead_of_a_wal_leads_to() {
    let Stopped { folder, database, backup } = stopped().await;
    let secret = folder.path().join("secret");
    fs::write(&secret, "root's own").unwrap();
    // The database is damaged, so that its WAL is kept as it is.
    fs::write(&database, "spoilt ".repeat(1_000)).unwrap();
    let log = database.with_extension("db-wal");
    let _ = fs::remove_file(&log);
    symlink(&secret, &log).unwrap();
    let before = names(database.parent().unwrap());
    assert!(sentence(restore(&backup, &database)).starts_with("cannot read "));
    assert_eq!(names(database.parent().unwrap()), before);
    fs::remove_file(&log).unwrap();
    fs::hard_link(&secret, &log).unwrap();
    assert!(sentence(restore(&backup, &database)).ends_with("it is not a plain file of the user who has the database"));
    fs::remove_file(&log).unwrap();
    restore(&backup, &database).unwrap();
}

#[tokio::test]
async fn a_restore_by_root_gives_the_database_owner_nothing_that_is_not_theirs_or_roots() {
    let Stopped { folder, database, backup } = stopped().await;
    let data = folder.path().join("theirs");
    fs::create_dir(&data).unwrap();
    let theirs = data.join("authtokens.db");
    fs::copy(&database, &theirs).unwrap();
    let give = |path: &Path, user| std::os::unix::fs::lchown(path, Some(user), Some(user));
    if give(&theirs, 4711).is_err() {
        left_out("only root can give files away");
        return;
    }
    give(&data, 4711).unwrap();
    let before = bytes(&theirs);
    let refused = |backup: &Path, reason: &str| {
        let said = sentence(restore(backup, &theirs));
        assert!(said.contains(reason), "{said}");
        assert!(bytes(&theirs) == before);
    };
    let [link, folder_link, hard_link] = ["link.db", "folder", "second.db"].map(|name| data.join(name));
    symlink(&backup, &link).unwrap();
    symlink(folder.path(), &folder_link).unwrap();
    let is_link = "is reached through a symbolic link that another user can change";
    refused(&link, is_link);
    for link in [&link, &folder_link] {
        give(link, 4711).unwrap();
    }
    refused(&link, is_link);
    refused(&folder_link.join(backup.file_name().unwrap()), is_link);
    let is_anothers = "belongs neither to this user nor to the one who has the database";
    fs::hard_link(&backup, &hard_link).unwrap();
    refused(&hard_link, is_anothers);
    fs::remove_file(&hard_link).unwrap();
    give(&backup, 4713).unwrap();
    refused(&backup, is_anothers);
    // Root's own, behind root's own link.
    give(&backup, 0).unwrap();
    let own_link = folder.path().join("latest.db");
    symlink(&backup, &own_link).unwrap();
    restore(&own_link, &theirs).unwrap();
    assert_eq!(fs::metadata(&theirs).unwrap().uid(), 4711);
    give(&backup, 4711).unwrap();
    restore(&backup, &theirs).unwrap();
}

#[tokio::test]
async fn no_file_behind_a_link_is_closed_locked_or_given_away() {
    let Stopped { folder, database, .. } = stopped().await;
    let secret = folder.path().join("secret");
    fs::write(&secret, "").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    // Without a WAL of its own, as a restore leaves it, SQLite does not look at what has its index's name.
    let file = Connection::open(&database).unwrap();
    let mode_now: String = file.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0)).unwrap();
    assert_eq!(mode_now, "delete");
    drop(file);
    let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", database.display()));
    for suffix in ["-shm", "-wal"] {
        let _ = fs::remove_file(beside(suffix));
        symlink(&secret, beside(suffix)).unwrap();
        failure_of(command(folder.path(), "serve --listen 127.0.0.1:0 --database").arg(&database));
        assert_eq!(mode(&secret), 0o644, "{suffix}");
        fs::remove_file(beside(suffix)).unwrap();
    }
    for suffix in [".lock", ".restore.lock"] {
        let _ = fs::remove_file(beside(suffix));
        symlink(&secret, beside(suffix)).unwrap();
        let said = failure_of(command(folder.path(), "serve --listen 127.0.0.1:0 --database").arg(&database)).1;
        assert!(said.ends_with(&format!("authtokens.db{suffix}: it is a symbolic link")), "{said}");
        fs::remove_file(beside(suffix)).unwrap();
    }
}

#[tokio::test]
async fn a_path_is_a_path_whatever_sqlite_makes_of_such_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let names_of_ours = ["file:x.db", ":memory:", "file::memory:?cache=shared", "file:/tmp/y.db?mode=memory"];
    fs::create_dir(folder.path().join("file:")).unwrap();
    fs::create_dir(folder.path().join("file:/tmp")).unwrap();
    for name in names_of_ours {
        let made = run(command(folder.path(), "user create bob --database").arg(name).stdin(password()));
        assert!(made.status.success(), "{name}: {made:?}");
        assert!(folder.path().join(name).is_file(), "{name}");
        let server = Server::start(folder.path(), |command| {
            command.args(["--database", name]);
        });
        drop(server);
        let listed = run(command(folder.path(), "user list --json --database").arg(name));
        assert!(String::from_utf8(listed.stdout).unwrap().contains("bob"), "{name}");
        assert!(run(command(folder.path(), "check").arg(name)).status.success(), "{name}");
        let copy = format!("{name}.copy");
        assert!(run(command(folder.path(), "backup").args([&copy, "--database", name])).status.success(), "{name}");
        let restored = run(command(folder.path(), "restore --yes").args([&copy, "--database", name]));
        assert!(restored.status.success(), "{name}: {restored:?}");
    }
    assert!(!folder.path().join("x.db").exists() && !Path::new("/tmp/y.db").exists());
}

#[tokio::test]
async fn a_database_that_cannot_be_looked_at_is_not_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    symlink("loop", folder.path().join("loop")).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for name in ["loop/authtokens.db", "file/authtokens.db"] {
        for arguments in
            ["user list", "user create bob", "prune", "events", "token list bob", "check", "backup copy.db"]
        {
            let said = failure_of(command(folder.path(), arguments).args(["--database", name])).1;
            assert!(!said.contains("there is no database") && said.starts_with("cannot "), "{arguments}: {said}");
        }
    }
    assert_eq!(names(folder.path()), ["file", "loop"]);

    // Another user's folder, for whoever is not root.
    let Stopped { folder, database, .. } = stopped().await;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |arguments: &str| {
        let mut command = command(folder.path(), arguments);
        command.arg("--database").arg(&database).uid(65_534).gid(65_534);
        command
    };
    if !as_nobody("config show").output().is_ok_and(|shown| shown.status.success()) {
        left_out("only root can run as another user");
        return;
    }
    for arguments in ["user list", "prune", "events", "check", "backup copy.db"] {
        let said = failure_of(&mut as_nobody(arguments)).1;
        assert!(said.ends_with("Permission denied (os error 13)"), "{arguments}: {said}");
    }
}

/// Another file, mounted at this one; it goes out of scope with this.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: &Path, what: &Path) -> Option<Self> {
        let mount = Command::new("mount").arg("--bind").args([what, path]).output();
        mount.is_ok_and(|mount| mount.status.success()).then(|| Self(path.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_file_that_is_mounted_by_itself_cannot_be_replaced_and_nothing_is_left_of_the_attempt() {
    let Stopped { folder, database, backup } = stopped().await;
    let elsewhere = folder.path().join("elsewhere.db");
    fs::copy(&database, &elsewhere).unwrap();
    let Some(mounted) = Mounted::at(&database, &elsewhere) else {
        left_out("only root can mount a file");
        return;
    };
    let before = (names(database.parent().unwrap()), bytes(&database));
    let said = sentence(restore(&backup, &database));
    let path = database.display();
    assert_eq!(said, format!("{path} is a mount point, which no file can replace: mount its folder instead"));
    assert!((names(database.parent().unwrap()), bytes(&database)) == before);
    drop(mounted);
    restore(&backup, &database).unwrap();

    let target = folder.path().join("target.db");
    fs::copy(&backup, &target).unwrap();
    let _mounted = Mounted::at(&target, &elsewhere).unwrap();
    let before = names(folder.path());
    let said = sentence(backup::back_up(&database, &target, Existing::Replace, &Stop::default(), &mut |_| {}));
    assert!(said.contains("target.db is a mount point"), "{said}");
    assert_eq!(names(folder.path()), before);
}

#[tokio::test]
async fn a_hot_journal_that_another_user_has_left_is_not_rolled_back_by_root() {
    let Stopped { folder: _folder, database, backup } = stopped().await;
    let journal = database.with_extension("db-journal");
    let cut = || {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", database.display()));
        }
        fs::copy(&backup, &database).unwrap();
        crate::sqlite::backups::cut_off(&database);
        assert!(fs::metadata(&journal).unwrap().len() > 0);
    };
    cut();
    if [&database, &journal].into_iter().any(|path| chown(path, Some(4711), Some(4711)).is_err()) {
        left_out("only root can give files away");
        return;
    }
    let said = sentence(check(&database));
    assert!(said.contains("has a hot journal, of an interrupted change: run this as its owner"), "{said}");
    assert!(fs::metadata(&journal).unwrap().len() > 0);
    let kept = restore(&backup, &database).unwrap().kept.unwrap();
    assert_eq!(fs::metadata(&kept).unwrap().uid(), 4711);
    let kept_journal = format!("{}-journal", kept.display());
    assert!(fs::metadata(kept_journal).unwrap().len() > 0 && !journal.exists(), "it is kept as it was");
    assert_eq!(rows(&check(&database).unwrap(), "users"), 1);
}
