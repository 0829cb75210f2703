//! The tokens of a Django site: those of Django REST framework, in clear, and those of knox, by their SHA-512.

use crate::domain::token::{PlainToken, TokenDigest};
use crate::import::ImportError;
use crate::import::account::{SourceDigest, SourceToken};
use crate::import::django::rows::{Row, Times, has, read_rows};
use crate::import::formats::dumpdata::KEY;
use crate::import::formats::tables::{Cell, TableInfo, Tables};
use crate::system::clock::Timestamp;

/// How many characters knox 4 keeps of a token to find it by. knox 5 keeps more, and finds none by so few.
const KNOX_4_KEY: usize = 8;
/// The migration of knox 5 that widens that column.
const KNOX_5_MIGRATION: &str = "0009_extend_authtoken_field";

/// The form is not one that can be carried.
pub(super) const TOKEN_FORM: &str = "token_form";

/// What is done with each token: the cell of its owner, and the token.
pub(super) type EachToken<'a> = &'a mut dyn FnMut(&Cell, SourceToken) -> Result<(), ImportError>;

/// Reads the tokens of Django REST framework.
pub(super) fn read_plain(
    file: &mut dyn Tables,
    table: &TableInfo,
    owner: &str,
    times: &mut Times,
    each: EachToken<'_>,
) -> Result<(), ImportError> {
    let key = own_or_key(table, "key");
    read_rows(file, table, &[key, "created", owner], &mut |row| {
        let token = row.text(key).and_then(|token| PlainToken::parse(&token));
        let digest = token.map(|token| SourceDigest::Sha256(token.digest())).ok_or(TOKEN_FORM);
        let created = row.text("created").and_then(|created| times.read(&created));
        each(row.cell(owner), SourceToken { digest, created, expires: None })
    })
}

/// How the tokens of knox are to be read.
pub(super) struct Knox<'a> {
    /// The algorithm that the site's settings name, where it is told.
    pub(super) hash: Option<&'a str>,
    pub(super) now: Timestamp,
}

impl Knox<'_> {
    pub(super) fn read(
        &self,
        file: &mut dyn Tables,
        table: &TableInfo,
        owner: &str,
        times: &mut Times,
        each: EachToken<'_>,
    ) -> Result<(), ImportError> {
        let is_5 = is_knox_5(file, table)?;
        let digest = own_or_key(table, "digest");
        let is_salted = has(table, "salt");
        read_rows(file, table, &[digest, "token_key", "created", "expiry", owner], &mut |row| {
            let key_length = row.text("token_key").map_or(0, |key| key.chars().count());
            let expires = match row.text("expiry") {
                None => Ok(None),
                Some(expiry) => times.read(&expiry).map(Some).ok_or(TOKEN_FORM),
            };
            let read = if is_salted {
                Err("token_salted")
            } else if is_5 && key_length <= KNOX_4_KEY {
                Err("token_dead_at_source")
            } else if expires.is_ok_and(|expires| expires.is_some_and(|expires| expires <= self.now)) {
                Err("expired")
            } else {
                expires.and_then(|_| self.digest(&row, digest))
            };
            let created = row.text("created").and_then(|created| times.read(&created));
            each(row.cell(owner), SourceToken { digest: read, created, expires: expires.unwrap_or_default() })
        })
    }

    /// The first 32 bytes of a SHA-512.
    fn digest(&self, row: &Row<'_>, column: &str) -> Result<SourceDigest, &'static str> {
        if self.hash.is_some_and(|hash| !is_sha512(hash)) {
            return Err(TOKEN_FORM);
        }
        row.text(column).and_then(|text| sha512(&text)).map(SourceDigest::Sha512).ok_or(TOKEN_FORM)
    }
}

/// Whether an option names SHA-512, in whatever spelling: `sha512`, `SHA-512`, `hashlib.sha512` or the class of `cryptography`.
fn is_sha512(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    ["sha512", "sha-512", "sha_512"].contains(&last.as_str())
}

fn sha512(text: &str) -> Option<TokenDigest> {
    let digits = text.as_bytes();
    if digits.len() != 128 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; 64];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = digit(pair[0])? * 16 + digit(pair[1])?;
    }
    bytes.first_chunk().copied().map(TokenDigest::from_bytes)
}

/// Whether the table is that of knox 5: its rows or the site's migrations tell.
fn is_knox_5(file: &mut dyn Tables, table: &TableInfo) -> Result<bool, ImportError> {
    let mut is_5 = false;
    read_rows(file, table, &["token_key"], &mut |row| {
        is_5 |= row.text("token_key").is_some_and(|key| key.chars().count() > KNOX_4_KEY);
        Ok(())
    })?;
    let is_migrations = |own: &&TableInfo| own.schema == table.schema && own.name == "django_migrations";
    if let Some(migrations) = file.tables().iter().find(is_migrations).cloned() {
        read_rows(file, &migrations, &["app", "name"], &mut |row| {
            is_5 |= row.text("app").as_deref() == Some("knox") && row.text("name").as_deref() == Some(KNOX_5_MIGRATION);
            Ok(())
        })?;
    }
    Ok(is_5)
}

/// A column that is its table's key. dumpdata has no name for that.
fn own_or_key<'a>(table: &TableInfo, column: &'a str) -> &'a str {
    if has(table, column) { column } else { KEY }
}
