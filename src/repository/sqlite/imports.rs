//! [`Imports`] in SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::transaction::Transaction;
use super::users::with_profile;
use super::{SqliteRepository, events, sql};
use crate::domain::authentication_methods::AuthenticationMethods;
use crate::domain::email::key_of;
use crate::domain::event::EventKind;
use crate::domain::item::{ItemId, List};
use crate::domain::session::UserAgent;
use crate::domain::user::{COMMAND_LINE, UserId, Username};
use crate::repository::{ImportOutcome, ImportedAccount, ImportedToken, Imports, RepositoryError};
use crate::system::clock::Timestamp;

#[async_trait]
impl Imports for SqliteRepository {
    async fn find_imported(&self, source: &str, ids: Vec<String>) -> Result<Vec<Option<[u8; 32]>>, RepositoryError> {
        let source = source.to_owned();
        self.read_snapshot(move |connection| {
            let find = |id: &String| find_fingerprint(connection, &source, id);
            Ok(ids.iter().map(find).collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn find_taken(&self, names: Vec<Username>) -> Result<Vec<bool>, RepositoryError> {
        self.read_snapshot(move |connection| {
            let mut find = connection.prepare_cached(sql::FIND_NAMED)?;
            Ok(names.iter().map(|name| find.exists([name.key()])).collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn import_accounts(
        &self,
        source: &str,
        accounts: Vec<ImportedAccount>,
        now: Timestamp,
    ) -> Result<Vec<ImportOutcome>, RepositoryError> {
        let source = source.to_owned();
        let outcomes = self
            .write(move |connection| {
                let import = |account: &ImportedAccount| import_account(connection, &source, account, now);
                Ok(accounts.iter().map(import).collect::<Result<_, _>>()?)
            })
            .await?;
        // Whether there are other systems' tokens is not a matter of one user.
        self.cache.change_all();
        Ok(outcomes)
    }

    async fn has_imported_names(&self) -> Result<bool, RepositoryError> {
        self.read(|connection| Ok(connection.prepare_cached(sql::FIND_IMPORTED_NAME)?.exists([])?)).await
    }

    async fn hardest_imported_hash(&self) -> Result<Option<u64>, RepositoryError> {
        let hardest: Option<i64> = self
            .read(|connection| {
                Ok(connection.prepare_cached(sql::FIND_HARDEST_HASH)?.query_row([], |row| row.get(0))?)
            })
            .await?;
        Ok(hardest.map(i64::unsigned_abs))
    }
}

/// Under what fingerprint an id was imported.
fn find_fingerprint(connection: &Connection, source: &str, id: &str) -> rusqlite::Result<Option<[u8; 32]>> {
    connection.prepare_cached(sql::FIND_IMPORTED)?.query_row([source, id], |row| row.get(0)).optional()
}

fn import_account(
    connection: &Transaction<'_>,
    source: &str,
    account: &ImportedAccount,
    now: Timestamp,
) -> rusqlite::Result<ImportOutcome> {
    let mut remember = connection.prepare_cached(sql::INSERT_IMPORTED)?;
    let has_other_name = !account.username.is_plain();
    let is_new =
        remember.execute(params![source, account.source_id, account.fingerprint, has_other_name, now.as_millis()])? > 0;
    if !is_new {
        let known = find_fingerprint(connection, source, &account.source_id)?;
        let is_same = known == Some(account.fingerprint);
        return Ok(if is_same { ImportOutcome::Already } else { ImportOutcome::Another });
    }
    let Some(user_id) = insert_user(connection, account)? else {
        connection.prepare_cached(sql::DELETE_IMPORTED)?.execute([source, &account.source_id])?;
        return Ok(ImportOutcome::NameTaken);
    };
    for (list, items) in [(List::Cellar, &account.cellar), (List::Wants, &account.wants)] {
        let mut insert = connection.prepare_cached(sql::items(list).insert)?;
        for item in items {
            insert.execute([user_id.0, ItemId::get(*item), account.modified.as_millis()])?;
        }
    }
    let mut tokens = 0;
    for token in &account.tokens {
        tokens += insert_token(connection, user_id, source, token, now)?;
    }
    events::insert(connection, EventKind::Imported, user_id, Some(COMMAND_LINE), None, "", now)?;
    Ok(ImportOutcome::Imported { tokens })
}

/// `None` where an account has the name.
fn insert_user(connection: &Connection, account: &ImportedAccount) -> rusqlite::Result<Option<UserId>> {
    connection
        .prepare_cached(sql::INSERT_IMPORTED_USER)?
        .query_row(
            with_profile(
                params![
                    account.username.as_str(),
                    account.username.key(),
                    account.password_hash.as_stored(),
                    account.hash_work.map(u64::cast_signed),
                    account.is_active,
                    account.rights.is_staff,
                    account.rights.is_superuser,
                    account.date_joined.as_millis(),
                    account.created.as_millis(),
                    account.modified.as_millis(),
                    account.last_login.as_millis(),
                    key_of(&account.profile.email),
                    account.is_email_verified,
                ],
                &account.profile,
            )?,
            |row| Ok(UserId(row.get(0)?)),
        )
        .optional()
}

/// How many it has inserted: none where a session has the digest already.
fn insert_token(
    connection: &Connection,
    user_id: UserId,
    source: &str,
    token: &ImportedToken,
    now: Timestamp,
) -> rusqlite::Result<usize> {
    connection.prepare_cached(sql::INSERT_IMPORTED_TOKEN)?.execute(params![
        token.digest.as_bytes(),
        user_id.0,
        now.as_millis(),
        UserAgent::of_import(source).as_str(),
        token.expires.map(Timestamp::as_millis),
        token.is_sha512.then_some("sha512"),
        AuthenticationMethods::IMPORTED.to_stored(),
    ])
}
