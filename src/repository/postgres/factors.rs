//! [`Factors`] in PostgreSQL.

use std::net::IpAddr;

use async_trait::async_trait;
use tokio_postgres::types::ToSql;

use super::error::Failure;
use super::identities::{delete_identity, list_identities, revoke_refresh_tokens};
use super::lookup::{
    allow, begin_action, begin_change, is_session_fresh, require_session, require_staff, target_named,
};
use super::passkeys::{list_passkeys, use_passkey};
use super::pending::{delete_challenges_of, insert_challenge};
use super::pool::Connection;
use super::rows::{get, read_optional_time, read_time, read_username};
use super::schema::end_older_releases;
use super::tokens::{fresh_until, set_reauthentication};
use super::transaction::Transaction;
use super::ways_in::{find_security, find_totp_secret};
use super::{LONG_SCAN_WITHIN, PostgresRepository, events, sql, webhooks};
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

/// Of how many accounts secrets are forgotten in one transaction, which has only so much time.
const FORGOTTEN_AT_ONCE: u32 = 50;

#[async_trait]
impl Factors for PostgresRepository {
    async fn find_security(&self, caller: &Caller, now: Timestamp) -> Result<SecurityState, RepositoryError> {
        self.read_snapshot((*caller, now), |connection, (caller, now)| {
            Box::pin(async move {
                let user_id = require_session(connection, caller).await?.user_id;
                let state = find_security(connection, user_id).await?;
                Ok(SecurityState { fresh_until: fresh_until(connection, caller, *now).await?, ..state })
            })
        })
        .await
    }

    async fn find_account_security(
        &self,
        actor: &Actor,
        username: &Username,
    ) -> Result<Option<SecurityState>, RepositoryError> {
        self.read_snapshot((*actor, username.clone()), |connection, (actor, username)| {
            Box::pin(async move {
                let acting = require_staff(connection, actor).await?;
                allow(acting.may_ever(Permission::ManageAccount))?;
                let Some(target) = target_named(connection, username).await? else { return Ok(None) };
                allow(acting.may(Permission::ManageAccount, &target))?;
                find_security(connection, target.user_id).await.map(Some)
            })
        })
        .await
    }

    async fn begin_totp(
        &self,
        caller: &Caller,
        secret: Vec<u8>,
        now: Timestamp,
    ) -> Result<FactorChange, RepositoryError> {
        self.write((*caller, secret, now), |transaction, (caller, secret, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                if !is_session_fresh(transaction, caller, *now).await? {
                    return Ok(FactorChange::NotFresh);
                }
                let begun = transaction.execute(sql::BEGIN_TOTP, &[&user_id.0, secret, &now.as_millis()]).await?;
                Ok(if begun > 0 { FactorChange::Done } else { FactorChange::NoSuchState })
            })
        })
        .await
    }

    async fn find_own_totp(&self, caller: &Caller) -> Result<Option<StoredTotp>, RepositoryError> {
        self.read_snapshot(*caller, |connection, caller| {
            Box::pin(async move {
                let user_id = require_session(connection, caller).await?.user_id;
                let Some(row) = connection.query_opt(sql::FIND_TOTP, &[&user_id.0]).await? else { return Ok(None) };
                Ok(Some(StoredTotp {
                    user_id,
                    username: read_username(&row, "username")?,
                    secret: get(&row, "secret")?,
                    created: read_time(&row, "created")?,
                    is_confirmed: read_optional_time(&row, "confirmed")?.is_some(),
                }))
            })
        })
        .await
    }

    async fn find_totp_secret(&self, user_id: UserId) -> Result<Option<Vec<u8>>, RepositoryError> {
        self.read(user_id, |connection, user_id| Box::pin(find_totp_secret(connection, *user_id))).await
    }

    async fn confirm_totp(
        &self,
        caller: &Caller,
        code: TotpUse,
        recovery_codes: Vec<TokenDigest>,
        now: Timestamp,
    ) -> Result<FactorChange, RepositoryError> {
        self.write((*caller, code, recovery_codes, now), |transaction, (caller, code, recovery_codes, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Sessions).await?.user_id;
                let (step, at) = (step_of(code), now.as_millis());
                if transaction.execute(sql::CONFIRM_TOTP, &[&user_id.0, &code.secret, &step, &at]).await? == 0 {
                    return Ok(FactorChange::Refused);
                }
                end_older_releases(transaction).await?;
                insert_recovery_codes(transaction, user_id, recovery_codes, *now).await?;
                let digest: &[u8] = caller.digest.as_bytes();
                transaction.execute(sql::DELETE_OTHER_TOKENS, &[&user_id.0, &digest]).await?;
                delete_challenges_of(transaction, user_id).await?;
                events::by_owner(transaction, EventKind::TotpAdded, user_id, caller.ip, "", *now).await?;
                Ok(FactorChange::Done)
            })
        })
        .await
    }

    async fn prune_waiting_totp(&self, begun: Timestamp) -> Result<usize, RepositoryError> {
        let expired = self
            .scan(LONG_SCAN_WITHIN, begun, |connection, begun| {
                Box::pin(async move {
                    let limit = i64::from(PRUNED_AT_ONCE);
                    let rows = connection.query(sql::FIND_EXPIRED_TOTP, &[&begun.as_millis(), &limit]).await?;
                    rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<i64>, _>>()
                })
            })
            .await?;
        if expired.is_empty() {
            return Ok(0);
        }
        self.write((expired, begun), |transaction, (expired, begun)| {
            Box::pin(async move {
                // One may have been confirmed, or begun anew, since.
                Ok(transaction.query(sql::DELETE_EXPIRED_TOTP, &[expired, &begun.as_millis()]).await?.len())
            })
        })
        .await
    }

    async fn remove_totp(
        &self,
        caller: &Caller,
        second: SecondFactor,
        now: Timestamp,
    ) -> Result<FactorChange, RepositoryError> {
        self.write((*caller, second, now), |transaction, (caller, second, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                let allowed = allow_change(transaction, caller, user_id, second, *now).await?;
                if allowed != FactorChange::Done {
                    return Ok(allowed);
                }
                delete_totp(transaction, user_id).await?;
                delete_challenges_of(transaction, user_id).await?;
                set_reauthentication(transaction, caller, None).await?;
                events::by_owner(transaction, EventKind::TotpRemoved, user_id, caller.ip, "", *now).await?;
                Ok(FactorChange::Done)
            })
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
        self.write((*caller, second, recovery_codes, now), |transaction, (caller, second, recovery_codes, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                let allowed = allow_change(transaction, caller, user_id, second, *now).await?;
                if allowed != FactorChange::Done {
                    return Ok(allowed);
                }
                insert_recovery_codes(transaction, user_id, recovery_codes, *now).await?;
                events::by_owner(transaction, EventKind::RecoveryCodesReplaced, user_id, caller.ip, "", *now).await?;
                Ok(FactorChange::Done)
            })
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
        self.write((*caller, second, challenge, now), |transaction, (caller, second, challenge, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                match allow_change(transaction, caller, user_id, second, *now).await? {
                    FactorChange::Done | FactorChange::NoSuchState => {
                        insert_challenge(transaction, Some(user_id), challenge, *now).await?;
                        Ok(FactorChange::Done)
                    }
                    refused => Ok(refused),
                }
            })
        })
        .await
    }

    async fn reset_factors(&self, actor: &Actor, username: &Username, now: Timestamp) -> Result<bool, RepositoryError> {
        self.write((*actor, username.clone(), now), |transaction, (actor, username, now)| {
            Box::pin(async move {
                let acting = require_staff(transaction, actor).await?;
                // Before the lookup, so that a refusal does not tell whether there is such an account.
                allow(acting.may_ever(Permission::ManageAccount))?;
                let (acting, target) = begin_action(transaction, actor, username).await?;
                let Some(target) = target else { return Ok(false) };
                allow(acting.may(Permission::ManageAccount, &target))?;
                let user_id = target.user_id;
                transaction.changes(user_id, Change::Text);
                delete_totp(transaction, user_id).await?;
                transaction.execute(sql::DELETE_PASSKEYS_OF, &[&user_id.0]).await?;
                delete_challenges_of(transaction, user_id).await?;
                let (kind, by) = (EventKind::FactorsReset, Some(acting.name()));
                events::insert(transaction, kind, user_id, by, actor.ip(), "", *now).await?;
                Ok(true)
            })
        })
        .await
    }

    async fn count_sealed(&self, key_id: Vec<u8>) -> Result<(SealedSecrets, SealedSecrets), RepositoryError> {
        self.scan(LONG_SCAN_WITHIN, key_id, |connection, key_id| {
            Box::pin(async move { Ok(SealedSecrets::of_key(&list_sealed(connection).await?, key_id)) })
        })
        .await
    }

    /// A start changes nothing where the key is noted: it may be at a database that cannot be written.
    async fn claim_sealing_key(&self, key_id: Vec<u8>) -> Result<Vec<u8>, RepositoryError> {
        let find = self.scan(LONG_SCAN_WITHIN, (), |connection, ()| Box::pin(find_sealing_key(connection)));
        match find.await? {
            Some(noted) => Ok(noted),
            None if key_id.is_empty() => Ok(key_id),
            None => {
                self.write(key_id, |transaction, key_id| {
                    Box::pin(async move {
                        transaction.execute(sql::INSERT_SEALING_KEY, &[key_id]).await?;
                        Ok(find_sealing_key(transaction).await?.unwrap_or_default())
                    })
                })
                .await
            }
        }
    }

    async fn replace_sealing_key(&self, key_id: Vec<u8>) -> Result<Vec<u8>, RepositoryError> {
        self.write(key_id, |transaction, key_id| {
            Box::pin(async move {
                transaction.execute(sql::LOCK_SEALING_KEY, &[]).await?;
                let noted = find_sealing_key(transaction).await?;
                transaction.execute(sql::DELETE_SEALING_KEY, &[]).await?;
                if !key_id.is_empty() {
                    transaction.execute(sql::INSERT_SEALING_KEY, &[key_id]).await?;
                }
                Ok(noted.unwrap_or_default())
            })
        })
        .await
    }

    /// Some accounts a transaction. Where it ends in the middle, the next call does the rest.
    async fn forget_sealed(&self, key_id: Vec<u8>, now: Timestamp) -> Result<SealedSecrets, RepositoryError> {
        let mut forgotten = SealedSecrets::default();
        loop {
            let (found, totp) = self
                .write((key_id.clone(), now), |transaction, (key_id, now)| {
                    Box::pin(forget_sealed_totp(transaction, key_id, *now))
                })
                .await?;
            forgotten.totp += totp;
            if found == 0 {
                break;
            }
        }
        forgotten.refresh_tokens = self
            .write(key_id.clone(), |transaction, key_id| {
                Box::pin(async move {
                    let [one, two, three] = ChallengePurpose::SEALING.map(ChallengePurpose::name);
                    transaction.execute(sql::END_SEALED_CHALLENGES, &[&one, &two, &three]).await?;
                    Ok(transaction.execute(sql::FORGET_SEALED_TOKENS, &[key_id]).await?
                        + transaction.execute(sql::FORGET_SEALED_REVOCATIONS, &[key_id]).await?)
                })
            })
            .await?;
        forgotten.webhooks = self
            .write((key_id, now), |transaction, (key_id, now)| {
                Box::pin(webhooks::forget_sealed(transaction, key_id, *now))
            })
            .await?;
        Ok(forgotten)
    }
}

async fn find_sealing_key(connection: &Connection) -> Result<Option<Vec<u8>>, Failure> {
    connection.query_opt(sql::FIND_SEALING_KEY, &[]).await?.map(|row| get(&row, 0)).transpose()
}

/// How many secrets there are by the ids of their keys.
async fn list_sealed(connection: &Connection) -> Result<Vec<(Vec<u8>, SealedSecrets)>, Failure> {
    let rows = connection.query(sql::LIST_SEALED, &[]).await?;
    let count = |row, column: usize| get::<i64>(row, column).map(i64::unsigned_abs);
    let read = |row| {
        let (totp, refresh_tokens, webhooks) = (count(row, 1)?, count(row, 2)?, count(row, 3)?);
        Ok((get(row, 0)?, SealedSecrets { totp, refresh_tokens, webhooks }))
    };
    rows.iter().map(read).collect()
}

/// How many accounts were found, and how many authenticator apps were forgotten: under the lock of its account, one may
/// be gone, or another by now.
async fn forget_sealed_totp(
    transaction: &Transaction,
    key_id: &Vec<u8>,
    now: Timestamp,
) -> Result<(usize, u64), Failure> {
    let limit = i64::from(FORGOTTEN_AT_ONCE);
    let locked = transaction.query(sql::LOCK_USERS_SEALED_OTHERWISE, &[key_id, &limit]).await?;
    let mut forgotten = 0;
    for row in &locked {
        let user_id = UserId(get(row, 0)?);
        // It is as of now, and not as of when its account was waited for.
        if transaction.execute(sql::DELETE_TOTP_SEALED_OTHERWISE, &[key_id, &user_id.0]).await? == 0 {
            continue;
        }
        transaction.changes(user_id, Change::Text);
        delete_totp(transaction, user_id).await?;
        delete_challenges_of(transaction, user_id).await?;
        let (kind, by) = (EventKind::TotpRemoved, Some(COMMAND_LINE));
        events::insert(transaction, kind, user_id, by, None, "key_lost", now).await?;
        forgotten += 1;
    }
    Ok((locked.len(), forgotten))
}

fn step_of(code: &TotpUse) -> i64 {
    i64::try_from(code.step).unwrap_or(i64::MAX)
}

/// Uses up a second factor; `false`, and no change, where it is worth nothing (any more) or none was given.
pub(super) async fn use_second(
    transaction: &Transaction,
    user_id: UserId,
    second: &SecondFactor,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<bool, Failure> {
    match second {
        SecondFactor::NotGiven => Ok(false),
        SecondFactor::Totp(code) => use_totp(transaction, user_id, code).await,
        SecondFactor::RecoveryCode { used, replacement } => {
            let (used, replacement): (&[u8], &[u8]) = (used.as_bytes(), replacement.as_bytes());
            if transaction.execute(sql::DELETE_RECOVERY_CODE, &[&used, &user_id.0]).await? == 0 {
                return Ok(false);
            }
            transaction.execute(sql::INSERT_RECOVERY_CODE, &[&replacement, &user_id.0, &now.as_millis()]).await?;
            events::by_owner(transaction, EventKind::RecoveryCodeUsed, user_id, ip, "", now).await?;
            Ok(true)
        }
        SecondFactor::Passkey(used) => {
            if used.user_id != user_id {
                return Ok(false);
            }
            use_passkey(transaction, used, now).await
        }
    }
}

/// Uses up a code of the authenticator app: no code of its time step or an earlier one is accepted after it.
pub(super) async fn use_totp(transaction: &Transaction, user_id: UserId, code: &TotpUse) -> Result<bool, Failure> {
    Ok(transaction.execute(sql::USE_TOTP, &[&user_id.0, &code.secret, &step_of(code)]).await? > 0)
}

/// Whether a change to the factors may be made: in a fresh session, with the second factor, which is used up.
async fn allow_change(
    transaction: &Transaction,
    caller: &Caller,
    user_id: UserId,
    second: &SecondFactor,
    now: Timestamp,
) -> Result<FactorChange, Failure> {
    if !is_session_fresh(transaction, caller, now).await? {
        return Ok(FactorChange::NotFresh);
    }
    if find_totp_secret(transaction, user_id).await?.is_none() {
        return Ok(FactorChange::NoSuchState);
    }
    let is_right = use_second(transaction, user_id, second, caller.ip, now).await?;
    Ok(if is_right { FactorChange::Done } else { FactorChange::Refused })
}

/// Stores recovery codes in the place of those that are left.
async fn insert_recovery_codes(
    transaction: &Transaction,
    user_id: UserId,
    codes: &[TokenDigest],
    now: Timestamp,
) -> Result<(), Failure> {
    transaction.execute(sql::DELETE_RECOVERY_CODES_OF, &[&user_id.0]).await?;
    let digests: Vec<&[u8]> = codes.iter().map(|digest| digest.as_bytes().as_slice()).collect();
    transaction.execute(sql::INSERT_RECOVERY_CODES, &[&digests, &user_id.0, &now.as_millis()]).await?;
    Ok(())
}

/// Removes the authenticator app and the recovery codes.
async fn delete_totp(transaction: &Transaction, user_id: UserId) -> Result<(), Failure> {
    transaction.execute(sql::DELETE_TOTP, &[&user_id.0]).await?;
    transaction.execute(sql::DELETE_RECOVERY_CODES_OF, &[&user_id.0]).await?;
    Ok(())
}

/// Removes every way into an account that was set up while its address was nobody's: factors, passkeys, identities, and
/// what was begun. It comes after the verification of the address, so that the notices have one.
pub(super) async fn forget_ways_in(
    transaction: &Transaction,
    user_id: UserId,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<(), Failure> {
    let had_totp = find_totp_secret(transaction, user_id).await?.is_some();
    let passkeys = list_passkeys(transaction, user_id).await?;
    let identities = list_identities(transaction, user_id).await?;
    delete_totp(transaction, user_id).await?;
    transaction.execute(sql::DELETE_PASSKEYS_OF, &[&user_id.0]).await?;
    revoke_refresh_tokens(transaction, user_id, now).await?;
    transaction.execute(sql::DELETE_IDENTITIES_OF, &[&user_id.0]).await?;
    delete_challenges_of(transaction, user_id).await?;
    // One notice a kind: whoever has set up many must not send as many mails to a stranger.
    let tell = async |kind, detail: &str, is_first| {
        if is_first {
            events::by_owner(transaction, kind, user_id, ip, detail, now).await
        } else {
            events::insert_untold(transaction, kind, user_id, None, ip, detail, now).await
        }
    };
    if had_totp {
        tell(EventKind::TotpRemoved, "", true).await?;
    }
    for (number, (_, passkey)) in passkeys.iter().enumerate() {
        tell(EventKind::PasskeyRemoved, passkey.id.as_str(), number == 0).await?;
    }
    for (number, identity) in identities.iter().enumerate() {
        tell(EventKind::IdentityUnlinked, &identity.provider, number == 0).await?;
    }
    Ok(())
}

/// Removes what was added since then to the ways into an account, as a notice is disowned: whoever it was may have added
/// it. What is older stays: whoever can only read the mailbox must not get rid of a second factor by a notice.
pub(super) async fn forget_ways_in_since(
    transaction: &Transaction,
    user_id: UserId,
    since: Timestamp,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<(), Failure> {
    let tell = |kind| events::insert_untold(transaction, kind, user_id, None, ip, DISOWNED, now);
    let since_millis = since.as_millis();
    let added: [&(dyn ToSql + Sync); 2] = [&user_id.0, &since_millis];
    let had_totp = find_totp_secret(transaction, user_id).await?.is_some();
    if transaction.execute(sql::DELETE_TOTP_SINCE, &added).await? > 0 {
        transaction.execute(sql::DELETE_RECOVERY_CODES_OF, &[&user_id.0]).await?;
        if had_totp {
            tell(EventKind::TotpRemoved).await?;
        }
    } else {
        transaction.execute(sql::DELETE_RECOVERY_CODES_SINCE, &added).await?;
    }
    for _ in 0..transaction.execute(sql::DELETE_PASSKEYS_SINCE, &added).await? {
        tell(EventKind::PasskeyRemoved).await?;
    }
    for identity in list_identities(transaction, user_id).await?.iter().filter(|identity| identity.created >= since) {
        delete_identity(transaction, &identity.subject, now).await?;
        tell(EventKind::IdentityUnlinked).await?;
    }
    Ok(())
}
