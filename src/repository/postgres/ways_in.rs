//! The ways into an account: its password, its factors, its passkeys, its identities.

use super::error::Failure;
use super::lookup::find_own_credentials;
use super::pool::Connection;
use super::rows::{get, read_number, read_optional_time};
use super::sql;
use crate::domain::factor::Method;
use crate::domain::user::UserId;
use crate::repository::{OfferedWays, SecurityState};

/// How an account can be got into.
pub(super) async fn find_security(connection: &Connection, user_id: UserId) -> Result<SecurityState, Failure> {
    let has_password = !find_own_credentials(connection, user_id).await?.password_hash.is_none();
    let row = connection.query_one(sql::FIND_SECURITY, &[&user_id.0]).await?;
    Ok(SecurityState {
        has_password,
        totp: read_optional_time(&row, "totp")?,
        recovery_codes: read_number(&row, "recovery_codes")?,
        passkeys: read_number(&row, "passkeys")?,
        identities: read_number(&row, "identities")?,
        fresh_until: None,
    })
}

/// Whether the account can be got into without one of its passkeys or identities, which is of those that are offered
/// where `is_offered` says so.
pub(super) async fn has_another_way_in(
    connection: &Connection,
    user_id: UserId,
    offered: &OfferedWays,
    is_offered: bool,
) -> Result<bool, Failure> {
    let state = find_security(connection, user_id).await?;
    let passkeys = if offered.passkeys { state.passkeys as usize } else { 0 };
    let rows = connection.query(sql::LIST_IDENTITIES, &[&user_id.0]).await?;
    let issuers = rows.iter().map(|row| get(row, "issuer")).collect::<Result<Vec<String>, _>>()?;
    let identities = issuers.iter().filter(|issuer| offered.issuers.contains(issuer)).count();
    Ok(state.has_password || passkeys + identities > usize::from(is_offered))
}

/// The sealed secret of an account's authenticator app, where it has one that does not wait.
pub(super) async fn find_totp_secret(connection: &Connection, user_id: UserId) -> Result<Option<Vec<u8>>, Failure> {
    let row = connection.query_opt(sql::FIND_TOTP_SECRET, &[&user_id.0]).await?;
    row.map(|row| get(&row, 0)).transpose()
}

/// The ways to give an account's second factor.
pub(super) async fn methods_of(connection: &Connection, user_id: UserId) -> Result<Vec<Method>, Failure> {
    let state = find_security(connection, user_id).await?;
    let offered = [
        (Method::Totp, state.totp.is_some()),
        (Method::RecoveryCode, state.recovery_codes > 0),
        (Method::Passkey, state.passkeys > 0),
    ];
    Ok(offered.into_iter().filter_map(|(method, is_there)| is_there.then_some(method)).collect())
}
