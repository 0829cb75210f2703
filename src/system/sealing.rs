//! Sealing: authenticated encryption of the few secrets that must be stored in a form that can be read again.
//!
//! ChaCha20-Poly1305 (RFC 8439) by ring, under a key of 256 bits that is kept apart from the store: in a file beside it,
//! or in the configuration. What is sealed is bound to where it belongs, so that it cannot be moved to another row. It is
//! one byte for the version, eight for the key's id, a nonce of 96 random bits, and the ciphertext with its tag.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use rand::TryRng as _;
use rand::rngs::SysRng;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::system::small_file;

/// The version of what is sealed: its first byte.
const VERSION: u8 = 1;

/// How many bytes of a key's digest name it.
pub const KEY_ID_LENGTH: usize = 8;

const KEY_LENGTH: usize = 32;

/// How large the file of a key may be.
const MAX_FILE: u64 = 1024;

/// Why a sealed secret was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnsealError {
    /// It was sealed with another key.
    #[error("it was sealed with another key")]
    AnotherKey,
    /// It was altered, or belongs elsewhere.
    #[error("it was altered, or moved from where it belongs")]
    Altered,
}

/// Why a key cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// It is none.
    #[error("it is not 64 hex digits")]
    Malformed,
    /// Others than its owner may read the file.
    #[error("others than its owner may read it: give it mode 0600")]
    Readable,
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A key that seals. It has no `Debug`, no `Display` and no `Serialize`.
pub struct SealingKey {
    key: LessSafeKey,
    id: [u8; KEY_ID_LENGTH],
}

impl SealingKey {
    /// Reads a key as it is written: 64 hex digits.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        // `from_str_radix` alone takes a sign.
        if text.len() != 2 * KEY_LENGTH || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(KeyError::Malformed);
        }
        let mut bytes = Zeroizing::new([0_u8; KEY_LENGTH]);
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| KeyError::Malformed)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| KeyError::Malformed)?;
        }
        Self::from_bytes(&bytes)
    }

    fn from_bytes(bytes: &[u8; KEY_LENGTH]) -> Result<Self, KeyError> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).map_err(|_| KeyError::Malformed)?;
        let digest = Sha256::digest([b"authtokens sealing key".as_slice(), bytes].concat());
        let mut id = [0; KEY_ID_LENGTH];
        id.copy_from_slice(&digest[..KEY_ID_LENGTH]);
        Ok(Self { key: LessSafeKey::new(key), id })
    }

    /// What names the key, and tells nothing of it. It stands in all that is sealed with it.
    #[must_use]
    pub fn id(&self) -> &[u8; KEY_ID_LENGTH] {
        &self.id
    }

    /// Seals a secret for where it belongs, such as a column and a row.
    ///
    /// # Panics
    /// When the operating system has no random numbers.
    #[must_use]
    pub fn seal(&self, binding: &str, secret: &[u8]) -> Vec<u8> {
        let mut nonce = [0_u8; NONCE_LEN];
        SysRng.try_fill_bytes(&mut nonce).expect("the operating system gives random numbers");
        let mut sealed = [&[VERSION], self.id.as_slice(), &nonce].concat();
        let mut text = secret.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        // Only a secret of 256 GiB is refused.
        self.key.seal_in_place_append_tag(nonce, Aad::from(binding), &mut text).expect("a short secret");
        sealed.extend(text);
        sealed
    }

    /// Opens what was sealed for the same.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub fn open(&self, binding: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let (version, rest) = sealed.split_first().ok_or(UnsealError::Altered)?;
        let (id, rest) = rest.split_at_checked(KEY_ID_LENGTH).ok_or(UnsealError::Altered)?;
        if *version != VERSION || id != self.id {
            return Err(UnsealError::AnotherKey);
        }
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(UnsealError::Altered)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| UnsealError::Altered)?;
        let mut text = Zeroizing::new(text.to_vec());
        let length =
            self.key.open_in_place(nonce, Aad::from(binding), &mut text).map_err(|_| UnsealError::Altered)?.len();
        text.truncate(length);
        Ok(text)
    }
}

/// Whether this can be what a key has sealed, by its beginning and its length. Whether it can be opened is not known.
#[must_use]
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.first() == Some(&VERSION) && bytes.len() > 1 + KEY_ID_LENGTH + NONCE_LEN + CHACHA20_POLY1305.tag_len()
}

/// A new key as it is written.
///
/// # Panics
/// When the operating system has no random numbers.
#[must_use]
pub fn generate_key() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0_u8; KEY_LENGTH]);
    SysRng.try_fill_bytes(bytes.as_mut_slice()).expect("the operating system gives random numbers");
    let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LENGTH));
    for byte in bytes.iter() {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text
}

/// Reads the key in a file that only its owner may read; `None` where there is no file.
///
/// # Errors
/// See [`KeyError`].
pub fn read_key(path: &Path) -> Result<Option<SealingKey>, KeyError> {
    let bytes = match small_file::read(path, MAX_FILE) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if path.metadata()?.permissions().mode() & 0o077 != 0 {
        return Err(KeyError::Readable);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| KeyError::Malformed)?;
    SealingKey::parse(text).map(Some)
}

/// Writes a new key into a file of mode 0600, which must not exist. It is durable then. The file belongs to the owner of
/// the file `beside`, as far as this user may give it away: the service must be able to read what root has made.
///
/// # Errors
/// See [`KeyError`].
pub fn create_key(path: &Path, beside: &Path) -> Result<SealingKey, KeyError> {
    let text = generate_key();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = folder.join(format!("{name}.partial"));
    // A process that was killed may have left it.
    match std::fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    if let Ok(owner) = beside.metadata()
        && owner.uid() != file.metadata()?.uid()
    {
        let _ = fchown(&file, Some(owner.uid()), Some(owner.gid()));
    }
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    // Never over a key that is there: what was sealed with that could not be opened any more.
    let linked = std::fs::hard_link(&partial, path);
    std::fs::remove_file(&partial)?;
    linked?;
    File::open(folder)?.sync_all()?;
    SealingKey::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_the_same_key_for_the_same_place_alone() {
        let (key, other) = (SealingKey::parse(&generate_key()).unwrap(), SealingKey::parse(&generate_key()).unwrap());
        let sealed = key.seal("totp.secret:1", b"hunter2");
        assert_eq!(key.open("totp.secret:1", &sealed).unwrap().as_slice(), b"hunter2");
        assert_ne!(sealed, key.seal("totp.secret:1", b"hunter2"), "each time with another nonce");
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(key.open("totp.secret:2", &sealed).unwrap_err(), UnsealError::Altered);
        assert_eq!(other.open("totp.secret:1", &sealed).unwrap_err(), UnsealError::AnotherKey);
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(key.open("totp.secret:1", &altered).is_err(), "{at}");
            assert!(key.open("totp.secret:1", &sealed[..at]).is_err(), "{at}");
        }
        assert_eq!(&sealed[1..=KEY_ID_LENGTH], key.id());
    }

    #[test]
    fn a_key_file_is_made_once_with_mode_0600_and_refused_where_others_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authtokens.key");
        assert!(read_key(&path).unwrap().is_none());
        let made = create_key(&path, folder.path()).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_key(&path).unwrap().unwrap().id(), made.id());
        assert!(matches!(create_key(&path, folder.path()), Err(KeyError::Io(_))), "no key is written over");
        assert_eq!(read_key(&path).unwrap().unwrap().id(), made.id());
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_key(&path), Err(KeyError::Readable)));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(66), &"+1".repeat(32), &"é".repeat(32)] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(read_key(&path), Err(KeyError::Malformed)), "{bad}");
        }
    }
}
