//! Secrets: settings that are given as a value, by a file of their own, or as a systemd credential, and are never
//! shown.
//!
//! A secret named `key` is given in one of three ways:
//!
//! - `key = "…"` in the file, or the variable that stands for it, like any setting;
//! - `key_file = "/run/secrets/key"`, also in the file or a variable: that file holds the secret;
//! - a file `section.key` in `$CREDENTIALS_DIRECTORY` (see `LoadCredential=` in systemd.exec(5)). It is used where
//!   neither of the others is given: a unit fills in what the configuration leaves open.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::config::value::{Kind, Raw};

/// What is shown instead of a secret.
pub const MASK: &str = "********";

/// The largest file of a secret, in bytes.
const MAX_SIZE: u64 = 64 * 1024;

/// A secret text. It has neither `Debug` nor `Display` nor `Serialize`, so whatever holds it cannot derive them either;
/// [`Secret::expose`] is the only way to read it.
///
/// It is overwritten in memory when it is dropped. Copies in `config.toml` and in the environment are not: where that
/// matters, give a secret by a file of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

/// A secret setting. The mask that `config show` prints is not a valid value, so that nobody uses its output as a
/// configuration unnoticed.
#[must_use]
pub fn secret() -> Kind<Secret> {
    let read = |raw: &Raw| {
        let text = raw.text().filter(|text| !text.is_empty() && *text != MASK)?;
        Some(Secret::from(text.to_owned()))
    };
    let expected =
        format!("a text that is not empty, and is not the \"{MASK}\" that is shown in the place of a secret");
    Kind { is_secret: true, ..Kind::new(expected, read, |_| MASK.into()) }
}

/// Reads the file of a secret, without the line ending at its end. Tells also whether every user of the machine can
/// read it.
///
/// # Errors
/// The end of a sentence about the file, which never shows any of its content.
pub(crate) fn read_file(path: &Path) -> Result<(Zeroizing<String>, bool), String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    // Before it is opened: opening a pipe would wait for a writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    // With its final capacity: growing would leave copies of the secret behind in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(MAX_SIZE + 1).unwrap_or_default()));
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err("is larger than 64 KiB".to_owned());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "is not UTF-8".to_owned())?;
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok((Zeroizing::new(text.to_owned()), mode & 0o004 != 0))
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::fs::Permissions;
    use std::marker::PhantomData;

    use super::*;

    /// Tells whether a type has a trait: an inherent constant takes precedence over a trait's.
    struct Probe<T>(PhantomData<T>);

    trait Lacks {
        const DEBUG: bool = false;
        const DISPLAY: bool = false;
        const SERIALIZE: bool = false;
    }

    impl<T> Lacks for Probe<T> {}

    impl<T: fmt::Debug> Probe<T> {
        const DEBUG: bool = true;
    }

    impl<T: fmt::Display> Probe<T> {
        const DISPLAY: bool = true;
    }

    impl<T: serde::Serialize> Probe<T> {
        const SERIALIZE: bool = true;
    }

    #[test]
    fn a_secret_can_be_neither_printed_nor_serialized() {
        let text = [Probe::<String>::DEBUG, Probe::<String>::DISPLAY, Probe::<String>::SERIALIZE];
        assert_eq!(text, [true; 3], "the probe sees what a type has");
        let secret = [Probe::<Secret>::DEBUG, Probe::<Secret>::DISPLAY, Probe::<Secret>::SERIALIZE];
        assert_eq!(secret, [false; 3]);
    }

    #[test]
    fn the_file_of_a_secret_is_small_text_whose_last_line_ending_is_taken_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_file(&path).map(|(text, _)| text.to_string())
        };
        for (bytes, text) in [
            ("s3cret", "s3cret"),
            ("s3cret\n", "s3cret"),
            ("s3cret\r\n", "s3cret"),
            ("s3cret\n\n", "s3cret\n"),
            (" s3cret \r", " s3cret \r"),
        ] {
            assert_eq!(read(bytes.as_bytes()).unwrap(), text);
        }
        assert_eq!(read(&vec![b'a'; 64 * 1024]).unwrap().len(), 64 * 1024);
        assert_eq!(read(&vec![b'a'; 64 * 1024 + 1]).unwrap_err(), "is larger than 64 KiB");
        assert_eq!(read(b"\n").unwrap_err(), "is empty");
        assert_eq!(read(b"").unwrap_err(), "is empty");
        assert_eq!(read(b"\xff").unwrap_err(), "is not UTF-8");
        assert_eq!(read_file(folder.path()).unwrap_err(), "is not a file");
        assert!(read_file(&folder.path().join("none")).unwrap_err().starts_with("cannot be read: "));
    }

    #[test]
    fn a_file_that_every_user_can_read_is_told_of() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "s3cret").unwrap();
        for (mode, is_open) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
            fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_file(file.path()).unwrap().1, is_open, "{mode:o}");
        }
    }
}
