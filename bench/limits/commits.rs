//! The limit of one transaction a change: one-row commits with `synchronous=FULL`, one after the other, as the service
//! would make them without group commit. Prints commits a second.
//!
//! `commits FILE SECONDS`

use std::error::Error;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("commits FILE SECONDS")?;
    let time = Duration::from_secs_f64(arguments.next().ok_or("commits FILE SECONDS")?.parse()?);

    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch("CREATE TABLE IF NOT EXISTS items (user_id INTEGER, item_id INTEGER, added INTEGER)")?;
    let mut insert = connection.prepare("INSERT INTO items VALUES (?1, ?2, 0)")?;
    let started = Instant::now();
    let mut commits = 0_u32;
    while started.elapsed() < time {
        insert.execute(params![commits % 1_000, commits])?;
        commits += 1;
    }
    println!("{:.2}", f64::from(commits) / started.elapsed().as_secs_f64());
    Ok(())
}
