//! Rows of users, written by the transactions of several traits.

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, OptionalExtension as _, Params, ToSql, params, params_from_iter};

use super::sql;
use crate::domain::email::key_of;
use crate::domain::profile::Profile;
use crate::domain::user::{NewUser, UserId};
use crate::system::clock::Timestamp;

pub(super) fn insert_user(connection: &Connection, user: &NewUser, now: Timestamp) -> rusqlite::Result<Option<UserId>> {
    connection
        .prepare_cached(sql::INSERT_USER)?
        .query_row(
            with_profile(
                params![
                    user.username.as_str(),
                    user.username.key(),
                    user.password_hash.as_stored(),
                    now.as_millis(),
                    key_of(&user.profile.email),
                ],
                &user.profile,
            )?,
            |row| Ok(UserId(row.get(0)?)),
        )
        .optional()
}

pub(super) fn update_profile(
    connection: &Connection,
    user_id: UserId,
    profile: &Profile,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(sql::UPDATE_PROFILE)?
        .execute(with_profile(params![user_id.0, now.as_millis()], profile)?)?;
    Ok(())
}

/// A statement's parameters, followed by the profile's texts.
pub(super) fn with_profile<'a>(
    parameters: &'a [&'a dyn ToSql],
    profile: &'a Profile,
) -> rusqlite::Result<impl Params + 'a> {
    let texts = profile.texts().map(ToSqlOutput::from);
    let values = parameters.iter().map(ToSql::to_sql).chain(texts.into_iter().map(Ok));
    Ok(params_from_iter(values.collect::<Result<Vec<_>, _>>()?))
}
