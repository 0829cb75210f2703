//! Reads rows into the domain's types, and finds invalid rows: those that the service cannot have written.
//!
//! SQLite's integrity check knows nothing of the service's rules. An invalid value shows only when that row is asked
//! for, or never: an account whose name is not folded cannot be found, and has its rights all the same.

use std::net::IpAddr;

use rusqlite::types::{Type, Value, ValueRef};
use rusqlite::{Connection, Row, RowIndex};
use serde::de::IgnoredAny;
use thiserror::Error;

use super::sql;
use crate::domain::authentication_methods::AuthenticationMethods;
use crate::domain::challenge::{ChallengePurpose, MAX_FACTOR_TRIES};
use crate::domain::email::key_of;
use crate::domain::event::{Event, EventKind};
use crate::domain::factor::{RECOVERY_CODES, totp_binding};
use crate::domain::holder::TokenHolder;
use crate::domain::identity::{MAX_IDENTITIES, Subject, refresh_token_binding};
use crate::domain::item::{ItemId, MAX_ITEMS};
use crate::domain::mail::MailKind;
use crate::domain::one_time::{CODE_LIFETIME, MAX_TRIES, Purpose, RESTORES_EMAIL};
use crate::domain::passkey::{MAX_PASSKEYS, PasskeyName, UserHandle};
use crate::domain::profile::{Profile, ProfileField, ProfileText};
use crate::domain::public_id::PublicId;
use crate::domain::rights::Rights;
use crate::domain::service::{ServiceDetails, ServiceName};
use crate::domain::session::{Session, SessionDetails, SessionId, SessionPolicy, UserAgent};
use crate::domain::token::TokenDigest;
use crate::domain::user::{COMMAND_LINE, CountedFailures, Credentials, PasswordHash, User, UserId, Username};
use crate::domain::webhook::{DisabledBy, MAX_TOLD, MAX_URL, WebhookId, WebhookKinds};
use crate::repository::session_cache::Found;
use crate::repository::{MailId, OutboxMail, Rules, StoredFailures};
use crate::system::clock::Timestamp;
use crate::system::sealing::{SealingKey, UnsealError, is_sealed};

/// The largest id that a valid row has. After a row with SQLite's own largest, 2^63 - 1, every new row would be
/// refused.
const MAX_ID: i64 = 1 << 53;

/// How many characters the detail of an event has at most.
const MAX_DETAIL: usize = 32;

const NOT_FOLDED: &str = "it is not the folded name";

/// How many characters of a name a message shows: the name may be what is wrong.
const MAX_SHOWN: usize = 64;

#[derive(Debug, Error)]
#[error("{0} is out of range")]
struct OutOfRange(&'static str);

#[derive(Debug, Error)]
#[error("it is neither 0 nor 1")]
struct NotATruth;

pub(super) fn read_session(row: &Row<'_>) -> rusqlite::Result<Found> {
    Ok(Found {
        session: Session { user_id: UserId(row.get(0)?), last_used: read_time(row, 1)? },
        created: read_time(row, 2)?,
        expires: read_optional_time(row, 3)?,
    })
}

/// A live session, and what other services are told of it.
pub(super) fn read_held_token(row: &Row<'_>) -> rusqlite::Result<(Found, TokenHolder)> {
    let is_verified = read_truth(row, "email_verified")?;
    let email: String = row.get("email")?;
    let holder = TokenHolder {
        public_id: read_public_id(row, "public_id")?,
        username: read_username(row, "username")?,
        verified_email: Some(email).filter(|email| is_verified && !email.is_empty()),
        rights: Rights { is_staff: read_truth(row, "is_staff")?, is_superuser: read_truth(row, "is_superuser")? },
        reauthenticated: read_optional_time(row, "reauthenticated")?,
        methods: read_methods(row, "methods")?,
    };
    Ok((read_session(row)?, holder))
}

fn read_public_id(row: &Row<'_>, column: &str) -> rusqlite::Result<PublicId> {
    let column = column.idx(row.as_ref())?;
    let bytes = row.get_ref(column)?.as_blob_or_null()?;
    bytes.and_then(PublicId::from_bytes).ok_or_else(|| invalid_column(column, OutOfRange("a public id")))
}

fn read_methods(row: &Row<'_>, column: &str) -> rusqlite::Result<AuthenticationMethods> {
    let column = column.idx(row.as_ref())?;
    let methods = AuthenticationMethods::from_stored(row.get_ref(column)?.as_str_or_null()?.unwrap_or_default());
    methods.ok_or_else(|| invalid_column(column, OutOfRange("a method")))
}

fn read_service_name(row: &Row<'_>, column: &str) -> rusqlite::Result<ServiceName> {
    let column = column.idx(row.as_ref())?;
    ServiceName::parse(row.get_ref(column)?.as_str()?).map_err(|error| invalid_column(column, error))
}

/// A service, and the digest of its key.
pub(super) fn read_service(row: &Row<'_>) -> rusqlite::Result<(ServiceDetails, TokenDigest)> {
    let details = ServiceDetails {
        name: read_service_name(row, "name")?,
        created: read_time(row, "created")?,
        last_used: read_optional_time(row, "last_used")?,
    };
    Ok((details, TokenDigest::from_bytes(row.get("digest")?)))
}

pub(super) fn read_credentials(row: &Row<'_>) -> rusqlite::Result<Credentials> {
    Ok(Credentials {
        user_id: UserId(row.get("id")?),
        username: read_username(row, "username")?,
        password_hash: PasswordHash::from_stored(row.get("password_hash")?),
        is_active: read_truth(row, "is_active")?,
        is_email_verified: read_truth(row, "email_verified")?,
        failures: match row.get::<_, Option<u32>>("failures")? {
            Some(count) => Some(CountedFailures { count, last: read_time(row, "last_failed")? }),
            None => None,
        },
    })
}

/// What a statement has counted.
pub(super) fn read_count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or_default())
}

/// An address as it is stored.
pub(super) fn ip_text(ip: Option<IpAddr>) -> String {
    ip.map(|ip| ip.to_string()).unwrap_or_default()
}

pub(super) fn read_ip(row: &Row<'_>) -> rusqlite::Result<Option<IpAddr>> {
    Ok(row.get::<_, String>("ip")?.parse().ok())
}

pub(super) fn read_session_details(row: &Row<'_>) -> rusqlite::Result<(TokenDigest, SessionDetails)> {
    let digest = TokenDigest::from_bytes(row.get("digest")?);
    let details = SessionDetails {
        id: SessionId::of(&digest),
        created: read_time(row, "created")?,
        last_used: read_time(row, "last_used")?,
        expires: read_optional_time(row, "expires")?,
        user_agent: UserAgent::from_stored(row.get("user_agent")?),
        ip: read_ip(row)?,
    };
    Ok((digest, details))
}

pub(super) fn read_item(row: &Row<'_>) -> rusqlite::Result<ItemId> {
    ItemId::new(row.get(0)?).map_err(|error| invalid_column(0, error))
}

/// A user whose columns begin at `first`, in the order of the statements. By index: looking up each column by its name
/// would take longer than finding the row.
pub(super) fn read_user(row: &Row<'_>, first: usize) -> rusqlite::Result<User> {
    let mut profile = Profile::default();
    for (column, field) in (first + 11..).zip(ProfileField::ALL) {
        profile.set_stored(field, row.get(column)?);
    }
    Ok(User {
        username: read_username(row, first)?,
        profile,
        is_active: read_truth(row, first + 1)?,
        is_superuser: read_truth(row, first + 2)?,
        is_staff: read_truth(row, first + 3)?,
        last_login: read_time(row, first + 4)?,
        created: read_time(row, first + 5)?,
        modified: read_time(row, first + 6)?,
        date_joined: read_time(row, first + 7)?,
        is_email_verified: read_truth(row, first + 8)?,
        cellar: read_items(row, first + 9)?,
        wants: read_items(row, first + 10)?,
    })
}

/// A list as `group_concat` writes it; NULL is the empty list.
fn read_items(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<ItemId>> {
    let Some(list) = row.get_ref(column)?.as_str_or_null()? else { return Ok(Vec::new()) };
    let items: Option<_> = list.split(',').map(|item| ItemId::new(item.parse().ok()?).ok()).collect();
    items.ok_or_else(|| invalid_column(column, OutOfRange("an item's id")))
}

pub(super) fn read_username(row: &Row<'_>, column: impl RowIndex + Copy) -> rusqlite::Result<Username> {
    let column = column.idx(row.as_ref())?;
    Username::parse_existing(row.get_ref(column)?.as_str()?).map_err(|error| invalid_column(column, error))
}

pub(super) fn read_time(row: &Row<'_>, column: impl RowIndex + Copy) -> rusqlite::Result<Timestamp> {
    let column = column.idx(row.as_ref())?;
    Timestamp::from_millis(row.get(column)?).ok_or_else(|| invalid_column(column, OutOfRange("a time")))
}

pub(super) fn read_optional_time(row: &Row<'_>, column: impl RowIndex + Copy) -> rusqlite::Result<Option<Timestamp>> {
    if row.get_ref(column)? == ValueRef::Null { Ok(None) } else { read_time(row, column).map(Some) }
}

pub(super) fn read_truth(row: &Row<'_>, column: impl RowIndex + Copy) -> rusqlite::Result<bool> {
    let column = column.idx(row.as_ref())?;
    match row.get(column)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(invalid_column(column, NotATruth)),
    }
}

/// The error of a value that SQLite could read and the service never wrote.
fn invalid_column(column: usize, why: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Null, Box::new(why))
}

pub(super) fn read_event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        id: row.get("id")?,
        at: read_time(row, "at")?,
        kind: EventKind::parse(row.get_ref(2)?.as_str()?).ok_or_else(|| invalid_column(2, OutOfRange("a kind")))?,
        username: row.get("username")?,
        actor: row.get("actor")?,
        ip: read_ip(row)?,
        detail: row.get("detail")?,
    })
}

pub(super) fn read_webhook_id(row: &Row<'_>, column: impl RowIndex + Copy) -> rusqlite::Result<WebhookId> {
    let column = column.idx(row.as_ref())?;
    WebhookId::parse(row.get_ref(column)?.as_str()?).ok_or_else(|| invalid_column(column, OutOfRange("an id")))
}

pub(super) fn read_webhook_kinds(row: &Row<'_>) -> rusqlite::Result<WebhookKinds> {
    let column = row.as_ref().column_index("kinds")?;
    WebhookKinds::parse(row.get_ref(column)?.as_str()?).ok_or_else(|| invalid_column(column, OutOfRange("a kind")))
}

pub(super) fn read_mail_kind(row: &Row<'_>, column: impl RowIndex + Copy) -> rusqlite::Result<MailKind> {
    let column = column.idx(row.as_ref())?;
    MailKind::parse(row.get_ref(column)?.as_str()?).ok_or_else(|| invalid_column(column, OutOfRange("a kind")))
}

/// A mail of the outbox that has just been claimed.
pub(super) fn read_mail(row: &Row<'_>) -> rusqlite::Result<OutboxMail> {
    Ok(OutboxMail {
        id: MailId { id: row.get("id")?, claim: row.get("claims")? },
        kind: read_mail_kind(row, "kind")?,
        user_id: UserId(row.get("user_id")?),
        recipient: row.get("recipient")?,
        is_verified: read_truth(row, "is_verified")?,
        username: read_username(row, "username")?,
        at: read_time(row, "at")?,
        ip: read_ip(row)?,
        user_agent: UserAgent::from_stored(row.get("user_agent")?),
        detail: row.get("detail")?,
        link: row.get("link")?,
        attempts: row.get("attempts")?,
        expires: read_time(row, "expires")?,
    })
}

pub(super) fn read_failures(row: &Row<'_>) -> rusqlite::Result<StoredFailures> {
    Ok(StoredFailures {
        username: read_username(row, 0)?,
        count: row.get("failures")?,
        last: read_time(row, "last_failed")?,
    })
}

/// What is wrong with a row, and whose it is.
#[derive(Debug, Error)]
#[error("{0}")]
struct InvalidRow(String);

/// Rows that the service cannot have written.
pub(super) struct InvalidRows {
    /// The findings about the first of them.
    pub(super) told: Vec<String>,
    /// How many there are.
    pub(super) count: u64,
}

/// Reads every row of a file as the service does, and checks it against the rules by which the service writes. The
/// schema's CHECKs are among them: they only run on writes. Lists at most `most` findings.
pub(super) fn find_invalid_rows(connection: &Connection, rules: &Rules, most: usize) -> rusqlite::Result<InvalidRows> {
    let mut invalid = InvalidRows { told: Vec::new(), count: 0 };
    let mut read = |statement, whose: &str, read: &dyn Fn(&Row<'_>) -> rusqlite::Result<()>| {
        let mut statement = connection.prepare(statement)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Err(error) = read(row) {
                invalid.count += 1;
                if invalid.told.len() < most {
                    invalid.told.push(told(row, &format!("{whose}{}", name_of(row)?), error));
                }
            }
        }
        Ok::<_, rusqlite::Error>(())
    };
    // Versions up to 5 of the schema know nothing of imports.
    let knows_imports = connection.table_exists(None, "imported")?;
    // And versions up to 7 nothing of other services.
    let knows_services = connection.table_exists(None, "services")?;
    let has_imports = knows_imports && connection.prepare(sql::READ_IMPORTED)?.exists([])?;
    read(sql::READ_USERS, "the account ", &|row| {
        check_user(row, rules.is_hash)?;
        check_public_id(row, knows_services)?;
        if has_imports { Ok(()) } else { check_own_times(row) }
    })?;
    for (statement, whose) in [(sql::READ_CELLARS, "the cellar of "), (sql::READ_WANTS, "the wish list of ")] {
        read(statement, whose, &|row| {
            read_item(row)?;
            if has_imports { read_time(row, "added").map(drop) } else { check_time(row, "added").map(drop) }
        })?;
    }
    read(sql::READ_TOKENS, "a token of ", &|row| check_token(row))?;
    let mut sequences = vec!["users"];
    // Versions 1 and 2 of the schema have neither failures nor events.
    if connection.table_exists(None, "events")? {
        let last_user = sequence_of(connection, "users")?;
        read(sql::READ_FAILURES, "the failed logins of ", &|row| {
            let failures = read_failures(row)?;
            require(row, "failures", failures.count > 0, || "there are none".to_owned())?;
            check_time(row, "last_failed").map(drop)
        })?;
        read(sql::READ_EVENTS, "an event of ", &|row| check_event(row, last_user))?;
        sequences.push("events");
    }
    // Nor have versions 3 and 4 codes and mails.
    if connection.table_exists(None, "outbox")? {
        let last_user = sequence_of(connection, "users")?;
        read(sql::READ_OFFERS, "a code of ", &|row| check_offer(row))?;
        read(sql::READ_OUTBOX, "a mail to ", &|row| check_mail(row, last_user))?;
        sequences.push("outbox");
    }
    if knows_imports {
        read(sql::READ_IMPORTED, "an imported id of ", &|row| check_imported(row))?;
    }
    // Versions up to 6 know nothing of other ways in.
    let key = rules.key.as_deref();
    if connection.table_exists(None, "totp")? {
        read(sql::READ_TOTP, "the authenticator app of ", &|row| check_totp(row, key))?;
        read(sql::READ_RECOVERY_CODES, "a recovery code of ", &|row| check_recovery_code(row))?;
        read(sql::READ_PASSKEYS, "a passkey of ", &|row| check_passkey(row))?;
        read(sql::READ_IDENTITIES, "an identity of ", &|row| check_identity(row, key))?;
        read(sql::READ_CHALLENGES, "a challenge of ", &|row| check_challenge(row))?;
        read(sql::READ_REVOCATIONS, "a refresh token of ", &|row| check_revocation(row, key))?;
        sequences.push("revocations");
    }
    if knows_services {
        read(sql::READ_SERVICES, "the service ", &|row| check_service(row))?;
    }
    // Versions up to 7 know nothing of webhooks.
    if connection.table_exists(None, "webhooks")? {
        let last_event = sequence_of(connection, "events")?;
        read(sql::READ_WEBHOOKS, "the webhook ", &|row| check_webhook(row, key, last_event))?;
        read(sql::READ_DELIVERIES, "a delivery to the webhook ", &|row| check_delivery(row, last_event))?;
    }
    let wrong = find_wrong_sequences(connection, &sequences)?;
    invalid.count += wrong.len() as u64;
    let room = most - invalid.told.len();
    invalid.told.extend(wrong.into_iter().take(room));
    Ok(invalid)
}

fn check_user(row: &Row<'_>, is_hash: fn(&PasswordHash) -> bool) -> rusqlite::Result<()> {
    let user = check_rights(row)?;
    let hash = PasswordHash::from_stored(row.get("password_hash")?);
    require(row, "password_hash", is_hash(&hash), || {
        "it is not a hash that this service makes; `user set-password` sets one".to_owned()
    })?;
    for (column, items) in [("cellar", &user.cellar), ("wants", &user.wants)] {
        require_at_most(row, column, items.len(), MAX_ITEMS)?;
    }
    check_count(row, "tokens", SessionPolicy::HIGHEST_MAX_PER_USER as usize)?;
    for field in ProfileField::ALL {
        let text = ProfileText::parse(field, row.get(field.name())?);
        text.map_err(|broken| invalid_row(row, field.name(), broken.rule))?;
    }
    check_optional_time(row, "told_of_login")?;
    // Without a key it may be a file of an older release, or an address to which that one could send no mail.
    let key: Option<String> = row.get("email_key")?;
    let is_own = key.as_ref().is_none_or(|key| key_of(&user.profile.email).as_ref() == Some(key));
    require(row, "email_key", is_own, || "it is not that of the address".to_owned())?;
    require(row, "email_verified", key.is_some() || !user.is_email_verified, || "there is no address".to_owned())?;
    let work: Option<i64> = row.get("imported_hash_work")?;
    require(row, "imported_hash_work", work.is_none_or(|work| work >= 0), || "it is less than none".to_owned())
}

/// Checks the times of an account that this service has made. Those that another system brings may be before 1970.
fn check_own_times(row: &Row<'_>) -> rusqlite::Result<()> {
    for column in ["date_joined", "created", "modified", "last_login"] {
        check_time(row, column)?;
    }
    let is_joined = read_time(row, "date_joined")? == read_time(row, "created")?;
    require(row, "date_joined", is_joined, || "it is not when the account was made".to_owned())
}

/// Checks the columns that an account is found by, and its rights.
fn check_rights(row: &Row<'_>) -> rusqlite::Result<User> {
    let user = read_user(row, 0)?;
    let key: String = row.get("username_key")?;
    require(row, "username_key", key == user.username.key(), || NOT_FOLDED.to_owned())?;
    check_id(row, "user_id")?;
    Ok(user)
}

/// What is wrong with the first superuser whose row the service cannot have written. There are few superusers, so it is
/// fast. The password hash is not checked: a command can set another.
pub(super) fn find_invalid_superuser(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare(sql::READ_SUPERUSERS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Err(error) = check_rights(row) {
            return Ok(Some(told(row, &format!("the account {}", name_of(row)?), error)));
        }
    }
    Ok(None)
}

/// Refuses an account that was found under a name that is not its own: no list shows that name.
pub(super) fn require_own_key(found: &Credentials, key: &str) -> rusqlite::Result<()> {
    if found.username.key() == key {
        return Ok(());
    }
    let (name, id) = (found.username.as_str(), found.user_id.0);
    Err(invalid_column(0, InvalidRow(format!("the account {name} (id {id}), username_key: {NOT_FOLDED}"))))
}

fn check_token(row: &Row<'_>) -> rusqlite::Result<()> {
    let (_, session) = read_session_details(row)?;
    let (created, used) = (check_time(row, "created")?, check_time(row, "last_used")?);
    require(row, "last_used", used >= created, || "it is before the login".to_owned())?;
    check_user_agent(row, &session.user_agent)?;
    for column in ["reauthenticated", "expires"] {
        check_optional_time(row, column)?;
    }
    let imported: Option<String> = row.get("imported")?;
    let is_digest = imported.is_none_or(|digest| ["sha512", "sha256"].contains(&digest.as_str()));
    require(row, "imported", is_digest, || "it is not how a token is digested".to_owned())?;
    read_methods(row, "methods")?;
    check_ip(row)
}

fn check_event(row: &Row<'_>, last_user: i64) -> rusqlite::Result<()> {
    let event = read_event(row)?;
    check_id(row, "id")?;
    check_time(row, "at")?;
    let is_name = |name: &str| Username::parse_existing(name).is_ok();
    let user_id: Option<i64> = row.get("user_id")?;
    match user_id {
        None => require(row, "username", event.username.is_empty(), || "it has no account".to_owned())?,
        Some(id) => {
            // An id that no account has had yet would make it an event of a future account.
            require(row, "user_id", (1..=last_user).contains(&id), || format!("{id} is nobody's number yet"))?;
            require(row, "username", is_name(&event.username), || "it is not a name".to_owned())?;
            // An account never changes its name.
            let name: Option<String> = row.get("account")?;
            let is_accounts = name.is_none_or(|name| name == event.username);
            require(row, "username", is_accounts, || "it is not the name of that account".to_owned())?;
        }
    }
    let is_actor = event.actor.is_empty() || event.actor == COMMAND_LINE || is_name(&event.actor);
    require(row, "actor", is_actor, || "it is not a name".to_owned())?;
    let is_detail = event.detail.len() <= MAX_DETAIL
        && event.detail.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b));
    require(row, "detail", is_detail, || "it is not what an event tells".to_owned())?;
    check_ip(row)
}

fn check_offer(row: &Row<'_>) -> rusqlite::Result<()> {
    let purpose = row.get_ref(0)?.as_str()?;
    let purpose = Purpose::parse(purpose).ok_or_else(|| invalid_column(0, OutOfRange("a purpose")))?;
    let (email, key): (String, String) = (row.get("email")?, row.get("email_key")?);
    require(row, "email_key", key_of(&email) == Some(key), || "it is not that of the address".to_owned())?;
    check_link(row)?;
    let detail: String = row.get("detail")?;
    let is_detail = detail.is_empty()
        || purpose == Purpose::NotMe && (detail == RESTORES_EMAIL || SessionId::parse(&detail).is_some());
    require(row, "detail", is_detail, || "it is nothing that can be disowned".to_owned())?;
    let (token, mac): (Option<[u8; 32]>, Option<[u8; 32]>) = (row.get("token")?, row.get("mac")?);
    require(row, "mac", token.is_some() || mac.is_none(), || "there is a code and no link".to_owned())?;
    let tries: u32 = row.get("tries")?;
    require(row, "tries", tries < MAX_TRIES, || format!("{tries} end it"))?;
    read_truth(row, "is_familiar")?;
    let created = check_time(row, "created")?;
    for (column, lifetime) in [("code_expires", CODE_LIFETIME), ("expires", purpose.lifetime())] {
        // Anything else would be valid for longer than the service makes it.
        let expires = check_time(row, column)?;
        require(row, column, expires <= created.plus(lifetime), || "it is too late".to_owned())?;
    }
    Ok(())
}

fn check_mail(row: &Row<'_>, last_user: i64) -> rusqlite::Result<()> {
    check_id(row, "id")?;
    let kind = read_mail_kind(row, "kind")?;
    let user_id: i64 = row.get("user_id")?;
    require(row, "user_id", (1..=last_user).contains(&user_id), || format!("{user_id} is nobody's number yet"))?;
    let username = read_username(row, "username")?;
    // An account never changes its name.
    let account: Option<String> = row.get("account")?;
    let is_accounts = account.is_none_or(|name| name == username.as_str());
    require(row, "username", is_accounts, || "it is not the name of that account".to_owned())?;
    let recipient: String = row.get("recipient")?;
    require(row, "recipient", key_of(&recipient).is_some(), || "it is not an address".to_owned())?;
    let is_confirmation = kind == MailKind::ConfirmEmail;
    let is_verified = read_truth(row, "is_verified")?;
    require(row, "is_verified", is_verified != is_confirmation, || "it is not as its kind says".to_owned())?;
    let request: Option<[u8; 32]> = row.get("request")?;
    require(row, "request", request.is_some() == is_confirmation, || "it is not as its kind says".to_owned())?;
    let detail: String = row.get("detail")?;
    let is_provider = kind.names_provider() && detail.len() <= MAX_DETAIL;
    let is_detail = detail.is_empty() || is_provider || SessionId::parse(&detail).is_some();
    require(row, "detail", is_detail, || "it is not a session's id".to_owned())?;
    check_user_agent(row, &UserAgent::from_stored(row.get("user_agent")?))?;
    check_link(row)?;
    let _: u32 = row.get("attempts")?;
    let claims: i64 = row.get("claims")?;
    require(row, "claims", claims >= 0, || format!("{claims} is out of range"))?;
    for column in ["at", "due", "expires"] {
        check_time(row, column)?;
    }
    check_ip(row)
}

fn check_imported(row: &Row<'_>) -> rusqlite::Result<()> {
    for column in ["username", "source_id"] {
        row.get_ref(column)?.as_str()?;
    }
    let _: [u8; 32] = row.get("fingerprint")?;
    read_truth(row, "has_other_name")?;
    check_time(row, "at").map(drop)
}

fn check_totp(row: &Row<'_>, key: Option<&SealingKey>) -> rusqlite::Result<()> {
    check_sealed(row, "secret", key, &totp_binding(UserId(row.get("user_id")?)))?;
    check_time(row, "created")?;
    check_optional_time(row, "confirmed")?;
    let is_confirmed = read_optional_time(row, "confirmed")?.is_some();
    let last_step: i64 = row.get("last_step")?;
    require(row, "last_step", last_step >= 0, || format!("{last_step} is out of range"))?;
    require(row, "last_step", is_confirmed || last_step == 0, || "no code was accepted yet".to_owned())
}

fn check_recovery_code(row: &Row<'_>) -> rusqlite::Result<()> {
    let _: [u8; 32] = row.get("digest")?;
    check_time(row, "created")?;
    check_count(row, "codes", RECOVERY_CODES)?;
    let is_on = read_optional_time(row, "confirmed")?.is_some();
    require(row, "digest", is_on, || "there is no authenticator app that it stands for".to_owned())
}

fn check_passkey(row: &Row<'_>) -> rusqlite::Result<()> {
    let id: Vec<u8> = row.get("credential_id")?;
    require(row, "credential_id", !id.is_empty(), || "it is empty".to_owned())?;
    let _: UserHandle = row.get("user_handle")?;
    check_filled(row, "rp_id")?;
    let name: String = row.get("name")?;
    let is_name = PasskeyName::parse(&name).is_ok_and(|read| read.as_str() == name);
    require(row, "name", is_name, || "it is not a name".to_owned())?;
    check_json(row, "credential")?;
    check_time(row, "created")?;
    check_optional_time(row, "last_used")?;
    check_count(row, "passkeys", MAX_PASSKEYS as usize)
}

fn check_identity(row: &Row<'_>, key: Option<&SealingKey>) -> rusqlite::Result<()> {
    for column in ["issuer", "subject", "provider"] {
        check_filled(row, column)?;
    }
    row.get_ref("email")?.as_str()?;
    for column in ["created", "last_used"] {
        check_time(row, column)?;
    }
    if row.get_ref("refresh_token")? != ValueRef::Null {
        let subject = Subject { issuer: row.get("issuer")?, subject: row.get("subject")? };
        check_sealed(row, "refresh_token", key, &refresh_token_binding(&subject.binding()))?;
    }
    check_count(row, "identities", MAX_IDENTITIES as usize)
}

fn check_challenge(row: &Row<'_>) -> rusqlite::Result<()> {
    let _: [u8; 32] = row.get("digest")?;
    let purpose = row.get_ref(1)?.as_str()?;
    let purpose = ChallengePurpose::parse(purpose).ok_or_else(|| invalid_column(1, OutOfRange("a purpose")))?;
    if !row.get_ref("state")?.as_str()?.is_empty() {
        check_json(row, "state")?;
    }
    let has_account = row.get_ref("user_id")? != ValueRef::Null;
    let is_whose = match purpose {
        ChallengePurpose::SecondFactor | ChallengePurpose::AddPasskey | ChallengePurpose::ReauthenticateByPasskey => {
            has_account
        }
        ChallengePurpose::UsePasskey | ChallengePurpose::UsedIdToken => !has_account,
        ChallengePurpose::ProviderFlow | ChallengePurpose::ProviderResult | ChallengePurpose::LinkIdentity => true,
    };
    require(row, "user_id", is_whose, || "it is not as its purpose says".to_owned())?;
    let tries: u32 = row.get("tries")?;
    let most = if purpose == ChallengePurpose::SecondFactor { MAX_FACTOR_TRIES } else { 0 };
    require(row, "tries", tries <= most, || format!("there are {tries}, and {most} at most"))?;
    let (created, expires) = (check_time(row, "created")?, check_time(row, "expires")?);
    // Anything else would be valid for longer than the service makes it.
    let is_soon = purpose == ChallengePurpose::UsedIdToken || expires <= created.plus(purpose.lifetime());
    require(row, "expires", is_soon, || "it is too late".to_owned())
}

fn check_revocation(row: &Row<'_>, key: Option<&SealingKey>) -> rusqlite::Result<()> {
    check_id(row, "id")?;
    check_filled(row, "username")?;
    let binding: [u8; 32] = row.get("binding")?;
    check_sealed(row, "token", key, &refresh_token_binding(&binding))?;
    let _: u32 = row.get("attempts")?;
    let claims: i64 = row.get("claims")?;
    require(row, "claims", claims >= 0, || format!("{claims} is out of range"))?;
    for column in ["due", "expires"] {
        check_time(row, column)?;
    }
    Ok(())
}

fn check_webhook(row: &Row<'_>, key: Option<&SealingKey>, last_event: i64) -> rusqlite::Result<()> {
    let id = read_webhook_id(row, "username")?;
    check_filled(row, "url")?;
    let url: String = row.get("url")?;
    require(row, "url", url.len() <= MAX_URL && url.is_ascii(), || "it is not an address".to_owned())?;
    read_webhook_kinds(row)?;
    for column in ["secret", "previous_secret"] {
        if row.get_ref(column)? != ValueRef::Null {
            check_sealed(row, column, key, &id.secret_binding())?;
        }
    }
    let has_previous = row.get_ref("previous_secret")? != ValueRef::Null;
    let has_end = row.get_ref("previous_until")? != ValueRef::Null;
    require(row, "previous_until", has_previous == has_end, || "it is not as the secret before says".to_owned())?;
    read_truth(row, "allow_private")?;
    let cursor: i64 = row.get("cursor")?;
    // Behind it no event would be sent.
    require(row, "cursor", (0..=last_event).contains(&cursor), || format!("{cursor} is no event's number yet"))?;
    for column in ["lost", "claims", "claimed_until"] {
        let number: i64 = row.get(column)?;
        require(row, column, number >= 0, || format!("{number} is out of range"))?;
    }
    let by: String = row.get("disabled_by")?;
    let is_disabled = row.get_ref("disabled")? != ValueRef::Null;
    let is_by = if is_disabled { DisabledBy::parse(&by).is_some() } else { by.is_empty() };
    require(row, "disabled_by", is_by, || "it is not why a webhook is disabled".to_owned())?;
    let _: u32 = row.get("failures")?;
    for column in ["created", "due"] {
        check_time(row, column)?;
    }
    for column in ["previous_until", "disabled", "failing_since", "last_success"] {
        check_optional_time(row, column)?;
    }
    Ok(())
}

fn check_delivery(row: &Row<'_>, last_event: i64) -> rusqlite::Result<()> {
    read_webhook_id(row, "username")?;
    let event: i64 = row.get("event")?;
    require(row, "event", (1..=last_event).contains(&event), || format!("{event} is no event's number yet"))?;
    check_filled(row, "message")?;
    check_json(row, "body")?;
    let _: u32 = row.get("attempts")?;
    for column in ["due", "tried"] {
        check_optional_time(row, column)?;
    }
    let answer: String = row.get("answer")?;
    let is_short = answer.chars().count() <= MAX_TOLD;
    require(row, "answer", is_short, || format!("it has more than {MAX_TOLD} characters"))
}

/// Every account has a public id, from the version on that knows of them.
fn check_public_id(row: &Row<'_>, is_known: bool) -> rusqlite::Result<()> {
    if is_known { read_public_id(row, "public_id").map(drop) } else { Ok(()) }
}

fn check_service(row: &Row<'_>) -> rusqlite::Result<()> {
    read_service_name(row, "username")?;
    let _: [u8; 32] = row.get("digest")?;
    check_time(row, "created")?;
    check_optional_time(row, "last_used")
}

/// Those of another key are counted by [`super::factors::list_sealed`].
fn check_sealed(row: &Row<'_>, column: &str, key: Option<&SealingKey>, binding: &str) -> rusqlite::Result<()> {
    let sealed: Vec<u8> = row.get(column)?;
    require(row, column, is_sealed(&sealed), || "it is not sealed".to_owned())?;
    let altered = UnsealError::Altered;
    let is_altered = key.is_some_and(|key| key.open(binding, &sealed).err() == Some(altered));
    require(row, column, !is_altered, || altered.to_string())
}

fn check_filled(row: &Row<'_>, column: &str) -> rusqlite::Result<()> {
    let text: String = row.get(column)?;
    require(row, column, !text.is_empty(), || "it is empty".to_owned())
}

fn check_json(row: &Row<'_>, column: &str) -> rusqlite::Result<()> {
    let text: String = row.get(column)?;
    let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
    require(row, column, is_json, || "it is not JSON".to_owned())
}

/// A link's beginning, where one is stored.
fn check_link(row: &Row<'_>) -> rusqlite::Result<()> {
    let link: Option<String> = row.get("link")?;
    let is_link = link.is_none_or(|link| !link.contains(|c: char| c.is_control() || c.is_whitespace()));
    require(row, "link", is_link, || "it is not a link".to_owned())
}

fn check_user_agent(row: &Row<'_>, stored: &UserAgent) -> rusqlite::Result<()> {
    let is_kept = UserAgent::from_header(stored.as_str()) == *stored;
    require(row, "user_agent", is_kept, || "it is not as it is kept of a header".to_owned())
}

/// Checks a time that a clock may have shown. A time in the future is valid: the clock may have been ahead by any
/// amount.
fn check_time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    let time = read_time(row, column)?;
    require(row, column, time.as_millis() >= 0, || format!("{time} is before 1970"))?;
    Ok(time)
}

fn check_optional_time(row: &Row<'_>, column: &str) -> rusqlite::Result<()> {
    if row.get_ref(column)? == ValueRef::Null { Ok(()) } else { check_time(row, column).map(drop) }
}

fn check_id(row: &Row<'_>, column: &str) -> rusqlite::Result<()> {
    let id: i64 = row.get(column)?;
    require(row, column, (1..=MAX_ID).contains(&id), || format!("{id} is out of range"))
}

/// An address as it is stored, or none.
fn check_ip(row: &Row<'_>) -> rusqlite::Result<()> {
    let text: String = row.get("ip")?;
    let is_ip = text.is_empty() || text.parse::<IpAddr>().is_ok_and(|ip| ip.to_string() == text);
    require(row, "ip", is_ip, || "it is not an address".to_owned())
}

/// The last id that a table has given (`AUTOINCREMENT`); 0 where it has given none.
fn sequence_of(connection: &Connection, table: &str) -> rusqlite::Result<i64> {
    let last = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?1 AND typeof(seq) = 'integer'";
    connection.query_row(last, [table], |row| row.get(0))
}

/// Checks `sqlite_sequence`: it must hold the last id of each table with `AUTOINCREMENT`, and nothing else.
fn find_wrong_sequences(connection: &Connection, tables: &[&str]) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name, seq FROM sqlite_sequence")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found: Vec<(Value, Value)> = rows.collect::<Result<_, _>>()?;
    let is_of = |name: &Value, table: &str| matches!(name, Value::Text(name) if name == table);
    let mut wrong = Vec::new();
    for table in tables {
        let last: i64 =
            connection.query_row(&format!("SELECT coalesce(max(id), 0) FROM {table}"), [], |row| row.get(0))?;
        let sequences: Vec<_> = found.iter().filter(|(name, _)| is_of(name, table)).map(|(_, last)| last).collect();
        let is_right = match sequences[..] {
            [] => last == 0,
            [Value::Integer(sequence)] => (last..=MAX_ID).contains(sequence),
            _ => false,
        };
        if !is_right {
            wrong.push(format!("the sequence of {table} is out of range"));
        }
    }
    if found.iter().any(|(name, _)| !tables.iter().any(|table| is_of(name, table))) {
        wrong.push("there is a sequence of a table that has none".to_owned());
    }
    Ok(wrong)
}

/// Adds the account's name to the error of its row.
pub(super) fn invalid_account(row: &Row<'_>, error: rusqlite::Error) -> rusqlite::Error {
    match name_of(row) {
        Ok(name) => invalid_column(0, InvalidRow(told(row, &format!("the account {name}"), error))),
        Err(_) => error,
    }
}

/// Whose row it is: the name, which may itself be what is wrong, and the id.
fn name_of(row: &Row<'_>) -> rusqlite::Result<String> {
    let name = row.get_ref("username")?.as_bytes_or_null()?.unwrap_or_default();
    let id: Option<i64> = row.get("user_id")?;
    let id = id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let name: String = String::from_utf8_lossy(name).chars().take(MAX_SHOWN).collect();
    Ok(format!("{name} (id {id})"))
}

fn told(row: &Row<'_>, whose: &str, error: rusqlite::Error) -> String {
    let (column, why) = match error {
        rusqlite::Error::FromSqlConversionFailure(column, _, why) => (column, why.to_string()),
        rusqlite::Error::IntegralValueOutOfRange(column, number) => (column, format!("{number} is out of range")),
        other => (usize::MAX, other.to_string()),
    };
    match row.as_ref().column_name(column) {
        Ok(column) => format!("{whose}, {column}: {why}"),
        Err(_) => format!("{whose}: {why}"),
    }
}

/// An error about a column, unless its rule `holds`.
fn require(row: &Row<'_>, column: &str, holds: bool, why: impl FnOnce() -> String) -> rusqlite::Result<()> {
    if holds { Ok(()) } else { Err(invalid_row(row, column, why())) }
}

/// How many rows of its kind the account has.
fn check_count(row: &Row<'_>, column: &str, most: usize) -> rusqlite::Result<()> {
    let count: i64 = row.get(column)?;
    require_at_most(row, column, usize::try_from(count).unwrap_or(usize::MAX), most)
}

fn require_at_most(row: &Row<'_>, column: &str, count: usize, most: usize) -> rusqlite::Result<()> {
    require(row, column, count <= most, || format!("there are {count}, and {most} at most under any setting"))
}

fn invalid_row(row: &Row<'_>, column: &str, why: String) -> rusqlite::Error {
    let column = row.as_ref().column_index(column).unwrap_or(usize::MAX);
    invalid_column(column, InvalidRow(why))
}
