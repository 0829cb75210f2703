-- The current schema. A new database is made from this file, in one transaction.
--
-- Conventions that keep it portable to PostgreSQL: names are folded by the service and not by a collation, times are
-- integers (milliseconds since 1970-01-01T00:00:00Z), booleans are 0 and 1, and every key is named.

-- One row an account.
CREATE TABLE users (
    -- AUTOINCREMENT: an id is never reused, so nothing that still has a deleted account's id can mean another account.
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    username      TEXT    NOT NULL,           -- as its owner typed it
    username_key  TEXT    NOT NULL UNIQUE,    -- folded to lower case: what is unique, and what a login looks up
    password_hash TEXT    NOT NULL,           -- $bcrypt-sha256$v=2,t=2b,r=<cost>$<salt>$<digest>
    first_name    TEXT    NOT NULL DEFAULT '',
    last_name     TEXT    NOT NULL DEFAULT '',
    email         TEXT    NOT NULL DEFAULT '',
    address       TEXT    NOT NULL DEFAULT '',
    address2      TEXT    NOT NULL DEFAULT '',
    city          TEXT    NOT NULL DEFAULT '',
    state         TEXT    NOT NULL DEFAULT '',
    zipcode       TEXT    NOT NULL DEFAULT '',
    is_active     INTEGER NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
    is_staff      INTEGER NOT NULL DEFAULT 0 CHECK (is_staff IN (0, 1)),
    is_superuser  INTEGER NOT NULL DEFAULT 0 CHECK (is_superuser IN (0, 1)),
    date_joined   INTEGER NOT NULL,           -- never changes
    created       INTEGER NOT NULL,           -- never changes
    modified      INTEGER NOT NULL,           -- the last change to the profile or to a list
    last_login    INTEGER NOT NULL            -- the last login, or the registration
) STRICT;

-- What a user has: the app's own item ids.
CREATE TABLE cellar (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    item_id INTEGER NOT NULL,
    added   INTEGER NOT NULL,
    PRIMARY KEY (user_id, item_id)
) STRICT, WITHOUT ROWID;

-- What a user wishes for: the app's own item ids.
CREATE TABLE wants (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    item_id INTEGER NOT NULL,
    added   INTEGER NOT NULL,
    PRIMARY KEY (user_id, item_id)
) STRICT, WITHOUT ROWID;

-- One row a session. The token itself is never stored: only the SHA-256 of the 40 characters that the client holds.
CREATE TABLE tokens (
    digest     BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    user_id    INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created    INTEGER NOT NULL,
    last_used  INTEGER NOT NULL,
    user_agent TEXT    NOT NULL,              -- of the login, at most 256 characters, no control characters
    ip         TEXT    NOT NULL,              -- of the login, or '' where it is not known
    -- When the account's password was last given again: the session is fresh for ten minutes from then. NULL where it
    -- never was, or where the password has changed since.
    reauthenticated INTEGER
) STRICT, WITHOUT ROWID;

-- A user's sessions in the order in which they are listed.
CREATE INDEX tokens_by_user ON tokens (user_id, created);

-- The superusers: the last active one cannot be removed.
CREATE INDEX superusers ON users (id) WHERE is_superuser = 1;

-- The audit trail: what happened, to whom, when, by whom and from where. Rows are appended, and pruned when they are
-- too old; none is ever changed. They outlive their account, so only its id refers to it, which is never reused.
CREATE TABLE events (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    kind     TEXT    NOT NULL,                -- one of the names in src/domain/event.rs
    user_id  INTEGER,                         -- NULL where no account has the name that was given
    username TEXT    NOT NULL,                -- the account's name, or '': never a name that is no account's
    actor    TEXT    NOT NULL,                -- a name, 'command line', or '' where nobody has shown who they are
    ip       TEXT    NOT NULL,                -- or '' where it is not known
    detail   TEXT    NOT NULL                 -- a session's id, a right, a limit, or ''
) STRICT;

-- An account's events in their order.
CREATE INDEX events_by_user ON events (user_id, id);

-- The events under a name, whichever account had it.
CREATE INDEX events_by_name ON events (lower(username), id);

-- Where an account has logged in from recently, however many other events it has.
CREATE INDEX events_of_logins ON events (user_id, id) WHERE kind IN ('registered', 'logged_in');

-- Failed logins of an account since the last success: the part of the throttle that survives a restart.
CREATE TABLE login_failures (
    user_id     INTEGER NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    failures    INTEGER NOT NULL,
    last_failed INTEGER NOT NULL
) STRICT;
