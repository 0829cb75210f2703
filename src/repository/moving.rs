//! Moves everything from one store to another, of whatever kind each is: the copy itself, and what a store must offer.
//!
//! The source is kept from all changes meanwhile, and is marked as moved when the target is durable: nobody then works
//! on the old one by mistake. The target gets all rows in one transaction. Before that is committed they are read again,
//! counted, and compared by a digest that does not depend on their order.

use std::fmt::Write as _;
use std::panic::resume_unwind;
use std::sync::mpsc::sync_channel;
use std::thread;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::repository::backup::{BackupError, Progress, Stop};
use crate::repository::error::OpenError;

/// How many rows are handed over at once, and how many such batches may wait.
const BATCH: usize = 256;
const BATCHES: usize = 8;

/// After how many rows the progress is told.
const ROWS_A_STEP: u64 = 1_024;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Boolean,
    Text,
    Bytes,
}

/// A table of the schema, the same in every store.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Its columns, the key first.
    pub(super) columns: &'static [(&'static str, Kind)],
    /// How many columns the key has.
    pub(super) key: usize,
    /// Whether its first column is an id that the store gives, and never gives twice.
    pub(super) gives_ids: bool,
}

use Kind::{Boolean, Bytes, Integer, Text};

/// All tables, in the order of their foreign keys.
pub(super) const TABLES: [Table; 18] = [
    Table {
        name: "users",
        columns: &[
            ("id", Integer),
            ("username", Text),
            ("username_key", Text),
            ("password_hash", Text),
            ("first_name", Text),
            ("last_name", Text),
            ("email", Text),
            ("address", Text),
            ("address2", Text),
            ("city", Text),
            ("state", Text),
            ("zipcode", Text),
            ("is_active", Boolean),
            ("is_staff", Boolean),
            ("is_superuser", Boolean),
            ("date_joined", Integer),
            ("created", Integer),
            ("modified", Integer),
            ("last_login", Integer),
            ("email_key", Text),
            ("email_verified", Boolean),
            ("told_of_login", Integer),
            ("imported_hash_work", Integer),
            ("public_id", Bytes),
        ],
        key: 1,
        gives_ids: true,
    },
    Table {
        name: "cellar",
        columns: &[("user_id", Integer), ("item_id", Integer), ("added", Integer)],
        key: 2,
        gives_ids: false,
    },
    Table {
        name: "wants",
        columns: &[("user_id", Integer), ("item_id", Integer), ("added", Integer)],
        key: 2,
        gives_ids: false,
    },
    Table {
        name: "tokens",
        columns: &[
            ("digest", Bytes),
            ("user_id", Integer),
            ("created", Integer),
            ("last_used", Integer),
            ("user_agent", Text),
            ("ip", Text),
            ("reauthenticated", Integer),
            ("expires", Integer),
            ("imported", Text),
            ("methods", Text),
        ],
        key: 1,
        gives_ids: false,
    },
    Table {
        name: "events",
        columns: &[
            ("id", Integer),
            ("at", Integer),
            ("kind", Text),
            ("user_id", Integer),
            ("username", Text),
            ("actor", Text),
            ("ip", Text),
            ("detail", Text),
        ],
        key: 1,
        gives_ids: true,
    },
    Table {
        name: "login_failures",
        columns: &[("user_id", Integer), ("failures", Integer), ("last_failed", Integer)],
        key: 1,
        gives_ids: false,
    },
    Table {
        name: "one_time_codes",
        columns: &[
            ("request", Bytes),
            ("purpose", Text),
            ("user_id", Integer),
            ("is_familiar", Boolean),
            ("email", Text),
            ("email_key", Text),
            ("link", Text),
            ("detail", Text),
            ("token", Bytes),
            ("mac", Bytes),
            ("tries", Integer),
            ("created", Integer),
            ("code_expires", Integer),
            ("expires", Integer),
        ],
        key: 1,
        gives_ids: false,
    },
    Table {
        name: "outbox",
        columns: &[
            ("id", Integer),
            ("kind", Text),
            ("user_id", Integer),
            ("username", Text),
            ("recipient", Text),
            ("is_verified", Boolean),
            ("request", Bytes),
            ("detail", Text),
            ("at", Integer),
            ("ip", Text),
            ("user_agent", Text),
            ("link", Text),
            ("attempts", Integer),
            ("due", Integer),
            ("claims", Integer),
            ("expires", Integer),
        ],
        key: 1,
        gives_ids: true,
    },
    Table {
        name: "imported",
        columns: &[
            ("source", Text),
            ("source_id", Text),
            ("fingerprint", Bytes),
            ("has_other_name", Boolean),
            ("at", Integer),
        ],
        key: 2,
        gives_ids: false,
    },
    Table {
        name: "totp",
        columns: &[
            ("user_id", Integer),
            ("secret", Bytes),
            ("created", Integer),
            ("confirmed", Integer),
            ("last_step", Integer),
        ],
        key: 1,
        gives_ids: false,
    },
    Table {
        name: "recovery_codes",
        columns: &[("digest", Bytes), ("user_id", Integer), ("created", Integer)],
        key: 1,
        gives_ids: false,
    },
    Table {
        name: "passkeys",
        columns: &[
            ("credential_id", Bytes),
            ("user_id", Integer),
            ("user_handle", Bytes),
            ("rp_id", Text),
            ("name", Text),
            ("credential", Text),
            ("created", Integer),
            ("last_used", Integer),
        ],
        key: 1,
        gives_ids: false,
    },
    Table {
        name: "identities",
        columns: &[
            ("issuer", Text),
            ("subject", Text),
            ("user_id", Integer),
            ("provider", Text),
            ("email", Text),
            ("created", Integer),
            ("last_used", Integer),
            ("refresh_token", Bytes),
        ],
        key: 2,
        gives_ids: false,
    },
    Table {
        name: "challenges",
        columns: &[
            ("digest", Bytes),
            ("purpose", Text),
            ("user_id", Integer),
            ("state", Text),
            ("tries", Integer),
            ("created", Integer),
            ("expires", Integer),
        ],
        key: 1,
        gives_ids: false,
    },
    Table {
        name: "revocations",
        columns: &[
            ("id", Integer),
            ("provider", Text),
            ("binding", Bytes),
            ("token", Bytes),
            ("attempts", Integer),
            ("due", Integer),
            ("claims", Integer),
            ("expires", Integer),
        ],
        key: 1,
        gives_ids: true,
    },
    Table {
        name: "services",
        columns: &[("name", Text), ("digest", Bytes), ("created", Integer), ("last_used", Integer)],
        key: 1,
        gives_ids: false,
    },
    Table {
        name: "webhooks",
        columns: &[
            ("id", Text),
            ("url", Text),
            ("kinds", Text),
            ("secret", Bytes),
            ("previous_secret", Bytes),
            ("previous_until", Integer),
            ("allow_private", Boolean),
            ("cursor", Integer),
            ("lost", Integer),
            ("created", Integer),
            ("disabled", Integer),
            ("disabled_by", Text),
            ("failing_since", Integer),
            ("failures", Integer),
            ("last_success", Integer),
            ("due", Integer),
            ("claimed_until", Integer),
            ("claims", Integer),
        ],
        key: 1,
        gives_ids: false,
    },
    Table {
        name: "webhook_deliveries",
        columns: &[
            ("webhook", Text),
            ("event", Integer),
            ("message", Text),
            ("body", Text),
            ("attempts", Integer),
            ("due", Integer),
            ("tried", Integer),
            ("answer", Text),
        ],
        key: 2,
        gives_ids: false,
    },
];

impl Table {
    /// The names of its columns, for a statement.
    pub(super) fn column_list(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// The statement that reads it, in the order of its key.
    pub(super) fn select(&self) -> String {
        let key: Vec<_> = self.columns[..self.key].iter().map(|(name, _)| *name).collect();
        format!("SELECT {} FROM {} ORDER BY {}", self.column_list(), self.name, key.join(", "))
    }

    /// A row's key, for a message.
    pub(super) fn key_of(&self, row: &[Value]) -> String {
        let shown = self.columns[..self.key].iter().zip(row).map(|((name, _), value)| match value {
            Value::Integer(number) => format!("{name} {number}"),
            Value::Bytes(bytes) => format!("{name} {}", hex(bytes)),
            Value::Null | Value::Boolean(_) | Value::Text(_) => (*name).to_owned(),
        });
        shown.collect::<Vec<_>>().join(", ")
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Boolean(bool),
    Text(String),
    Bytes(Vec<u8>),
}

pub(super) type Row = Vec<Value>;

/// What a table holds: how many rows, and the sum of their SHA-256 modulo 2^256, which does not depend on their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    rows: u64,
    sum: [u8; 32],
}

impl Contents {
    fn add(&mut self, row: &[Value]) {
        self.rows += 1;
        let digest = digest_of(row);
        let mut carry = 0;
        for (sum, byte) in self.sum.iter_mut().zip(digest).rev() {
            let total = u16::from(*sum) + u16::from(byte) + carry;
            let [high, low] = total.to_be_bytes();
            (*sum, carry) = (low, u16::from(high));
        }
    }
}

/// The SHA-256 of a row: of each value its type, its length and its bytes.
fn digest_of(row: &[Value]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |kind: u8, bytes: &[u8]| {
        hash.update([kind]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    for value in row {
        match value {
            Value::Null => add(0, &[]),
            Value::Integer(number) => add(1, &number.to_be_bytes()),
            Value::Boolean(is_on) => add(2, &[u8::from(*is_on)]),
            Value::Text(text) => add(3, text.as_bytes()),
            Value::Bytes(bytes) => add(4, bytes),
        }
    }
    hash.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Why a store was not copied. Each message is one sentence for a person.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum MoveError {
    #[error("{0} is both the source and the target")]
    Same(String),
    #[error("{shown} holds {table} already: the target must be empty")]
    NotEmpty { shown: String, table: &'static str },
    #[error(
        "the schema of {shown} is of version {found}, and must be {needed}: run authtokens database migrate on it first"
    )]
    OtherVersion { shown: String, found: i32, needed: i32 },
    #[error("{shown} is in use: {why}")]
    InUse { shown: String, why: String },
    #[error("the row of {table} with {key} cannot be moved: {why}; nothing was copied")]
    Row { table: &'static str, key: String, why: String },
    #[error("{shown}: {why}; nothing was copied")]
    Failed { shown: String, why: String },
    #[error("what {shown} has of {table} is not what was copied; nothing was copied")]
    Differs { shown: String, table: &'static str },
    #[error(
        "whether {shown} has stored the copy is not known ({why}): look with authtokens database status, and copy again \
         where it is empty"
    )]
    OutcomeUnknown { shown: String, why: String },
    #[error(
        "the copy in {to} is complete, but {from} could not be marked as moved ({why}): let no server use it any more"
    )]
    NotMarked { from: String, to: String, why: String },
    #[error("it was stopped before its end, and nothing was copied")]
    Stopped,
    /// The source or the target cannot be used at all.
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    File(BackupError),
}

impl From<BackupError> for MoveError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Stopped => Self::Stopped,
            other => Self::File(other),
        }
    }
}

/// A table that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CopiedTable {
    pub name: &'static str,
    pub rows: u64,
    /// In hex.
    pub digest: String,
}

/// A copy that is complete and durable.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CopyReport {
    pub from: String,
    pub to: String,
    pub tables: Vec<CopiedTable>,
}

/// Reads a store's tables, as of one moment.
pub(super) trait Reader: Send {
    /// The store's name in messages.
    fn shown(&self) -> &str;

    /// How many rows a table has.
    fn count(&mut self, table: &Table) -> Result<u64, MoveError>;

    /// Calls `row` with each row.
    fn read(&mut self, table: &Table, row: &mut dyn FnMut(Row) -> Result<(), MoveError>) -> Result<(), MoveError>;

    /// The greatest id that a table has ever given.
    fn greatest_id(&mut self, table: &Table) -> Result<i64, MoveError>;
}

/// A store that is copied. Nobody else changes it for as long as this lives.
pub(super) trait Source: Send {
    /// How it is read.
    fn reader(&mut self) -> &mut dyn Reader;

    /// Marks it as moved to another store: from then on it is refused to servers and commands. The error is the end of a
    /// sentence.
    fn mark_moved(self: Box<Self>, to: &str) -> Result<(), String>;
}

/// An empty store that is filled. Without [`Target::commit`] it stays empty.
pub(super) trait Target {
    /// How it is read again.
    fn reader(&mut self) -> &mut dyn Reader;

    /// Appends rows to a table.
    fn write(&mut self, table: &'static Table, rows: Vec<Row>) -> Result<(), MoveError>;

    /// The table is complete.
    fn end_table(&mut self, table: &'static Table) -> Result<(), MoveError>;

    /// Sets the greatest id that a table has ever given.
    fn set_greatest_id(&mut self, table: &Table, id: i64) -> Result<(), MoveError>;

    /// All tables are complete: builds the indexes and checks the foreign keys.
    fn finish(&mut self) -> Result<(), MoveError>;

    /// Makes all of it durable and visible at once.
    fn commit(self: Box<Self>) -> Result<(), MoveError>;
}

/// Copies all of a store.
pub(super) fn copy(
    mut source: Box<dyn Source>,
    mut target: Box<dyn Target>,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<CopyReport, MoveError> {
    let mut of = 0;
    for table in &TABLES {
        of += source.reader().count(table)?;
    }
    // Each row is written once and read again once.
    let mut steps = Steps { done: 0, of: of * 2, stop, progress };
    let mut copied = Vec::new();
    for table in &TABLES {
        copied.push(copy_table(source.reader(), target.as_mut(), table, &mut steps)?);
        if table.gives_ids {
            let id = source.reader().greatest_id(table)?;
            target.set_greatest_id(table, id)?;
        }
    }
    (steps.progress)(Progress::Checking);
    target.finish()?;
    for (table, contents) in TABLES.iter().zip(&copied) {
        let mut found = Contents::default();
        target.reader().read(table, &mut |row| {
            found.add(&row);
            steps.step(1)
        })?;
        if found != *contents {
            return Err(MoveError::Differs { shown: target.reader().shown().to_owned(), table: table.name });
        }
    }
    let report = CopyReport {
        from: source.reader().shown().to_owned(),
        to: target.reader().shown().to_owned(),
        tables: TABLES
            .iter()
            .zip(copied)
            .map(|(table, Contents { rows, sum })| CopiedTable { name: table.name, rows, digest: hex(&sum) })
            .collect(),
    };
    target.commit()?;
    let not_marked = |why| MoveError::NotMarked { from: report.from.clone(), to: report.to.clone(), why };
    source.mark_moved(&report.to).map_err(not_marked)?;
    Ok(report)
}

/// Copies a table. The source is read on a thread of its own, so that both stores work at once.
fn copy_table(
    source: &mut dyn Reader,
    target: &mut dyn Target,
    table: &'static Table,
    steps: &mut Steps<'_>,
) -> Result<Contents, MoveError> {
    let (sender, batches) = sync_channel::<Vec<Row>>(BATCHES);
    thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut contents = Contents::default();
            let mut batch = Vec::with_capacity(BATCH);
            // Nobody receives any more where the target has failed, whose error is the one to be told.
            let send = |batch: Vec<Row>| sender.send(batch).map_err(|_| MoveError::Stopped);
            source.read(table, &mut |row| {
                contents.add(&row);
                batch.push(row);
                if batch.len() < BATCH {
                    return Ok(());
                }
                send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)))
            })?;
            send(batch)?;
            Ok::<_, MoveError>(contents)
        });
        let write = |batch: Vec<Row>| {
            let rows = batch.len() as u64;
            target.write(table, batch)?;
            steps.step(rows)
        };
        let written = batches.into_iter().try_for_each(write);
        let contents = reading.join().unwrap_or_else(|panic| resume_unwind(panic));
        written?;
        let contents = contents?;
        target.end_table(table)?;
        Ok(contents)
    })
}

/// Tells how far it is, and stops where that is asked for.
struct Steps<'a> {
    done: u64,
    of: u64,
    stop: &'a Stop,
    progress: &'a mut dyn FnMut(Progress),
}

impl Steps<'_> {
    fn step(&mut self, rows: u64) -> Result<(), MoveError> {
        let before = self.done / ROWS_A_STEP;
        self.done += rows;
        if self.done / ROWS_A_STEP > before {
            self.stop.check()?;
            (self.progress)(Progress::Copying { done: self.done, of: self.of });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of every table of a schema, sorted, each with its type.
    fn columns_of(schema: &str) -> Vec<(String, Vec<(String, String)>)> {
        let code: Vec<_> = schema.lines().map(|line| line.split("--").next().unwrap().trim()).collect();
        let mut tables = Vec::new();
        let mut lines = code.into_iter();
        while let Some(line) = lines.next() {
            let Some(name) = line.strip_prefix("CREATE TABLE ") else { continue };
            let mut columns = Vec::new();
            for line in lines.by_ref().take_while(|line| !line.starts_with(')')) {
                let mut words = line.split_whitespace();
                if let (Some(name), Some(kind)) = (words.next(), words.next())
                    && name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
                {
                    columns.push((name.to_owned(), kind.trim_end_matches(',').to_owned()));
                }
            }
            columns.sort();
            tables.push((name.trim_end_matches(" (").to_owned(), columns));
        }
        tables
    }

    #[test]
    fn every_table_and_column_of_both_schemas_is_copied() {
        // What the nodes of one database tell each other.
        let ours = ["schema_version", "sealing_key", "changes", "nodes", "receipts"];
        let is_its_own = |(name, kind): &(String, String)| kind == "XID8" || name == "knows_factors";
        for (schema, names) in [
            (include_str!("../../schema.sql"), ["INTEGER", "INTEGER", "TEXT", "BLOB"]),
            (include_str!("postgres/schema.sql"), ["BIGINT", "BOOLEAN", "TEXT", "BYTEA"]),
        ] {
            let [integer, boolean, text, bytes] = names;
            let mut found = columns_of(schema);
            found.retain(|(name, _)| !ours.contains(&name.as_str()));
            for (_, columns) in &mut found {
                columns.retain(|column| !is_its_own(column));
            }
            let copied: Vec<_> = TABLES
                .iter()
                .map(|table| {
                    let mut columns: Vec<_> = table
                        .columns
                        .iter()
                        .map(|(name, kind)| {
                            let kind = match kind {
                                Kind::Integer => integer,
                                Kind::Boolean => boolean,
                                Kind::Text => text,
                                Kind::Bytes => bytes,
                            };
                            ((*name).to_owned(), kind.to_owned())
                        })
                        .collect();
                    columns.sort();
                    (table.name.to_owned(), columns)
                })
                .collect();
            assert_eq!(copied, found);
        }
    }

    #[test]
    fn contents_do_not_depend_on_the_order_of_rows_and_do_on_everything_else() {
        let of = |rows: &[Row]| {
            let mut contents = Contents::default();
            for row in rows {
                contents.add(row);
            }
            contents
        };
        let text = |text: &str| Value::Text(text.to_owned());
        let [one, other] = [vec![text("a"), text("bc")], vec![Value::Integer(1), Value::Null]];
        assert_eq!(of(&[one.clone(), other.clone()]), of(&[other.clone(), one.clone()]));
        let different = [
            vec![],
            vec![one.clone()],
            vec![one.clone(), one.clone()],
            vec![one.clone(), one.clone(), one.clone()],
            vec![vec![text("ab"), text("c")]],
            vec![vec![text("abc")]],
            vec![vec![Value::Bytes(b"a".to_vec()), text("bc")]],
            vec![other.clone()],
            vec![vec![Value::Boolean(true), Value::Null]],
            vec![vec![Value::Integer(1), text("")]],
        ];
        for (number, rows) in different.iter().enumerate() {
            for others in &different[..number] {
                assert_ne!(of(rows), of(others), "{rows:?} and {others:?}");
            }
        }
    }
}
