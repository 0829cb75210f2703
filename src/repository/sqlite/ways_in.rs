//! The ways into an account: its password, its factors, its passkeys, its identities.

use rusqlite::{Connection, OptionalExtension as _};

use super::lookup::find_own_credentials;
use super::rows::read_optional_time;
use super::sql;
use crate::domain::factor::Method;
use crate::domain::user::UserId;
use crate::repository::{OfferedWays, SecurityState};

/// How an account can be got into.
pub(super) fn find_security(connection: &Connection, user_id: UserId) -> rusqlite::Result<SecurityState> {
    let has_password = !find_own_credentials(connection, user_id)?.password_hash.is_none();
    connection.prepare_cached(sql::FIND_SECURITY)?.query_row([user_id.0], |row| {
        Ok(SecurityState {
            has_password,
            totp: read_optional_time(row, "totp")?,
            recovery_codes: row.get("recovery_codes")?,
            passkeys: row.get("passkeys")?,
            identities: row.get("identities")?,
            fresh_until: None,
        })
    })
}

/// Whether the account can be got into without one of its passkeys or identities, which is of those that are offered
/// where `is_offered` says so.
pub(super) fn has_another_way_in(
    connection: &Connection,
    user_id: UserId,
    offered: &OfferedWays,
    is_offered: bool,
) -> rusqlite::Result<bool> {
    let state = find_security(connection, user_id)?;
    let passkeys = if offered.passkeys { state.passkeys as usize } else { 0 };
    let mut list = connection.prepare_cached(sql::LIST_IDENTITIES)?;
    let issuers = list.query_map([user_id.0], |row| row.get("issuer"))?.collect::<Result<Vec<String>, _>>()?;
    let identities = issuers.iter().filter(|issuer| offered.issuers.contains(issuer)).count();
    Ok(state.has_password || passkeys + identities > usize::from(is_offered))
}

/// The sealed secret of an account's authenticator app, where it has one that does not wait.
pub(super) fn find_totp_secret(connection: &Connection, user_id: UserId) -> rusqlite::Result<Option<Vec<u8>>> {
    connection.prepare_cached(sql::FIND_TOTP_SECRET)?.query_row([user_id.0], |row| row.get(0)).optional()
}

/// The ways to give an account's second factor.
pub(super) fn methods_of(connection: &Connection, user_id: UserId) -> rusqlite::Result<Vec<Method>> {
    let state = find_security(connection, user_id)?;
    let offered = [
        (Method::Totp, state.totp.is_some()),
        (Method::RecoveryCode, state.recovery_codes > 0),
        (Method::Passkey, state.passkeys > 0),
    ];
    Ok(offered.into_iter().filter_map(|(method, is_there)| is_there.then_some(method)).collect())
}
