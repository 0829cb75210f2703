//! Every SQL statement. They are those of SQLite's `sql.rs` under the same names, but where PostgreSQL needs another.

/// Locks the account of a session. What is read behind it, in a statement of its own, is as of then.
pub const LOCK_CALLER: &str =
    "SELECT id FROM users WHERE id = (SELECT user_id FROM tokens WHERE digest = $1) FOR NO KEY UPDATE";

pub const LOCK_USER: &str = "SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE";

pub const LOCK_USER_NAMED: &str = "SELECT id FROM users WHERE username_key = $1 FOR NO KEY UPDATE";

/// Held by whoever may take the last superuser away, until the end of the transaction; taken before any account's lock.
pub const LOCK_SUPERUSERS: &str = "SELECT pg_advisory_xact_lock(7308604897285989234)";

/// What a password is verified against, and the failures that were counted at the account.
macro_rules! credentials {
    (of $condition:literal) => {
        concat!(
            "SELECT id, username, password_hash, is_active, email_verified, failures, last_failed \
             FROM users LEFT JOIN login_failures ON login_failures.user_id = users.id WHERE ",
            $condition
        )
    };
}

pub const FIND_CREDENTIALS: &str = credentials!(of "username_key = $1");

pub const FIND_OWN_CREDENTIALS: &str = credentials!(of "id = $1");

pub const FIND_SESSION: &str = "SELECT tokens.user_id, tokens.last_used, tokens.created \
     FROM tokens JOIN users ON users.id = tokens.user_id \
     WHERE tokens.digest = $1 AND tokens.created > $2 AND tokens.last_used > $3 AND users.is_active";

/// The profile's columns, in the order of [`ProfileField::ALL`](crate::domain::profile::ProfileField::ALL).
macro_rules! profile {
    (columns) => {
        "first_name, last_name, email, address, address2, city, state, zipcode"
    };
}

pub const INSERT_TOKEN: &str = "INSERT INTO tokens (digest, user_id, created, last_used, user_agent, ip) \
     VALUES ($1, $2, $3, $3, $4, $5)";

pub const RECORD_LOGIN: &str = "UPDATE users SET last_login = $1, password_hash = coalesce($2, password_hash) \
     WHERE id = $3 AND password_hash = $4 AND is_active";

/// All but the `$2` that were used last.
pub const EVICT_TOKENS: &str = "DELETE FROM tokens WHERE digest IN (SELECT digest FROM tokens WHERE user_id = $1 \
     ORDER BY last_used DESC, created DESC, digest OFFSET $2)";

/// A user with both lists.
macro_rules! user_columns {
    () => {
        concat!(
            "users.username, users.is_active, users.is_superuser, users.is_staff, \
             users.last_login, users.created, users.modified, users.date_joined, users.email_verified, \
             ARRAY(SELECT item_id FROM cellar WHERE user_id = users.id ORDER BY item_id) AS cellar, \
             ARRAY(SELECT item_id FROM wants WHERE user_id = users.id ORDER BY item_id) AS wants, ",
            profile!(columns)
        )
    };
}

pub const FIND_USER: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE id = $1");

/// All that a token check needs, as of one moment: a live session and its user.
pub const FIND_CALLER: &str = concat!(
    "SELECT tokens.user_id, tokens.last_used, tokens.created, ",
    user_columns!(),
    " FROM tokens JOIN users ON users.id = tokens.user_id \
     WHERE tokens.digest = $1 AND tokens.created > $2 AND tokens.last_used > $3 AND users.is_active"
);

pub const FIND_REAUTHENTICATION: &str = "SELECT reauthenticated FROM tokens WHERE digest = $1";

pub const SET_REAUTHENTICATION: &str = "UPDATE tokens SET reauthenticated = $2 WHERE digest = $1";

pub const LIST_SESSIONS: &str = "SELECT digest, created, last_used, user_agent, ip FROM tokens \
     WHERE user_id = $1 AND created > $2 AND last_used > $3 ORDER BY created DESC, digest DESC";

pub const DELETE_TOKEN: &str = "DELETE FROM tokens WHERE digest = $1";

pub const DELETE_ALL_TOKENS: &str = "DELETE FROM tokens WHERE user_id = $1";

/// In the order of their digests, as every unit that changes several: so no two wait for each other.
pub const RECORD_USE: &str = "UPDATE tokens SET last_used = uses.at \
     FROM (SELECT digest, at FROM unnest($1::bytea[], $2::bigint[]) AS used (digest, at)) AS uses \
     WHERE tokens.digest = uses.digest AND tokens.last_used < uses.at RETURNING tokens.digest, tokens.last_used";

pub const FIND_SESSION_BY: &str = "SELECT digest FROM tokens WHERE user_id = $1 AND user_agent = $2 LIMIT 1";

/// `$2` is now, and `$3` a day before.
pub const SET_TOLD_OF_LOGIN: &str = "UPDATE users SET told_of_login = $2 WHERE id = $1 AND email_verified \
     AND (told_of_login IS NULL OR told_of_login <= $3 OR told_of_login > $2)";

pub const RESET_FAILURES: &str = "DELETE FROM login_failures WHERE user_id = $1";
