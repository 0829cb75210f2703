//! Fills a database with users whose password is `hunter2hunter2`, five items in the cellar each, and one session each
//! or as many as asked for. Prints the sessions' tokens, one a line.
//!
//! `fill FILE USERS COST [SESSIONS]`

use std::error::Error;
use std::io::{BufWriter, Write as _, stdout};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use authtokens::domain::token::PlainToken;
use authtokens::passwords::{Passwords, PlainPassword};
use authtokens::repository::Maintenance as _;
use authtokens::repository::Notices;
use authtokens::repository::sqlite::{SqliteRepository, SqliteSettings};
use authtokens::system::clock::Clock;
use authtokens::system::watched::WatchedThreads;
use rusqlite::{Connection, params};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("fill FILE USERS COST")?);
    let users: i64 = arguments.next().ok_or("fill FILE USERS COST")?.parse()?;
    let cost = arguments.next().map_or(Ok(12), |cost| cost.parse())?;
    let sessions: u32 = arguments.next().map_or(Ok(1), |sessions| sessions.parse())?;

    let settings = SqliteSettings {
        path: path.clone(),
        readers: 1,
        busy_timeout: Duration::from_secs(1),
        cache: 0,
        keep_before_upgrade: None,
        notices: Notices::default(),
    };
    SqliteRepository::open(&settings)?.close().await?;
    let password = PlainPassword::parse("password", "hunter2hunter2".to_owned())?;
    // One hash for all: making 100,000 of them would take hours, as it should.
    let hash = Passwords::start(cost, NonZeroUsize::MIN, 1, &WatchedThreads::default())?
        .hash(password, std::future::pending())
        .await?;

    let mut connection = Connection::open(&path)?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    // KiB: the keys come in no order, and a million of them do not fit the 2 MiB that SQLite keeps by itself.
    connection.pragma_update(None, "cache_size", -500_000)?;
    let transaction = connection.transaction()?;
    {
        let mut user = transaction.prepare(
            "INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, last_login) \
             VALUES (?1, ?1, ?2, 0, 0, 0, 0) RETURNING id",
        )?;
        let mut item = transaction.prepare("INSERT INTO cellar VALUES (?1, ?2, 0)")?;
        let mut session =
            transaction.prepare("INSERT INTO tokens VALUES (?1, ?2, ?3, ?3, 'bench', '127.0.0.1', NULL)")?;
        let now = Clock::system().now().as_millis();
        let mut tokens = BufWriter::new(stdout().lock());
        for number in 0..users {
            let id: i64 = user.query_row(params![format!("user{number}"), hash.as_stored()], |row| row.get(0))?;
            for item_id in 1..=5 {
                item.execute(params![id, item_id])?;
            }
            for _ in 0..sessions {
                let token = PlainToken::generate();
                session.execute(params![token.digest().as_bytes(), id, now])?;
                writeln!(tokens, "{}", token.reveal())?;
            }
        }
    }
    transaction.commit()?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}
