//! What is about SQLite's files themselves.

pub mod altered_files;
pub mod backups;
mod commands;
mod disk;
mod files;
mod wal;

use std::process::Command;

use tempfile::TempDir;

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
