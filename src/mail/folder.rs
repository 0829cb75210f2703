//! The transport for development: each mail is a file in a folder. The names of the files are in the order in which the
//! mails were written.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::mail::error::{DeliveryError, MailError};
use crate::system::blocking;
use crate::system::clock::Timestamp;
use crate::system::error_chain::Chain;

/// How many mails are kept; the oldest go first.
const KEPT: usize = 1_000;

/// What the name of a mail ends with, and that of one that is being written.
const MAIL: &str = ".eml";
const PARTIAL: &str = ".eml.partial";

/// The folder.
pub(super) struct Folder {
    path: PathBuf,
    /// How many mails this process has begun to write: two of one moment keep their order.
    written: Arc<AtomicU64>,
}

impl Folder {
    /// Checks that the folder is there or can be: what it would be made in is a folder.
    pub(super) fn new(path: PathBuf) -> Result<Self, MailError> {
        match nearest(&path) {
            Ok((_, true)) => Ok(Self { path, written: Arc::default() }),
            Ok((found, false)) => {
                let (path, found) = (path.display(), found.display());
                Err(MailError(format!("mail.folder: {path} cannot be used: {found} is not a folder")))
            }
            Err(error) => Err(MailError(format!("mail.folder: {} cannot be used: {error}", path.display()))),
        }
    }

    /// Writes a mail, named after the time and what it is.
    pub(super) async fn write(&self, name: &str, message: Vec<u8>, now: Timestamp) -> Result<(), DeliveryError> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let time = now.to_string().replace(['-', ':'], "");
        // Two programs may write to the folder, in the same millisecond.
        let name = format!("{time}-{number:06}-{:08x}-{name}", rand::random::<u32>());
        let path = self.path.clone();
        let written = blocking::run(move || write(&path, &name, &message)).await;
        let written = written.map_err(|interrupted| DeliveryError::of_server(interrupted.to_string()))?;
        let failed =
            |error| DeliveryError::of_server(format!("the mail cannot be written to {}: {error}", self.path.display()));
        written.map_err(failed)
    }
}

/// The path or the first of its parents that exists, and whether that is a folder.
fn nearest(path: &Path) -> io::Result<(&Path, bool)> {
    for path in path.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        match fs::metadata(path) {
            Ok(found) => return Ok((path, found.is_dir())),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error),
        }
    }
    // It would be made in the folder that the process runs in.
    Ok((path, true))
}

fn write(folder: &Path, name: &str, message: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let partial = folder.join(format!("{name}{PARTIAL}"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    let outcome = file.write_all(message).and_then(|()| fs::rename(&partial, folder.join(format!("{name}{MAIL}"))));
    if outcome.is_err() {
        // What is left of it is removed with the oldest mails, if not now.
        let _ = fs::remove_file(&partial);
    }
    outcome?;
    if let Err(error) = delete_oldest(folder) {
        // This mail is written, all the same.
        log::warn!("old mails in {} cannot be deleted: {}", folder.display(), Chain(&error));
    }
    Ok(())
}

/// Keeps the newest [`KEPT`] mails. What is not named like one is not touched. What cannot be deleted keeps no other from
/// it; the first failure is returned.
fn delete_oldest(folder: &Path) -> io::Result<()> {
    let mut mails = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(|c: char| c.is_ascii_digit()) && (name.ends_with(MAIL) || name.ends_with(PARTIAL)) {
            mails.push(name.into_owned());
        }
    }
    mails.sort_unstable();
    let surplus = mails.len().saturating_sub(KEPT);
    let mut outcome = Ok(());
    for name in &mails[..surplus] {
        match fs::remove_file(folder.join(name)) {
            // Another program may have deleted it.
            Err(error) if error.kind() != io::ErrorKind::NotFound => outcome = outcome.and(Err(error)),
            _ => {}
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[tokio::test]
    async fn mails_are_files_that_their_owner_alone_can_read_in_the_order_in_which_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below").join("mail");
        let mails = Folder::new(path.clone()).unwrap();
        let now = Timestamp::from_millis(1_420_411_895_144).unwrap();
        for name in ["b", "a"] {
            mails.write(name, name.into(), now).await.unwrap();
        }
        let names = names(&path);
        assert!(names[0].starts_with("20150104T225135.144Z-000000-") && names[0].ends_with("-b.eml"), "{names:?}");
        assert!(names[1].ends_with("-a.eml") && names.len() == 2, "{names:?}");
        assert_eq!(fs::read(path.join(&names[0])).unwrap(), b"b");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join(&names[0]))), (0o700, 0o600));
    }

    #[tokio::test]
    async fn the_newest_thousand_are_kept_and_nobody_elses_files_are_touched() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..1_005 {
            fs::write(folder.path().join(format!("20150104T225135.144Z-{number:06}-x-y.eml")), "").unwrap();
        }
        fs::write(folder.path().join("20150103T225135.144Z-0-x-y.eml.partial"), "").unwrap();
        fs::write(folder.path().join("mine.eml"), "").unwrap();
        let now = Timestamp::from_millis(1_420_411_895_145).unwrap();
        Folder::new(folder.path().to_owned()).unwrap().write("z", Vec::new(), now).await.unwrap();
        let names = names(folder.path());
        assert_eq!(names.len(), KEPT + 1);
        assert!(names[0].contains("-000006-") && names.contains(&"mine.eml".to_owned()), "{}", names[0]);
        assert!(names[KEPT - 1].ends_with("-z.eml"), "{}", names[KEPT - 1]);
    }

    #[tokio::test]
    async fn what_cannot_be_deleted_fails_no_mail_and_keeps_no_other_from_being_deleted() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("20150101T225135.144Z-0-x-y.eml")).unwrap();
        for number in 0..1_005 {
            fs::write(folder.path().join(format!("20150104T225135.144Z-{number:06}-x-y.eml")), "").unwrap();
        }
        let mails = Folder::new(folder.path().to_owned()).unwrap();
        let now = Timestamp::from_millis(1_420_411_895_145).unwrap();
        mails.write("z", Vec::new(), now).await.unwrap();
        let names = names(folder.path());
        assert!(names[0].starts_with("20150101") && names[1].contains("-000006-"), "{names:?}");
        assert_eq!(names.len(), KEPT + 1);
        assert!(names[KEPT].ends_with("-z.eml"), "{}", names[KEPT]);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told_before_a_mail_is_written() {
        let refused = |path: &str| Folder::new(path.into()).err().map(|error| error.to_string());
        let expected = |path: &str| Some(format!("mail.folder: {path} cannot be used: /dev/null is not a folder"));
        for path in ["/dev/null", "/dev/null/x", "/dev/null/x/y"] {
            assert_eq!(refused(path), expected(path));
        }
        for path in ["/", "/nowhere/mail", "nowhere/mail", "src", "src/nowhere"] {
            assert_eq!(refused(path), None, "{path}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let mails = Folder::new(folder.path().join("file").join("mail")).unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let failure = mails.write("a", Vec::new(), Timestamp::from_millis(0).unwrap()).await.unwrap_err();
        assert!(failure.to_string().starts_with("the mail cannot be written to ") && !failure.is_permanent);
    }
}
