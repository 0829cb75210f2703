//! Rows of users, written by the transactions of several traits.

use tokio_postgres::types::ToSql;

use super::error::Failure;
use super::lookup::read_id;
use super::sql;
use super::transaction::Transaction;
use crate::domain::email::key_of;
use crate::domain::profile::Profile;
use crate::domain::user::{NewUser, UserId};
use crate::system::clock::Timestamp;

pub(super) async fn insert_user(
    transaction: &Transaction,
    user: &NewUser,
    now: Timestamp,
) -> Result<Option<UserId>, Failure> {
    let (username, key, hash) = (user.username.as_str(), user.username.key(), user.password_hash.as_stored());
    let (now, email_key) = (now.as_millis(), key_of(&user.profile.email));
    let texts = user.profile.texts();
    let parameters = with_profile(&[&username, &key, &hash, &now, &email_key], &texts);
    transaction.query_opt(sql::INSERT_USER, &parameters).await?.as_ref().map(read_id).transpose()
}

pub(super) async fn update_profile(
    transaction: &Transaction,
    user_id: UserId,
    profile: &Profile,
    now: Timestamp,
) -> Result<(), Failure> {
    let (now, texts) = (now.as_millis(), profile.texts());
    transaction.execute(sql::UPDATE_PROFILE, &with_profile(&[&user_id.0, &now], &texts)).await.map(drop)
}

/// A statement's parameters, followed by the profile's texts.
fn with_profile<'a>(parameters: &[&'a (dyn ToSql + Sync)], texts: &'a [&str]) -> Vec<&'a (dyn ToSql + Sync)> {
    let texts = texts.iter().map(|text| text as &(dyn ToSql + Sync));
    parameters.iter().copied().chain(texts).collect()
}
