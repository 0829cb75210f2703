//! The store in a database of PostgreSQL, as tests see it.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use authtokens::config::Config;
use authtokens::domain::email::key_of;
use authtokens::repository::Notices;
use authtokens::repository::Repository;
use authtokens::repository::postgres::{MAX_STALENESS, PostgresRepository, PostgresSettings};
use futures_util::TryStreamExt as _;
use tokio::sync::oneshot;
use tokio_postgres::{Client, Error, Row, Transaction};

use crate::cluster;
use crate::store::{StoredAccount, StoredEvent, StoredSession, TestStore, key_of_name};

/// What the service stores, a table before those that refer to it. The nodes' own tables are not among them.
const TABLES: [&str; 18] = [
    "users",
    "cellar",
    "wants",
    "tokens",
    "events",
    "login_failures",
    "one_time_codes",
    "outbox",
    "imported",
    "totp",
    "recovery_codes",
    "passkeys",
    "identities",
    "challenges",
    "revocations",
    "services",
    "webhooks",
    "webhook_deliveries",
];

/// The tables that give numbers.
const NUMBERED: [&str; 4] = ["users", "events", "outbox", "revocations"];

/// A database that servers may have at the same time.
pub struct PostgresStore {
    url: String,
}

impl PostgresStore {
    pub fn at(url: &str) -> Self {
        Self { url: url.to_owned() }
    }

    fn on<T: Send>(&self, work: impl AsyncFnOnce(&mut Client) -> Result<T, Error> + Send) -> T {
        cluster::on(&self.url, work).unwrap()
    }

    fn list<T: Send>(&self, statement: &str, read: impl Fn(&Row) -> T + Send) -> Vec<T> {
        let rows = self.on(async move |client| client.query(statement, &[]).await);
        rows.iter().map(read).collect()
    }

    /// Changes something in one transaction, and waits until the server must have noticed.
    fn change(&self, change: impl AsyncFnOnce(&Transaction<'_>) -> Result<(), Error> + Send) {
        self.on(async move |client| {
            let transaction = client.transaction().await?;
            change(&transaction).await?;
            transaction.commit().await
        });
        thread::sleep(MAX_STALENESS);
    }

    fn settings(&self) -> PostgresSettings {
        PostgresSettings {
            url: self.url.clone().into(),
            ca_file: None,
            connections: 2,
            cache: 0,
            max_staleness: MAX_STALENESS,
            notices: Notices::default(),
        }
    }
}

impl TestStore for PostgresStore {
    fn point(&self, command: &mut Command) {
        command.env("AUTHTOKENS__DATABASE__URL", &self.url);
    }

    fn exists(&self) -> bool {
        PostgresRepository::exists(&self.settings()).unwrap()
    }

    fn copy_to(&self, config: &Config) {
        let copy = Self::at(config.database.url.as_ref().unwrap().expose());
        drop(PostgresRepository::open_shared(&copy.settings(), true).unwrap());
        let (rows, numbers) = self.on(async |client| {
            let transaction =
                client.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
            let transaction = transaction.read_only(true).start().await?;
            let (mut rows, mut numbers) = (Vec::new(), Vec::new());
            for table in TABLES {
                let list = format!("SELECT coalesce(json_agg(t)::text, '[]') FROM {table} AS t");
                rows.push(transaction.query_one(&list, &[]).await?.get::<_, String>(0));
            }
            for table in NUMBERED {
                let number = format!("SELECT last_value, is_called FROM {table}_id_seq");
                let row = transaction.query_one(&number, &[]).await?;
                numbers.push((row.get::<_, i64>(0), row.get::<_, bool>(1)));
            }
            Ok((rows, numbers))
        });
        copy.on(async |client| {
            let transaction = client.transaction().await?;
            for (table, rows) in TABLES.iter().zip(&rows) {
                let fill = format!(
                    "INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, ($1::text)::json)"
                );
                transaction.execute(&fill, &[rows]).await?;
            }
            for (table, (last, is_called)) in NUMBERED.iter().zip(&numbers) {
                let set = format!("SELECT setval('{table}_id_seq', $1, $2)");
                transaction.query_one(&set, &[last, is_called]).await?;
            }
            transaction.commit().await
        });
    }

    fn open_beside(&self) -> Box<dyn Repository> {
        Box::new(PostgresRepository::open_shared(&self.settings(), false).unwrap())
    }

    /// Any number of servers may have it open.
    fn wait_until_free(&self) {}

    fn lock(&self) -> Box<dyn Send> {
        let (locked, is_locked) = mpsc::channel();
        let (release, released) = oneshot::channel::<()>();
        let url = self.url.clone();
        let holding = thread::spawn(move || {
            // The nodes' beats go on: without them nothing is believed that is read.
            let lock = format!("BEGIN; LOCK TABLE {}, receipts IN EXCLUSIVE MODE", TABLES.join(", "));
            let hold = cluster::on(&url, async move |client| {
                client.batch_execute(&lock).await?;
                locked.send(()).unwrap();
                let _ = released.await;
                client.batch_execute("ROLLBACK").await
            });
            hold.unwrap();
        });
        is_locked.recv().unwrap();
        Box::new(Lock { release: Some(release), holding: Some(holding) })
    }

    fn count(&self, table: &str) -> i64 {
        self.list(&format!("SELECT count(*) FROM {table}"), |row| row.get(0))[0]
    }

    fn dump(&self) -> Vec<String> {
        let list = |table| format!("SELECT t::text AS row FROM {table} AS t ORDER BY t::text COLLATE \"C\"");
        TABLES.iter().flat_map(|table| self.list(&list(table), |row| row.get(0))).collect()
    }

    fn save(&self) -> Box<dyn Fn()> {
        static SAVED: AtomicU32 = AtomicU32::new(0);
        let saved = format!("saved{}", SAVED.fetch_add(1, Ordering::Relaxed));
        let save = TABLES.map(|table| format!("CREATE TABLE {saved}.{table} AS SELECT * FROM {table};"));
        cluster::execute(&self.url, &format!("CREATE SCHEMA {saved}; {}", save.concat())).unwrap();
        let mut empty = TABLES.map(|table| format!("DELETE FROM {table};"));
        empty.reverse();
        let fill = TABLES.map(|table| format!("INSERT INTO {table} SELECT * FROM {saved}.{table};"));
        let put_back = format!("BEGIN; {} {} COMMIT", empty.concat(), fill.concat());
        let url = self.url.clone();
        Box::new(move || {
            cluster::execute(&url, &put_back).unwrap();
            thread::sleep(MAX_STALENESS);
        })
    }

    fn most_failures(&self) -> u32 {
        90
    }

    fn is_whole(&self) -> bool {
        let theirs = ["cellar", "wants", "tokens", "login_failures", "one_time_codes"];
        let ways_in = ["totp", "recovery_codes", "passkeys", "identities", "challenges"];
        let owners = theirs.iter().chain(&ways_in).map(|table| format!("SELECT user_id FROM {table}"));
        let owners = owners.collect::<Vec<_>>().join(" UNION ALL ");
        let orphans = format!("SELECT count(*) FROM ({owners}) AS owned WHERE user_id NOT IN (SELECT id FROM users)");
        self.list(&orphans, |row| row.get::<_, i64>(0)) == [0]
    }

    fn contains(&self, bytes: &[u8]) -> bool {
        let tables = self.on(async |client| {
            let mut tables = Vec::new();
            for table in TABLES {
                // Every column's bytes as they are.
                let rows = client.copy_out(&format!("COPY {table} TO STDOUT (FORMAT binary)")).await?;
                tables.push(rows.try_collect::<Vec<_>>().await?.concat());
            }
            Ok(tables)
        });
        tables.iter().any(|table| table.windows(bytes.len()).any(|window| window == bytes))
    }

    fn can_store(&self, text: &str) -> bool {
        !text.contains('\0')
    }

    fn accounts(&self) -> Vec<StoredAccount> {
        let list = "SELECT username, password_hash, first_name, email, city, is_active, is_staff, is_superuser \
            FROM users ORDER BY id";
        self.list(list, |row| StoredAccount {
            username: row.get(0),
            password_hash: row.get(1),
            first_name: row.get(2),
            email: row.get(3),
            city: row.get(4),
            is_active: row.get(5),
            is_staff: row.get(6),
            is_superuser: row.get(7),
        })
    }

    fn sessions(&self) -> Vec<StoredSession> {
        let list = "SELECT encode(digest, 'hex'), username, tokens.created, last_used, user_agent, ip \
            FROM tokens JOIN users ON users.id = user_id ORDER BY tokens.created, digest";
        self.list(list, |row| StoredSession {
            digest: row.get(0),
            username: row.get(1),
            created: row.get(2),
            last_used: row.get(3),
            user_agent: row.get(4),
            ip: row.get(5),
        })
    }

    fn events(&self) -> Vec<StoredEvent> {
        self.list("SELECT id, at, kind, username, actor, ip, detail FROM events ORDER BY id", |row| StoredEvent {
            id: row.get(0),
            at: row.get(1),
            kind: row.get(2),
            username: row.get(3),
            actor: row.get(4),
            ip: row.get(5),
            detail: row.get(6),
        })
    }

    fn failures(&self) -> Vec<i64> {
        self.list("SELECT failures FROM login_failures ORDER BY user_id", |row| row.get(0))
    }

    fn change_accounts(&self, change: &dyn Fn(&mut StoredAccount)) {
        let accounts = self.accounts().into_iter().map(|account| {
            let mut changed = account.clone();
            change(&mut changed);
            (account, changed)
        });
        let changes: Vec<_> = accounts.filter(|(account, changed)| account != changed).collect();
        self.change(async move |transaction| {
            for (account, changed) in changes {
                let update = "UPDATE users SET password_hash = $2, first_name = $3, email = $4, city = $5, \
                    is_active = $6, is_staff = $7, is_superuser = $8, email_key = $9, \
                    email_verified = email_verified AND email = $4 WHERE username = $1";
                let updated = transaction
                    .execute(
                        update,
                        &[
                            &account.username,
                            &changed.password_hash,
                            &changed.first_name,
                            &changed.email,
                            &changed.city,
                            &changed.is_active,
                            &changed.is_staff,
                            &changed.is_superuser,
                            &key_of(&changed.email),
                        ],
                    )
                    .await?;
                assert_eq!(updated, 1);
            }
            Ok(())
        });
    }

    fn change_sessions(&self, change: &dyn Fn(&mut StoredSession)) {
        let mut sessions = self.sessions();
        sessions.iter_mut().for_each(change);
        self.change(async move |transaction| {
            for StoredSession { digest, created, last_used, user_agent, ip, .. } in sessions {
                let update = "UPDATE tokens SET created = $2, last_used = $3, user_agent = $4, ip = $5 \
                    WHERE encode(digest, 'hex') = $1";
                let updated = transaction.execute(update, &[&digest, &created, &last_used, &user_agent, &ip]).await?;
                assert_eq!(updated, 1);
            }
            Ok(())
        });
    }

    fn change_events(&self, change: &dyn Fn(&mut StoredEvent)) {
        let mut events = self.events();
        events.iter_mut().for_each(change);
        self.change(async move |transaction| {
            for StoredEvent { id, at, kind, username, actor, ip, detail } in events {
                let update = "UPDATE events SET at = $2, kind = $3, username = $4, actor = $5, ip = $6, detail = $7 \
                    WHERE id = $1";
                let updated = transaction.execute(update, &[&id, &at, &kind, &username, &actor, &ip, &detail]).await?;
                assert_eq!(updated, 1);
            }
            Ok(())
        });
    }

    fn add_accounts(&self, accounts: &[StoredAccount]) {
        self.change(async |transaction| {
            let insert = "INSERT INTO users (username, username_key, password_hash, first_name, email, city, \
                is_active, is_staff, is_superuser, date_joined, created, modified, last_login, email_key) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0, 0, 0, $10)";
            let insert = transaction.prepare(insert).await?;
            for account in accounts {
                transaction
                    .execute(
                        &insert,
                        &[
                            &account.username,
                            &key_of_name(&account.username),
                            &account.password_hash,
                            &account.first_name,
                            &account.email,
                            &account.city,
                            &account.is_active,
                            &account.is_staff,
                            &account.is_superuser,
                            &key_of(&account.email),
                        ],
                    )
                    .await?;
            }
            Ok(())
        });
    }

    fn remember_imported_name(&self) {
        self.change(async |transaction| {
            let insert = "INSERT INTO imported (source, source_id, fingerprint, has_other_name, at) \
                VALUES ('django', '1', decode(repeat('00', 32), 'hex'), true, 0)";
            transaction.execute(insert, &[]).await?;
            Ok(())
        });
    }

    fn fill_lists(&self, items: i64) {
        self.change(async move |transaction| {
            for list in ["cellar", "wants"] {
                let fill = format!(
                    "INSERT INTO {list} (user_id, item_id, added) \
                     SELECT id, 9007199254740991 - n, 0 FROM users, generate_series(1, $1::bigint) AS n"
                );
                transaction.execute(&fill, &[&items]).await?;
            }
            Ok(())
        });
    }

    fn add_events(&self, username: &str, kinds: &[&str]) {
        self.change(async |transaction| {
            let insert = "INSERT INTO events (at, kind, user_id, username, actor, ip, detail) \
                SELECT 0, $1, id, username, '', '', '' FROM users WHERE username = $2";
            for kind in kinds {
                assert_eq!(transaction.execute(insert, &[kind, &username]).await?, 1);
            }
            Ok(())
        });
    }

    fn delete_account(&self, username: &str) {
        self.change(async |transaction| {
            assert_eq!(transaction.execute("DELETE FROM users WHERE username = $1", &[&username]).await?, 1);
            Ok(())
        });
    }

    fn delete_sessions(&self, username: &str) {
        self.change(async |transaction| {
            let delete = "DELETE FROM tokens WHERE user_id = (SELECT id FROM users WHERE username = $1)";
            assert!(transaction.execute(delete, &[&username]).await? > 0);
            Ok(())
        });
    }
}

/// A lock that another connection holds until this is dropped.
struct Lock {
    release: Option<oneshot::Sender<()>>,
    holding: Option<JoinHandle<()>>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.release.take());
        let _ = self.holding.take().map(JoinHandle::join);
    }
}
