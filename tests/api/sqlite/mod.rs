//! Tests of SQLite's files, the only ones that name it: they are on it, whatever a run is on.

pub mod altered_files;
pub mod backups;
mod before_upgrade;
mod commands;
mod disk;
mod files;
mod metrics;
mod sealing_key;
mod starting;
pub mod store;
mod wal;
mod ways_in;

use std::process::Command;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::helpers::TestApp;

/// The schemas of older releases, the first of version 1.
pub const OLDER_SCHEMAS: &[&str] = &[
    include_str!("../../../src/repository/sqlite/schema_v1.sql"),
    include_str!("../../fixtures/schema_v2.sql"),
    include_str!("../../fixtures/schema_v3.sql"),
    include_str!("../../fixtures/schema_v4.sql"),
    include_str!("../../fixtures/schema_v5.sql"),
    include_str!("../../fixtures/schema_v6.sql"),
    include_str!("../../fixtures/schema_v7.sql"),
];

/// The database of a server, opened as another program does.
pub fn connect(app: &TestApp) -> Connection {
    Connection::open(&app.database).unwrap()
}

/// What one statement answers, a line a row.
pub fn rows(app: &TestApp, statement: &str) -> Vec<String> {
    store::rows(&connect(app), statement)
}

/// A file system of so many MiB, where one may be mounted; gone when it goes out of scope.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(size: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}m"), "tmpfs"]).arg(folder.path());
        mount.output().is_ok_and(|output| output.status.success()).then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(self.0.path()).output();
    }
}
