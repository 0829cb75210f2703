//! Small files that the configuration names: certificates, templates, a systemd unit.
//!
//! A name may lead to anything. A pipe would be waited for without end, and a device read until the memory is full.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// How large certificates and units may be.
pub(crate) const ONE_MIB: u64 = 1024 * 1024;

/// Reads a file of at most `max` bytes.
///
/// # Errors
/// When it cannot be read, is none, or is larger.
pub(crate) fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    // Before it is opened: opening a pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let why = format!("it is larger than {} KiB", max / 1024);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_no_file_or_too_large_is_refused_and_neither_waited_for_nor_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let refused = |name: &str| read(&path(name), ONE_MIB).unwrap_err().to_string();
        assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        symlink("/dev/zero", path("device")).unwrap();
        for name in ["pipe", "device", "."] {
            assert_eq!(refused(name), "it is not a file", "{name}");
        }
        File::create(path("file")).unwrap().set_len(ONE_MIB).unwrap();
        assert_eq!(read(&path("file"), ONE_MIB).unwrap().len() as u64, ONE_MIB);
        File::create(path("file")).unwrap().set_len(ONE_MIB + 1).unwrap();
        assert_eq!(refused("file"), "it is larger than 1024 KiB");
        assert_eq!(read(&path("none"), ONE_MIB).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
