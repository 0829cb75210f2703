//! Whether the service can read every row. SQLite finds a file in order whatever a row says of its user; a value that the
//! service never wrote is met only by whoever asks for that row.

use rusqlite::{Connection, Row};
use thiserror::Error;

use super::{events, invalid_column, read_item, read_session_details, read_time, read_user, sql};
use crate::user::PasswordHash;

/// What is wrong with one row, and whose it is.
#[derive(Debug, Error)]
#[error("{0}")]
struct OddRow(String);

/// Rows that the service cannot read.
pub(in crate::repository) struct OddRows {
    /// What is wrong with the first of them.
    pub(in crate::repository) told: Vec<String>,
    /// How many there are.
    pub(in crate::repository) count: u64,
}

/// Reads every row of a file of this release's schema as the service does, one after another; `is_hash` says whether a
/// login could be checked against a hash. Tells of at most `most` of those that cannot be read.
pub(in crate::repository) fn find_odd_rows(
    connection: &Connection,
    is_hash: fn(&PasswordHash) -> bool,
    most: usize,
) -> rusqlite::Result<OddRows> {
    let mut odd = OddRows { told: Vec::new(), count: 0 };
    let mut read = |statement, whose: &str, read: &dyn Fn(&Row<'_>) -> rusqlite::Result<()>| {
        let mut statement = connection.prepare(statement)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Err(error) = read(row) {
                odd.count += 1;
                if odd.told.len() < most {
                    odd.told.push(told(row, &format!("{whose}{}", name_of(row)?), error));
                }
            }
        }
        Ok::<_, rusqlite::Error>(())
    };
    read(sql::READ_USERS, "the account ", &|row| {
        read_user(row, 0)?;
        let hash = PasswordHash::from_stored(row.get("password_hash")?);
        if is_hash(&hash) { Ok(()) } else { Err(odd_column(row, "password_hash", "it is no hash of ours")) }
    })?;
    for (statement, whose) in [(sql::READ_CELLARS, "the cellar of "), (sql::READ_WANTS, "the wish list of ")] {
        read(statement, whose, &|row| {
            read_item(row)?;
            read_time(row, "added").map(drop)
        })?;
    }
    read(sql::READ_TOKENS, "a token of ", &|row| read_session_details(row).map(drop))?;
    read(sql::READ_FAILURES, "the failed logins of ", &|row| events::read_failures(row).map(drop))?;
    read(sql::READ_EVENTS, "an event of ", &|row| events::read_event(row).map(drop))?;
    Ok(odd)
}

/// The error of an account's row, with its name.
pub(super) fn odd_account(row: &Row<'_>, error: rusqlite::Error) -> rusqlite::Error {
    match name_of(row) {
        Ok(name) => invalid_column(0, OddRow(told(row, &format!("the account {name}"), error))),
        Err(_) => error,
    }
}

/// Whose row it is: a name that may itself be what is wrong, and a number.
fn name_of(row: &Row<'_>) -> rusqlite::Result<String> {
    let name = row.get_ref("username")?.as_bytes_or_null()?.unwrap_or_default();
    let id: Option<i64> = row.get("user_id")?;
    let id = id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    Ok(format!("{} (id {id})", String::from_utf8_lossy(name)))
}

fn told(row: &Row<'_>, whose: &str, error: rusqlite::Error) -> String {
    let (column, why) = match error {
        rusqlite::Error::FromSqlConversionFailure(column, _, why) => (column, why.to_string()),
        rusqlite::Error::IntegralValueOutOfRange(column, number) => (column, format!("{number} is out of range")),
        other => (usize::MAX, other.to_string()),
    };
    match row.as_ref().column_name(column) {
        Ok(column) => format!("{whose}, {column}: {why}"),
        Err(_) => format!("{whose}: {why}"),
    }
}

fn odd_column(row: &Row<'_>, column: &str, why: &str) -> rusqlite::Error {
    let column = row.as_ref().column_index(column).unwrap_or(usize::MAX);
    invalid_column(column, OddRow(why.to_owned()))
}
