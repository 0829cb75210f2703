//! Every SQL statement, and the function that one of them calls. A test asks SQLite for the query plan of each, and
//! checks that it visits no more rows than it says.

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};

use crate::domain::email::key_of;
use crate::domain::item::List;
use crate::domain::rights::is_folded_in;

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

pub const FIND_CREDENTIALS: &str = credentials!(of "username_key = ?1");

pub const FIND_OWN_CREDENTIALS: &str = credentials!(of "id = ?1");

pub const FIND_CREDENTIALS_BY_EMAIL: &str = credentials!(of "email_key = ?1 AND email_verified = 1");

/// Whether a token's session is live, by its times.
macro_rules! live {
    (after $created:literal, $used:literal, $expires:literal) => {
        concat!(
            "tokens.created > ",
            $created,
            " AND tokens.last_used > ",
            $used,
            " AND (tokens.expires IS NULL OR tokens.expires > ",
            $expires,
            ")"
        )
    };
}

pub const FIND_SESSION: &str = concat!(
    "SELECT tokens.user_id, tokens.last_used, tokens.created, tokens.expires \
     FROM tokens JOIN users ON users.id = tokens.user_id \
     WHERE tokens.digest = ?1 AND ",
    live!(after "?2", "?3", "?4"),
    " AND users.is_active = 1"
);

/// The profile's columns, in the order of [`ProfileField::ALL`](crate::domain::profile::ProfileField::ALL).
macro_rules! profile {
    (columns) => {
        "first_name, last_name, email, address, address2, city, state, zipcode"
    };
    // Each takes the number behind the greatest before it.
    (parameters) => {
        "?, ?, ?, ?, ?, ?, ?, ?"
    };
}

pub const INSERT_USER: &str = concat!(
    "INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, last_login, email_key, public_id, ",
    profile!(columns),
    ") VALUES (?1, ?2, ?3, ?4, ?4, ?4, ?4, ?5, randomblob(16), ",
    profile!(parameters),
    ") ON CONFLICT (username_key) DO NOTHING RETURNING id"
);

pub const INSERT_TOKEN: &str = "INSERT INTO tokens (digest, user_id, created, last_used, user_agent, ip, methods) \
     VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6)";

pub const RECORD_LOGIN: &str = "UPDATE users SET last_login = ?1 WHERE id = ?2";

/// All but the `?2` that were used last. `?3` is now: those that have come to their own end go before any other.
pub const EVICT_TOKENS: &str = "DELETE FROM tokens WHERE digest IN (SELECT digest FROM tokens WHERE user_id = ?1 \
     ORDER BY expires IS NOT NULL AND expires <= ?3, last_used DESC, created DESC, digest LIMIT 9223372036854775807 OFFSET ?2)";

/// How many items of a list a token check reads inline.
pub const SHORT_LIST: usize = 100;

/// A user with both lists, each limited by `$limit`.
macro_rules! user_columns {
    ($limit:literal) => {
        concat!(
            "users.username, users.is_active, users.is_superuser, users.is_staff, \
             users.last_login, users.created, users.modified, users.date_joined, users.email_verified, \
             (SELECT group_concat(item_id) FROM (SELECT item_id FROM cellar WHERE user_id = users.id ORDER BY item_id",
            $limit,
            ")) AS cellar, \
             (SELECT group_concat(item_id) FROM (SELECT item_id FROM wants WHERE user_id = users.id ORDER BY item_id",
            $limit,
            ")) AS wants, ",
            profile!(columns)
        )
    };
}

/// A live session and its user.
macro_rules! find_caller {
    ($limit:literal) => {
        concat!(
            "SELECT tokens.user_id, tokens.last_used, tokens.created, tokens.expires, ",
            user_columns!($limit),
            " FROM tokens JOIN users ON users.id = tokens.user_id \
             WHERE tokens.digest = ?1 AND ",
            live!(after "?2", "?3", "?4"),
            " AND users.is_active = 1"
        )
    };
}

pub const FIND_USER: &str = concat!("SELECT ", user_columns!(""), ", users.id AS user_id FROM users WHERE id = ?1");

/// All that a token check needs, as of one moment. Of a long list it reads one item too many, which shows that it is
/// long.
pub const FIND_CALLER: &str = find_caller!(" LIMIT 101");

pub const FIND_CALLER_WITH_LONG_LISTS: &str = find_caller!("");

pub const UPDATE_PROFILE: &str =
    concat!("UPDATE users SET modified = ?2, (", profile!(columns), ") = (", profile!(parameters), ") WHERE id = ?1");

/// The only statement that sets an address of an account that exists; `?3` is the key of `?2`.
pub const SET_EMAIL: &str = "UPDATE users SET modified = iif(email = ?2, modified, ?5), email = ?2, email_key = ?3, \
     email_verified = ?4 WHERE id = ?1";

pub const SET_EMAIL_VERIFIED: &str =
    "UPDATE users SET email_verified = 1 WHERE id = ?1 AND email_verified = 0 AND email_key IS NOT NULL";

pub const FIND_EMAIL: &str = "SELECT email, email_key, email_verified FROM users WHERE id = ?1";

pub const FIND_OTHER_WITH_EMAIL: &str = "SELECT id FROM users WHERE email_key = ?1 AND email_verified = 1 AND id <> ?2";

/// `?2` is now, and `?3` a day before.
pub const SET_TOLD_OF_LOGIN: &str = "UPDATE users SET told_of_login = ?2 WHERE id = ?1 AND email_verified = 1 \
     AND (told_of_login IS NULL OR told_of_login <= ?3 OR told_of_login > ?2)";

/// Whether an account was imported and has not logged in since, as far as its events tell.
pub const IS_NEW_BY_IMPORT: &str = "SELECT 1 FROM events WHERE user_id = ?1 AND kind = 'imported' AND NOT EXISTS ( \
     SELECT 1 FROM events WHERE user_id = ?1 AND kind IN ('registered', 'logged_in')) LIMIT 1";

pub const FIND_SESSION_BY: &str = "SELECT digest FROM tokens WHERE user_id = ?1 AND user_agent = ?2 LIMIT 1";

macro_rules! recipient {
    ($whose:literal) => {
        concat!(
            "SELECT id AS user_id, username, email, email_verified, is_active FROM users WHERE email_key IS NOT NULL AND ",
            $whose
        )
    };
}

pub const FIND_RECIPIENT: &str = recipient!("id = ?1");

pub const FIND_RECIPIENT_NAMED: &str = recipient!("username_key = ?1");

pub const FIND_RECIPIENT_VERIFIED: &str = recipient!("email_key = ?1 AND email_verified = 1");

pub const FIND_RECIPIENT_UNVERIFIED: &str =
    recipient!("email_key = ?1 AND email_verified = 0 AND is_active = 1 ORDER BY id LIMIT 1");

/// What is worth something at `?1`, and its account. Its account has the address that it was mailed to, where it is not
/// for another address: one that is to be confirmed, or one that may be restored. What is said to be made later was made
/// while the clock was ahead, by any amount, and is over.
macro_rules! offer {
    ($which:literal) => {
        concat!(
            "SELECT request, purpose, user_id, one_time_codes.email, one_time_codes.email_key, detail, mac, tries, \
             one_time_codes.created, code_expires, expires, username, users.email AS current_email, email_verified \
             FROM one_time_codes JOIN users ON users.id = user_id \
             WHERE one_time_codes.created <= ?1 AND expires > ?1 AND (purpose IN ('confirm_email', 'not_me') \
             OR one_time_codes.email_key = users.email_key) AND purpose = ?2 AND ",
            $which
        )
    };
}

pub const FIND_OFFER: &str = offer!("request = ?3");

pub const FIND_OFFER_BY_TOKEN: &str = offer!("token = ?3");

/// There is one row an account of what is asked for by its own sessions.
pub const FIND_OWN_OFFER: &str = offer!("user_id = ?3 AND is_familiar = 1 AND purpose <> 'not_me'");

pub const INSERT_OFFER: &str = "INSERT INTO one_time_codes (request, purpose, user_id, is_familiar, email, email_key, \
     link, detail, token, mac, tries, created, code_expires, expires) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, ?11, ?12, ?13)";

/// What is mailed once more takes the place of what was mailed before. `?5` is now.
pub const RENEW_OFFER: &str = "UPDATE one_time_codes SET mac = ?3, token = ?4, tries = 0, created = ?5, \
     code_expires = ?6, expires = ?7 \
     WHERE request = ?1 AND purpose = ?2 AND created <= ?5 AND expires > ?5";

pub const COUNT_TRY: &str = "UPDATE one_time_codes SET tries = tries + 1 WHERE request = ?1";

pub const DELETE_OFFER: &str = "DELETE FROM one_time_codes WHERE request = ?1";

pub const DELETE_OFFER_FOR: &str = "DELETE FROM one_time_codes \
     WHERE user_id = ?1 AND purpose = ?2 AND is_familiar = ?3 AND purpose <> 'not_me' RETURNING request";

/// But for those that restore a former address.
pub const DELETE_OFFERS_OF: &str = "DELETE FROM one_time_codes WHERE user_id = ?1 AND detail <> 'email_changed'";

pub const DELETE_RESTORERS_SINCE: &str =
    "DELETE FROM one_time_codes WHERE user_id = ?1 AND detail = 'email_changed' AND created >= ?2";

/// By the kind and not by the account, which has no index: few mails wait at a time.
pub const DELETE_RESTORING_MAILS_SINCE: &str =
    "DELETE FROM outbox WHERE user_id = ?1 AND kind = 'email_changed' AND at >= ?2";

/// What opens the account without its password.
pub const DELETE_OPENING_OFFERS: &str =
    "DELETE FROM one_time_codes WHERE user_id = ?1 AND purpose IN ('reset_password', 'sign_in')";

pub const DELETE_PENDING_CHANGE: &str = "DELETE FROM one_time_codes WHERE user_id = ?1 \
     AND purpose = 'confirm_email' AND email <> (SELECT email FROM users WHERE id = ?1)";

pub const DELETE_MAIL_OF_PENDING_CHANGE: &str = "DELETE FROM outbox WHERE request IN (SELECT request \
     FROM one_time_codes WHERE user_id = ?1 AND purpose = 'confirm_email' \
     AND email <> (SELECT email FROM users WHERE id = ?1))";

/// All but the newest `?2`.
pub const DELETE_OLDEST_DISOWNERS: &str = "DELETE FROM one_time_codes WHERE request IN (SELECT request \
     FROM one_time_codes WHERE user_id = ?1 AND purpose = 'not_me' AND detail <> 'email_changed' \
     ORDER BY created DESC, request LIMIT 9223372036854775807 OFFSET ?2)";

pub const FIND_EXPIRED_OFFERS: &str = "SELECT request FROM one_time_codes WHERE expires <= ?1 LIMIT ?2";

pub const DELETE_EXPIRED_OFFER: &str = "DELETE FROM one_time_codes WHERE request = ?1 AND expires <= ?2";

pub const FIND_FUTURE_OFFERS: &str = "SELECT request FROM one_time_codes WHERE created > ?1 LIMIT ?2";

/// It is over. Set to now, it would be worth something once more.
pub const DELETE_FUTURE_OFFER: &str = "DELETE FROM one_time_codes WHERE request = ?1 AND created > ?2";

pub const INSERT_CONFIRMATION: &str = "INSERT INTO outbox (kind, user_id, username, recipient, is_verified, request, \
     detail, at, ip, user_agent, link, attempts, due, claims, expires) \
     SELECT ?2, id, username, ?3, 0, ?4, '', ?5, '', '', ?6, 0, ?5, 0, ?7 FROM users WHERE id = ?1";

/// To the address that the account has, where it is verified. The program is that of the session of which it tells.
pub const INSERT_NOTICE: &str = "INSERT INTO outbox (kind, user_id, username, recipient, is_verified, request, \
     detail, at, ip, user_agent, link, attempts, due, claims, expires) \
     SELECT ?2, id, username, email, 1, NULL, ?3, ?4, ?5, coalesce((SELECT user_agent FROM tokens \
         WHERE user_id = ?1 AND lower(substr(hex(digest), 1, 16)) = ?3), ''), NULL, 0, ?4, 0, ?6 \
     FROM users WHERE id = ?1 AND email_verified = 1";

pub const LIST_EXPIRED_MAILS: &str =
    "SELECT id FROM outbox WHERE due <= ?1 AND expires <= ?1 ORDER BY due, id LIMIT ?2";

pub const LIST_DUE_MAILS: &str = "SELECT id FROM outbox WHERE due <= ?1 AND expires > ?1 ORDER BY due, id LIMIT ?2";

pub const CLAIM_MAIL: &str = "UPDATE outbox SET due = ?2, claims = claims + 1 WHERE id = ?1 RETURNING id, claims, kind, \
     user_id, recipient, is_verified, username, at, ip, user_agent, detail, link, attempts, expires";

/// A mail, while the claim to it holds.
pub const FIND_CLAIMED_MAIL: &str =
    "SELECT kind, user_id, recipient, request, detail, at FROM outbox WHERE id = ?1 AND claims = ?2 AND due > ?3";

pub const RETURN_MAIL: &str = "UPDATE outbox SET attempts = attempts + ?4, claims = claims + 1, due = ?3 \
     WHERE id = ?1 AND claims = ?2";

pub const DELETE_MAIL: &str = "DELETE FROM outbox WHERE id = ?1 AND claims = ?2";

pub const DELETE_UNCLAIMED_MAIL: &str = "DELETE FROM outbox WHERE id = ?1";

pub const DELETE_MAIL_OF_OFFER: &str = "DELETE FROM outbox WHERE request = ?1";

pub const DELETE_MAILS_OF_OFFERS: &str =
    "DELETE FROM outbox WHERE request IN (SELECT request FROM one_time_codes WHERE user_id = ?1)";

/// Also of an account that is gone.
pub const INSERT_MAIL_FAILED: &str = "INSERT INTO events (at, kind, user_id, username, actor, ip, detail) \
     SELECT ?2, ?3, user_id, username, '', '', kind FROM outbox WHERE id = ?1";

pub const COUNT_MAILS: &str = "SELECT count(id), min(at) FROM outbox";

/// Those that were written while the clock was ahead, and those that wait for longer than any mail does (`?2` is a day
/// from now).
pub const FIND_FUTURE_MAILS: &str = "SELECT id FROM outbox WHERE at > ?1 OR due > ?2 LIMIT ?3";

/// Each keeps its lifetime.
pub const CLAMP_MAIL: &str = "UPDATE outbox SET at = min(at, ?2), due = min(due, ?2), \
     expires = min(expires, ?2 + expires - at) WHERE id = ?1";

/// What is written where nothing is found, and nothing remains of it. The id is one that no mail is given.
pub const INSERT_EQUAL_WORK: &str = "INSERT INTO outbox (id, kind, user_id, username, recipient, is_verified, request, \
     detail, at, ip, user_agent, link, attempts, due, claims, expires) \
     VALUES (-1, '', 0, '', '', 0, NULL, '', 0, '', '', NULL, 0, 0, 0, 0)";

pub const DELETE_EQUAL_WORK: &str = "DELETE FROM outbox WHERE id = -1";

pub const TOUCH_USER: &str = "UPDATE users SET modified = ?2 WHERE id = ?1";

pub const SET_PASSWORD: &str = "UPDATE users SET password_hash = ?2, imported_hash_work = NULL WHERE id = ?1";

pub const FIND_REAUTHENTICATION: &str = "SELECT reauthenticated FROM tokens WHERE digest = ?1";

pub const SET_REAUTHENTICATION: &str = "UPDATE tokens SET reauthenticated = ?2 WHERE digest = ?1";

pub const LIST_SESSIONS: &str = concat!(
    "SELECT digest, created, last_used, expires, user_agent, ip FROM tokens WHERE user_id = ?1 AND ",
    live!(after "?2", "?3", "?4"),
    " ORDER BY created DESC, digest DESC"
);

pub const DELETE_TOKEN: &str = "DELETE FROM tokens WHERE digest = ?1";

pub const DELETE_OTHER_TOKENS: &str = "DELETE FROM tokens WHERE user_id = ?1 AND digest <> ?2";

pub const DELETE_ALL_TOKENS: &str = "DELETE FROM tokens WHERE user_id = ?1";

pub const RECORD_USE: &str = "UPDATE tokens SET last_used = ?2 WHERE digest = ?1 AND last_used < ?2";

pub const FIND_DEAD_TOKENS: &str = "SELECT digest FROM tokens \
     WHERE created <= ?1 OR last_used <= ?2 OR expires <= ?3 LIMIT ?4";

pub const DELETE_DEAD_TOKEN: &str = "DELETE FROM tokens WHERE digest = ?1 \
     AND (created <= ?2 OR last_used <= ?3 OR expires <= ?4) RETURNING user_id";

/// Those with a time after `?1`.
pub const FIND_FUTURE_TOKENS: &str = "SELECT digest FROM tokens \
     WHERE created > ?1 OR last_used > ?1 OR reauthenticated > ?1 LIMIT ?2";

/// A reauthentication is forgotten: set to now, it would make the session fresh without a password.
pub const CLAMP_TOKEN: &str = "UPDATE tokens SET created = min(created, ?2), last_used = min(last_used, ?2), \
     reauthenticated = iif(reauthenticated > ?2, NULL, reauthenticated) \
     WHERE digest = ?1 AND (created > ?2 OR last_used > ?2 OR reauthenticated > ?2) RETURNING user_id";

pub const FIND_FUTURE_FAILURES: &str = "SELECT user_id FROM login_failures WHERE last_failed > ?1 LIMIT ?2";

pub const CLAMP_FAILURES: &str =
    "UPDATE login_failures SET last_failed = min(last_failed, ?2) WHERE user_id = ?1 AND last_failed > ?2";

pub const FIND_RIGHTS: &str = "SELECT username, is_staff, is_superuser FROM users WHERE id = ?1";

pub const FIND_TARGET: &str = "SELECT id, is_staff, is_superuser, is_active FROM users WHERE username_key = ?1";

pub const FIND_TARGET_BY_ID: &str = "SELECT id, is_staff, is_superuser, is_active FROM users WHERE id = ?1";

pub const FIND_OTHER_SUPERUSER: &str =
    "SELECT id FROM users WHERE is_superuser = 1 AND is_active = 1 AND id <> ?1 LIMIT 1";

/// `?2` is folded. `add_functions` adds the function.
pub const LIST_USERS: &str = "SELECT id FROM users WHERE username_key > ?1 \
     AND (?2 IS NULL OR is_folded_in(?2, username_key) OR is_folded_in(?2, email) \
         OR is_folded_in(?2, first_name || ' ' || last_name)) \
     AND (?3 IS NULL OR is_active = ?3) AND (?4 IS NULL OR is_staff = ?4) AND (?5 IS NULL OR is_superuser = ?5) \
     ORDER BY username_key LIMIT ?6";

pub const CHANGE_ACCOUNT: &str = "UPDATE users SET is_active = ?2, is_staff = ?3, is_superuser = ?4, \
     password_hash = coalesce(?5, password_hash), \
     imported_hash_work = CASE WHEN ?5 IS NULL THEN imported_hash_work END WHERE id = ?1";

pub const DELETE_ACCOUNT: &str = "DELETE FROM users WHERE id = ?1";

/// `?4` is who did it, where it was not the account itself.
pub const INSERT_EVENT: &str = "INSERT INTO events (at, kind, user_id, username, actor, ip, detail) \
     SELECT ?1, ?2, id, username, coalesce(?4, username), ?5, ?6 FROM users WHERE id = ?3";

pub const INSERT_STRANGERS_EVENT: &str = "INSERT INTO events (at, kind, user_id, username, actor, ip, detail) \
     VALUES (?1, ?2, NULL, '', '', ?3, ?4)";

pub const LIST_EVENTS: &str = "SELECT id, at, kind, username, actor, ip, detail FROM events \
     WHERE id < ?1 AND (?2 IS NULL OR kind = ?2) AND ?4 IS NULL ORDER BY id DESC LIMIT ?3";

pub const FIND_NAME: &str = "SELECT username FROM users WHERE username_key = ?1";

pub const LIST_EVENTS_NAMED: &str = "SELECT id, at, kind, username, actor, ip, detail FROM events \
     WHERE lower(username) = ?4 AND id < ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY id DESC LIMIT ?3";

pub const LIST_EVENTS_OF: &str = "SELECT id, at, kind, username, actor, ip, detail FROM events \
     WHERE user_id = ?3 AND id < ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY id DESC LIMIT ?4";

/// Those that are no younger than `?1`, those numbered up to `?2`, and those from the future (`?4` is now) that are
/// older than an old one by their number.
pub const FIND_OLD_EVENTS: &str = "SELECT id FROM events WHERE at <= ?1 OR id <= ?2 \
     OR (at > ?4 AND id < (SELECT id FROM events WHERE at <= ?1 ORDER BY id DESC LIMIT 1)) ORDER BY id LIMIT ?3";

pub const FIND_LAST_EVENT: &str = "SELECT max(id) FROM events";

pub const DELETE_EVENT: &str = "DELETE FROM events WHERE id = ?1";

/// Whoever reads an account's mail may reset its password, and must not get new tries at its second factor so.
pub const LIST_RESETS: &str = "SELECT username FROM events WHERE id > ?1 AND (kind = 'password_set' \
     OR kind = 'password_reset' AND NOT EXISTS (SELECT 1 FROM totp \
     WHERE totp.user_id = events.user_id AND confirmed IS NOT NULL))";

/// The addresses from which the account has logged in lately.
pub const LIST_FAMILIAR: &str = "SELECT ip FROM tokens WHERE user_id = ?1 \
     UNION ALL SELECT ip FROM (SELECT ip FROM events WHERE user_id = ?1 AND kind IN ('registered', 'logged_in') \
     ORDER BY id DESC LIMIT 100)";

/// When each account that has a new password since `?1` got it. The events' numbers are in the order of their times,
/// but for a second: so it reads the newest alone, from the end. `?2` is now; what is said to be later was written
/// while the clock was ahead, and so before all that happens now. As in [`LIST_RESETS`], one factor clears no wrong codes
/// of an app.
pub const LIST_NEW_PASSWORDS: &str = "SELECT user_id, max(at) FROM events \
     WHERE id > coalesce((SELECT id FROM events WHERE at < ?1 - 1000 ORDER BY id DESC LIMIT 1), 0) \
     AND (kind = 'password_set' OR kind IN ('password_changed', 'password_reset') AND NOT EXISTS (SELECT 1 FROM totp \
     WHERE totp.user_id = events.user_id AND confirmed IS NOT NULL)) AND at <= ?2 + 1000 GROUP BY user_id";

/// A failure that a login has followed by now does not count. `?3` is now; a login that is said to be later was before.
pub const COUNT_FAILURE: &str = "INSERT INTO login_failures (user_id, failures, last_failed) \
     SELECT id, 1, ?2 FROM users WHERE id = ?1 AND (last_login <= ?2 OR last_login > ?3 + 1000) \
     ON CONFLICT (user_id) DO UPDATE SET failures = login_failures.failures + 1, last_failed = excluded.last_failed";

pub const RESET_FAILURES: &str = "DELETE FROM login_failures WHERE user_id = ?1";

/// After the first factor alone, which clears no failures where there is a second: see `has_second_factor`.
pub const RESET_FAILURES_BY_ONE_FACTOR: &str = "DELETE FROM login_failures WHERE user_id = ?1 \
     AND NOT EXISTS (SELECT 1 FROM totp WHERE totp.user_id = ?1 AND confirmed IS NOT NULL)";

pub const LIST_FAILURES: &str = "SELECT username, failures, last_failed FROM login_failures \
     JOIN users ON users.id = login_failures.user_id ORDER BY failures DESC, user_id LIMIT ?1";

/// The write probe: an event that nobody ever sees, for it is deleted before the COMMIT. It writes some twenty pages,
/// as many as any request. Its id is one that no event is given.
pub const INSERT_PROOF: &str = "INSERT INTO events (id, at, kind, user_id, username, actor, ip, detail) \
     VALUES (-1, 0, '', NULL, '', '', '', hex(zeroblob(32768)))";

pub const DELETE_PROOF: &str = "DELETE FROM events WHERE id = -1";

/// Counts for the metrics, by no request. They read a whole index, the smallest that the table has. They count a
/// column: `count(*)` is a single instruction, which a deadline cannot interrupt.
pub const COUNT_USERS: &str = "SELECT count(id) FROM users";

pub const COUNT_TOKENS: &str = "SELECT count(user_id) FROM tokens";

pub const COUNT_REVOCATIONS: &str = "SELECT count(due) FROM revocations";

/// Each row of each table with its account, for the check of a whole file.
pub const READ_USERS: &str = concat!(
    "SELECT ",
    user_columns!(""),
    ", users.id AS user_id, users.username_key, users.password_hash, users.email_key, users.told_of_login, users.imported_hash_work, \
     users.public_id, \
     (SELECT count(*) FROM tokens WHERE user_id = users.id) AS tokens FROM users ORDER BY users.id"
);

/// For the check of the superusers' rows at the start.
pub const READ_SUPERUSERS: &str = concat!(
    "SELECT ",
    user_columns!(""),
    ", users.id AS user_id, users.username_key FROM users WHERE is_superuser = 1"
);

pub const READ_CELLARS: &str = "SELECT item_id, added, user_id, username FROM cellar JOIN users ON users.id = user_id";

pub const READ_WANTS: &str = "SELECT item_id, added, user_id, username FROM wants JOIN users ON users.id = user_id";

pub const READ_TOKENS: &str = "SELECT digest, tokens.created, last_used, user_agent, ip, reauthenticated, expires, imported, \
     methods, user_id, username FROM tokens JOIN users ON users.id = user_id";

pub const READ_FAILURES: &str = "SELECT username, failures, last_failed, user_id \
     FROM login_failures JOIN users ON users.id = user_id";

pub const READ_EVENTS: &str = "SELECT events.id, at, kind, events.username, actor, ip, detail, user_id, \
     users.username AS account FROM events LEFT JOIN users ON users.id = user_id ORDER BY events.id";

pub const READ_OFFERS: &str = "SELECT purpose, one_time_codes.email, one_time_codes.email_key, link, detail, token, \
     mac, tries, is_familiar, one_time_codes.created, code_expires, expires, user_id, username \
     FROM one_time_codes JOIN users ON users.id = user_id";

pub const READ_OUTBOX: &str = "SELECT outbox.id, kind, user_id, outbox.username, users.username AS account, recipient, \
     is_verified, request, detail, at, ip, user_agent, link, attempts, due, claims, expires \
     FROM outbox LEFT JOIN users ON users.id = user_id ORDER BY outbox.id";

pub const FIND_IMPORTED_TOKEN: &str = "SELECT 1 FROM tokens WHERE imported IS NOT NULL LIMIT 1";

pub const FIND_FOREIGN_TOKEN: &str = "SELECT 1 FROM tokens WHERE digest = ?1 AND imported IS NOT NULL";

/// One that has its new digest already stays as it is.
pub const ADOPT_TOKEN: &str = "UPDATE tokens SET digest = ?2, imported = 'sha256' \
     WHERE digest = ?1 AND imported = 'sha512' AND NOT EXISTS (SELECT 1 FROM tokens WHERE digest = ?2) RETURNING user_id";

pub const FIND_IMPORTED: &str = "SELECT fingerprint FROM imported WHERE source = ?1 AND source_id = ?2";

pub const FIND_NAMED: &str = "SELECT id FROM users WHERE username_key = ?1";

pub const INSERT_IMPORTED: &str = "INSERT INTO imported (source, source_id, fingerprint, has_other_name, at) \
     VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (source, source_id) DO NOTHING";

/// What [`INSERT_IMPORTED`] has inserted for an account whose name is taken.
pub const DELETE_IMPORTED: &str = "DELETE FROM imported WHERE source = ?1 AND source_id = ?2";

/// `?13` is whether the address is verified: it is unless another account has verified it.
pub const INSERT_IMPORTED_USER: &str = concat!(
    "INSERT INTO users (username, username_key, password_hash, imported_hash_work, is_active, is_staff, is_superuser, \
         date_joined, created, modified, last_login, email_key, email_verified, public_id, ",
    profile!(columns),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
         ?13 AND ?12 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM users WHERE email_key = ?12 AND email_verified = 1), \
         randomblob(16), ",
    profile!(parameters),
    ") ON CONFLICT (username_key) DO NOTHING RETURNING id"
);

pub const INSERT_IMPORTED_TOKEN: &str = "INSERT INTO tokens (digest, user_id, created, last_used, user_agent, ip, expires, imported, methods) \
     VALUES (?1, ?2, ?3, ?3, ?4, '', ?5, ?6, ?7) ON CONFLICT (digest) DO NOTHING";

pub const FIND_IMPORTED_NAME: &str = "SELECT 1 FROM imported WHERE has_other_name = 1 LIMIT 1";

/// By the index alone.
pub const FIND_HARDEST_HASH: &str = "SELECT max(imported_hash_work) FROM users WHERE imported_hash_work IS NOT NULL";

pub const FIND_SIGN_IN: &str = "SELECT username, password_hash, is_active, email_verified FROM users WHERE id = ?1";

/// A new hash of the same password, where no session is opened yet.
pub const REHASH: &str =
    "UPDATE users SET password_hash = ?2, imported_hash_work = NULL WHERE id = ?1 AND password_hash = ?3";

/// A waiting one is replaced, another is not.
pub const BEGIN_TOTP: &str = "INSERT INTO totp (user_id, secret, created, confirmed, last_step) VALUES (?1, ?2, ?3, NULL, 0) \
     ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, created = excluded.created \
     WHERE totp.confirmed IS NULL";

pub const FIND_TOTP: &str = "SELECT username, totp.secret, totp.created, totp.confirmed \
     FROM totp JOIN users ON users.id = totp.user_id WHERE totp.user_id = ?1";

pub const FIND_TOTP_SECRET: &str = "SELECT secret FROM totp WHERE user_id = ?1 AND confirmed IS NOT NULL";

pub const CONFIRM_TOTP: &str = "UPDATE totp SET confirmed = ?4, last_step = ?3 \
     WHERE user_id = ?1 AND secret = ?2 AND confirmed IS NULL";

pub const USE_TOTP: &str = "UPDATE totp SET last_step = ?3 \
     WHERE user_id = ?1 AND secret = ?2 AND confirmed IS NOT NULL AND last_step < ?3";

pub const DELETE_TOTP: &str = "DELETE FROM totp WHERE user_id = ?1";

/// Also one that waits for its first code.
pub const DELETE_TOTP_SINCE: &str = "DELETE FROM totp WHERE user_id = ?1 AND (confirmed IS NULL OR confirmed >= ?2)";

/// Those that have waited for their first code since `?1` or longer.
pub const FIND_EXPIRED_TOTP: &str =
    "SELECT user_id FROM totp WHERE confirmed IS NULL AND created <= ?1 ORDER BY created LIMIT ?2";

pub const DELETE_EXPIRED_TOTP: &str = "DELETE FROM totp WHERE user_id = ?1 AND confirmed IS NULL AND created <= ?2";

pub const INSERT_RECOVERY_CODE: &str = "INSERT INTO recovery_codes (digest, user_id, created) VALUES (?1, ?2, ?3)";

pub const DELETE_RECOVERY_CODE: &str = "DELETE FROM recovery_codes WHERE digest = ?1 AND user_id = ?2";

pub const DELETE_RECOVERY_CODES_OF: &str = "DELETE FROM recovery_codes WHERE user_id = ?1";

pub const DELETE_RECOVERY_CODES_SINCE: &str = "DELETE FROM recovery_codes WHERE user_id = ?1 AND created >= ?2";

pub const FIND_SECURITY: &str = "SELECT \
     (SELECT confirmed FROM totp WHERE user_id = ?1) AS totp, \
     (SELECT count(*) FROM recovery_codes WHERE user_id = ?1) AS recovery_codes, \
     (SELECT count(*) FROM passkeys WHERE user_id = ?1) AS passkeys, \
     (SELECT count(*) FROM identities WHERE user_id = ?1) AS identities";

/// A sealed secret says in its bytes 2 to 9 which key it was sealed with.
macro_rules! is_sealed_with {
    ($column:literal) => {
        concat!("substr(", $column, ", 2, 8) = ?1")
    };
}

/// By the ids of their keys.
pub const LIST_SEALED: &str = "SELECT key, sum(is_totp), sum(1 - is_totp) FROM ( \
     SELECT substr(secret, 2, 8) AS key, 1 AS is_totp FROM totp \
     UNION ALL SELECT substr(refresh_token, 2, 8), 0 FROM identities WHERE refresh_token IS NOT NULL \
     UNION ALL SELECT substr(token, 2, 8), 0 FROM revocations) GROUP BY key ORDER BY key";

pub const FIND_SEALED_TOTP_OF_OTHERS: &str = concat!("SELECT user_id FROM totp WHERE NOT ", is_sealed_with!("secret"));

pub const FORGET_SEALED_TOKENS: &str = concat!(
    "UPDATE identities SET refresh_token = NULL WHERE refresh_token IS NOT NULL AND NOT ",
    is_sealed_with!("refresh_token")
);

pub const FORGET_SEALED_REVOCATIONS: &str = concat!("DELETE FROM revocations WHERE NOT ", is_sealed_with!("token"));

/// Of every account: what each holds is not read.
pub const END_SEALED_CHALLENGES: &str = "DELETE FROM challenges WHERE purpose IN (?1, ?2, ?3)";

pub const INSERT_PASSKEY: &str = "INSERT INTO passkeys (credential_id, user_id, user_handle, rp_id, name, credential, created) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (credential_id) DO NOTHING";

pub const FIND_PASSKEY: &str = "SELECT credential_id, user_id, username, user_handle, credential \
     FROM passkeys JOIN users ON users.id = passkeys.user_id WHERE credential_id = ?1 AND is_active = 1";

pub const LIST_STORED_PASSKEYS: &str = "SELECT credential_id, user_id, username, user_handle, credential \
     FROM passkeys JOIN users ON users.id = passkeys.user_id WHERE user_id = ?1 \
     ORDER BY passkeys.created, credential_id";

pub const LIST_PASSKEYS: &str = "SELECT credential_id, name, created, last_used FROM passkeys WHERE user_id = ?1 \
     ORDER BY created, credential_id";

pub const RENAME_PASSKEY: &str = "UPDATE passkeys SET name = ?2 WHERE credential_id = ?1";

pub const USE_PASSKEY: &str = "UPDATE passkeys SET credential = ?4, last_used = ?5 \
     WHERE credential_id = ?1 AND user_id = ?2 AND credential = ?3";

pub const DELETE_PASSKEY: &str = "DELETE FROM passkeys WHERE credential_id = ?1";

pub const DELETE_PASSKEYS_OF: &str = "DELETE FROM passkeys WHERE user_id = ?1";

pub const DELETE_PASSKEYS_SINCE: &str = "DELETE FROM passkeys WHERE user_id = ?1 AND created >= ?2";

pub const COUNT_PASSKEYS: &str = "SELECT rp_id, count(*) FROM passkeys GROUP BY rp_id ORDER BY rp_id";

pub const FIND_IDENTITY_OWNER: &str = "SELECT user_id, username, is_active \
     FROM identities JOIN users ON users.id = identities.user_id WHERE issuer = ?1 AND subject = ?2";

pub const FIND_EMAIL_OWNER: &str =
    "SELECT id AS user_id, username, is_active FROM users WHERE email_key = ?1 AND email_verified = 1";

pub const INSERT_IDENTITY: &str = "INSERT INTO identities (issuer, subject, user_id, provider, email, created, last_used, refresh_token) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7)";

pub const LIST_IDENTITIES: &str = "SELECT issuer, subject, provider, email, created, last_used FROM identities \
     WHERE user_id = ?1 ORDER BY created, issuer, subject";

pub const USE_IDENTITY: &str = "UPDATE identities SET email = ?3, last_used = ?4, \
     refresh_token = coalesce(?5, refresh_token) WHERE issuer = ?1 AND subject = ?2";

pub const DELETE_IDENTITY: &str = "DELETE FROM identities WHERE issuer = ?1 AND subject = ?2";

pub const DELETE_IDENTITIES_OF: &str = "DELETE FROM identities WHERE user_id = ?1";

/// A refresh token that goes with its identity is to be revoked.
pub const REVOKE_REFRESH_TOKEN: &str = "INSERT INTO revocations (provider, binding, token, attempts, due, claims, expires) \
     SELECT provider, ?3, refresh_token, 0, ?4, 0, ?5 FROM identities \
     WHERE issuer = ?1 AND subject = ?2 AND refresh_token IS NOT NULL";

pub const DELETE_EXPIRED_REVOCATIONS: &str = "DELETE FROM revocations WHERE expires <= ?1";

pub const LIST_DUE_REVOCATIONS: &str = "SELECT id, provider, binding, token, attempts, claims, expires FROM revocations \
     WHERE due <= ?1 ORDER BY due, id LIMIT ?2";

pub const CLAIM_REVOCATION: &str = "UPDATE revocations SET claims = ?2, due = ?3 WHERE id = ?1";

pub const RETURN_REVOCATION: &str =
    "UPDATE revocations SET attempts = attempts + 1, claims = claims + 1, due = ?3 WHERE id = ?1 AND claims = ?2";

pub const DELETE_REVOCATION: &str = "DELETE FROM revocations WHERE id = ?1 AND claims = ?2";

/// All but the newest `?3`.
pub const EVICT_CHALLENGES: &str = "DELETE FROM challenges WHERE digest IN (SELECT digest FROM challenges \
     WHERE user_id = ?1 AND purpose = ?2 ORDER BY created DESC, digest DESC LIMIT 9223372036854775807 OFFSET ?3)";

pub const INSERT_CHALLENGE: &str = "INSERT INTO challenges (digest, purpose, user_id, state, tries, created, expires) \
     VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6)";

pub const TAKE_CHALLENGE: &str = "DELETE FROM challenges \
     WHERE digest = ?1 AND purpose = ?2 AND user_id IS ?3 AND expires > ?4 RETURNING user_id, state";

pub const FIND_FACTOR_OWNER: &str = "SELECT username FROM challenges JOIN users ON users.id = user_id \
     WHERE digest = ?1 AND purpose = ?2 AND expires > ?3 AND tries < ?4 AND is_active = 1";

pub const COUNT_FACTOR_TRY: &str = "UPDATE challenges SET tries = tries + 1 \
     WHERE digest = ?1 AND purpose = ?2 AND expires > ?3 AND tries < ?4 \
     AND EXISTS (SELECT 1 FROM users WHERE users.id = challenges.user_id AND is_active = 1) RETURNING user_id, state";

pub const FIND_PENDING_SIGN_IN: &str = "SELECT user_id, is_active FROM challenges JOIN users ON users.id = user_id \
     WHERE digest = ?1 AND purpose = ?2 AND expires > ?3";

pub const DELETE_CHALLENGE: &str = "DELETE FROM challenges WHERE digest = ?1";

pub const DELETE_CHALLENGES_OF: &str = "DELETE FROM challenges WHERE user_id = ?1";

pub const INSERT_USED_ID_TOKEN: &str = "INSERT INTO challenges (digest, purpose, user_id, state, tries, created, expires) \
     VALUES (?1, ?2, NULL, '', 0, ?3, ?4) ON CONFLICT (digest) DO NOTHING";

pub const FIND_CHALLENGE: &str = "SELECT digest FROM challenges WHERE digest = ?1";

pub const FIND_EXPIRED_CHALLENGES: &str = "SELECT digest FROM challenges WHERE expires <= ?1 ORDER BY expires LIMIT ?2";

pub const DELETE_EXPIRED_CHALLENGE: &str = "DELETE FROM challenges WHERE digest = ?1 AND expires <= ?2";

/// But for ID tokens that were used: when they end is what their provider says.
pub const FIND_FUTURE_CHALLENGES: &str =
    "SELECT digest FROM challenges WHERE created > ?1 AND purpose <> 'used_id_token' LIMIT ?2";

/// It is over, as [`DELETE_FUTURE_OFFER`] says.
pub const DELETE_FUTURE_CHALLENGE: &str = "DELETE FROM challenges WHERE digest = ?1 AND created > ?2";

/// Those that wait, or are worth trying, for longer than any.
pub const FIND_FUTURE_REVOCATIONS: &str = "SELECT id FROM revocations WHERE due > ?1 OR expires > ?1 LIMIT ?2";

pub const CLAMP_REVOCATION: &str =
    "UPDATE revocations SET due = min(due, ?2), expires = min(expires, ?3) WHERE id = ?1";

pub const READ_TOTP: &str = "SELECT secret, totp.created, confirmed, last_step, user_id, username \
     FROM totp JOIN users ON users.id = user_id";

/// With how many the account has, and whether it has the authenticator app that they stand for.
pub const READ_RECOVERY_CODES: &str = "SELECT digest, recovery_codes.created, user_id, username, \
     (SELECT count(*) FROM recovery_codes AS c WHERE c.user_id = recovery_codes.user_id) AS codes, \
     (SELECT confirmed FROM totp WHERE totp.user_id = recovery_codes.user_id) AS confirmed \
     FROM recovery_codes JOIN users ON users.id = user_id";

/// With how many the account has.
pub const READ_PASSKEYS: &str = "SELECT credential_id, user_handle, rp_id, name, credential, passkeys.created, last_used, \
     user_id, username, (SELECT count(*) FROM passkeys AS p WHERE p.user_id = passkeys.user_id) AS passkeys \
     FROM passkeys JOIN users ON users.id = user_id";

/// With how many the account has.
pub const READ_IDENTITIES: &str = "SELECT issuer, subject, provider, identities.email, identities.created, last_used, \
     refresh_token, user_id, username, \
     (SELECT count(*) FROM identities AS i WHERE i.user_id = identities.user_id) AS identities \
     FROM identities JOIN users ON users.id = user_id";

pub const READ_CHALLENGES: &str = "SELECT digest, purpose, challenges.state, tries, challenges.created, expires, user_id, username \
     FROM challenges LEFT JOIN users ON users.id = user_id";

/// By the provider, as others are by the account.
pub const READ_REVOCATIONS: &str = "SELECT id, provider AS username, NULL AS user_id, binding, token, attempts, due, claims, \
     expires FROM revocations ORDER BY id";

/// By the system, as others are by the account.
pub const READ_IMPORTED: &str =
    "SELECT source AS username, NULL AS user_id, source_id, fingerprint, has_other_name, at FROM imported";

/// `?1` is now, and what is due only after `?2` was written while the clock was ahead. `?3` is how many may wait.
pub const LIST_DUE_WEBHOOKS: &str = "SELECT id FROM webhooks WHERE disabled IS NULL AND claimed_until <= ?1 \
     AND (due <= ?1 OR due > ?2) AND ( \
         EXISTS (SELECT 1 FROM webhook_deliveries AS d WHERE d.webhook = webhooks.id AND d.due <= ?1) \
         OR EXISTS (SELECT 1 FROM webhook_deliveries AS d WHERE d.webhook = webhooks.id AND d.due > ?2) \
         OR (cursor < (SELECT max(id) FROM events) AND (SELECT count(*) FROM webhook_deliveries AS d \
             WHERE d.webhook = webhooks.id AND d.due > -1) < ?3))";

pub const CLAIM_WEBHOOK: &str = "UPDATE webhooks SET claims = claims + 1, claimed_until = ?4 \
     WHERE id = ?1 AND disabled IS NULL AND claimed_until <= ?2 AND (due <= ?2 OR due > ?3) \
     RETURNING url, kinds, allow_private, secret, previous_secret, previous_until, cursor, failing_since, failures, claims";

pub const COUNT_WAITING_DELIVERIES: &str =
    "SELECT count(*) FROM webhook_deliveries WHERE webhook = ?1 AND due IS NOT NULL";

pub const LIST_DUE_DELIVERIES: &str = "SELECT event, message, body, attempts FROM webhook_deliveries \
     WHERE webhook = ?1 AND due <= ?2 ORDER BY due LIMIT ?3";

/// Those that are due after `?3` are due at `?2`.
pub const ADVANCE_DELIVERIES: &str = "UPDATE webhook_deliveries SET due = ?2 WHERE webhook = ?1 AND due > ?3";

pub const LIST_EVENTS_BEHIND: &str = "SELECT id, at, kind, username, actor, ip, detail FROM events \
     WHERE id > ?1 ORDER BY id LIMIT ?2";

/// There is nothing to be sent.
pub const PASS_WEBHOOK: &str = "UPDATE webhooks SET cursor = ?3, claimed_until = 0 WHERE id = ?1 AND claims = ?2";

/// `?5` is whether anything was delivered, and `?6` whether anything failed.
pub const SETTLE_WEBHOOK: &str = "UPDATE webhooks SET cursor = ?3, due = ?4, claimed_until = 0, \
     failing_since = CASE WHEN ?5 THEN NULL WHEN ?6 THEN coalesce(failing_since, ?7) ELSE failing_since END, \
     failures = CASE WHEN ?5 THEN 0 WHEN ?6 THEN failures + 1 ELSE failures END, \
     last_success = CASE WHEN ?5 THEN ?7 ELSE last_success END, \
     previous_secret = CASE WHEN previous_until > ?7 THEN previous_secret END, \
     previous_until = CASE WHEN previous_until > ?7 THEN previous_until END \
     WHERE id = ?1 AND claims = ?2 AND claimed_until > 0";

pub const STORE_DELIVERY: &str = "INSERT INTO webhook_deliveries (webhook, event, message, body, attempts, due, tried, answer) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (webhook, event) DO UPDATE SET attempts = excluded.attempts, \
     due = excluded.due, tried = coalesce(excluded.tried, tried), answer = excluded.answer";

pub const DELETE_DELIVERY: &str = "DELETE FROM webhook_deliveries WHERE webhook = ?1 AND event = ?2";

/// All but the newest `?2`.
pub const FORGET_GIVEN_UP: &str = "DELETE FROM webhook_deliveries WHERE webhook = ?1 AND due IS NULL \
     AND event <= (SELECT event FROM webhook_deliveries WHERE webhook = ?1 AND due IS NULL \
         ORDER BY event DESC LIMIT 1 OFFSET ?2)";

pub const COUNT_WEBHOOKS: &str = "SELECT count(*) FROM webhooks";

pub const INSERT_WEBHOOK: &str = "INSERT INTO webhooks (id, url, kinds, secret, allow_private, cursor, lost, created, \
     disabled_by, failures, due, claimed_until, claims) \
     VALUES (?1, ?2, ?3, ?4, ?5, (SELECT coalesce(max(id), 0) FROM events), 0, ?6, '', 0, ?6, 0, 0)";

/// `?1` is up to where what is behind is counted.
pub const LIST_WEBHOOKS: &str = "SELECT id, url, kinds, allow_private, created, disabled, disabled_by, failing_since, \
     last_success, previous_until, lost, \
     (SELECT count(*) FROM (SELECT 1 FROM events WHERE events.id > cursor LIMIT ?1)) AS behind, \
     (SELECT count(*) FROM webhook_deliveries AS d WHERE d.webhook = webhooks.id AND d.due IS NOT NULL) AS waiting, \
     (SELECT count(*) FROM webhook_deliveries AS d WHERE d.webhook = webhooks.id AND d.due IS NULL) AS given_up \
     FROM webhooks";

pub const FIND_WEBHOOK: &str = "SELECT url, kinds, allow_private, secret, previous_secret, previous_until, cursor \
     FROM webhooks WHERE id = ?1";

pub const ROTATE_WEBHOOK: &str = "UPDATE webhooks SET secret = ?2, previous_secret = secret, \
     previous_until = CASE WHEN secret IS NULL THEN NULL ELSE ?3 END WHERE id = ?1";

pub const DISABLE_WEBHOOK: &str =
    "UPDATE webhooks SET disabled = ?2, disabled_by = ?3 WHERE id = ?1 AND disabled IS NULL";

pub const ENABLE_WEBHOOK: &str = "UPDATE webhooks SET disabled = NULL, disabled_by = '', failing_since = NULL, failures = 0, \
     due = ?2, claimed_until = 0, claims = claims + 1 WHERE id = ?1 AND secret IS NOT NULL";

pub const RENEW_DELIVERIES: &str =
    "UPDATE webhook_deliveries SET attempts = 0, due = ?2 WHERE webhook = ?1 AND due IS NOT NULL";

pub const DELETE_WEBHOOK: &str = "DELETE FROM webhooks WHERE id = ?1";

pub const FIND_EVENT: &str = "SELECT id, at, kind, username, actor, ip, detail FROM events WHERE id = ?1";

pub const LIST_FAILED_DELIVERIES: &str = "SELECT event, message, attempts, tried, due, answer FROM webhook_deliveries \
     WHERE webhook = ?1 ORDER BY coalesce(tried, 0) DESC, event DESC LIMIT ?2";

/// Where no other process can hold any.
pub const RELEASE_WEBHOOKS: &str = "UPDATE webhooks SET claimed_until = 0, claims = claims + 1 WHERE claimed_until > 0";

/// To superusers and staff who can log in and have verified their addresses, superusers first: `?5` of them at most.
pub const INSERT_WEBHOOK_NOTICES: &str = "INSERT INTO outbox (kind, user_id, username, recipient, is_verified, request, \
     detail, at, ip, user_agent, link, attempts, due, claims, expires) \
     SELECT ?1, id, username, email, 1, NULL, ?2, ?3, '', '', NULL, 0, ?3, 0, ?4 FROM users \
     WHERE (is_staff = 1 OR is_superuser = 1) AND is_active = 1 AND email_verified = 1 \
     ORDER BY is_superuser DESC, id LIMIT ?5";

/// An event that is about to be pruned, and that webhooks were not sent.
pub const COUNT_LOST_EVENT: &str = "UPDATE webhooks SET lost = lost + 1 WHERE cursor < ?1 AND (kinds = '' \
     OR instr(',' || kinds || ',', ',' || (SELECT kind FROM events WHERE id = ?1) || ',') > 0)";

/// By the ids of their keys.
pub const LIST_SEALED_WEBHOOKS: &str = "SELECT key, count(*) FROM ( \
     SELECT substr(secret, 2, 8) AS key FROM webhooks WHERE secret IS NOT NULL \
     UNION ALL SELECT substr(previous_secret, 2, 8) FROM webhooks WHERE previous_secret IS NOT NULL) \
     GROUP BY key ORDER BY key";

pub const LIST_WEBHOOKS_SEALED_OTHERWISE: &str =
    concat!("SELECT id, disabled IS NULL FROM webhooks WHERE NOT ", is_sealed_with!("secret"));

pub const FORGET_WEBHOOK_SECRET: &str = "UPDATE webhooks SET secret = NULL, previous_secret = NULL, previous_until = NULL, \
     disabled = coalesce(disabled, ?2), disabled_by = ?3 WHERE id = ?1";

pub const FORGET_PREVIOUS_WEBHOOK_SECRETS: &str = concat!(
    "UPDATE webhooks SET previous_secret = NULL, previous_until = NULL WHERE previous_secret IS NOT NULL AND NOT ",
    is_sealed_with!("previous_secret")
);

/// By the id, as others are by the account.
pub const READ_WEBHOOKS: &str = "SELECT id AS username, NULL AS user_id, url, kinds, secret, previous_secret, \
     previous_until, allow_private, cursor, lost, created, disabled, disabled_by, failing_since, failures, \
     last_success, due, claimed_until, claims FROM webhooks";

pub const READ_DELIVERIES: &str = "SELECT webhook AS username, NULL AS user_id, event, message, body, attempts, due, \
     tried, answer FROM webhook_deliveries";

/// A live session, and what other services are told of it.
pub const FIND_HELD_TOKEN: &str = concat!(
    "SELECT tokens.user_id, tokens.last_used, tokens.created, tokens.expires, tokens.reauthenticated, tokens.methods, \
     users.public_id, users.username, users.email, users.email_verified, users.is_staff, users.is_superuser \
     FROM tokens JOIN users ON users.id = tokens.user_id \
     WHERE tokens.digest = ?1 AND ",
    live!(after "?2", "?3", "?4"),
    " AND users.is_active = 1"
);

pub const LIST_SERVICES: &str = "SELECT name, digest, created, last_used FROM services ORDER BY name";

pub const INSERT_SERVICE: &str = "INSERT INTO services (name, digest, created) VALUES (?1, ?2, ?3) \
     ON CONFLICT (name) DO NOTHING";

pub const COUNT_SERVICES: &str = "SELECT count(*) FROM services";

pub const DELETE_SERVICE: &str = "DELETE FROM services WHERE name = ?1";

/// A last use that is later by more than a minute was stored while the clock was ahead.
pub const RECORD_SERVICE_USE: &str = "UPDATE services SET last_used = ?2 \
     WHERE name = ?1 AND (last_used IS NULL OR last_used < ?2 OR last_used > ?2 + 60000)";

/// Of what happened to no account.
pub const INSERT_EVENT_OF_NO_ACCOUNT: &str = "INSERT INTO events (at, kind, user_id, username, actor, ip, detail) \
     VALUES (?1, ?2, NULL, '', ?3, ?4, ?5)";

/// By the service, as others are by the account.
pub const READ_SERVICES: &str = "SELECT name AS username, NULL AS user_id, digest, created, last_used FROM services";

/// The statements of one list.
pub struct Items {
    pub list: &'static str,
    pub insert: &'static str,
    pub delete: &'static str,
}

pub const CELLAR: Items = Items {
    list: "SELECT item_id, added FROM cellar WHERE user_id = ?1 ORDER BY item_id",
    insert: "INSERT INTO cellar (user_id, item_id, added) VALUES (?1, ?2, ?3) \
         ON CONFLICT (user_id, item_id) DO NOTHING",
    delete: "DELETE FROM cellar WHERE user_id = ?1 AND item_id = ?2",
};

pub const WANTS: Items = Items {
    list: "SELECT item_id, added FROM wants WHERE user_id = ?1 ORDER BY item_id",
    insert: "INSERT INTO wants (user_id, item_id, added) VALUES (?1, ?2, ?3) \
         ON CONFLICT (user_id, item_id) DO NOTHING",
    delete: "DELETE FROM wants WHERE user_id = ?1 AND item_id = ?2",
};

pub const fn items(list: List) -> Items {
    match list {
        List::Cellar => CELLAR,
        List::Wants => WANTS,
    }
}

/// Gives a connection what [`LIST_USERS`] calls: SQLite's own LIKE and `lower()` know the case of ASCII letters
/// alone. And what an upgrade calls. No schema may call them.
pub(super) fn add_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function(c"is_folded_in", 2, flags, |context: &Context<'_>| {
        // A value that is not text, which another program wrote, does not match: the other rows are still found.
        let text = |number| context.get_raw(number).as_str().ok();
        Ok(text(0).zip(text(1)).is_some_and(|(folded, text)| is_folded_in(folded, text)))
    })?;
    connection.create_scalar_function(c"email_key_of", 1, flags, |context: &Context<'_>| {
        Ok(context.get_raw(0).as_str().ok().and_then(key_of))
    })
}

/// How many rows a statement may visit.
#[cfg(test)]
pub enum Visits {
    /// Those that it finds by a key: one row, or those of one account.
    Few,
    /// Perhaps all rows, for this reason.
    Many(&'static str),
}

#[cfg(test)]
pub const ALL: &[(&str, Visits)] = &[
    (FIND_CREDENTIALS, Visits::Few),
    (FIND_OWN_CREDENTIALS, Visits::Few),
    (FIND_SESSION, Visits::Few),
    (INSERT_USER, Visits::Few),
    (INSERT_TOKEN, Visits::Few),
    (RECORD_LOGIN, Visits::Few),
    (EVICT_TOKENS, Visits::Few),
    (FIND_USER, Visits::Few),
    (FIND_CALLER, Visits::Few),
    (FIND_CALLER_WITH_LONG_LISTS, Visits::Few),
    (UPDATE_PROFILE, Visits::Few),
    (TOUCH_USER, Visits::Few),
    (SET_PASSWORD, Visits::Few),
    (FIND_REAUTHENTICATION, Visits::Few),
    (SET_REAUTHENTICATION, Visits::Few),
    (LIST_SESSIONS, Visits::Few),
    (DELETE_TOKEN, Visits::Few),
    (DELETE_OTHER_TOKENS, Visits::Few),
    (DELETE_ALL_TOKENS, Visits::Few),
    (RECORD_USE, Visits::Few),
    (DELETE_DEAD_TOKEN, Visits::Few),
    (CLAMP_TOKEN, Visits::Few),
    (CLAMP_FAILURES, Visits::Few),
    (FIND_RIGHTS, Visits::Few),
    (FIND_TARGET, Visits::Few),
    (FIND_TARGET_BY_ID, Visits::Few),
    (FIND_OTHER_SUPERUSER, Visits::Few),
    (CHANGE_ACCOUNT, Visits::Few),
    (DELETE_ACCOUNT, Visits::Few),
    (INSERT_EVENT, Visits::Few),
    (INSERT_STRANGERS_EVENT, Visits::Few),
    (FIND_NAME, Visits::Few),
    (LIST_EVENTS_NAMED, Visits::Few),
    (LIST_FAMILIAR, Visits::Few),
    (LIST_EVENTS_OF, Visits::Few),
    (FIND_LAST_EVENT, Visits::Few),
    (DELETE_EVENT, Visits::Few),
    (COUNT_FAILURE, Visits::Few),
    (RESET_FAILURES, Visits::Few),
    (RESET_FAILURES_BY_ONE_FACTOR, Visits::Few),
    (INSERT_PROOF, Visits::Few),
    (DELETE_PROOF, Visits::Few),
    (CELLAR.list, Visits::Few),
    (CELLAR.insert, Visits::Few),
    (CELLAR.delete, Visits::Few),
    (WANTS.list, Visits::Few),
    (WANTS.insert, Visits::Few),
    (WANTS.delete, Visits::Few),
    (LIST_USERS, Visits::Many("a search looks at each name behind the last page until it has found enough")),
    (LIST_EVENTS, Visits::Many("a kind is looked for among all events")),
    (FIND_DEAD_TOKENS, Visits::Many("it is done once an hour")),
    (FIND_OLD_EVENTS, Visits::Many("it is done once an hour")),
    (FIND_FUTURE_TOKENS, Visits::Many("it is done once an hour")),
    (FIND_FUTURE_FAILURES, Visits::Many("it is done once an hour")),
    (LIST_RESETS, Visits::Many("it begins behind the event that was known a second before")),
    (LIST_NEW_PASSWORDS, Visits::Many("it begins with the events of the last seconds")),
    (LIST_FAILURES, Visits::Many("it is done once, at the start")),
    (COUNT_USERS, Visits::Many("counting is done seldom, and paced")),
    (COUNT_TOKENS, Visits::Many("counting is done seldom, and paced")),
    (COUNT_REVOCATIONS, Visits::Many("counting is done seldom, and paced")),
    (READ_SUPERUSERS, Visits::Few),
    (READ_USERS, Visits::Many("a check reads all")),
    (READ_CELLARS, Visits::Many("a check reads all")),
    (READ_WANTS, Visits::Many("a check reads all")),
    (READ_TOKENS, Visits::Many("a check reads all")),
    (READ_FAILURES, Visits::Many("a check reads all")),
    (READ_EVENTS, Visits::Many("a check reads all")),
    (FIND_CREDENTIALS_BY_EMAIL, Visits::Few),
    (SET_EMAIL, Visits::Few),
    (SET_EMAIL_VERIFIED, Visits::Few),
    (FIND_EMAIL, Visits::Few),
    (FIND_OTHER_WITH_EMAIL, Visits::Few),
    (SET_TOLD_OF_LOGIN, Visits::Few),
    (IS_NEW_BY_IMPORT, Visits::Few),
    (FIND_SESSION_BY, Visits::Few),
    (FIND_RECIPIENT, Visits::Few),
    (FIND_RECIPIENT_NAMED, Visits::Few),
    (FIND_RECIPIENT_VERIFIED, Visits::Few),
    (FIND_RECIPIENT_UNVERIFIED, Visits::Few),
    (FIND_OFFER, Visits::Few),
    (FIND_OFFER_BY_TOKEN, Visits::Few),
    (FIND_OWN_OFFER, Visits::Few),
    (INSERT_OFFER, Visits::Few),
    (RENEW_OFFER, Visits::Few),
    (COUNT_TRY, Visits::Few),
    (DELETE_OFFER, Visits::Few),
    (DELETE_OFFER_FOR, Visits::Few),
    (DELETE_OFFERS_OF, Visits::Few),
    (DELETE_RESTORERS_SINCE, Visits::Few),
    (DELETE_RESTORING_MAILS_SINCE, Visits::Many("it is done seldom, and few mails wait")),
    (DELETE_OPENING_OFFERS, Visits::Few),
    (DELETE_PENDING_CHANGE, Visits::Few),
    (DELETE_MAIL_OF_PENDING_CHANGE, Visits::Few),
    (DELETE_OLDEST_DISOWNERS, Visits::Few),
    (FIND_EXPIRED_OFFERS, Visits::Many("it is done once an hour")),
    (DELETE_EXPIRED_OFFER, Visits::Few),
    (FIND_FUTURE_OFFERS, Visits::Many("it is done once an hour")),
    (DELETE_FUTURE_OFFER, Visits::Few),
    (INSERT_CONFIRMATION, Visits::Few),
    (INSERT_NOTICE, Visits::Few),
    (LIST_EXPIRED_MAILS, Visits::Many("it begins with the mail that has been due for longest")),
    (LIST_DUE_MAILS, Visits::Many("it begins with the mail that has been due for longest")),
    (CLAIM_MAIL, Visits::Few),
    (FIND_CLAIMED_MAIL, Visits::Few),
    (RETURN_MAIL, Visits::Few),
    (DELETE_MAIL, Visits::Few),
    (DELETE_UNCLAIMED_MAIL, Visits::Few),
    (DELETE_MAIL_OF_OFFER, Visits::Few),
    (DELETE_MAILS_OF_OFFERS, Visits::Few),
    (INSERT_MAIL_FAILED, Visits::Few),
    (COUNT_MAILS, Visits::Many("counting is done seldom")),
    (FIND_FUTURE_MAILS, Visits::Many("it is done once an hour")),
    (CLAMP_MAIL, Visits::Few),
    (INSERT_EQUAL_WORK, Visits::Few),
    (DELETE_EQUAL_WORK, Visits::Few),
    (READ_OFFERS, Visits::Many("a check reads all")),
    (READ_OUTBOX, Visits::Many("a check reads all")),
    (READ_IMPORTED, Visits::Many("a check reads all")),
    (FIND_IMPORTED_TOKEN, Visits::Many("it looks at the first one of the index")),
    (FIND_FOREIGN_TOKEN, Visits::Few),
    (ADOPT_TOKEN, Visits::Few),
    (FIND_IMPORTED, Visits::Few),
    (FIND_NAMED, Visits::Few),
    (INSERT_IMPORTED, Visits::Few),
    (DELETE_IMPORTED, Visits::Few),
    (INSERT_IMPORTED_USER, Visits::Few),
    (INSERT_IMPORTED_TOKEN, Visits::Few),
    (FIND_IMPORTED_NAME, Visits::Few),
    (FIND_HARDEST_HASH, Visits::Many("it looks at the last one of the index")),
    (FIND_SIGN_IN, Visits::Few),
    (REHASH, Visits::Few),
    (BEGIN_TOTP, Visits::Few),
    (FIND_TOTP, Visits::Few),
    (FIND_TOTP_SECRET, Visits::Few),
    (CONFIRM_TOTP, Visits::Few),
    (USE_TOTP, Visits::Few),
    (DELETE_TOTP, Visits::Few),
    (DELETE_TOTP_SINCE, Visits::Few),
    (FIND_EXPIRED_TOTP, Visits::Many("it begins with the one that has waited for longest")),
    (DELETE_EXPIRED_TOTP, Visits::Few),
    (INSERT_RECOVERY_CODE, Visits::Few),
    (DELETE_RECOVERY_CODE, Visits::Few),
    (DELETE_RECOVERY_CODES_OF, Visits::Few),
    (DELETE_RECOVERY_CODES_SINCE, Visits::Few),
    (FIND_SECURITY, Visits::Few),
    (LIST_SEALED, Visits::Many("it is done at the start, and a check reads all")),
    (FIND_SEALED_TOTP_OF_OTHERS, Visits::Many("it is done once, by the operator")),
    (FORGET_SEALED_TOKENS, Visits::Many("it is done once, by the operator")),
    (FORGET_SEALED_REVOCATIONS, Visits::Many("it is done once, by the operator")),
    (END_SEALED_CHALLENGES, Visits::Many("it is done once, by the operator")),
    (INSERT_PASSKEY, Visits::Few),
    (FIND_PASSKEY, Visits::Few),
    (LIST_STORED_PASSKEYS, Visits::Few),
    (LIST_PASSKEYS, Visits::Few),
    (RENAME_PASSKEY, Visits::Few),
    (USE_PASSKEY, Visits::Few),
    (DELETE_PASSKEY, Visits::Few),
    (DELETE_PASSKEYS_OF, Visits::Few),
    (DELETE_PASSKEYS_SINCE, Visits::Few),
    (COUNT_PASSKEYS, Visits::Many("it is done at the start")),
    (FIND_IDENTITY_OWNER, Visits::Few),
    (FIND_EMAIL_OWNER, Visits::Few),
    (INSERT_IDENTITY, Visits::Few),
    (LIST_IDENTITIES, Visits::Few),
    (USE_IDENTITY, Visits::Few),
    (DELETE_IDENTITY, Visits::Few),
    (DELETE_IDENTITIES_OF, Visits::Few),
    (REVOKE_REFRESH_TOKEN, Visits::Few),
    (DELETE_EXPIRED_REVOCATIONS, Visits::Many("few revocations wait")),
    (LIST_DUE_REVOCATIONS, Visits::Many("it begins with the one that has been due for longest")),
    (CLAIM_REVOCATION, Visits::Few),
    (RETURN_REVOCATION, Visits::Few),
    (DELETE_REVOCATION, Visits::Few),
    (EVICT_CHALLENGES, Visits::Few),
    (INSERT_CHALLENGE, Visits::Few),
    (TAKE_CHALLENGE, Visits::Few),
    (FIND_FACTOR_OWNER, Visits::Few),
    (COUNT_FACTOR_TRY, Visits::Few),
    (FIND_PENDING_SIGN_IN, Visits::Few),
    (DELETE_CHALLENGE, Visits::Few),
    (DELETE_CHALLENGES_OF, Visits::Few),
    (INSERT_USED_ID_TOKEN, Visits::Few),
    (FIND_EXPIRED_CHALLENGES, Visits::Many("it begins with the one that has been expired for longest")),
    (DELETE_EXPIRED_CHALLENGE, Visits::Few),
    (FIND_CHALLENGE, Visits::Few),
    (FIND_FUTURE_CHALLENGES, Visits::Many("it is done once an hour")),
    (DELETE_FUTURE_CHALLENGE, Visits::Few),
    (FIND_FUTURE_REVOCATIONS, Visits::Many("it is done once an hour")),
    (CLAMP_REVOCATION, Visits::Few),
    (READ_TOTP, Visits::Many("a check reads all")),
    (READ_RECOVERY_CODES, Visits::Many("a check reads all")),
    (READ_PASSKEYS, Visits::Many("a check reads all")),
    (READ_IDENTITIES, Visits::Many("a check reads all")),
    (READ_CHALLENGES, Visits::Many("a check reads all")),
    (READ_REVOCATIONS, Visits::Many("a check reads all")),
    (LIST_DUE_WEBHOOKS, Visits::Many("there are few")),
    (CLAIM_WEBHOOK, Visits::Few),
    (COUNT_WAITING_DELIVERIES, Visits::Few),
    (LIST_DUE_DELIVERIES, Visits::Few),
    (ADVANCE_DELIVERIES, Visits::Few),
    (LIST_EVENTS_BEHIND, Visits::Many("it begins behind the cursor")),
    (PASS_WEBHOOK, Visits::Few),
    (SETTLE_WEBHOOK, Visits::Few),
    (STORE_DELIVERY, Visits::Few),
    (DELETE_DELIVERY, Visits::Few),
    (FORGET_GIVEN_UP, Visits::Few),
    (COUNT_WEBHOOKS, Visits::Many("there are few")),
    (INSERT_WEBHOOK, Visits::Few),
    (LIST_WEBHOOKS, Visits::Many("there are few")),
    (FIND_WEBHOOK, Visits::Few),
    (ROTATE_WEBHOOK, Visits::Few),
    (DISABLE_WEBHOOK, Visits::Few),
    (ENABLE_WEBHOOK, Visits::Few),
    (RENEW_DELIVERIES, Visits::Few),
    (DELETE_WEBHOOK, Visits::Few),
    (FIND_EVENT, Visits::Few),
    (LIST_FAILED_DELIVERIES, Visits::Few),
    (RELEASE_WEBHOOKS, Visits::Many("there are few")),
    (INSERT_WEBHOOK_NOTICES, Visits::Many("it is done when a webhook is disabled by itself")),
    (COUNT_LOST_EVENT, Visits::Many("there are few")),
    (LIST_SEALED_WEBHOOKS, Visits::Many("there are few")),
    (LIST_WEBHOOKS_SEALED_OTHERWISE, Visits::Many("there are few")),
    (FORGET_WEBHOOK_SECRET, Visits::Few),
    (FORGET_PREVIOUS_WEBHOOK_SECRETS, Visits::Many("there are few")),
    (READ_WEBHOOKS, Visits::Many("a check reads all")),
    (READ_DELIVERIES, Visits::Many("a check reads all")),
    (FIND_HELD_TOKEN, Visits::Few),
    (LIST_SERVICES, Visits::Many("services are few")),
    (INSERT_SERVICE, Visits::Few),
    (COUNT_SERVICES, Visits::Many("services are few")),
    (DELETE_SERVICE, Visits::Few),
    (RECORD_SERVICE_USE, Visits::Few),
    (INSERT_EVENT_OF_NO_ACCOUNT, Visits::Few),
    (READ_SERVICES, Visits::Many("a check reads all")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::sqlite::test_store::open_in;

    /// What SQLite says that it will do for each statement.
    fn plans(connection: &Connection) -> Vec<(&'static str, Vec<String>)> {
        let plan = |statement: &'static str| {
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let parameters = vec![rusqlite::types::Null; plan.parameter_count()];
            let steps = plan.query_map(rusqlite::params_from_iter(parameters), |row| row.get("detail")).unwrap();
            (statement, steps.collect::<Result<_, _>>().unwrap())
        };
        ALL.iter().map(|(statement, _)| plan(statement)).collect()
    }

    #[test]
    fn a_statement_visits_no_more_rows_than_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let names: Vec<&str> = include_str!("sql.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("pub const ")?.split_once(": &str"))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(ALL.len(), names.len() + 6, "each of them, and three of each list: {names:?}");
        let connection = repository.readers.pool.get().unwrap();
        for (statement, steps) in plans(&connection) {
            let visits = &ALL.iter().find(|(text, _)| *text == statement).unwrap().1;
            for step in &steps {
                // An eviction sorts one user's few sessions by their last use: an index on it would have to be written
                // at every use. So are the few links that disown. And the few accounts with failures, passkeys by their
                // domains and sealed secrets by their keys are sorted once, at the start or in a check. A webhook's
                // deliveries are sorted for the operator, and staff where one is disabled.
                let sorting = [
                    EVICT_TOKENS,
                    LIST_FAILURES,
                    LIST_NEW_PASSWORDS,
                    DELETE_OLDEST_DISOWNERS,
                    COUNT_PASSKEYS,
                    LIST_SEALED,
                    LIST_SEALED_WEBHOOKS,
                    LIST_FAILED_DELIVERIES,
                    INSERT_WEBHOOK_NOTICES,
                    FORGET_GIVEN_UP,
                ];
                let may_sort = sorting.contains(&statement);
                assert!(may_sort || !step.contains("TEMP B-TREE"), "{statement}: {steps:?}");
            }
            // Of superusers there are a few, a list within a list was found by its key, and no table is one row.
            let is_short = |step: &str| {
                ["SCAN users USING INDEX superusers", "SCAN CONSTANT ROW"].contains(&step)
                    || step.starts_with("SCAN (subquery")
            };
            // Without a key that it is equal to, a search begins somewhere and goes on to the end; without any key it
            // looks at the first row or the last.
            let is_walk = |step: &&String| {
                (step.starts_with("SCAN ") && !is_short(step))
                    || (step.starts_with("SEARCH ") && step.contains('(') && !step.contains("=?"))
            };
            let walks: Vec<_> = steps.iter().filter(is_walk).collect();
            match visits {
                Visits::Few => assert!(walks.is_empty(), "{statement}: {steps:?}"),
                Visits::Many(why) => assert!(!walks.is_empty(), "no longer {why}: {statement}: {steps:?}"),
            }
        }
    }

    #[test]
    fn counting_reads_an_index_and_no_table() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let connection = repository.readers.pool.get().unwrap();
        for statement in [COUNT_USERS, COUNT_TOKENS, COUNT_REVOCATIONS] {
            let plan: String =
                connection.query_row(&format!("EXPLAIN QUERY PLAN {statement}"), [], |row| row.get("detail")).unwrap();
            assert!(plan.contains("USING COVERING INDEX"), "{plan}");
        }
    }

    #[test]
    fn every_index_is_used_by_a_statement() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let connection = repository.readers.pool.get().unwrap();
        let plans = plans(&connection);
        let mut indices = connection
            .prepare(
                "SELECT name FROM sqlite_schema WHERE type = 'index' AND name NOT LIKE 'sqlite_autoindex_%' \
                 AND name <> 'users_by_public_id'",
            ) // which is a constraint
            .unwrap();
        for index in indices.query_map([], |row| row.get::<_, String>(0)).unwrap() {
            let index = index.unwrap();
            assert!(plans.iter().flat_map(|plan| &plan.1).any(|step| step.contains(&index)), "{index}");
        }
    }
}
