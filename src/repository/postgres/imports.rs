//! [`Imports`] in PostgreSQL. Each statement is for all accounts of a batch: there may be a thousand.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;

use super::error::Failure;
use super::pool::Connection;
use super::rows::{get, invalid};
use super::transaction::Transaction;
use super::{PostgresRepository, sql};
use crate::domain::authentication_methods::AuthenticationMethods;
use crate::domain::email::key_of;
use crate::domain::event::EventKind;
use crate::domain::item::{ItemId, List};
use crate::domain::session::UserAgent;
use crate::domain::user::{COMMAND_LINE, UserId, Username};
use crate::repository::session_cache::Change;
use crate::repository::{ImportOutcome, ImportedAccount, Imports, RepositoryError};
use crate::system::clock::Timestamp;

#[async_trait]
impl Imports for PostgresRepository {
    async fn find_imported(&self, source: &str, ids: Vec<String>) -> Result<Vec<Option<[u8; 32]>>, RepositoryError> {
        self.read((source.to_owned(), ids), |connection, (source, ids)| {
            Box::pin(async move {
                let known =
                    find_fingerprints(connection, source, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
                Ok(ids.iter().map(|id| known.get(id).copied()).collect())
            })
        })
        .await
    }

    async fn find_taken(&self, names: Vec<Username>) -> Result<Vec<bool>, RepositoryError> {
        let keys: Vec<String> = names.iter().map(Username::key).collect();
        self.read(keys, |connection, keys| {
            Box::pin(async move {
                let rows = connection.query(sql::FIND_NAMED, &[keys]).await?;
                let taken = rows.iter().map(|row| get(row, 0)).collect::<Result<HashSet<&str>, _>>()?;
                Ok(keys.iter().map(|key| taken.contains(key.as_str())).collect())
            })
        })
        .await
    }

    async fn import_accounts(
        &self,
        source: &str,
        accounts: Vec<ImportedAccount>,
        now: Timestamp,
    ) -> Result<Vec<ImportOutcome>, RepositoryError> {
        self.write((source.to_owned(), accounts, now), |transaction, (source, accounts, now)| {
            Box::pin(import_accounts(transaction, source, accounts, *now))
        })
        .await
    }

    async fn has_imported_names(&self) -> Result<bool, RepositoryError> {
        self.read((), |connection, ()| {
            Box::pin(async move { Ok(connection.query_opt(sql::FIND_IMPORTED_NAME, &[]).await?.is_some()) })
        })
        .await
    }

    async fn hardest_imported_hash(&self) -> Result<Option<u64>, RepositoryError> {
        self.read((), |connection, ()| {
            Box::pin(async move {
                let hardest: Option<i64> = get(&connection.query_one(sql::FIND_HARDEST_HASH, &[]).await?, 0)?;
                Ok(hardest.map(i64::unsigned_abs))
            })
        })
        .await
    }
}

/// Under what fingerprints ids were imported.
async fn find_fingerprints(
    connection: &Connection,
    source: &str,
    ids: &[&str],
) -> Result<HashMap<String, [u8; 32]>, Failure> {
    let rows = connection.query(sql::FIND_IMPORTED, &[&source, &ids]).await?;
    let read = |row| Ok((get(row, 0)?, get::<&[u8]>(row, 1)?.try_into().map_err(invalid)?));
    rows.iter().map(read).collect()
}

async fn import_accounts(
    transaction: &Transaction,
    source: &str,
    accounts: &[ImportedAccount],
    now: Timestamp,
) -> Result<Vec<ImportOutcome>, Failure> {
    let mut outcomes = vec![ImportOutcome::Already; accounts.len()];
    let new = remember(transaction, source, accounts, now, &mut outcomes).await?;
    let inserted = insert_users(transaction, accounts, new.clone()).await?;
    let is_inserted: HashSet<usize> = inserted.iter().map(|(index, _)| *index).collect();
    let refused: Vec<usize> = new.into_iter().filter(|index| !is_inserted.contains(index)).collect();
    if !refused.is_empty() {
        let ids: Vec<&str> = refused.iter().map(|index| accounts[*index].source_id.as_str()).collect();
        transaction.execute(sql::DELETE_IMPORTED, &[&source, &ids]).await?;
        for index in refused {
            outcomes[index] = ImportOutcome::NameTaken;
        }
    }
    // By the acknowledgement every node has looked, and knows of such tokens.
    let has_sha512 = |index: usize| accounts[index].tokens.iter().any(|token| token.is_sha512);
    for (_, user_id) in inserted.iter().filter(|(index, _)| has_sha512(*index)) {
        transaction.changes(*user_id, Change::Sessions);
    }
    let inserted: Vec<_> = inserted.into_iter().map(|(index, user_id)| (index, user_id.0, &accounts[index])).collect();
    for list in [List::Cellar, List::Wants] {
        insert_items(transaction, list, &inserted).await?;
    }
    let tokens = insert_tokens(transaction, source, &inserted, now).await?;
    let ids: Vec<i64> = inserted.iter().map(|(_, user_id, _)| *user_id).collect();
    let (at, kind) = (now.as_millis(), EventKind::Imported.name());
    transaction.execute(sql::INSERT_IMPORTED_EVENTS, &[&at, &kind, &ids, &COMMAND_LINE]).await?;
    for (index, user_id, _) in inserted {
        outcomes[index] = ImportOutcome::Imported { tokens: tokens.get(&user_id).copied().unwrap_or_default() };
    }
    Ok(outcomes)
}

/// Remembers the ids that were not imported before: the numbers of their accounts. Sets the outcomes of the others.
async fn remember(
    transaction: &Transaction,
    source: &str,
    accounts: &[ImportedAccount],
    now: Timestamp,
    outcomes: &mut [ImportOutcome],
) -> Result<Vec<usize>, Failure> {
    let ids: Vec<&str> = accounts.iter().map(|account| account.source_id.as_str()).collect();
    let fingerprints: Vec<&[u8]> = accounts.iter().map(|account| account.fingerprint.as_slice()).collect();
    let have_other_names: Vec<bool> = accounts.iter().map(|account| !account.username.is_plain()).collect();
    let rows = transaction
        .query(sql::INSERT_IMPORTED, &[&source, &ids, &fingerprints, &have_other_names, &now.as_millis()])
        .await?;
    let mut came = rows.iter().map(|row| get(row, 0)).collect::<Result<HashSet<&str>, _>>()?;
    // An id that comes twice is one account.
    let (new, others): (Vec<usize>, Vec<usize>) = (0..accounts.len()).partition(|index| came.remove(ids[*index]));
    if !others.is_empty() {
        // In a statement of its own: what has just been waited for is visible to it.
        let known =
            find_fingerprints(transaction, source, &others.iter().map(|index| ids[*index]).collect::<Vec<_>>()).await?;
        for index in others {
            if known.get(ids[index]) != Some(&accounts[index].fingerprint) {
                outcomes[index] = ImportOutcome::Another;
            }
        }
    }
    Ok(new)
}

/// Inserts those of these accounts whose names are free: their numbers and ids.
async fn insert_users(
    transaction: &Transaction,
    accounts: &[ImportedAccount],
    mut left: Vec<usize>,
) -> Result<Vec<(usize, UserId)>, Failure> {
    let mut inserted = Vec::new();
    // A statement does not see its own rows. So of those that have verified one address, one comes, and the others when
    // it is known whether that one has got its name.
    let mut held = HashSet::new();
    while !left.is_empty() {
        let mut first = HashSet::new();
        let (some, later): (Vec<usize>, Vec<usize>) = left.into_iter().partition(|index| {
            let Some(key) = verified_key(&accounts[*index]) else { return true };
            held.contains(&key) || first.insert(key)
        });
        let of_some: Vec<_> = some.iter().map(|index| &accounts[*index]).collect();
        let mut came = insert_some_users(transaction, &of_some).await?;
        for index in some {
            if let Some(user_id) = came.remove(&accounts[index].username.key()) {
                held.extend(verified_key(&accounts[index]));
                inserted.push((index, user_id));
            }
        }
        left = later;
    }
    Ok(inserted)
}

fn verified_key(account: &ImportedAccount) -> Option<String> {
    if account.is_email_verified { key_of(&account.profile.email) } else { None }
}

/// The ids of those that were inserted, by their names.
async fn insert_some_users(
    transaction: &Transaction,
    accounts: &[&ImportedAccount],
) -> Result<HashMap<String, UserId>, Failure> {
    let texts = column(accounts, |account| account.profile.texts());
    let text = |number: usize| texts.iter().map(|texts| texts[number]).collect::<Vec<_>>();
    let rows = transaction
        .query(
            sql::INSERT_IMPORTED_USERS,
            &[
                &column(accounts, |account| account.username.as_str()),
                &column(accounts, |account| account.username.key()),
                &column(accounts, |account| account.password_hash.as_stored()),
                &column(accounts, |account| account.hash_work.map(u64::cast_signed)),
                &column(accounts, |account| account.is_active),
                &column(accounts, |account| account.rights.is_staff),
                &column(accounts, |account| account.rights.is_superuser),
                &column(accounts, |account| account.date_joined.as_millis()),
                &column(accounts, |account| account.created.as_millis()),
                &column(accounts, |account| account.modified.as_millis()),
                &column(accounts, |account| account.last_login.as_millis()),
                &column(accounts, |account| key_of(&account.profile.email)),
                &column(accounts, |account| account.is_email_verified),
                &text(0),
                &text(1),
                &text(2),
                &text(3),
                &text(4),
                &text(5),
                &text(6),
                &text(7),
            ],
        )
        .await?;
    rows.iter().map(|row| Ok((get(row, 0)?, UserId(get(row, 1)?)))).collect()
}

/// One value an account.
fn column<'a, T>(accounts: &[&'a ImportedAccount], read: impl Fn(&'a ImportedAccount) -> T) -> Vec<T> {
    accounts.iter().map(|account| read(account)).collect()
}

async fn insert_items(
    transaction: &Transaction,
    list: List,
    inserted: &[(usize, i64, &ImportedAccount)],
) -> Result<(), Failure> {
    let (mut users, mut items, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for (_, user_id, account) in inserted {
        let of_account = if list == List::Cellar { &account.cellar } else { &account.wants };
        users.extend(of_account.iter().map(|_| *user_id));
        items.extend(of_account.iter().map(|item| ItemId::get(*item)));
        added.extend(of_account.iter().map(|_| account.modified.as_millis()));
    }
    if !users.is_empty() {
        transaction.execute(sql::items(list).import, &[&users, &items, &added]).await?;
    }
    Ok(())
}

/// How many tokens were inserted, by the account: one that a session has already is none.
async fn insert_tokens(
    transaction: &Transaction,
    source: &str,
    inserted: &[(usize, i64, &ImportedAccount)],
    now: Timestamp,
) -> Result<HashMap<i64, usize>, Failure> {
    let tokens: Vec<_> = inserted
        .iter()
        .flat_map(|(_, user_id, account)| account.tokens.iter().map(|token| (*user_id, token)))
        .collect();
    let mut counts = HashMap::new();
    if tokens.is_empty() {
        return Ok(counts);
    }
    let digests: Vec<&[u8]> = tokens.iter().map(|(_, token)| token.digest.as_bytes().as_slice()).collect();
    let users: Vec<i64> = tokens.iter().map(|(user_id, _)| *user_id).collect();
    let ends: Vec<Option<i64>> = tokens.iter().map(|(_, token)| token.expires.map(Timestamp::as_millis)).collect();
    let are_sha512: Vec<bool> = tokens.iter().map(|(_, token)| token.is_sha512).collect();
    let (now, agent) = (now.as_millis(), UserAgent::of_import(source));
    let methods = AuthenticationMethods::IMPORTED.to_stored();
    let rows = transaction
        .query(sql::INSERT_IMPORTED_TOKENS, &[&digests, &users, &ends, &are_sha512, &now, &agent.as_str(), &methods])
        .await?;
    for row in &rows {
        *counts.entry(get(row, 0)?).or_default() += 1;
    }
    Ok(counts)
}
