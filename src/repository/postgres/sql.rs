//! Every SQL statement. They are those of SQLite's `sql.rs` under the same names, but where PostgreSQL needs another.

use crate::domain::item::List;

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
     WHERE tokens.digest = $1 AND ",
    live!(after "$2", "$3", "$4"),
    " AND users.is_active"
);

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

/// The trigger `tokens_unasked` trusts it.
pub const INSERT_TOKEN: &str = "INSERT INTO tokens (digest, user_id, created, last_used, user_agent, ip, knows_factors, methods) \
     VALUES ($1, $2, $3, $3, $4, $5, TRUE, $6)";

pub const RECORD_LOGIN: &str = "UPDATE users SET last_login = $1 WHERE id = $2";

/// All but the `$2` that were used last. `$3` is now: those that have come to their own end go before any other.
pub const EVICT_TOKENS: &str = "DELETE FROM tokens WHERE digest IN (SELECT digest FROM tokens WHERE user_id = $1 \
     ORDER BY expires IS NOT NULL AND expires <= $3, last_used DESC, created DESC, digest OFFSET $2)";

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
    "SELECT tokens.user_id, tokens.last_used, tokens.created, tokens.expires, ",
    user_columns!(),
    " FROM tokens JOIN users ON users.id = tokens.user_id \
     WHERE tokens.digest = $1 AND ",
    live!(after "$2", "$3", "$4"),
    " AND users.is_active"
);

pub const FIND_REAUTHENTICATION: &str = "SELECT reauthenticated FROM tokens WHERE digest = $1";

pub const SET_REAUTHENTICATION: &str = "UPDATE tokens SET reauthenticated = $2 WHERE digest = $1";

pub const LIST_SESSIONS: &str = concat!(
    "SELECT digest, created, last_used, expires, user_agent, ip FROM tokens WHERE user_id = $1 AND ",
    live!(after "$2", "$3", "$4"),
    " ORDER BY created DESC, digest DESC"
);

pub const DELETE_TOKEN: &str = "DELETE FROM tokens WHERE digest = $1";

/// In the order of their digests, as [`RECORD_USE`] changes them.
pub const DELETE_ALL_TOKENS: &str = "DELETE FROM tokens WHERE digest IN (SELECT digest FROM tokens WHERE user_id = $1 \
     ORDER BY digest FOR UPDATE)";

/// In the order of their digests, so that two who change several do not wait for each other in a circle.
pub const RECORD_USE: &str = "UPDATE tokens SET last_used = uses.at \
     FROM (SELECT tokens.digest, used.at FROM unnest($1::bytea[], $2::bigint[]) AS used (digest, at) \
         JOIN tokens ON tokens.digest = used.digest AND tokens.last_used < used.at \
         ORDER BY tokens.digest FOR UPDATE OF tokens) AS uses \
     WHERE tokens.digest = uses.digest RETURNING tokens.digest, tokens.last_used";

/// Whether an account was imported and has not logged in since, as far as its events tell.
pub const IS_NEW_BY_IMPORT: &str = "SELECT 1 FROM events WHERE user_id = $1 AND kind = 'imported' AND NOT EXISTS ( \
     SELECT 1 FROM events WHERE user_id = $1 AND kind IN ('registered', 'logged_in')) LIMIT 1";

pub const FIND_SESSION_BY: &str = "SELECT digest FROM tokens WHERE user_id = $1 AND user_agent = $2 LIMIT 1";

/// `$2` is now, and `$3` a day before.
pub const SET_TOLD_OF_LOGIN: &str = "UPDATE users SET told_of_login = $2 WHERE id = $1 AND email_verified \
     AND (told_of_login IS NULL OR told_of_login <= $3 OR told_of_login > $2)";

pub const RESET_FAILURES: &str = "DELETE FROM login_failures WHERE user_id = $1";

/// After the first factor alone, which clears no failures where there is a second: see `has_second_factor`.
pub const RESET_FAILURES_BY_ONE_FACTOR: &str = "DELETE FROM login_failures WHERE user_id = $1 \
     AND NOT EXISTS (SELECT 1 FROM totp WHERE totp.user_id = $1 AND confirmed IS NOT NULL)";

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

pub const SET_PASSWORD: &str = "UPDATE users SET password_hash = $2, imported_hash_work = NULL WHERE id = $1";

pub const DELETE_OTHER_TOKENS: &str = "DELETE FROM tokens WHERE digest IN (SELECT digest FROM tokens \
     WHERE user_id = $1 AND digest <> $2 ORDER BY digest FOR UPDATE)";

/// The rights of who has this session, where it is live.
pub const FIND_RIGHTS: &str = concat!(
    "SELECT users.id, username, is_staff, is_superuser \
     FROM tokens JOIN users ON users.id = tokens.user_id \
     WHERE tokens.digest = $1 AND ",
    live!(after "$2", "$3", "$4"),
    " AND users.is_active"
);

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
     password_hash = coalesce($5, password_hash), \
     imported_hash_work = CASE WHEN $5 IS NULL THEN imported_hash_work END WHERE id = $1";

pub const DELETE_ACCOUNT: &str = "DELETE FROM users WHERE id = $1";

// Other services.

/// A live session, and what other services are told of it.
pub const FIND_HELD_TOKEN: &str = concat!(
    "SELECT tokens.user_id, tokens.last_used, tokens.created, tokens.expires, tokens.reauthenticated, tokens.methods, \
     users.public_id, users.username, users.email, users.email_verified, users.is_staff, users.is_superuser \
     FROM tokens JOIN users ON users.id = tokens.user_id \
     WHERE tokens.digest = $1 AND ",
    live!(after "$2", "$3", "$4"),
    " AND users.is_active"
);

pub const LIST_SERVICES: &str = "SELECT name, digest, created, last_used FROM services ORDER BY name";

/// So that two who add one count one after the other.
pub const LOCK_SERVICES: &str = "LOCK TABLE services IN SHARE ROW EXCLUSIVE MODE";

pub const INSERT_SERVICE: &str = "INSERT INTO services (name, digest, created) VALUES ($1, $2, $3) \
     ON CONFLICT (name) DO NOTHING";

pub const COUNT_SERVICES: &str = "SELECT count(*) FROM services";

pub const DELETE_SERVICE: &str = "DELETE FROM services WHERE name = $1";

/// A last use that is later by more than a minute was stored while the clock was ahead.
pub const RECORD_SERVICE_USE: &str = "UPDATE services SET last_used = $2 \
     WHERE name = $1 AND (last_used IS NULL OR last_used < $2 OR last_used > $2 + 60000)";

/// Of what happened to no account.
pub const INSERT_EVENT_OF_NO_ACCOUNT: &str = "INSERT INTO events (at, kind, user_id, username, actor, ip, detail) \
     VALUES ($1, $2, NULL, '', $3, $4, $5)";

/// The statements of one list. Those that change it set the account's `modified` with it. `insert` and `delete` return a
/// row where they changed anything.
pub struct Items {
    pub list: &'static str,
    pub insert: &'static str,
    pub delete: &'static str,
    /// `$2` are the items that go, and `$3` those that come. It is for a list that changes.
    pub replace: &'static str,
    /// For the lists of accounts that were inserted just now.
    pub import: &'static str,
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
            import: concat!(
                "INSERT INTO ",
                $table,
                " (user_id, item_id, added) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])"
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

// Events, codes, the outbox, maintenance.

pub const FIND_CREDENTIALS_BY_EMAIL: &str = credentials!(of "email_key = $1 AND email_verified");

/// The only statement that sets an address of an account that exists; `$3` is the key of `$2`.
pub const SET_EMAIL: &str = "UPDATE users SET modified = CASE WHEN email = $2 THEN modified ELSE $5 END, email = $2, \
     email_key = $3, email_verified = $4 WHERE id = $1";

pub const SET_EMAIL_VERIFIED: &str =
    "UPDATE users SET email_verified = TRUE WHERE id = $1 AND NOT email_verified AND email_key IS NOT NULL";

pub const FIND_EMAIL: &str = "SELECT email, email_key, email_verified FROM users WHERE id = $1";

pub const FIND_OTHER_WITH_EMAIL: &str = "SELECT id FROM users WHERE email_key = $1 AND email_verified AND id <> $2";

macro_rules! recipient {
    ($whose:literal) => {
        concat!(
            "SELECT id AS user_id, username, email, email_verified, is_active FROM users WHERE email_key IS NOT NULL AND ",
            $whose
        )
    };
}

pub const FIND_RECIPIENT: &str = recipient!("id = $1");

pub const FIND_RECIPIENT_NAMED: &str = recipient!("username_key = $1");

pub const FIND_RECIPIENT_VERIFIED: &str = recipient!("email_key = $1 AND email_verified");

pub const FIND_RECIPIENT_UNVERIFIED: &str =
    recipient!("email_key = $1 AND NOT email_verified AND is_active ORDER BY id LIMIT 1");

/// Locks the account of an offer. What is read behind it, in a statement of its own, is as of then.
pub const LOCK_OFFER_USER: &str =
    "SELECT id FROM users WHERE id = (SELECT user_id FROM one_time_codes WHERE request = $1) FOR NO KEY UPDATE";

pub const LOCK_OFFER_USER_BY_TOKEN: &str =
    "SELECT id FROM users WHERE id = (SELECT user_id FROM one_time_codes WHERE token = $1) FOR NO KEY UPDATE";

/// What is worth something at `$1`, and its account. Its account has the address that it was mailed to, where it is not
/// for another address: one that is to be confirmed, or one that may be restored. What is said to be made later was made
/// while the clock was ahead, by any amount, and is over.
macro_rules! offer {
    ($which:literal) => {
        concat!(
            "SELECT request, purpose, user_id, one_time_codes.email, one_time_codes.email_key, detail, mac, tries, \
             one_time_codes.created, code_expires, expires, username, users.email AS current_email, email_verified \
             FROM one_time_codes JOIN users ON users.id = user_id \
             WHERE one_time_codes.created <= $1 AND expires > $1 AND (purpose IN ('confirm_email', 'not_me') \
             OR one_time_codes.email_key = users.email_key) AND purpose = $2 AND ",
            $which
        )
    };
}

pub const FIND_OFFER: &str = offer!("request = $3");

pub const FIND_OFFER_BY_TOKEN: &str = offer!("token = $3");

/// There is one row an account of what is asked for by its own sessions.
pub const FIND_OWN_OFFER: &str = offer!("user_id = $3 AND is_familiar AND purpose <> 'not_me'");

pub const INSERT_OFFER: &str = "INSERT INTO one_time_codes (request, purpose, user_id, is_familiar, email, email_key, \
     link, detail, token, mac, tries, created, code_expires, expires) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11, $12, $13)";

/// What is mailed once more takes the place of what was mailed before. `$5` is now.
pub const RENEW_OFFER: &str = "UPDATE one_time_codes SET mac = $3, token = $4, tries = 0, created = $5, \
     code_expires = $6, expires = $7 \
     WHERE request = $1 AND purpose = $2 AND created <= $5 AND expires > $5";

pub const COUNT_TRY: &str = "UPDATE one_time_codes SET tries = tries + 1 WHERE request = $1";

pub const DELETE_OFFER: &str = "DELETE FROM one_time_codes WHERE request = $1";

pub const DELETE_OFFER_FOR: &str = "DELETE FROM one_time_codes \
     WHERE user_id = $1 AND purpose = $2 AND is_familiar = $3 AND purpose <> 'not_me' RETURNING request";

/// But for those that restore a former address.
pub const DELETE_OFFERS_OF: &str = "DELETE FROM one_time_codes WHERE user_id = $1 AND detail <> 'email_changed'";

pub const DELETE_RESTORERS_SINCE: &str =
    "DELETE FROM one_time_codes WHERE user_id = $1 AND detail = 'email_changed' AND created >= $2";

/// By the kind and not by the account, which has no index: few mails wait at a time.
pub const DELETE_RESTORING_MAILS_SINCE: &str =
    "DELETE FROM outbox WHERE user_id = $1 AND kind = 'email_changed' AND at >= $2";

/// What opens the account without its password.
pub const DELETE_OPENING_OFFERS: &str =
    "DELETE FROM one_time_codes WHERE user_id = $1 AND purpose IN ('reset_password', 'sign_in')";

pub const DELETE_PENDING_CHANGE: &str = "DELETE FROM one_time_codes WHERE user_id = $1 \
     AND purpose = 'confirm_email' AND email <> (SELECT email FROM users WHERE id = $1)";

pub const DELETE_MAIL_OF_PENDING_CHANGE: &str = "DELETE FROM outbox WHERE request IN (SELECT request \
     FROM one_time_codes WHERE user_id = $1 AND purpose = 'confirm_email' \
     AND email <> (SELECT email FROM users WHERE id = $1))";

/// All but the newest `$2`.
pub const DELETE_OLDEST_DISOWNERS: &str = "DELETE FROM one_time_codes WHERE request IN (SELECT request \
     FROM one_time_codes WHERE user_id = $1 AND purpose = 'not_me' AND detail <> 'email_changed' \
     ORDER BY created DESC, request OFFSET $2)";

pub const FIND_EXPIRED_OFFERS: &str = "SELECT request FROM one_time_codes WHERE expires <= $1 LIMIT $2";

/// In the order of their keys, as with all pruning and clamping: every node may do it at once, and whoever comes second waits
/// and finds nothing left.
pub const DELETE_EXPIRED_OFFERS: &str = "DELETE FROM one_time_codes WHERE request IN (SELECT request \
     FROM one_time_codes WHERE request = ANY($1) AND expires <= $2 ORDER BY request FOR UPDATE) RETURNING request";

pub const FIND_FUTURE_OFFERS: &str = "SELECT request FROM one_time_codes WHERE created > $1 LIMIT $2";

/// They are over. Set to now, they would be worth something once more.
pub const DELETE_FUTURE_OFFERS: &str = "DELETE FROM one_time_codes WHERE request IN (SELECT request \
     FROM one_time_codes WHERE request = ANY($1) AND created > $2 ORDER BY request FOR UPDATE)";

pub const INSERT_CONFIRMATION: &str = "INSERT INTO outbox (kind, user_id, username, recipient, is_verified, request, \
     detail, at, ip, user_agent, link, attempts, due, claims, expires) \
     SELECT $2::text, id, username, $3::text, FALSE, $4::bytea, '', $5::bigint, '', '', $6::text, 0, $5::bigint, 0, \
         $7::bigint FROM users WHERE id = $1";

/// To the address that the account has, where it is verified. The program is that of the session of which it tells.
pub const INSERT_NOTICE: &str = "INSERT INTO outbox (kind, user_id, username, recipient, is_verified, request, \
     detail, at, ip, user_agent, link, attempts, due, claims, expires) \
     SELECT $2::text, id, username, email, TRUE, NULL, $3::text, $4::bigint, $5::text, \
         coalesce((SELECT user_agent FROM tokens WHERE user_id = $1 AND left(encode(digest, 'hex'), 16) = $3::text), ''), \
         NULL, 0, $4::bigint, 0, $6::bigint \
     FROM users WHERE id = $1 AND email_verified";

/// Whether there is anything to claim or to drop.
pub const FIND_DUE_MAIL: &str = "SELECT id FROM outbox WHERE due <= $1 LIMIT 1";

/// Removes mails that nobody has received in time, each of which is an event; also of an account that is gone.
pub const DROP_EXPIRED_MAILS: &str = "WITH gone AS (DELETE FROM outbox WHERE id IN (SELECT id FROM outbox \
         WHERE due <= $1 AND expires <= $1 ORDER BY due, id LIMIT $3 FOR UPDATE SKIP LOCKED) \
         RETURNING id, due, user_id, username, kind) \
     INSERT INTO events (at, kind, user_id, username, actor, ip, detail) \
     SELECT $1, $2::text, user_id, username, '', '', kind FROM gone ORDER BY due, id";

/// Claims those that nobody else is claiming at this moment.
pub const CLAIM_MAILS: &str = "WITH free AS (SELECT id, due FROM outbox WHERE due <= $1 AND expires > $1 \
         ORDER BY due, id LIMIT $2 FOR UPDATE SKIP LOCKED), \
     claimed AS (UPDATE outbox SET due = $3, claims = claims + 1 FROM free WHERE outbox.id = free.id \
         RETURNING outbox.id, claims, kind, user_id, recipient, is_verified, username, at, ip, user_agent, detail, link, \
             attempts, expires, free.due AS was_due) \
     SELECT * FROM claimed ORDER BY was_due, id";

/// Locks the account of a mail. What is read behind it, in a statement of its own, is as of then.
pub const LOCK_MAIL_USER: &str =
    "SELECT id FROM users WHERE id = (SELECT user_id FROM outbox WHERE id = $1) FOR NO KEY UPDATE";

/// A mail, while the claim to it holds: it is locked.
pub const FIND_CLAIMED_MAIL: &str = "SELECT kind, user_id, recipient, request, detail, at FROM outbox \
     WHERE id = $1 AND claims = $2 AND due > $3 FOR UPDATE";

pub const RETURN_MAIL: &str = "UPDATE outbox SET attempts = attempts + $4, claims = claims + 1, due = $3 \
     WHERE id = $1 AND claims = $2";

pub const DELETE_MAIL: &str = "DELETE FROM outbox WHERE id = $1 AND claims = $2";

/// Removes a claimed mail that nobody has received, which is an event; also of an account that is gone.
pub const GIVE_MAIL_UP: &str = "WITH gone AS (DELETE FROM outbox WHERE id = $1 AND claims = $2 \
         RETURNING user_id, username, kind) \
     INSERT INTO events (at, kind, user_id, username, actor, ip, detail) \
     SELECT $3::bigint, $4::text, user_id, username, '', '', kind FROM gone";

pub const DELETE_MAIL_OF_OFFER: &str = "DELETE FROM outbox WHERE request = $1";

pub const DELETE_MAILS_OF_OFFERS: &str =
    "DELETE FROM outbox WHERE request IN (SELECT request FROM one_time_codes WHERE user_id = $1)";

pub const COUNT_MAILS: &str = "SELECT count(id), min(at) FROM outbox";

/// Those that were written while the clock was ahead, and those that wait for longer than any mail does (`$2` is a day
/// from now).
pub const FIND_FUTURE_MAILS: &str = "SELECT id FROM outbox WHERE at > $1 OR due > $2 LIMIT $3";

/// Each keeps its lifetime. `$2` is now.
pub const CLAMP_MAILS: &str = "UPDATE outbox SET at = least(at, $2), due = least(due, $2), \
     expires = least(expires, $2 + expires - at) \
     WHERE id IN (SELECT id FROM outbox WHERE id = ANY($1) AND (at > $3 OR due > $4) ORDER BY id FOR UPDATE)";

/// What is written where nothing is found, and nothing remains of it.
pub const INSERT_EQUAL_WORK: &str = "INSERT INTO outbox (id, kind, user_id, username, recipient, is_verified, request, \
     detail, at, ip, user_agent, link, attempts, due, claims, expires) \
     VALUES ($1, '', 0, '', '', FALSE, NULL, '', 0, '', '', NULL, 0, 0, 0, 0)";

pub const DELETE_EQUAL_WORK: &str = "DELETE FROM outbox WHERE id = $1";

/// `$4` is who did it, where it was not the account itself.
pub const INSERT_EVENT: &str = "INSERT INTO events (at, kind, user_id, username, actor, ip, detail) \
     SELECT $1::bigint, $2::text, id, username, coalesce($4::text, username), $5::text, $6::text \
     FROM users WHERE id = $3";

/// Those with an account and those without, in the order in which they are given.
pub const INSERT_ATTEMPTS: &str = "INSERT INTO events (at, kind, user_id, username, actor, ip, detail) \
     SELECT attempt.at, attempt.kind, users.id, coalesce(users.username, ''), \
         CASE WHEN attempt.by_owner THEN coalesce(users.username, '') ELSE '' END, attempt.ip, attempt.detail \
     FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::boolean[], $5::text[], $6::text[]) WITH ORDINALITY \
         AS attempt (at, kind, user_id, by_owner, ip, detail, number) \
     LEFT JOIN users ON users.id = attempt.user_id ORDER BY attempt.number";

pub const LIST_EVENTS: &str = "SELECT id, at, kind, username, actor, ip, detail FROM events \
     WHERE id < $1 AND ($2::text IS NULL OR kind = $2) ORDER BY id DESC LIMIT $3";

pub const FIND_NAME: &str = "SELECT username FROM users WHERE username_key = $1";

pub const LIST_EVENTS_NAMED: &str = "SELECT id, at, kind, username, actor, ip, detail FROM events \
     WHERE lower(username) = $4 AND id < $1 AND ($2::text IS NULL OR kind = $2) ORDER BY id DESC LIMIT $3";

pub const LIST_EVENTS_OF: &str = "SELECT id, at, kind, username, actor, ip, detail FROM events \
     WHERE user_id = $3 AND id < $1 AND ($2::text IS NULL OR kind = $2) ORDER BY id DESC LIMIT $4";

/// Those that are no younger than `$1`, those numbered up to `$2`, and those from the future (`$4` is now) that are
/// older than an old one by their number.
pub const FIND_OLD_EVENTS: &str = "SELECT id FROM events WHERE at <= $1 OR id <= $2 \
     OR (at > $4 AND id < (SELECT id FROM events WHERE at <= $1 ORDER BY id DESC LIMIT 1)) ORDER BY id LIMIT $3";

pub const FIND_EVENT_NUMBERS: &str = "SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM events";

pub const FIND_EVENT_BEYOND: &str = "SELECT id FROM events ORDER BY id DESC OFFSET $1 LIMIT 1";

pub const FIND_SNAPSHOT: &str = "SELECT pg_current_snapshot()::text";

/// What a snapshot does not see.
/// A row that is visible and has a number that was not given yet was restored from a dump of another server: it is older.
pub const LIST_RESETS: &str = "SELECT username FROM events WHERE (kind = 'password_set' \
     OR kind = 'password_reset' AND NOT EXISTS (SELECT 1 FROM totp \
     WHERE totp.user_id = events.user_id AND confirmed IS NOT NULL)) \
     AND xid >= pg_snapshot_xmin($1::text::pg_snapshot) AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot) \
     AND xid < pg_snapshot_xmax(pg_current_snapshot()) ORDER BY id";

/// The same where the snapshot is another server's.
pub const LIST_RESETS_OF_FORMER: &str = "SELECT username FROM events WHERE (kind = 'password_set' \
     OR kind = 'password_reset' AND NOT EXISTS (SELECT 1 FROM totp \
     WHERE totp.user_id = events.user_id AND confirmed IS NOT NULL)) \
     AND xid >= greatest(pg_snapshot_xmin($1::text::pg_snapshot)::text::numeric - $2::bigint, 0)::text::xid8 \
     AND xid < pg_snapshot_xmax(pg_current_snapshot()) ORDER BY id";

/// The addresses from which the account has logged in lately.
pub const LIST_FAMILIAR: &str = "SELECT ip FROM tokens WHERE user_id = $1 \
     UNION ALL (SELECT ip FROM events WHERE user_id = $1 AND kind IN ('registered', 'logged_in') \
     ORDER BY id DESC LIMIT 100)";

/// In the order of their ids.
pub const LOCK_USERS_NAMED: &str =
    "SELECT id, username_key FROM users WHERE username_key = ANY($1) ORDER BY id FOR NO KEY UPDATE";

/// `$2` is now; what is said to be later was written while the clock was ahead, and so before all that happens now. As
/// in [`LIST_RESETS`], one factor clears no wrong codes of an app.
pub const LIST_NEW_PASSWORDS: &str = "SELECT user_id, max(at) FROM events WHERE user_id = ANY($1) \
     AND (kind = 'password_set' OR kind IN ('password_changed', 'password_reset') AND NOT EXISTS (SELECT 1 FROM totp \
     WHERE totp.user_id = events.user_id AND confirmed IS NOT NULL)) AND at <= $2::bigint + 1000 GROUP BY user_id";

/// A failure that a login has followed by now does not count. `$3` is now; a login that is said to be later was before.
pub const COUNT_FAILURES: &str = "INSERT INTO login_failures (user_id, failures, last_failed) \
     SELECT users.id, count(*), (array_agg(failure.at ORDER BY failure.number DESC))[1] \
     FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS failure (user_id, at, number) \
     JOIN users ON users.id = failure.user_id \
     WHERE users.last_login <= failure.at OR users.last_login > $3::bigint + 1000 \
     GROUP BY users.id \
     ON CONFLICT (user_id) DO UPDATE SET failures = login_failures.failures + excluded.failures, \
         last_failed = excluded.last_failed";

pub const LIST_FAILURES: &str = "SELECT username, failures, last_failed FROM login_failures \
     JOIN users ON users.id = login_failures.user_id ORDER BY failures DESC, user_id LIMIT $1";

pub const DELETE_EVENTS: &str = "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE id = ANY($1) \
     ORDER BY id FOR UPDATE)";

pub const FIND_DEAD_TOKENS: &str = "SELECT digest FROM tokens \
     WHERE created <= $1 OR last_used <= $2 OR expires <= $3 LIMIT $4";

pub const DELETE_DEAD_TOKENS: &str = "DELETE FROM tokens WHERE digest IN (SELECT digest FROM tokens \
     WHERE digest = ANY($1) AND (created <= $2 OR last_used <= $3 OR expires <= $4) ORDER BY digest FOR UPDATE) \
     RETURNING user_id";

/// Those with a time after `$1`.
pub const FIND_FUTURE_TOKENS: &str = "SELECT digest FROM tokens \
     WHERE created > $1 OR last_used > $1 OR reauthenticated > $1 LIMIT $2";

/// A reauthentication is forgotten: set to now, it would make the session fresh without a password.
pub const CLAMP_TOKENS: &str = "UPDATE tokens SET created = least(created, $2), last_used = least(last_used, $2), \
     reauthenticated = CASE WHEN reauthenticated > $2 THEN NULL ELSE reauthenticated END \
     WHERE digest IN (SELECT digest FROM tokens WHERE digest = ANY($1) \
         AND (created > $2 OR last_used > $2 OR reauthenticated > $2) ORDER BY digest FOR UPDATE) RETURNING user_id";

pub const FIND_FUTURE_FAILURES: &str = "SELECT user_id FROM login_failures WHERE last_failed > $1 LIMIT $2";

pub const CLAMP_FAILURES: &str = "UPDATE login_failures SET last_failed = $2 WHERE user_id IN (SELECT user_id \
     FROM login_failures WHERE user_id = ANY($1) AND last_failed > $2 ORDER BY user_id FOR UPDATE)";

pub const FIND_IMPORTED_TOKEN: &str = "SELECT 1 FROM tokens WHERE imported IS NOT NULL LIMIT 1";

pub const FIND_FOREIGN_TOKEN: &str =
    "SELECT digest, user_id FROM tokens WHERE digest = ANY($1) AND imported IS NOT NULL LIMIT 1";

/// One that has its new digest already stays as it is.
pub const ADOPT_TOKEN: &str = "UPDATE tokens SET digest = $2, imported = 'sha256' \
     WHERE digest = $1 AND imported = 'sha512' AND NOT EXISTS (SELECT 1 FROM tokens WHERE digest = $2)";

pub const FIND_IMPORTED: &str = "SELECT source_id, fingerprint FROM imported WHERE source = $1 AND source_id = ANY($2)";

pub const FIND_NAMED: &str = "SELECT username_key FROM users WHERE username_key = ANY($1)";

/// In the order of the ids, so that two who import the same wait for each other in one order.
pub const INSERT_IMPORTED: &str = "INSERT INTO imported (source, source_id, fingerprint, has_other_name, at) \
     SELECT $1, one.source_id, one.fingerprint, one.has_other_name, $5 \
     FROM unnest($2::text[], $3::bytea[], $4::boolean[]) WITH ORDINALITY \
         AS one (source_id, fingerprint, has_other_name, number) \
     ORDER BY one.source_id, one.number ON CONFLICT (source, source_id) DO NOTHING RETURNING source_id";

/// What [`INSERT_IMPORTED`] has inserted for accounts whose names are taken.
pub const DELETE_IMPORTED: &str = "DELETE FROM imported WHERE source = $1 AND source_id = ANY($2)";

/// In the order of the names. `$13` is whether the address is verified: it is unless another account has verified it.
pub const INSERT_IMPORTED_USERS: &str = concat!(
    "INSERT INTO users (username, username_key, password_hash, imported_hash_work, is_active, is_staff, is_superuser, \
         date_joined, created, modified, last_login, email_key, email_verified, ",
    profile!(columns),
    ") SELECT one.username, one.username_key, one.password_hash, one.imported_hash_work, one.is_active, one.is_staff, \
         one.is_superuser, one.date_joined, one.created, one.modified, one.last_login, one.email_key, \
         one.email_verified AND one.email_key IS NOT NULL AND NOT EXISTS \
             (SELECT 1 FROM users WHERE users.email_key = one.email_key AND users.email_verified), ",
    profile!(columns),
    " FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::boolean[], $6::boolean[], $7::boolean[], \
         $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::boolean[], $14::text[], $15::text[], \
         $16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[]) WITH ORDINALITY \
         AS one (username, username_key, password_hash, imported_hash_work, is_active, is_staff, is_superuser, \
             date_joined, created, modified, last_login, email_key, email_verified, ",
    profile!(columns),
    ", number) ORDER BY one.username_key, one.number \
     ON CONFLICT (username_key) DO NOTHING RETURNING username_key, id"
);

/// In the order of their digests, as with all that changes tokens.
pub const INSERT_IMPORTED_TOKENS: &str = "INSERT INTO tokens (digest, user_id, created, last_used, user_agent, ip, expires, imported, knows_factors, methods) \
     SELECT one.digest, one.user_id, $5, $5, $6, '', one.expires, CASE WHEN one.is_sha512 THEN 'sha512' END, TRUE, $7 \
     FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::boolean[]) AS one (digest, user_id, expires, is_sha512) \
     ORDER BY one.digest ON CONFLICT (digest) DO NOTHING RETURNING user_id";

/// Of accounts that were inserted just now. `$4` is who did it.
pub const INSERT_IMPORTED_EVENTS: &str = "INSERT INTO events (at, kind, user_id, username, actor, ip, detail) \
     SELECT $1::bigint, $2::text, id, username, $4::text, '', '' FROM users WHERE id = ANY($3) ORDER BY id";

pub const FIND_IMPORTED_NAME: &str = "SELECT 1 FROM imported WHERE has_other_name LIMIT 1";

/// By the index alone.
pub const FIND_HARDEST_HASH: &str = "SELECT max(imported_hash_work) FROM users WHERE imported_hash_work IS NOT NULL";

pub const FIND_SIGN_IN: &str = "SELECT username, password_hash, is_active, email_verified FROM users WHERE id = $1";

/// A new hash of the same password, where no session is opened yet.
pub const REHASH: &str =
    "UPDATE users SET password_hash = $2, imported_hash_work = NULL WHERE id = $1 AND password_hash = $3";

/// Once an account has what an older release knows nothing of, none may serve any more.
pub const END_OLDER_RELEASES: &str = "UPDATE schema_version SET oldest_serving = $1 WHERE oldest_serving < $1";

/// A waiting one is replaced, another is not.
pub const BEGIN_TOTP: &str = "INSERT INTO totp (user_id, secret, created, confirmed, last_step) VALUES ($1, $2, $3, NULL, 0) \
     ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, created = excluded.created \
     WHERE totp.confirmed IS NULL";

pub const FIND_TOTP: &str = "SELECT username, totp.secret, totp.created, totp.confirmed \
     FROM totp JOIN users ON users.id = totp.user_id WHERE totp.user_id = $1";

pub const FIND_TOTP_SECRET: &str = "SELECT secret FROM totp WHERE user_id = $1 AND confirmed IS NOT NULL";

pub const CONFIRM_TOTP: &str = "UPDATE totp SET confirmed = $4, last_step = $3 \
     WHERE user_id = $1 AND secret = $2 AND confirmed IS NULL";

pub const USE_TOTP: &str = "UPDATE totp SET last_step = $3 \
     WHERE user_id = $1 AND secret = $2 AND confirmed IS NOT NULL AND last_step < $3";

pub const DELETE_TOTP: &str = "DELETE FROM totp WHERE user_id = $1";

/// Also one that waits for its first code.
pub const DELETE_TOTP_SINCE: &str = "DELETE FROM totp WHERE user_id = $1 AND (confirmed IS NULL OR confirmed >= $2)";

pub const INSERT_RECOVERY_CODE: &str = "INSERT INTO recovery_codes (digest, user_id, created) VALUES ($1, $2, $3)";

pub const INSERT_RECOVERY_CODES: &str =
    "INSERT INTO recovery_codes (digest, user_id, created) SELECT unnest($1::bytea[]), $2, $3";

/// Those that have waited for their first code since `$1` or longer.
pub const FIND_EXPIRED_TOTP: &str =
    "SELECT user_id FROM totp WHERE confirmed IS NULL AND created <= $1 ORDER BY created LIMIT $2";

/// In the order of their accounts, as with all pruning.
pub const DELETE_EXPIRED_TOTP: &str = "DELETE FROM totp WHERE user_id IN (SELECT user_id FROM totp \
     WHERE user_id = ANY($1) AND confirmed IS NULL AND created <= $2 ORDER BY user_id FOR UPDATE) RETURNING user_id";

pub const DELETE_RECOVERY_CODE: &str = "DELETE FROM recovery_codes WHERE digest = $1 AND user_id = $2";

pub const DELETE_RECOVERY_CODES_OF: &str = "DELETE FROM recovery_codes WHERE user_id = $1";

pub const DELETE_RECOVERY_CODES_SINCE: &str = "DELETE FROM recovery_codes WHERE user_id = $1 AND created >= $2";

pub const FIND_SECURITY: &str = "SELECT \
     (SELECT confirmed FROM totp WHERE user_id = $1) AS totp, \
     (SELECT count(*) FROM recovery_codes WHERE user_id = $1) AS recovery_codes, \
     (SELECT count(*) FROM passkeys WHERE user_id = $1) AS passkeys, \
     (SELECT count(*) FROM identities WHERE user_id = $1) AS identities";

/// A sealed secret says in its bytes 2 to 9 which key it was sealed with.
macro_rules! is_sealed_with {
    ($column:literal) => {
        concat!("substr(", $column, ", 2, 8) = $1")
    };
}

/// By the ids of their keys.
pub const LIST_SEALED: &str = "SELECT key, count(*) FILTER (WHERE what = 'totp'), \
         count(*) FILTER (WHERE what = 'token'), count(*) FILTER (WHERE what = 'webhook') FROM ( \
     SELECT substr(secret, 2, 8) AS key, 'totp' AS what FROM totp \
     UNION ALL SELECT substr(refresh_token, 2, 8), 'token' FROM identities WHERE refresh_token IS NOT NULL \
     UNION ALL SELECT substr(token, 2, 8), 'token' FROM revocations \
     UNION ALL SELECT substr(secret, 2, 8), 'webhook' FROM webhooks WHERE secret IS NOT NULL \
     UNION ALL SELECT substr(previous_secret, 2, 8), 'webhook' FROM webhooks WHERE previous_secret IS NOT NULL) AS sealed GROUP BY key ORDER BY key";

/// In the order of their ids, as with all that locks several accounts.
pub const LOCK_USERS_SEALED_OTHERWISE: &str = concat!(
    "SELECT id FROM users WHERE id IN (SELECT user_id FROM totp WHERE NOT ",
    is_sealed_with!("secret"),
    " ORDER BY user_id LIMIT $2) ORDER BY id FOR NO KEY UPDATE"
);

pub const DELETE_TOTP_SEALED_OTHERWISE: &str =
    concat!("DELETE FROM totp WHERE user_id = $2 AND NOT ", is_sealed_with!("secret"));

pub const FORGET_SEALED_TOKENS: &str = concat!(
    "UPDATE identities SET refresh_token = NULL WHERE refresh_token IS NOT NULL AND NOT ",
    is_sealed_with!("refresh_token")
);

/// The key that all nodes have.
pub const FIND_SEALING_KEY: &str = "SELECT id FROM sealing_key";

/// Of two at once, one waits for the other and inserts nothing.
pub const INSERT_SEALING_KEY: &str = "INSERT INTO sealing_key (id) VALUES ($1) ON CONFLICT DO NOTHING";

/// Whoever replaces it or notes the first one waits.
pub const LOCK_SEALING_KEY: &str = "LOCK TABLE sealing_key IN EXCLUSIVE MODE";

pub const DELETE_SEALING_KEY: &str = "DELETE FROM sealing_key";

pub const FORGET_SEALED_REVOCATIONS: &str = concat!("DELETE FROM revocations WHERE NOT ", is_sealed_with!("token"));

/// Of every account: what each holds is not read.
pub const END_SEALED_CHALLENGES: &str = "DELETE FROM challenges WHERE purpose IN ($1, $2, $3)";

pub const INSERT_PASSKEY: &str = "INSERT INTO passkeys (credential_id, user_id, user_handle, rp_id, name, credential, created) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (credential_id) DO NOTHING";

pub const FIND_PASSKEY: &str = "SELECT credential_id, user_id, username, user_handle, credential \
     FROM passkeys JOIN users ON users.id = passkeys.user_id WHERE credential_id = $1 AND is_active";

pub const LIST_STORED_PASSKEYS: &str = "SELECT credential_id, user_id, username, user_handle, credential \
     FROM passkeys JOIN users ON users.id = passkeys.user_id WHERE user_id = $1 \
     ORDER BY passkeys.created, credential_id";

pub const LIST_PASSKEYS: &str = "SELECT credential_id, name, created, last_used FROM passkeys WHERE user_id = $1 \
     ORDER BY created, credential_id";

pub const RENAME_PASSKEY: &str = "UPDATE passkeys SET name = $2 WHERE credential_id = $1";

pub const USE_PASSKEY: &str = "UPDATE passkeys SET credential = $4, last_used = $5 \
     WHERE credential_id = $1 AND user_id = $2 AND credential = $3";

pub const DELETE_PASSKEY: &str = "DELETE FROM passkeys WHERE credential_id = $1";

pub const DELETE_PASSKEYS_OF: &str = "DELETE FROM passkeys WHERE user_id = $1";

pub const DELETE_PASSKEYS_SINCE: &str = "DELETE FROM passkeys WHERE user_id = $1 AND created >= $2";

pub const COUNT_PASSKEYS: &str = "SELECT rp_id, count(*) FROM passkeys GROUP BY rp_id ORDER BY rp_id";

/// Locks the account that is linked to an identity. What is read behind it, in a statement of its own, is as of then.
pub const LOCK_IDENTITY_USER: &str = "SELECT id FROM users \
     WHERE id = (SELECT user_id FROM identities WHERE issuer = $1 AND subject = $2) FOR NO KEY UPDATE";

pub const FIND_IDENTITY_OWNER: &str = "SELECT user_id, username, is_active \
     FROM identities JOIN users ON users.id = identities.user_id WHERE issuer = $1 AND subject = $2";

pub const FIND_EMAIL_OWNER: &str =
    "SELECT id AS user_id, username, is_active FROM users WHERE email_key = $1 AND email_verified";

pub const INSERT_IDENTITY: &str = "INSERT INTO identities (issuer, subject, user_id, provider, email, created, last_used, refresh_token) \
     VALUES ($1, $2, $3, $4, $5, $6, $6, $7)";

pub const LIST_IDENTITIES: &str = "SELECT issuer, subject, provider, email, created, last_used FROM identities \
     WHERE user_id = $1 ORDER BY created, issuer, subject";

pub const USE_IDENTITY: &str = "UPDATE identities SET email = $3, last_used = $4, \
     refresh_token = coalesce($5, refresh_token) WHERE issuer = $1 AND subject = $2 AND user_id = $6";

pub const DELETE_IDENTITY: &str = "DELETE FROM identities WHERE issuer = $1 AND subject = $2";

pub const DELETE_IDENTITIES_OF: &str = "DELETE FROM identities WHERE user_id = $1";

/// A refresh token that goes with its identity is to be revoked.
pub const REVOKE_REFRESH_TOKEN: &str = "INSERT INTO revocations (provider, binding, token, attempts, due, claims, expires) \
     SELECT provider, $3::bytea, refresh_token, 0, $4::bigint, 0, $5::bigint FROM identities \
     WHERE issuer = $1 AND subject = $2 AND refresh_token IS NOT NULL";

/// Whether there is anything to claim or to drop.
pub const FIND_DUE_REVOCATION: &str = "SELECT id FROM revocations WHERE due <= $1 OR expires <= $1 LIMIT 1";

pub const DELETE_EXPIRED_REVOCATIONS: &str = "DELETE FROM revocations WHERE id IN (SELECT id FROM revocations \
     WHERE expires <= $1 ORDER BY id FOR UPDATE SKIP LOCKED)";

/// Claims those that nobody else is claiming at this moment.
pub const CLAIM_REVOCATIONS: &str = "WITH free AS (SELECT id, due FROM revocations WHERE due <= $1 AND expires > $1 \
         ORDER BY due, id LIMIT $2 FOR UPDATE SKIP LOCKED), \
     claimed AS (UPDATE revocations SET due = $3, claims = claims + 1 FROM free WHERE revocations.id = free.id \
         RETURNING revocations.id, provider, binding, token, attempts, claims, expires, free.due AS was_due) \
     SELECT * FROM claimed ORDER BY was_due, id";

pub const RETURN_REVOCATION: &str =
    "UPDATE revocations SET attempts = attempts + 1, claims = claims + 1, due = $3 WHERE id = $1 AND claims = $2";

pub const DELETE_REVOCATION: &str = "DELETE FROM revocations WHERE id = $1 AND claims = $2";

/// All but the newest `$3`.
pub const EVICT_CHALLENGES: &str = "DELETE FROM challenges WHERE digest IN (SELECT digest FROM challenges \
     WHERE user_id = $1 AND purpose = $2 ORDER BY created DESC, digest OFFSET $3)";

pub const INSERT_CHALLENGE: &str = "INSERT INTO challenges (digest, purpose, user_id, state, tries, created, expires) \
     VALUES ($1, $2, $3, $4, 0, $5, $6)";

pub const TAKE_CHALLENGE: &str = "DELETE FROM challenges \
     WHERE digest = $1 AND purpose = $2 AND user_id IS NOT DISTINCT FROM $3 AND expires > $4 RETURNING user_id, state";

pub const FIND_FACTOR_OWNER: &str = "SELECT username FROM challenges JOIN users ON users.id = user_id \
     WHERE digest = $1 AND purpose = $2 AND expires > $3 AND tries < $4 AND is_active";

pub const COUNT_FACTOR_TRY: &str = "UPDATE challenges SET tries = tries + 1 \
     WHERE digest = $1 AND purpose = $2 AND expires > $3 AND tries < $4 \
     AND EXISTS (SELECT 1 FROM users WHERE users.id = challenges.user_id AND is_active) RETURNING user_id, state";

/// Locks the account of a challenge. What is read behind it, in a statement of its own, is as of then.
pub const LOCK_CHALLENGE_USER: &str =
    "SELECT id FROM users WHERE id = (SELECT user_id FROM challenges WHERE digest = $1) FOR NO KEY UPDATE";

pub const FIND_PENDING_SIGN_IN: &str = "SELECT user_id, is_active FROM challenges JOIN users ON users.id = user_id \
     WHERE digest = $1 AND purpose = $2 AND expires > $3";

pub const DELETE_CHALLENGE: &str = "DELETE FROM challenges WHERE digest = $1";

/// In the order of their digests, as they are pruned.
pub const DELETE_CHALLENGES_OF: &str = "DELETE FROM challenges WHERE digest IN (SELECT digest FROM challenges \
     WHERE user_id = $1 ORDER BY digest FOR UPDATE)";

pub const INSERT_USED_ID_TOKEN: &str = "INSERT INTO challenges (digest, purpose, user_id, state, tries, created, expires) \
     VALUES ($1, $2, NULL, '', 0, $3, $4)";

pub const FIND_CHALLENGE: &str = "SELECT digest FROM challenges WHERE digest = $1";

pub const FIND_EXPIRED_CHALLENGES: &str = "SELECT digest FROM challenges WHERE expires <= $1 ORDER BY expires LIMIT $2";

/// In the order of their digests, as with all pruning.
pub const DELETE_EXPIRED_CHALLENGES: &str = "DELETE FROM challenges WHERE digest IN (SELECT digest \
     FROM challenges WHERE digest = ANY($1) AND expires <= $2 ORDER BY digest FOR UPDATE) RETURNING digest";

/// But for ID tokens that were used: when they end is what their provider says.
pub const FIND_FUTURE_CHALLENGES: &str =
    "SELECT digest FROM challenges WHERE created > $1 AND purpose <> 'used_id_token' LIMIT $2";

/// They are over, as [`DELETE_FUTURE_OFFERS`] says.
pub const DELETE_FUTURE_CHALLENGES: &str = "DELETE FROM challenges WHERE digest IN (SELECT digest \
     FROM challenges WHERE digest = ANY($1) AND created > $2 ORDER BY digest FOR UPDATE)";

/// Those that wait, or are worth trying, for longer than any.
pub const FIND_FUTURE_REVOCATIONS: &str = "SELECT id FROM revocations WHERE due > $1 OR expires > $1 LIMIT $2";

pub const CLAMP_REVOCATIONS: &str = "UPDATE revocations SET due = least(due, $2), expires = least(expires, $3) \
     WHERE id IN (SELECT id FROM revocations WHERE id = ANY($1) AND (due > $4 OR expires > $4) ORDER BY id FOR UPDATE)";

/// The last number of an event that was given, whether or not it was committed. Whoever was given one by now had the number
/// of its transaction before that: each transaction of the service begins with its receipt.
pub const FIND_LAST_EVENT_GIVEN: &str =
    "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM events_id_seq";

/// As numbers: the oldest transaction that is under way, and the first that has not begun.
pub const FIND_TRANSACTIONS: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, \
     pg_snapshot_xmax(pg_current_snapshot())::text::bigint";

pub const FIND_ANY_WEBHOOK: &str = "SELECT 1 FROM webhooks WHERE disabled IS NULL LIMIT 1";

/// `$1` is now, and what is due only after `$2` was written while the clock was ahead. `$3` is how many may wait, and `$4` up
/// to which number all events are known.
pub const LIST_DUE_WEBHOOKS: &str = "SELECT id FROM webhooks WHERE disabled IS NULL AND claimed_until <= $1 \
     AND (due <= $1 OR due > $2) AND ( \
         EXISTS (SELECT 1 FROM webhook_deliveries AS d WHERE d.webhook = webhooks.id AND (d.due <= $1 OR d.due > $2)) \
         OR (EXISTS (SELECT 1 FROM events WHERE events.id > cursor AND events.id <= $4) \
             AND (SELECT count(*) FROM webhook_deliveries AS d WHERE d.webhook = webhooks.id AND d.due IS NOT NULL) < $3)) \
     ORDER BY id";

pub const CLAIM_WEBHOOK: &str = "UPDATE webhooks SET claims = claims + 1, claimed_until = $4 \
     WHERE id = $1 AND disabled IS NULL AND claimed_until <= $2 AND (due <= $2 OR due > $3) \
     RETURNING url, kinds, allow_private, secret, previous_secret, previous_until, cursor, failing_since, failures, claims";

pub const COUNT_WAITING_DELIVERIES: &str =
    "SELECT count(*) FROM webhook_deliveries WHERE webhook = $1 AND due IS NOT NULL";

pub const LIST_DUE_DELIVERIES: &str = "SELECT event, message, body, attempts FROM webhook_deliveries \
     WHERE webhook = $1 AND due <= $2 ORDER BY due, event LIMIT $3";

/// Those that are due after `$3` are due at `$2`.
pub const ADVANCE_DELIVERIES: &str = "UPDATE webhook_deliveries SET due = $2 WHERE webhook = $1 AND due > $3";

pub const LIST_EVENTS_BEHIND: &str = "SELECT id, at, kind, username, actor, ip, detail FROM events \
     WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3";

/// Those from `$3` on, of these kinds where there are any and else of all but `$5`.
pub const LIST_EVENTS_TO_REPLAY: &str = "SELECT id, at, kind, username, actor, ip, detail FROM events \
     WHERE id >= $1 AND id <= $2 AND at >= $3 AND (kind = ANY($4) OR cardinality($4::text[]) = 0 AND kind <> ALL($5)) \
     ORDER BY id LIMIT $6";

/// There is nothing to be sent.
pub const PASS_WEBHOOK: &str = "UPDATE webhooks SET cursor = $3, claimed_until = 0 WHERE id = $1 AND claims = $2";

/// `$5` is whether anything was delivered, and `$6` whether anything failed.
pub const SETTLE_WEBHOOK: &str = "UPDATE webhooks SET cursor = $3, due = $4, claimed_until = 0, \
     failing_since = CASE WHEN $5 THEN NULL WHEN $6 THEN coalesce(failing_since, $7) ELSE failing_since END, \
     failures = CASE WHEN $5 THEN 0 WHEN $6 THEN failures + 1 ELSE failures END, \
     last_success = CASE WHEN $5 THEN $7 ELSE last_success END, \
     previous_secret = CASE WHEN previous_until > $7 THEN previous_secret END, \
     previous_until = CASE WHEN previous_until > $7 THEN previous_until END \
     WHERE id = $1 AND claims = $2 AND claimed_until > 0";

pub const STORE_DELIVERIES: &str = "INSERT INTO webhook_deliveries (webhook, event, message, body, attempts, due, tried, answer) \
     SELECT $1::text, one.event, one.message, one.body, one.attempts, one.due, $7::bigint, one.answer \
     FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $8::text[]) \
         AS one (event, message, body, attempts, due, answer) ORDER BY one.event \
     ON CONFLICT (webhook, event) DO UPDATE SET attempts = excluded.attempts, due = excluded.due, \
         tried = coalesce(excluded.tried, webhook_deliveries.tried), answer = excluded.answer";

pub const DELETE_DELIVERIES: &str = "DELETE FROM webhook_deliveries WHERE webhook = $1 AND event = ANY($2)";

/// All but the newest `$2`.
pub const FORGET_GIVEN_UP: &str = "DELETE FROM webhook_deliveries WHERE webhook = $1 AND due IS NULL \
     AND event <= (SELECT event FROM webhook_deliveries WHERE webhook = $1 AND due IS NULL \
         ORDER BY event DESC LIMIT 1 OFFSET $2)";

/// Nobody else adds one or writes an event meanwhile: so none is counted twice, and none that is committed later comes before
/// the cursor.
pub const LOCK_FOR_NEW_WEBHOOK: &str = "LOCK TABLE webhooks, events IN SHARE ROW EXCLUSIVE MODE";

pub const COUNT_WEBHOOKS: &str = "SELECT count(*) FROM webhooks";

pub const INSERT_WEBHOOK: &str = "INSERT INTO webhooks (id, url, kinds, secret, allow_private, cursor, lost, created, \
     disabled_by, failures, due, claimed_until, claims) \
     VALUES ($1, $2, $3, $4, $5, (SELECT coalesce(max(id), 0) FROM events), 0, $6, '', 0, $6, 0, 0)";

/// `$1` is up to where what is behind is counted.
pub const LIST_WEBHOOKS: &str = "SELECT id, url, kinds, allow_private, created, disabled, disabled_by, failing_since, \
     last_success, previous_until, lost, \
     (SELECT count(*) FROM (SELECT 1 FROM events WHERE events.id > cursor LIMIT $1) AS counted) AS behind, \
     (SELECT count(*) FROM webhook_deliveries AS d WHERE d.webhook = webhooks.id AND d.due IS NOT NULL) AS waiting, \
     (SELECT count(*) FROM webhook_deliveries AS d WHERE d.webhook = webhooks.id AND d.due IS NULL) AS given_up \
     FROM webhooks ORDER BY created, id";

pub const FIND_WEBHOOK: &str = "SELECT url, kinds, allow_private, secret, previous_secret, previous_until, cursor \
     FROM webhooks WHERE id = $1";

pub const ROTATE_WEBHOOK: &str = "UPDATE webhooks SET secret = $2, previous_secret = secret, \
     previous_until = CASE WHEN secret IS NULL THEN NULL ELSE $3::bigint END WHERE id = $1";

pub const DISABLE_WEBHOOK: &str =
    "UPDATE webhooks SET disabled = $2, disabled_by = $3 WHERE id = $1 AND disabled IS NULL";

pub const ENABLE_WEBHOOK: &str = "UPDATE webhooks SET disabled = NULL, disabled_by = '', failing_since = NULL, failures = 0, \
     due = $2, claimed_until = 0, claims = claims + 1 WHERE id = $1 AND secret IS NOT NULL";

pub const RENEW_DELIVERIES: &str =
    "UPDATE webhook_deliveries SET attempts = 0, due = $2 WHERE webhook = $1 AND due IS NOT NULL";

pub const DELETE_WEBHOOK: &str = "DELETE FROM webhooks WHERE id = $1";

/// As whatever changes a webhook or its deliveries does first.
pub const LOCK_WEBHOOK: &str = "SELECT cursor FROM webhooks WHERE id = $1 FOR NO KEY UPDATE";

pub const LIST_FAILED_DELIVERIES: &str = "SELECT event, message, attempts, tried, due, answer FROM webhook_deliveries \
     WHERE webhook = $1 ORDER BY coalesce(tried, 0) DESC, event DESC LIMIT $2";

/// To superusers and staff who can log in and have verified their addresses, superusers first: `$5` of them at most.
pub const INSERT_WEBHOOK_NOTICES: &str = "INSERT INTO outbox (kind, user_id, username, recipient, is_verified, request, \
     detail, at, ip, user_agent, link, attempts, due, claims, expires) \
     SELECT $1::text, id, username, email, TRUE, NULL, $2::text, $3::bigint, '', '', NULL, 0, $3::bigint, 0, $4::bigint \
     FROM users WHERE (is_staff OR is_superuser) AND is_active AND email_verified \
     ORDER BY is_superuser DESC, id LIMIT $5";

/// Events that are about to be pruned, and that webhooks were not sent.
pub const COUNT_LOST_EVENTS: &str = "UPDATE webhooks SET lost = lost + missed.count FROM ( \
         SELECT webhooks.id, count(*) AS count FROM webhooks JOIN events ON events.id > cursor \
             AND (kinds = '' OR position(',' || kind || ',' IN ',' || kinds || ',') > 0) \
         WHERE events.id = ANY($1) GROUP BY webhooks.id) AS missed WHERE missed.id = webhooks.id";

pub const FORGET_WEBHOOK_SECRETS: &str = concat!(
    "UPDATE webhooks SET secret = NULL, previous_secret = NULL, previous_until = NULL, disabled = coalesce(disabled, $2), \
         disabled_by = $3 WHERE NOT ",
    is_sealed_with!("secret"),
    " RETURNING id, disabled = $2 AS is_news"
);

pub const FORGET_PREVIOUS_WEBHOOK_SECRETS: &str = concat!(
    "UPDATE webhooks SET previous_secret = NULL, previous_until = NULL WHERE previous_secret IS NOT NULL AND NOT ",
    is_sealed_with!("previous_secret")
);

/// Counts for the metrics, by no request.
pub const COUNT_USERS: &str = "SELECT count(*) FROM users";

pub const COUNT_TOKENS: &str = "SELECT count(*) FROM tokens";

pub const COUNT_REVOCATIONS: &str = "SELECT count(*) FROM revocations";

pub const FIND_XMIN: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text";

pub const LIST_BEATS: &str = "SELECT id, coalesce(pg_sequence_last_value(beats), 0), is_leaving FROM nodes";

/// The sequences of nodes whose rows are gone.
pub const LIST_UNUSED_BEATS: &str = "SELECT relname FROM pg_class WHERE relkind = 'S' \
     AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND relname ~ '^beats_[0-9]+$' \
     AND oid NOT IN (SELECT beats FROM nodes)";

/// Held by the node that prunes what only nodes read, until the end of its transaction.
pub const TRY_LOCK_PRUNING: &str = "SELECT pg_try_advisory_xact_lock(7308604897285989235)";

/// By their places in the table, for which no other index is needed.
pub const PRUNE_CHANGES: &str = "DELETE FROM changes WHERE ctid = ANY (ARRAY( \
     SELECT ctid FROM changes WHERE xid < $1::text::xid8 OR xid >= pg_snapshot_xmax(pg_current_snapshot()) LIMIT $2))";

pub const PRUNE_RECEIPTS: &str = "DELETE FROM receipts WHERE ctid = ANY (ARRAY( \
     SELECT ctid FROM receipts WHERE xid < $1::text::xid8 OR xid >= pg_snapshot_xmax(pg_current_snapshot()) LIMIT $2))";

/// A node beats no more from then on: its next look fails.
pub const EXPEL_NODES: &str = "UPDATE nodes SET is_leaving = TRUE WHERE id = ANY($1::bigint[]) AND NOT is_leaving";

pub const DELETE_NODES: &str = "DELETE FROM nodes WHERE id = ANY($1::bigint[]) AND is_leaving";
