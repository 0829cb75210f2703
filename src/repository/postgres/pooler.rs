//! Finds out whether a pooler in between gives each transaction another session (pgbouncer's "transaction mode").
//!
//! Statements that are prepared once a connection, and the time limits that each connection begins with, belong to a
//! session. A pooler that takes it away between two transactions would lose them, or mix up those of two connections. It
//! shows late and at random, so it is tried at the start.

use std::time::Duration;

use tokio::time::timeout;

use super::error::{Failure, OpenError};
use super::pool::{Connection, Connector, POOL_TIMEOUT};
use super::reach::why_not;
use crate::system::error_chain::Chain;

/// How long a try may take. A pooler that has only one session to give has the second connection wait for it.
const TRIED_WITHIN: Duration = Duration::from_secs(2);

/// How often it is tried. Others use the pooler too, and may hand the same session back by chance.
const TRIES: u32 = 3;

const READ_MARK: &str = "SELECT coalesce(current_setting('authtokens.session', true), '')";

/// Refuses a pooler that does not keep a session for a connection.
pub(super) async fn check(connector: &Connector, first: &Connection) -> Result<(), OpenError> {
    let failed = |why: String| OpenError::Failed { shown: connector.shown().to_owned(), why };
    let mixed_up = || {
        failed(
            "a pooler is in between that gives each transaction another session: set pool_mode = session in its \
             configuration, or name PostgreSQL itself in database.url"
                .to_owned(),
        )
    };
    let Ok(second) = timeout(POOL_TIMEOUT, connector.connect()).await else {
        let why = "it has no second session to give: raise default_pool_size of the pooler in between";
        return Err(failed(why.to_owned()));
    };
    let second = second.map_err(|error| failed(why_not(&error)))?;
    for number in 0..TRIES {
        let Ok(tried) = timeout(TRIED_WITHIN, are_sessions_kept(first, &second, number)).await else {
            return Err(mixed_up());
        };
        if !tried.map_err(|failure| failed(Chain(&failure.mapped()).to_string()))? {
            return Err(mixed_up());
        }
    }
    Ok(())
}

/// Marks the session of one connection. While the other one is in a transaction, which occupies a session, both must see
/// what they did before.
async fn are_sessions_kept(first: &Connection, second: &Connection, number: u32) -> Result<bool, Failure> {
    let mark = format!("mark {number}");
    first.batch(&format!("SET authtokens.session = '{mark}'")).await?;
    second.batch("BEGIN").await?;
    let seen_by_second = read_mark(second).await?;
    let seen_by_first = read_mark(first).await?;
    second.batch("ROLLBACK").await?;
    Ok(seen_by_first == mark && seen_by_second.is_empty())
}

/// Without a prepared statement: one of another connection may have its name.
async fn read_mark(connection: &Connection) -> Result<String, Failure> {
    let answers = connection.simple_query(READ_MARK).await?;
    let mark = answers.iter().find_map(|answer| match answer {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(mark.unwrap_or_default())
}
