//! [`Factors`] in SQLite.

use std::net::IpAddr;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::Failure;
use super::identities::{delete_identity, list_identities, revoke_refresh_tokens};
use super::lookup::{allow, begin_change, is_session_fresh, require_session, require_staff, target_named};
use super::passkeys::{list_passkeys, use_passkey};
use super::pending::{delete_challenges_of, insert_challenge};
use super::rows::{read_count, read_optional_time, read_time, read_username};
use super::tokens::{fresh_until, set_reauthentication};
use super::transaction::Transaction;
use super::ways_in::{find_security, find_totp_secret};
use super::{SqliteRepository, events, sql, webhooks};
use crate::domain::challenge::{ChallengePurpose, NewChallenge};
use crate::domain::event::EventKind;
use crate::domain::rights::{Actor, Permission};
use crate::domain::session::Caller;
use crate::domain::token::TokenDigest;
use crate::domain::user::{COMMAND_LINE, UserId, Username};
use crate::repository::session_cache::Change;
use crate::repository::{
    FactorChange, Factors, RepositoryError, SealedSecrets, SecondFactor, SecurityState, StoredTotp, TotpUse,
};
use crate::system::clock::Timestamp;

/// What the event tells of a way in that was removed with what a notice told of.
const DISOWNED: &str = "disowned";

/// How many authenticator apps that wait are pruned in one transaction, so that no other write waits long.
const PRUNED_AT_ONCE: u32 = 500;

#[async_trait]
impl Factors for SqliteRepository {
    async fn find_security(&self, caller: &Caller, now: Timestamp) -> Result<SecurityState, RepositoryError> {
        let caller = *caller;
        self.read_snapshot(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            let state = find_security(connection, user_id)?;
            Ok(SecurityState { fresh_until: fresh_until(connection, &caller, now)?, ..state })
        })
        .await
    }

    async fn find_account_security(
        &self,
        actor: &Actor,
        username: &Username,
    ) -> Result<Option<SecurityState>, RepositoryError> {
        let (actor, username) = (*actor, username.clone());
        self.read_snapshot(move |connection| {
            let acting = require_staff(connection, &actor)?;
            allow(acting.may_ever(Permission::ManageAccount))?;
            let Some(target) = target_named(connection, &username)? else { return Ok(None) };
            allow(acting.may(Permission::ManageAccount, &target))?;
            Ok(Some(find_security(connection, target.user_id)?))
        })
        .await
    }

    async fn begin_totp(
        &self,
        caller: &Caller,
        secret: Vec<u8>,
        now: Timestamp,
    ) -> Result<FactorChange, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            if !is_session_fresh(connection, &caller, now)? {
                return Ok(FactorChange::NotFresh);
            }
            let mut begin = connection.prepare_cached(sql::BEGIN_TOTP)?;
            let is_begun = begin.execute(params![user_id.0, secret, now.as_millis()])? > 0;
            Ok(if is_begun { FactorChange::Done } else { FactorChange::NoSuchState })
        })
        .await
    }

    async fn find_own_totp(&self, caller: &Caller) -> Result<Option<StoredTotp>, RepositoryError> {
        let caller = *caller;
        self.read_snapshot(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            let found = connection.prepare_cached(sql::FIND_TOTP)?.query_row([user_id.0], |row| {
                Ok(StoredTotp {
                    user_id,
                    username: read_username(row, "username")?,
                    secret: row.get("secret")?,
                    created: read_time(row, "created")?,
                    is_confirmed: read_optional_time(row, "confirmed")?.is_some(),
                })
            });
            Ok(found.optional()?)
        })
        .await
    }

    async fn find_totp_secret(&self, user_id: UserId) -> Result<Option<Vec<u8>>, RepositoryError> {
        self.read(move |connection| Ok(find_totp_secret(connection, user_id)?)).await
    }

    async fn confirm_totp(
        &self,
        caller: &Caller,
        code: TotpUse,
        recovery_codes: Vec<TokenDigest>,
        now: Timestamp,
    ) -> Result<FactorChange, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Sessions)?.user_id;
            let mut confirm = connection.prepare_cached(sql::CONFIRM_TOTP)?;
            if confirm.execute(params![user_id.0, code.secret, step_of(&code), now.as_millis()])? == 0 {
                return Ok(FactorChange::Refused);
            }
            insert_recovery_codes(connection, user_id, &recovery_codes, now)?;
            let mut others = connection.prepare_cached(sql::DELETE_OTHER_TOKENS)?;
            others.execute(params![user_id.0, caller.digest.as_bytes()])?;
            delete_challenges_of(connection, user_id)?;
            events::by_owner(connection, EventKind::TotpAdded, user_id, caller.ip, "", now)?;
            Ok(FactorChange::Done)
        })
        .await
    }

    async fn prune_waiting_totp(&self, begun: Timestamp) -> Result<usize, RepositoryError> {
        let expired: Vec<i64> = self
            .scan(None, move |connection| {
                let mut find = connection.prepare_cached(sql::FIND_EXPIRED_TOTP)?;
                let found = find.query_map(params![begun.as_millis(), PRUNED_AT_ONCE], |row| row.get(0))?;
                Ok(found.collect::<Result<_, _>>()?)
            })
            .await?;
        if expired.is_empty() {
            return Ok(0);
        }
        self.write(move |connection| {
            let mut delete = connection.prepare_cached(sql::DELETE_EXPIRED_TOTP)?;
            let mut deleted = 0;
            for user_id in expired {
                // It may have been confirmed, or begun anew, since.
                deleted += delete.execute(params![user_id, begun.as_millis()])?;
            }
            Ok(deleted)
        })
        .await
    }

    async fn remove_totp(
        &self,
        caller: &Caller,
        second: SecondFactor,
        now: Timestamp,
    ) -> Result<FactorChange, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            let allowed = allow_change(connection, &caller, user_id, &second, now)?;
            if allowed != FactorChange::Done {
                return Ok(allowed);
            }
            delete_totp(connection, user_id)?;
            delete_challenges_of(connection, user_id)?;
            set_reauthentication(connection, &caller, None)?;
            events::by_owner(connection, EventKind::TotpRemoved, user_id, caller.ip, "", now)?;
            Ok(FactorChange::Done)
        })
        .await
    }

    async fn replace_recovery_codes(
        &self,
        caller: &Caller,
        second: SecondFactor,
        recovery_codes: Vec<TokenDigest>,
        now: Timestamp,
    ) -> Result<FactorChange, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            let allowed = allow_change(connection, &caller, user_id, &second, now)?;
            if allowed != FactorChange::Done {
                return Ok(allowed);
            }
            insert_recovery_codes(connection, user_id, &recovery_codes, now)?;
            events::by_owner(connection, EventKind::RecoveryCodesReplaced, user_id, caller.ip, "", now)?;
            Ok(FactorChange::Done)
        })
        .await
    }

    async fn begin_passkey(
        &self,
        caller: &Caller,
        second: SecondFactor,
        challenge: NewChallenge,
        now: Timestamp,
    ) -> Result<FactorChange, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            match allow_change(connection, &caller, user_id, &second, now)? {
                FactorChange::Done | FactorChange::NoSuchState => {
                    insert_challenge(connection, Some(user_id), &challenge, now)?;
                    Ok(FactorChange::Done)
                }
                refused => Ok(refused),
            }
        })
        .await
    }

    async fn reset_factors(&self, actor: &Actor, username: &Username, now: Timestamp) -> Result<bool, RepositoryError> {
        let (actor, username) = (*actor, username.clone());
        self.write(move |connection| {
            let acting = require_staff(connection, &actor)?;
            // Before the lookup, so that a refusal does not tell whether there is such an account.
            allow(acting.may_ever(Permission::ManageAccount))?;
            let Some(target) = target_named(connection, &username)? else { return Ok(false) };
            allow(acting.may(Permission::ManageAccount, &target))?;
            let user_id = target.user_id;
            connection.changes(user_id, Change::Text);
            delete_totp(connection, user_id)?;
            connection.prepare_cached(sql::DELETE_PASSKEYS_OF)?.execute([user_id.0])?;
            delete_challenges_of(connection, user_id)?;
            let by = Some(acting.name());
            events::insert(connection, EventKind::FactorsReset, user_id, by, actor.ip(), "", now)?;
            Ok(true)
        })
        .await
    }

    async fn count_sealed(&self, key_id: Vec<u8>) -> Result<(SealedSecrets, SealedSecrets), RepositoryError> {
        self.scan(None, move |connection| Ok(SealedSecrets::of_key(&list_sealed(connection)?, &key_id))).await
    }

    async fn claim_sealing_key(&self, key_id: Vec<u8>) -> Result<Vec<u8>, RepositoryError> {
        Ok(key_id)
    }

    async fn replace_sealing_key(&self, key_id: Vec<u8>) -> Result<Vec<u8>, RepositoryError> {
        Ok(key_id)
    }

    async fn forget_sealed(&self, key_id: Vec<u8>, now: Timestamp) -> Result<SealedSecrets, RepositoryError> {
        self.write(move |connection| {
            let mut find = connection.prepare_cached(sql::FIND_SEALED_TOTP_OF_OTHERS)?;
            let users = find.query_map([&key_id], |row| Ok(UserId(row.get(0)?)))?.collect::<Result<Vec<_>, _>>()?;
            let by = Some(COMMAND_LINE);
            for user_id in &users {
                connection.changes(*user_id, Change::Text);
                delete_totp(connection, *user_id)?;
                delete_challenges_of(connection, *user_id)?;
                events::insert(connection, EventKind::TotpRemoved, *user_id, by, None, "key_lost", now)?;
            }
            let tokens = connection.prepare_cached(sql::FORGET_SEALED_TOKENS)?.execute([&key_id])?
                + connection.prepare_cached(sql::FORGET_SEALED_REVOCATIONS)?.execute([&key_id])?;
            let mut end = connection.prepare_cached(sql::END_SEALED_CHALLENGES)?;
            end.execute(ChallengePurpose::SEALING.map(ChallengePurpose::name))?;
            let webhooks = webhooks::forget_sealed(connection, &key_id, now)?;
            Ok(SealedSecrets { totp: users.len() as u64, refresh_tokens: tokens as u64, webhooks })
        })
        .await
    }
}

/// How many secrets there are by the ids of their keys.
pub(super) fn list_sealed(connection: &Connection) -> rusqlite::Result<Vec<(Vec<u8>, SealedSecrets)>> {
    let mut list = connection.prepare_cached(sql::LIST_SEALED)?;
    let listed = list.query_map([], |row| {
        let secrets = SealedSecrets { totp: read_count(row, 1)?, refresh_tokens: read_count(row, 2)?, webhooks: 0 };
        Ok((row.get(0)?, secrets))
    })?;
    let mut listed: Vec<(Vec<u8>, SealedSecrets)> = listed.collect::<Result<_, _>>()?;
    // A file of an older release knows nothing of webhooks.
    if connection.table_exists(None, "webhooks")? {
        let of = |(key, webhooks)| (key, SealedSecrets { webhooks, ..SealedSecrets::default() });
        listed.extend(webhooks::list_sealed(connection)?.into_iter().map(of));
    }
    Ok(listed)
}

fn step_of(code: &TotpUse) -> i64 {
    i64::try_from(code.step).unwrap_or(i64::MAX)
}

/// Uses up a second factor; `false`, and no change, where it is worth nothing (any more) or none was given.
pub(super) fn use_second(
    connection: &Transaction<'_>,
    user_id: UserId,
    second: &SecondFactor,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    match second {
        SecondFactor::NotGiven => Ok(false),
        SecondFactor::Totp(code) => use_totp(connection, user_id, code),
        SecondFactor::RecoveryCode { used, replacement } => {
            let mut delete = connection.prepare_cached(sql::DELETE_RECOVERY_CODE)?;
            if delete.execute(params![used.as_bytes(), user_id.0])? == 0 {
                return Ok(false);
            }
            let mut insert = connection.prepare_cached(sql::INSERT_RECOVERY_CODE)?;
            insert.execute(params![replacement.as_bytes(), user_id.0, now.as_millis()])?;
            events::by_owner(connection, EventKind::RecoveryCodeUsed, user_id, ip, "", now)?;
            Ok(true)
        }
        SecondFactor::Passkey(used) => {
            if used.user_id != user_id {
                return Ok(false);
            }
            use_passkey(connection, used, now)
        }
    }
}

/// Uses up a code of the authenticator app: no code of its time step or an earlier one is accepted after it.
pub(super) fn use_totp(connection: &Connection, user_id: UserId, code: &TotpUse) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached(sql::USE_TOTP)?.execute(params![user_id.0, code.secret, step_of(code)])? > 0)
}

/// Whether a change to the factors may be made: in a fresh session, with the second factor, which is used up.
fn allow_change(
    connection: &Transaction<'_>,
    caller: &Caller,
    user_id: UserId,
    second: &SecondFactor,
    now: Timestamp,
) -> Result<FactorChange, Failure> {
    if !is_session_fresh(connection, caller, now)? {
        return Ok(FactorChange::NotFresh);
    }
    if find_totp_secret(connection, user_id)?.is_none() {
        return Ok(FactorChange::NoSuchState);
    }
    let is_right = use_second(connection, user_id, second, caller.ip, now)?;
    Ok(if is_right { FactorChange::Done } else { FactorChange::Refused })
}

/// Stores recovery codes in the place of those that are left.
fn insert_recovery_codes(
    connection: &Connection,
    user_id: UserId,
    codes: &[TokenDigest],
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::DELETE_RECOVERY_CODES_OF)?.execute([user_id.0])?;
    let mut insert = connection.prepare_cached(sql::INSERT_RECOVERY_CODE)?;
    for digest in codes {
        insert.execute(params![digest.as_bytes(), user_id.0, now.as_millis()])?;
    }
    Ok(())
}

/// Removes the authenticator app and the recovery codes.
fn delete_totp(connection: &Connection, user_id: UserId) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::DELETE_TOTP)?.execute([user_id.0])?;
    connection.prepare_cached(sql::DELETE_RECOVERY_CODES_OF)?.execute([user_id.0])?;
    Ok(())
}

/// Removes every way into an account that was set up while its address was nobody's: factors, passkeys, identities, and
/// what was begun. It comes after the verification of the address, so that the notices have one.
pub(super) fn forget_ways_in(
    connection: &Transaction<'_>,
    user_id: UserId,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let had_totp = find_totp_secret(connection, user_id)?.is_some();
    let passkeys = list_passkeys(connection, user_id)?;
    let identities = list_identities(connection, user_id)?;
    delete_totp(connection, user_id)?;
    connection.prepare_cached(sql::DELETE_PASSKEYS_OF)?.execute([user_id.0])?;
    revoke_refresh_tokens(connection, user_id, now)?;
    connection.prepare_cached(sql::DELETE_IDENTITIES_OF)?.execute([user_id.0])?;
    delete_challenges_of(connection, user_id)?;
    // One notice a kind: whoever has set up many must not send as many mails to a stranger.
    let tell = |kind, detail: &str, is_first| {
        if is_first {
            events::by_owner(connection, kind, user_id, ip, detail, now)
        } else {
            events::insert_untold(connection, kind, user_id, None, ip, detail, now)
        }
    };
    if had_totp {
        tell(EventKind::TotpRemoved, "", true)?;
    }
    for (number, (_, passkey)) in passkeys.iter().enumerate() {
        tell(EventKind::PasskeyRemoved, passkey.id.as_str(), number == 0)?;
    }
    for (number, identity) in identities.iter().enumerate() {
        tell(EventKind::IdentityUnlinked, &identity.provider, number == 0)?;
    }
    Ok(())
}

/// Removes what was added since then to the ways into an account, as a notice is disowned: whoever it was may have added
/// it. What is older stays: whoever can only read the mailbox must not get rid of a second factor by a notice.
pub(super) fn forget_ways_in_since(
    connection: &Connection,
    user_id: UserId,
    since: Timestamp,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let tell = |kind| events::insert_untold(connection, kind, user_id, None, ip, DISOWNED, now);
    let added = params![user_id.0, since.as_millis()];
    let had_totp = find_totp_secret(connection, user_id)?.is_some();
    if connection.prepare_cached(sql::DELETE_TOTP_SINCE)?.execute(added)? > 0 {
        connection.prepare_cached(sql::DELETE_RECOVERY_CODES_OF)?.execute([user_id.0])?;
        if had_totp {
            tell(EventKind::TotpRemoved)?;
        }
    } else {
        connection.prepare_cached(sql::DELETE_RECOVERY_CODES_SINCE)?.execute(added)?;
    }
    for _ in 0..connection.prepare_cached(sql::DELETE_PASSKEYS_SINCE)?.execute(added)? {
        tell(EventKind::PasskeyRemoved)?;
    }
    for identity in list_identities(connection, user_id)?.iter().filter(|identity| identity.created >= since) {
        delete_identity(connection, &identity.subject, now)?;
        tell(EventKind::IdentityUnlinked)?;
    }
    Ok(())
}
