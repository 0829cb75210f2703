//! The copy of the file that is kept before its schema is upgraded.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use authtokens::repository::sqlite::SCHEMA_VERSION;
use rusqlite::Connection;

use crate::helpers::left_out;
use crate::process::{Server, authtokens, contents, failure_of, program, run};
use crate::sqlite::backups::{bytes, check, command, mode, names, restore};
use crate::sqlite::{OLDER_SCHEMAS, SmallDisk};

/// A file of an older release with one account. It is in WAL mode where a program has it open.
fn make_old(path: &Path, version: usize) -> Connection {
    let old = Connection::open(path).unwrap();
    old.execute_batch(OLDER_SCHEMAS[version - 1]).unwrap();
    old.execute_batch(&format!("PRAGMA application_id = 0x4175546b; PRAGMA user_version = {version}")).unwrap();
    old.execute_batch(
        "INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, last_login) \
         VALUES ('Bob', 'bob', '$bcrypt-sha256$v=2,t=2b,r=4$QexDYaiSw.PMflDlGeyERe$\
         0JhXa2JmpMTbORvBDFxYcs2.SN09JvW', 0, 0, 0, 0)",
    )
    .unwrap();
    old
}

/// Many rows, so that a copy and an upgrade take more than a moment.
fn fill(old: &Connection) {
    old.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
         INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, last_login) \
         SELECT 'user' || i, 'user' || i, password_hash, 0, 0, 0, 0 FROM n, users; \
         INSERT INTO tokens SELECT randomblob(32), id, 0, 0, '', '' FROM users",
    )
    .unwrap();
}

fn copies_in(folder: &Path) -> Vec<PathBuf> {
    let names = names(folder);
    names.iter().filter(|name| name.starts_with("old.db.before-upgrade-from-")).map(|name| folder.join(name)).collect()
}

fn has_unfinished(folder: &Path) -> bool {
    names(folder).iter().any(|name| name.contains("partial"))
}

fn version_of(path: &Path) -> i32 {
    Connection::open(path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

/// What `VACUUM`, journal modes and upgrades leave alone: the names of the accounts.
fn names_of_users(path: &Path) -> String {
    let file = Connection::open(path).unwrap();
    file.query_row("SELECT group_concat(username ORDER BY id) FROM users", [], |row| row.get(0)).unwrap()
}

fn upgrade_by_a_command(folder: &Path) -> String {
    let output = run(&mut command(folder, "user list --database old.db"));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_file_as_it_was_before_an_upgrade_is_kept_whole_beside_it_by_a_server_and_by_a_command() {
    for version in 1..=OLDER_SCHEMAS.len() {
        for by_a_server in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let old = folder.path().join("old.db");
            // What is in the WAL alone is in the copy.
            let first = make_old(&old, version);
            first.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0").unwrap();
            first.execute_batch("INSERT INTO cellar VALUES (1, 7, 0); UPDATE users SET username = 'BOB'").unwrap();
            let said = if by_a_server {
                Server::start(folder.path(), |command| {
                    command.args(["--database", "old.db"]);
                })
                .log()
            } else {
                upgrade_by_a_command(folder.path())
            };
            drop(first);
            let copies = copies_in(folder.path());
            let [copy] = copies.as_slice() else { panic!("{copies:?}") };
            let name = copy.file_name().unwrap().to_str().unwrap();
            let time = name.strip_prefix(&format!("old.db.before-upgrade-from-v{version}-")).unwrap();
            assert!(time.len() == "20261123T140500Z".len() && time.ends_with('Z'), "{name}");
            let told = format!(
                "the schema of old.db was brought up to date, from version {version} to {SCHEMA_VERSION}; the file as \
                 it was is kept as {}",
                fs::canonicalize(copy).unwrap().display()
            );
            assert_eq!(said.lines().filter(|line| line.ends_with(&told)).count(), 1, "{said}");
            assert_eq!(mode(copy), 0o600);
            assert_eq!(version_of(&old), SCHEMA_VERSION);
            assert!(!has_unfinished(folder.path()));

            let report = check(copy).unwrap();
            assert_eq!(usize::try_from(report.schema_version).unwrap(), version);
            assert_eq!(names_of_users(copy), "BOB");
            assert_eq!(upgrade_by_a_command(folder.path()), "", "nothing is upgraded any more");
            assert_eq!(copies_in(folder.path()), copies, "and nothing is copied");
        }
    }
}

#[test]
fn the_way_back_is_a_rename_and_a_copy_is_restored_and_upgraded_again() {
    for version in 1..=OLDER_SCHEMAS.len() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("old.db");
        drop(make_old(&old, version));
        upgrade_by_a_command(folder.path());
        let copy = copies_in(folder.path()).remove(0);
        let renamed = folder.path().join("renamed.db");
        fs::copy(&copy, &renamed).unwrap();
        assert_eq!(names(folder.path()).iter().filter(|name| name.starts_with("renamed")).count(), 1, "one file");
        let schema = |path: &Path| -> Vec<String> {
            let file = Connection::open(path).unwrap();
            let mut statement =
                file.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY sql").unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let as_made = folder.path().join("made.db");
        drop(make_old(&as_made, version));
        assert_eq!(schema(&renamed), schema(&as_made), "the older release's schema, which it opens unchanged");

        restore(&copy, &old).unwrap();
        assert_eq!(usize::try_from(version_of(&old)).unwrap(), version);
        let said = upgrade_by_a_command(folder.path());
        assert!(said.contains("; the file as it was is kept as "), "{said}");
        assert_eq!(version_of(&old), SCHEMA_VERSION);
        assert_eq!(copies_in(folder.path()).len(), 2, "no copy is overwritten or deleted");
        assert_eq!(names_of_users(&old), "Bob");
    }
}

#[test]
fn no_copy_is_made_where_none_is_asked_for_or_nothing_is_upgraded() {
    let folder = tempfile::tempdir().unwrap();
    drop(make_old(&folder.path().join("old.db"), 1));
    let mut command = command(folder.path(), "user list --database old.db");
    let output = run(command.env("AUTHTOKENS__DATABASE__KEEP_BEFORE_UPGRADE", "false"));
    let told = format!("authtokens: the schema of old.db was brought up to date, from version 1 to {SCHEMA_VERSION}\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), told);
    drop(Server::start(folder.path(), |command| {
        command.args(["--database", "new.db"]);
    }));
    assert_eq!(copies_in(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn two_that_upgrade_at_once_make_one_copy() {
    let folder = tempfile::tempdir().unwrap();
    let old = make_old(&folder.path().join("old.db"), 1);
    fill(&old);
    drop(old);
    let start = || {
        let mut command = command(folder.path(), "user list --database old.db");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let outputs = [start(), start(), start()].map(|child| child.wait_with_output().unwrap());
    assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
    assert_eq!(outputs.iter().filter(|output| !output.stderr.is_empty()).count(), 1, "{outputs:?}");
    assert_eq!(copies_in(folder.path()).len(), 1);
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_file_or_an_upgraded_one_with_its_copy_and_a_later_start_clears_up() {
    let folder = tempfile::tempdir().unwrap();
    let (old, pristine) = (folder.path().join("old.db"), folder.path().join("pristine"));
    let first = make_old(&pristine, 1);
    fill(&first);
    drop(first);
    let put_back = || {
        for name in names(folder.path()).iter().filter(|name| name.starts_with("old.db")) {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        fs::copy(&pristine, &old).unwrap();
    };
    put_back();
    let (mut left_unfinished, mut killed_before, mut killed_after) = (0, 0, 0);
    for millis in (1..).step_by(6) {
        let mut child = authtokens(folder.path())
            .args(["--listen", "127.0.0.1:0", "--database", "old.db"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(millis));
        child.kill().unwrap();
        child.wait().unwrap();
        left_unfinished += u32::from(has_unfinished(folder.path()));
        for copy in copies_in(folder.path()) {
            let report = check(&copy).unwrap();
            assert_eq!(report.schema_version, 1, "what has the name of a copy is whole");
        }
        if version_of(&old) == 1 {
            killed_before += 1;
            continue;
        }
        assert!(!copies_in(folder.path()).is_empty(), "no upgrade without a copy");
        assert!(!has_unfinished(folder.path()), "what earlier kills have left is gone");
        put_back();
        killed_after += 1;
        if killed_after == 3 {
            break;
        }
    }
    assert!(killed_before > 0 && left_unfinished > 0, "{killed_before} {left_unfinished}");
    // Also a start that makes no copy clears up.
    fs::write(folder.path().join(".old.db.authtokens-partial-4711"), "").unwrap();
    let mut command = command(folder.path(), "user list --database old.db");
    assert!(run(command.env("AUTHTOKENS__DATABASE__KEEP_BEFORE_UPGRADE", "false")).status.success());
    assert!(!has_unfinished(folder.path()));
}

#[test]
fn without_room_for_it_twice_the_file_is_upgraded_without_a_copy_and_with_a_warning() {
    let Some(disk) = SmallDisk::mount(6) else {
        left_out("no file system can be mounted here");
        return;
    };
    let old = disk.0.path().join("old.db");
    let first = make_old(&old, 1);
    // One that an upgrade with an index of this table still fits beside.
    first
        .execute_batch("CREATE TABLE filler (a); INSERT INTO filler VALUES (zeroblob(2200000)); DROP TABLE filler")
        .unwrap();
    drop(first);
    let told = format!(
        "the schema of old.db was brought up to date, from version 1 to {SCHEMA_VERSION}; there was no room to keep \
         the file as it was"
    );
    let pristine = bytes(&old);
    assert_eq!(upgrade_by_a_command(disk.0.path()), format!("authtokens: {told}\n"));
    assert_eq!(version_of(&old), SCHEMA_VERSION);
    assert!(copies_in(disk.0.path()).is_empty() && !has_unfinished(disk.0.path()));

    for name in names(disk.0.path()) {
        fs::remove_file(disk.0.path().join(name)).unwrap();
    }
    fs::write(&old, &pristine).unwrap();
    let server = Server::start(disk.0.path(), |command| {
        command.args(["--database", "old.db"]);
    });
    let log = server.log();
    assert!(log.lines().any(|line| line.contains("WARN") && line.ends_with(&told)), "{log}");
    drop(server);
    assert!(copies_in(disk.0.path()).is_empty());
}

/// Every file in a folder with its bytes, but for the lock files.
fn without_locks(folder: &Path) -> Vec<(String, Vec<u8>)> {
    contents(folder).into_iter().filter(|(name, _)| !name.contains(".lock")).collect()
}

/// Runs what must be refused, and checks that the file is as it was and that nothing is left.
fn refused(folder: &Path, configure: impl Fn(&mut Command), reason: &str) {
    let before = contents(folder);
    for arguments in ["user list --database old.db", "serve --listen 127.0.0.1:0 --database old.db"] {
        let mut command = command(folder, arguments);
        configure(&mut command);
        let (code, said) = failure_of(&mut command);
        assert_eq!(code, 1);
        assert!(said.starts_with("cannot upgrade old.db, because it cannot be kept as it was ("), "{said}");
        assert!(said.contains(reason), "{said}");
        assert!(
            said.ends_with("): mend that or make room, or set keep_before_upgrade = false under [database]"),
            "{said}"
        );
        assert!(without_locks(folder) == before, "{arguments}: it is untouched, and nothing is beside it");
    }
    let mut command = command(folder, "user list --database old.db");
    configure(&mut command);
    let allowed = run(command.env("AUTHTOKENS__DATABASE__KEEP_BEFORE_UPGRADE", "false"));
    assert!(allowed.status.success(), "{allowed:?}");
}

#[test]
fn an_upgrade_whose_copy_fails_is_not_made_and_leaves_the_file_as_it_was() {
    // A file that contradicts itself: a token of no account.
    let folder = tempfile::tempdir().unwrap();
    let old = make_old(&folder.path().join("old.db"), 1);
    old.execute_batch("PRAGMA foreign_keys = OFF; INSERT INTO cellar VALUES (99, 1, 0)").unwrap();
    drop(old);
    refused(folder.path(), |_| {}, "old.db is damaged: a row of cellar belongs to a row of users that is missing");
    assert!(copies_in(folder.path()).is_empty());
}

/// A start under a limit on the size of a file, in bytes: like a quota, no file system tells it.
fn limited(folder: &Path, limit: u64) -> Command {
    let mut command = program("sh");
    let binary = env!("CARGO_BIN_EXE_authtokens");
    // In the blocks of POSIX.
    let line = format!("ulimit -f {}; exec {binary} --listen 127.0.0.1:0 --database old.db", limit.div_ceil(512));
    command.args(["-c", &line]).env("AUTHTOKENS_CONFIG", "/dev/null").current_dir(folder);
    command
}

#[test]
fn a_copy_that_fails_half_way_refuses_the_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let old = make_old(&folder.path().join("old.db"), 1);
    fill(&old);
    drop(old);
    let before = contents(folder.path());
    let (code, said) = failure_of(&mut limited(folder.path(), 1 << 20));
    assert!(code == 1 && said.contains("it cannot be kept as it was (cannot "), "{said}");
    assert!(without_locks(folder.path()) == before, "it is untouched, and nothing is beside it");
}

#[test]
fn an_upgrade_that_fails_after_its_copy_leaves_no_copy() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.db");
    let first = make_old(&old, 1);
    // A small file whose WAL is long, so that the copy keeps to the limit and the upgrade does not.
    first.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0").unwrap();
    for _ in 0..200 {
        first.execute_batch("UPDATE users SET city = city || 'a'").unwrap();
    }
    let wal = fs::metadata(folder.path().join("old.db-wal")).unwrap().len();
    assert!(wal > 2 * 100_000);
    let (code, said) = failure_of(&mut limited(folder.path(), wal));
    assert!(code == 1 && said.starts_with("cannot use old.db: "), "{said}");
    assert!(copies_in(folder.path()).is_empty() && !has_unfinished(folder.path()));
    assert_eq!(version_of(&old), 1);
    drop(first);
}

#[test]
fn a_folder_that_cannot_be_written_to_refuses_the_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let old = data.join("old.db");
    let first = make_old(&old, 1);
    first.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    // Everything that a start makes is there already.
    for suffix in [".lock", ".restore.lock", "-wal", "-shm"] {
        File::options().create(true).append(true).open(format!("{}{suffix}", old.display())).unwrap();
    }
    for path in names(&data).iter().map(|name| data.join(name)).chain([data.clone()]) {
        if chown(&path, Some(4711), Some(4711)).is_err() {
            left_out("only root can run as another user");
            return;
        }
    }
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o555)).unwrap();
    let (as_it_was, wal) = (bytes(&old), bytes(&data.join("old.db-wal")));
    let mut command = command(&data, "user list --database old.db");
    let (code, said) = failure_of(command.uid(4711).gid(4711));
    assert!(code == 1 && said.contains("Permission denied (os error 13)): mend that"), "{said}");
    assert!(bytes(&old) == as_it_was && bytes(&data.join("old.db-wal")) == wal);
    assert!(copies_in(&data).is_empty() && !has_unfinished(&data));
    drop(first);
}

#[test]
fn the_copy_that_root_makes_belongs_to_the_databases_owner_and_no_link_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (data, roots) = (folder.path().join("data"), folder.path().join("roots"));
    fs::create_dir(&data).unwrap();
    File::create(&roots).unwrap().write_all(b"root's own").unwrap();
    let old = data.join("old.db");
    drop(make_old(&old, 1));
    if [&data, &old].into_iter().any(|path| chown(path, Some(4711), Some(4712)).is_err()) {
        left_out("only root can give files away");
        return;
    }
    // Links under every name that the copy could have this minute, and under that of the unfinished file.
    let now = authtokens::system::clock::Clock::system().now();
    let taken: Vec<_> = (0..60)
        .map(|seconds| {
            let time = now.plus(Duration::from_secs(seconds)).compact();
            data.join(format!("old.db.before-upgrade-from-v1-{time}"))
        })
        .collect();
    for link in &taken {
        symlink(&roots, link).unwrap();
    }
    symlink(&roots, data.join(".old.db.authtokens-partial-1")).unwrap();
    let linked = folder.path().join("linked.db");
    symlink(&old, &linked).unwrap();
    let output = run(&mut command(folder.path(), "user list --database linked.db"));
    assert!(output.status.success(), "{output:?}");
    let made: Vec<_> = copies_in(&data).into_iter().filter(|path| !taken.contains(path)).collect();
    let [copy] = made.as_slice() else { panic!("{made:?}: it is beside the file and not beside the link") };
    assert!(copy.to_str().unwrap().ends_with("Z-2"), "{}", copy.display());
    let found = fs::symlink_metadata(copy).unwrap();
    assert_eq!((found.is_file(), found.uid(), found.gid(), mode(copy)), (true, 4711, 4712, 0o600));
    assert_eq!(bytes(&roots), b"root's own");
    assert_eq!(fs::metadata(&roots).unwrap().uid(), 0);
    assert!(taken.iter().all(|link| fs::symlink_metadata(link).unwrap().is_symlink()), "nothing is overwritten");
    assert_eq!(version_of(&old), SCHEMA_VERSION);
}
