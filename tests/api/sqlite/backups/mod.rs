//! Backups of a SQLite file: made, checked, restored, and kept by the clock.

mod checking;
mod making;
mod restoring;
mod schedule;

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use authtokens::passwords::is_well_formed;
use authtokens::repository::sqlite::backup;
use authtokens::repository::{BackupError, BackupReport, CheckReport, Existing, RestoreReport, Rules, Stop};
use authtokens::system::clock::Timestamp;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::helpers::{PATIENCE, START_MILLIS, TestApp};
use crate::process::authtokens;
use crate::sqlite::connect;

pub fn back_up(source: &Path, target: &Path) -> Result<BackupReport, BackupError> {
    backup::back_up(source, target, Existing::Refuse, &Stop::default(), &mut |_| {})
}

pub fn rules() -> Rules {
    Rules { now: Timestamp::from_millis(START_MILLIS).unwrap(), is_hash: is_well_formed, key: None }
}

pub fn check(path: &Path) -> Result<CheckReport, BackupError> {
    backup::check(path, Some(&rules()), &Stop::default(), &mut |_| {})
}

pub fn restore(backup: &Path, database: &Path) -> Result<RestoreReport, BackupError> {
    backup::restore(backup, database, &rules(), &Stop::default(), &mut |_| {})
}

pub fn sentence<T: std::fmt::Debug>(result: Result<T, BackupError>) -> String {
    result.unwrap_err().to_string()
}

pub fn rows(report: &CheckReport, table: &str) -> u64 {
    report.tables.iter().find(|found| found.name == table).unwrap().rows
}

/// The names in a folder, the hidden ones too.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Overwrites a part of a file.
fn overwrite(path: &Path, at: SeekFrom, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(at).unwrap();
    file.write_all(bytes).unwrap();
}

pub fn bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Many rows that nobody asks for, so that a backup takes more than a moment.
fn fill(database: &Connection, username: &str) {
    let statement = "WITH RECURSIVE n (i) AS (SELECT 1000000 UNION ALL SELECT i + 1 FROM n WHERE i < 1099999) \
         INSERT INTO wants (user_id, item_id, added) SELECT id, i, 0 FROM n, users WHERE username = ?1";
    database.busy_timeout(PATIENCE).unwrap();
    database.execute(statement, [username]).unwrap();
}

/// A database with one account that no server has, and a backup of it. The account is gone from the database since.
pub struct Stopped {
    pub folder: TempDir,
    pub database: PathBuf,
    pub backup: PathBuf,
}

pub async fn stopped() -> Stopped {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("data/authtokens.db");
    let backup = folder.path().join("backup.db");
    let app = TestApp::spawn_with(|config| config.database.path.clone_from(&database));
    app.new_user("AzureDiamond").await;
    back_up(&database, &backup).unwrap();
    connect(&app).execute_batch("PRAGMA foreign_keys = ON; DELETE FROM users").unwrap();
    Stopped { folder, database, backup }
}

/// Leaves a file as a program does that is killed in the middle of a change that has partly reached the file.
pub fn cut_off(database: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    fs::copy(database, &copy).unwrap();
    let writer = Connection::open(&copy).unwrap();
    writer.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 5; BEGIN IMMEDIATE").unwrap();
    writer.execute_batch("UPDATE users SET username = 'half', username_key = 'half'").unwrap();
    fill(&writer, "half");
    fs::copy(&copy, database).unwrap();
    fs::copy(copy.with_extension("db-journal"), database.with_extension("db-journal")).unwrap();
}

/// The commands in a folder whose database is `data/authtokens.db`.
pub fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = authtokens(folder);
    command.args(arguments.split_whitespace()).env("AUTHTOKENS__PASSWORD__BCRYPT_COST", "4");
    command
}

pub async fn serves_the_account(database: &Path) {
    let app = TestApp::spawn_with(|config| database.clone_into(&mut config.database.path));
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 200);
}
