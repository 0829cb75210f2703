//! Reads rows into the domain's types, and refuses what the service cannot have written.

use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio_postgres::Row;
use tokio_postgres::row::RowIndex;
use tokio_postgres::types::FromSql;

use super::error::Failure;
use crate::domain::authentication_methods::AuthenticationMethods;
use crate::domain::event::{Event, EventKind};
use crate::domain::holder::TokenHolder;
use crate::domain::item::ItemId;
use crate::domain::mail::MailKind;
use crate::domain::profile::{Profile, ProfileField};
use crate::domain::public_id::PublicId;
use crate::domain::rights::Rights;
use crate::domain::service::{ServiceDetails, ServiceName};
use crate::domain::session::{Session, SessionDetails, SessionId, UserAgent};
use crate::domain::token::TokenDigest;
use crate::domain::user::{CountedFailures, Credentials, PasswordHash, User, UserId, Username};
use crate::repository::session_cache::Found;
use crate::repository::{MailId, OutboxMail, StoredFailures};
use crate::system::clock::Timestamp;

#[derive(Debug, Error)]
#[error("{0} is out of range")]
struct OutOfRange(&'static str);

#[derive(Debug, Error)]
#[error("the account {0} (id {1}), username_key: it is not the folded name")]
struct NotFolded(String, i64);

/// Refuses an account that was found under a name that is not its own: no list shows that name.
pub(super) fn require_own_key(found: &Credentials, key: &str) -> Result<(), Failure> {
    if found.username.key() == key {
        return Ok(());
    }
    Err(invalid(NotFolded(found.username.as_str().to_owned(), found.user_id.0)))
}

/// The error of a value that PostgreSQL could read and the service never wrote.
pub(super) fn invalid(why: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::Invalid(Arc::new(why))
}

/// A column's value. One that is of another type is an error, and not a panic.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: impl RowIndex + std::fmt::Display) -> Result<T, Failure> {
    row.try_get(column).map_err(invalid)
}

pub(super) fn read_time(row: &Row, column: impl RowIndex + std::fmt::Display) -> Result<Timestamp, Failure> {
    Timestamp::from_millis(get(row, column)?).ok_or_else(|| invalid(OutOfRange("a time")))
}

pub(super) fn read_optional_time(
    row: &Row,
    column: impl RowIndex + std::fmt::Display,
) -> Result<Option<Timestamp>, Failure> {
    let Some(millis) = get::<Option<i64>>(row, column)? else { return Ok(None) };
    Timestamp::from_millis(millis).map(Some).ok_or_else(|| invalid(OutOfRange("a time")))
}

pub(super) fn read_username(row: &Row, column: impl RowIndex + std::fmt::Display) -> Result<Username, Failure> {
    Username::parse_existing(get(row, column)?).map_err(invalid)
}

pub(super) fn read_digest(row: &Row, column: impl RowIndex + std::fmt::Display) -> Result<TokenDigest, Failure> {
    let bytes: &[u8] = get(row, column)?;
    Ok(TokenDigest::from_bytes(bytes.try_into().map_err(|_| invalid(OutOfRange("a digest")))?))
}

pub(super) fn read_session(row: &Row) -> Result<Found, Failure> {
    Ok(Found {
        session: Session { user_id: UserId(get(row, 0)?), last_used: read_time(row, 1)? },
        created: read_time(row, 2)?,
        expires: read_optional_time(row, 3)?,
    })
}

/// A live session, and what other services are told of it.
pub(super) fn read_held_token(row: &Row) -> Result<(Found, TokenHolder), Failure> {
    let is_verified: bool = get(row, "email_verified")?;
    let public_id = PublicId::from_bytes(get(row, "public_id")?).ok_or_else(|| invalid(OutOfRange("a public id")))?;
    let methods: Option<&str> = get(row, "methods")?;
    let methods = AuthenticationMethods::from_stored(methods.unwrap_or_default());
    let holder = TokenHolder {
        public_id,
        username: read_username(row, "username")?,
        verified_email: Some(get(row, "email")?).filter(|email: &String| is_verified && !email.is_empty()),
        rights: Rights { is_staff: get(row, "is_staff")?, is_superuser: get(row, "is_superuser")? },
        reauthenticated: read_optional_time(row, "reauthenticated")?,
        methods: methods.ok_or_else(|| invalid(OutOfRange("a method")))?,
    };
    Ok((read_session(row)?, holder))
}

/// A service, and the digest of its key.
pub(super) fn read_service(row: &Row) -> Result<(ServiceDetails, TokenDigest), Failure> {
    let details = ServiceDetails {
        name: ServiceName::parse(get(row, "name")?).map_err(invalid)?,
        created: read_time(row, "created")?,
        last_used: read_optional_time(row, "last_used")?,
    };
    Ok((details, read_digest(row, "digest")?))
}

pub(super) fn read_credentials(row: &Row) -> Result<Credentials, Failure> {
    Ok(Credentials {
        user_id: UserId(get(row, "id")?),
        username: read_username(row, "username")?,
        password_hash: PasswordHash::from_stored(get(row, "password_hash")?),
        is_active: get(row, "is_active")?,
        is_email_verified: get(row, "email_verified")?,
        failures: match get::<Option<i64>>(row, "failures")? {
            Some(count) => {
                let count = u32::try_from(count).map_err(invalid)?;
                Some(CountedFailures { count, last: read_time(row, "last_failed")? })
            }
            None => None,
        },
    })
}

/// A number that is small and not negative.
pub(super) fn read_number(row: &Row, column: impl RowIndex + std::fmt::Display) -> Result<u32, Failure> {
    get::<i64>(row, column)?.try_into().map_err(invalid)
}

/// An address as it is stored.
pub(super) fn ip_text(ip: Option<IpAddr>) -> String {
    ip.map(|ip| ip.to_string()).unwrap_or_default()
}

pub(super) fn read_ip(row: &Row) -> Result<Option<IpAddr>, Failure> {
    Ok(get::<&str>(row, "ip")?.parse().ok())
}

pub(super) fn read_session_details(row: &Row) -> Result<(TokenDigest, SessionDetails), Failure> {
    let digest = read_digest(row, "digest")?;
    let details = SessionDetails {
        id: SessionId::of(&digest),
        created: read_time(row, "created")?,
        last_used: read_time(row, "last_used")?,
        expires: read_optional_time(row, "expires")?,
        user_agent: UserAgent::from_stored(get(row, "user_agent")?),
        ip: read_ip(row)?,
    };
    Ok((digest, details))
}

pub(super) fn read_item(row: &Row) -> Result<ItemId, Failure> {
    ItemId::new(get(row, 0)?).map_err(invalid)
}

/// A user whose columns begin at `first`, in the order of the statements.
pub(super) fn read_user(row: &Row, first: usize) -> Result<User, Failure> {
    let mut profile = Profile::default();
    for (column, field) in (first + 11..).zip(ProfileField::ALL) {
        profile.set_stored(field, get(row, column)?);
    }
    Ok(User {
        username: read_username(row, first)?,
        profile,
        is_active: get(row, first + 1)?,
        is_superuser: get(row, first + 2)?,
        is_staff: get(row, first + 3)?,
        last_login: read_time(row, first + 4)?,
        created: read_time(row, first + 5)?,
        modified: read_time(row, first + 6)?,
        date_joined: read_time(row, first + 7)?,
        is_email_verified: get(row, first + 8)?,
        cellar: read_items(row, first + 9)?,
        wants: read_items(row, first + 10)?,
    })
}

fn read_items(row: &Row, column: usize) -> Result<Vec<ItemId>, Failure> {
    get::<Vec<i64>>(row, column)?.into_iter().map(|item| ItemId::new(item).map_err(invalid)).collect()
}

pub(super) fn read_event(row: &Row) -> Result<Event, Failure> {
    Ok(Event {
        id: get(row, "id")?,
        at: read_time(row, "at")?,
        kind: EventKind::parse(get(row, "kind")?).ok_or_else(|| invalid(OutOfRange("a kind")))?,
        username: get(row, "username")?,
        actor: get(row, "actor")?,
        ip: read_ip(row)?,
        detail: get(row, "detail")?,
    })
}

pub(super) fn read_mail_kind(row: &Row, column: impl RowIndex + std::fmt::Display) -> Result<MailKind, Failure> {
    MailKind::parse(get(row, column)?).ok_or_else(|| invalid(OutOfRange("a kind")))
}

/// A mail of the outbox that has just been claimed.
pub(super) fn read_mail(row: &Row) -> Result<OutboxMail, Failure> {
    Ok(OutboxMail {
        id: MailId { id: get(row, "id")?, claim: get(row, "claims")? },
        kind: read_mail_kind(row, "kind")?,
        user_id: UserId(get(row, "user_id")?),
        recipient: get(row, "recipient")?,
        is_verified: get(row, "is_verified")?,
        username: read_username(row, "username")?,
        at: read_time(row, "at")?,
        ip: read_ip(row)?,
        user_agent: UserAgent::from_stored(get(row, "user_agent")?),
        detail: get(row, "detail")?,
        link: get(row, "link")?,
        attempts: get::<i64>(row, "attempts")?.try_into().map_err(invalid)?,
        expires: read_time(row, "expires")?,
    })
}

pub(super) fn read_failures(row: &Row) -> Result<StoredFailures, Failure> {
    Ok(StoredFailures {
        username: read_username(row, 0)?,
        count: get::<i64>(row, "failures")?.try_into().map_err(invalid)?,
        last: read_time(row, "last_failed")?,
    })
}
