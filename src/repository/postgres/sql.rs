//! Every SQL statement. They are those of SQLite's `sql.rs` under the same names, but where PostgreSQL needs another.

use crate::domain::item::List;

/// Locks the account of a session. What is read behind it, in a statement of its own, is as of then.
pub const LOCK_CALLER: &str =
    "SELECT id FROM users WHERE id = (SELECT user_id FROM tokens WHERE digest = $1) FOR NO KEY UPDATE";

pub const LOCK_USER: &str = "SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE";

pub const LOCK_USER_NAMED: &str = "SELECT id FROM users WHERE username_key = $1 FOR NO KEY UPDATE";

/// Held by whoever may take the last superuser away, until the end of the transaction; taken before any account's lock.
pub const LOCK_SUPERUSERS: &str = "SELECT pg_advisory_xact_lock(7308604897285989234)";

pub const FIND_CREDENTIALS: &str =
    "SELECT id, username, password_hash, is_active, email_verified FROM users WHERE username_key = $1";

pub const FIND_OWN_CREDENTIALS: &str =
    "SELECT id, username, password_hash, is_active, email_verified FROM users WHERE id = $1";

pub const FIND_SESSION: &str = "SELECT tokens.user_id, tokens.last_used, tokens.created \
     FROM tokens JOIN users ON users.id = tokens.user_id \
     WHERE tokens.digest = $1 AND tokens.created > $2 AND tokens.last_used > $3 AND users.is_active";

/// The profile's columns, in the order of [`ProfileField::ALL`](crate::domain::profile::ProfileField::ALL).
macro_rules! profile {
    (columns) => {
        "first_name, last_name, email, address, address2, city, state, zipcode"
    };
    // Behind those of the statement itself.
    (parameters from 3) => {
        "$3, $4, $5, $6, $7, $8, $9, $10"
    };
    (parameters from 6) => {
        "$6, $7, $8, $9, $10, $11, $12, $13"
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

// Accounts, lists, administration.

/// Locks the account of the actor's session and the account of this name, whichever comes first: two who act on each
/// other at once wait in one order. The actor's, so that it keeps its session and its rights until the end.
pub const LOCK_ACTOR_AND_TARGET: &str = "SELECT id FROM users \
     WHERE id = (SELECT user_id FROM tokens WHERE digest = $1) OR username_key = $2 ORDER BY id FOR NO KEY UPDATE";

pub const INSERT_USER: &str = concat!(
    "INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, last_login, email_key, ",
    profile!(columns),
    ") VALUES ($1, $2, $3, $4, $4, $4, $4, $5, ",
    profile!(parameters from 6),
    ") ON CONFLICT (username_key) DO NOTHING RETURNING id"
);

pub const UPDATE_PROFILE: &str = concat!(
    "UPDATE users SET modified = $2, (",
    profile!(columns),
    ") = (",
    profile!(parameters from 3),
    ") WHERE id = $1"
);

pub const SET_PASSWORD: &str = "UPDATE users SET password_hash = $2 WHERE id = $1";

pub const DELETE_OTHER_TOKENS: &str = "DELETE FROM tokens WHERE user_id = $1 AND digest <> $2";

/// The rights of who has this session, where it is live.
pub const FIND_RIGHTS: &str = "SELECT users.id, username, is_staff, is_superuser \
     FROM tokens JOIN users ON users.id = tokens.user_id \
     WHERE tokens.digest = $1 AND tokens.created > $2 AND tokens.last_used > $3 AND users.is_active";

pub const FIND_TARGET: &str = "SELECT id, is_staff, is_superuser, is_active FROM users WHERE username_key = $1";

pub const FIND_TARGET_BY_ID: &str = "SELECT id, is_staff, is_superuser, is_active FROM users WHERE id = $1";

pub const FIND_OTHER_SUPERUSER: &str = "SELECT id FROM users WHERE is_superuser AND is_active AND id <> $1 LIMIT 1";

/// One of the texts that are searched, as far as the database can tell: whether the folded `$2` is in it, or it is not
/// ASCII, and the service must look. Under the collation "C", `lower` changes ASCII letters alone.
macro_rules! may_have {
    ($text:literal) => {
        concat!("strpos(lower(", $text, "), $2) > 0 OR octet_length(", $text, ") <> char_length(", $text, ")")
    };
}

/// Accounts that a search may find, with the texts that it is for. `$2` is folded.
pub const LIST_USERS: &str = concat!(
    "SELECT id, username_key, email, first_name || ' ' || last_name AS full_name FROM users WHERE username_key > $1 \
     AND ($2::text IS NULL OR ",
    may_have!("username_key"),
    " OR ",
    may_have!("email"),
    " OR ",
    may_have!("(first_name || ' ' || last_name)"),
    ") AND ($3::boolean IS NULL OR is_active = $3) AND ($4::boolean IS NULL OR is_staff = $4) \
     AND ($5::boolean IS NULL OR is_superuser = $5) ORDER BY username_key LIMIT $6"
);

pub const FIND_USERS: &str =
    concat!("SELECT ", user_columns!(), " FROM users WHERE id = ANY($1) ORDER BY users.username_key");

pub const CHANGE_ACCOUNT: &str = "UPDATE users SET is_active = $2, is_staff = $3, is_superuser = $4, \
     password_hash = coalesce($5, password_hash) WHERE id = $1";

pub const DELETE_ACCOUNT: &str = "DELETE FROM users WHERE id = $1";

/// The statements of one list. Those that change it set the account's `modified` with it. `insert` and `delete` return a
/// row where they changed anything.
pub struct Items {
    pub list: &'static str,
    pub insert: &'static str,
    pub delete: &'static str,
    /// `$2` are the items that go, and `$3` those that come. It is for a list that changes.
    pub replace: &'static str,
}

macro_rules! items {
    ($table:literal) => {
        Items {
            list: concat!("SELECT item_id, added FROM ", $table, " WHERE user_id = $1 ORDER BY item_id"),
            insert: concat!(
                "WITH came AS (INSERT INTO ",
                $table,
                " (user_id, item_id, added) VALUES ($1, $2, $3) ON CONFLICT (user_id, item_id) DO NOTHING RETURNING 1) \
                 UPDATE users SET modified = $3 WHERE id = $1 AND EXISTS (SELECT 1 FROM came) RETURNING id"
            ),
            delete: concat!(
                "WITH went AS (DELETE FROM ",
                $table,
                " WHERE user_id = $1 AND item_id = $2 RETURNING 1) \
                 UPDATE users SET modified = $3 WHERE id = $1 AND EXISTS (SELECT 1 FROM went) RETURNING id"
            ),
            replace: concat!(
                "WITH went AS (DELETE FROM ",
                $table,
                " WHERE user_id = $1 AND item_id = ANY($2)), came AS (INSERT INTO ",
                $table,
                " (user_id, item_id, added) SELECT $1::bigint, unnest($3::bigint[]), $4::bigint) \
                 UPDATE users SET modified = $4 WHERE id = $1"
            ),
        }
    };
}

pub const CELLAR: Items = items!("cellar");

pub const WANTS: Items = items!("wants");

pub const fn items(list: List) -> Items {
    match list {
        List::Cellar => CELLAR,
        List::Wants => WANTS,
    }
}
