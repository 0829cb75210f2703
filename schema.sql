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
    -- $bcrypt-sha256$v=2,t=2b,r=<cost>$<salt>$<digest>, that of another system (src/passwords/schemes/) until its
    -- owner logs in, or '!' where there is no password.
    password_hash TEXT    NOT NULL,
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
    last_login    INTEGER NOT NULL,           -- the last login, or the registration
    -- The address as it is compared (src/domain/email.rs), or NULL where none is given or mail cannot be sent to it.
    email_key      TEXT,
    email_verified INTEGER NOT NULL DEFAULT 0 CHECK (email_verified IN (0, 1)),
    -- When its owner was last told of a login from an unknown network with an unknown program.
    told_of_login  INTEGER,
    -- How much work it is to verify the hash of another system, in rounds of bcrypt. NULL where the hash is our own.
    imported_hash_work INTEGER,
    -- What other services know the account by: random, and never given twice. Every account has one.
    public_id      BLOB    CHECK (length(public_id) = 16)
) STRICT;

-- No two accounts have one public id.
CREATE UNIQUE INDEX users_by_public_id ON users (public_id);

-- An address is verified by one account.
CREATE UNIQUE INDEX users_by_verified_email ON users (email_key) WHERE email_verified = 1;

-- The accounts with an address that nobody has verified, the oldest first.
CREATE INDEX users_by_email ON users (email_key, id) WHERE email_verified = 0 AND email_key IS NOT NULL;

-- The hashes of other systems that are left, for the most work that one of them is.
CREATE INDEX users_with_imported_hash ON users (imported_hash_work) WHERE imported_hash_work IS NOT NULL;

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

-- One row a session. The token itself is never stored: only the SHA-256 of the characters that the client holds.
CREATE TABLE tokens (
    digest     BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    user_id    INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created    INTEGER NOT NULL,
    last_used  INTEGER NOT NULL,
    user_agent TEXT    NOT NULL,              -- of the login, at most 256 characters, no control characters
    ip         TEXT    NOT NULL,              -- of the login, or '' where it is not known
    -- When the account's password was last given again: the session is fresh for ten minutes from then. NULL where it
    -- never was, or where the password has changed since.
    reauthenticated INTEGER,
    -- When the session of another system was to end. NULL where there is no such end.
    expires    INTEGER,
    -- How a token of another system, which may look otherwise than ours, was digested: 'sha512' (the first 32 bytes) until
    -- it is first presented, 'sha256' from then on. NULL for a token of 40 hex digits whose SHA-256 was known at once.
    imported   TEXT    CHECK (imported IN ('sha512', 'sha256')),
    -- How its person showed who they are when it was opened: names of RFC 8176, with spaces between them, or 'imported'.
    -- NULL where the release that opened it did not note it.
    methods    TEXT
) STRICT, WITHOUT ROWID;

-- A user's sessions in the order in which they are listed.
CREATE INDEX tokens_by_user ON tokens (user_id, created);

-- The tokens of other systems that may look otherwise than ours.
CREATE INDEX imported_tokens ON tokens (imported) WHERE imported IS NOT NULL;

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

-- What a mail offers: a link, and a code. One row an account, a purpose and a kind of network, but for what disowns a
-- notice, of which each has its own. It holds no secret; see src/domain/one_time.rs.
CREATE TABLE one_time_codes (
    request     BLOB    NOT NULL PRIMARY KEY CHECK (length(request) = 32), -- the digest of the request id
    purpose     TEXT    NOT NULL,             -- one of the names in src/domain/one_time.rs
    user_id     INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    is_familiar INTEGER NOT NULL CHECK (is_familiar IN (0, 1)), -- whether a network asked that the account has used
    email       TEXT    NOT NULL,             -- the address to confirm, the one mailed to, or the one to restore
    email_key   TEXT    NOT NULL,             -- the same as it is compared
    link        TEXT,                         -- where the mail's link leads, where not to the service's own page
    detail      TEXT    NOT NULL,             -- of what it disowns: a session's id, 'email_changed', or ''
    token       BLOB    CHECK (length(token) = 32), -- the digest of the link's token, or NULL until it is mailed
    mac         BLOB    CHECK (length(mac) = 32),   -- of the code, or NULL where there is none, or until it is mailed
    tries       INTEGER NOT NULL,             -- how many wrong codes were presented
    created     INTEGER NOT NULL,
    code_expires INTEGER NOT NULL,
    expires     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The one that an account has for a purpose.
CREATE UNIQUE INDEX one_time_codes_by_user ON one_time_codes (user_id, purpose, is_familiar) WHERE purpose <> 'not_me';

-- All that an account has.
CREATE INDEX one_time_codes_of_user ON one_time_codes (user_id);

-- What a link is for.
CREATE UNIQUE INDEX one_time_codes_by_token ON one_time_codes (token) WHERE token IS NOT NULL;

-- Mails that are kept until they are delivered: confirmations and notices. They hold no secret: tokens and codes are made
-- when a mail is sent. A notice outlives its account.
CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT    NOT NULL,              -- one of the names in src/domain/mail.rs
    user_id    INTEGER NOT NULL,
    username   TEXT    NOT NULL,
    recipient  TEXT    NOT NULL,
    is_verified INTEGER NOT NULL CHECK (is_verified IN (0, 1)),
    request    BLOB    CHECK (length(request) = 32), -- of the code that it carries, where it is a confirmation
    detail     TEXT    NOT NULL,              -- the id of the session that it tells of, or ''
    at         INTEGER NOT NULL,              -- of what it tells
    ip         TEXT    NOT NULL,
    user_agent TEXT    NOT NULL,
    link       TEXT,
    attempts   INTEGER NOT NULL,              -- deliveries that failed
    due        INTEGER NOT NULL,              -- when it is tried next; while it is claimed, when the claim ends
    claims     INTEGER NOT NULL,              -- how often it was claimed or given back: a claim is worth nothing after
    expires    INTEGER NOT NULL
) STRICT;

-- The mail that carries a code.
CREATE UNIQUE INDEX outbox_by_request ON outbox (request) WHERE request IS NOT NULL;

-- The mails that are due.
CREATE INDEX outbox_by_due ON outbox (due, id);

-- What was imported from other systems. It outlives the accounts, so that an import that is run again brings none of them
-- back, and holds nothing by which a person could be named.
CREATE TABLE imported (
    source        TEXT    NOT NULL,           -- what `import --source` calls the system, such as 'django'
    source_id     TEXT    NOT NULL,           -- the account's id there
    fingerprint   BLOB    NOT NULL CHECK (length(fingerprint) = 32), -- SHA-256 of its name and its date of joining there
    -- Whether its name here breaks the rule for new names, so that logins take such names.
    has_other_name INTEGER NOT NULL CHECK (has_other_name IN (0, 1)),
    at            INTEGER NOT NULL,
    PRIMARY KEY (source, source_id)
) STRICT, WITHOUT ROWID;

-- Whether there are such names.
CREATE INDEX imported_with_other_name ON imported (has_other_name) WHERE has_other_name = 1;

-- The authenticator app of an account (TOTP, RFC 6238). Its secret is sealed (src/system/sealing.rs).
CREATE TABLE totp (
    user_id   INTEGER NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    secret    BLOB    NOT NULL,
    created   INTEGER NOT NULL,
    confirmed INTEGER,                        -- when its first code was given; NULL until then
    last_step INTEGER NOT NULL                -- the time step of the code that was accepted last: none is accepted twice
) STRICT;

-- Those that wait for their first code.
CREATE INDEX waiting_totp ON totp (created) WHERE confirmed IS NULL;

-- What stands for a lost authenticator app, each once. Only the SHA-256 of a code is stored.
CREATE TABLE recovery_codes (
    digest  BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Those of an account.
CREATE INDEX recovery_codes_by_user ON recovery_codes (user_id);

-- Passkeys (WebAuthn): public keys, of which none is a secret.
CREATE TABLE passkeys (
    credential_id BLOB    NOT NULL PRIMARY KEY,
    user_id       INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    user_handle   BLOB    NOT NULL CHECK (length(user_handle) = 16), -- what the authenticator calls the account; random
    rp_id         TEXT    NOT NULL,           -- the domain that it was made for
    name          TEXT    NOT NULL,           -- what its owner calls it
    credential    TEXT    NOT NULL,           -- its public key, its counter and its flags, as JSON
    created       INTEGER NOT NULL,
    last_used     INTEGER                     -- NULL where it was never used
) STRICT, WITHOUT ROWID;

-- Those of an account, in the order in which they are listed.
CREATE INDEX passkeys_by_user ON passkeys (user_id, created);

-- Who an account is elsewhere: at Apple, at Google, at any OpenID provider.
CREATE TABLE identities (
    issuer        TEXT    NOT NULL,
    subject       TEXT    NOT NULL,           -- the provider's own id, never an address
    user_id       INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    provider      TEXT    NOT NULL,           -- its name in the configuration
    email         TEXT    NOT NULL,           -- what the provider last said, or ''
    created       INTEGER NOT NULL,
    last_used     INTEGER NOT NULL,
    refresh_token BLOB,                       -- sealed; to be revoked when the identity goes
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;

-- Those of an account, in the order in which they are listed.
CREATE INDEX identities_by_user ON identities (user_id, created);

-- What is begun and must be finished once, soon: a login that lacks its second factor, a ceremony with a passkey, a way
-- through a provider; and the ID tokens that were used. It holds no secret; see src/domain/challenge.rs.
CREATE TABLE challenges (
    digest  BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32), -- the digest of the token that the client has
    purpose TEXT    NOT NULL,                 -- one of the names in src/domain/challenge.rs
    user_id INTEGER REFERENCES users (id) ON DELETE CASCADE, -- NULL where it is not known yet
    state   TEXT    NOT NULL,                 -- what finishing it needs, as JSON
    tries   INTEGER NOT NULL,                 -- how often somebody tried to finish it
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Those of an account.
CREATE INDEX challenges_by_user ON challenges (user_id, purpose, created) WHERE user_id IS NOT NULL;

-- Those that have expired.
CREATE INDEX challenges_by_expiry ON challenges (expires);

-- Refresh tokens of providers that are to be revoked. Each outlives the identity that it was of.
CREATE TABLE revocations (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    provider TEXT    NOT NULL,
    binding  BLOB    NOT NULL CHECK (length(binding) = 32), -- what it was sealed for: the digest of issuer and subject
    token    BLOB    NOT NULL,                -- sealed
    attempts INTEGER NOT NULL,                -- how often the provider was asked in vain
    due      INTEGER NOT NULL,                -- when it is tried next; while it is claimed, when the claim ends
    claims   INTEGER NOT NULL,                -- how often it was claimed or given back: a claim is worth nothing after
    expires  INTEGER NOT NULL
) STRICT;

-- The revocations that are due.
CREATE INDEX revocations_by_due ON revocations (due, id);

-- Other services that may ask whose a token is. Only the SHA-256 of a service's key is stored.
CREATE TABLE services (
    name      TEXT    NOT NULL PRIMARY KEY,
    digest    BLOB    NOT NULL CHECK (length(digest) = 32),
    created   INTEGER NOT NULL,
    last_used INTEGER                         -- NULL where it never was
) STRICT, WITHOUT ROWID;

-- Where events are sent to as they happen (webhooks). The secrets are sealed (src/system/sealing.rs).
CREATE TABLE webhooks (
    id              TEXT    NOT NULL PRIMARY KEY,
    url             TEXT    NOT NULL,
    kinds           TEXT    NOT NULL,         -- the names of kinds of events, with commas between them, or '' for all
    secret          BLOB,                     -- what signs; NULL where the key that opens it was lost
    previous_secret BLOB,                     -- what signs, too, until previous_until
    previous_until  INTEGER,
    allow_private   INTEGER NOT NULL CHECK (allow_private IN (0, 1)), -- whether it may be in a private network
    cursor          INTEGER NOT NULL,         -- the number of the event up to which each was tried once
    lost            INTEGER NOT NULL,         -- events that were pruned before they were tried
    created         INTEGER NOT NULL,
    disabled        INTEGER,                  -- since when nothing is sent there, or NULL
    disabled_by     TEXT    NOT NULL,         -- one of the names in src/domain/webhook.rs, or ''
    failing_since   INTEGER,                  -- the first failure since the last success
    failures        INTEGER NOT NULL,         -- rounds of deliveries in a row that all failed
    last_success    INTEGER,
    due             INTEGER NOT NULL,         -- when something may be sent there next
    claimed_until   INTEGER NOT NULL,         -- when the claim of the one who sends ends; 0 where there is none
    claims          INTEGER NOT NULL          -- how often it was claimed: an older claim is worth nothing
) STRICT, WITHOUT ROWID;

-- Deliveries that have failed, or that were asked for again. Each is as it is sent.
CREATE TABLE webhook_deliveries (
    webhook  TEXT    NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event    INTEGER NOT NULL,                -- the number of the event, which may have been pruned since
    message  TEXT    NOT NULL,                -- the same however often it is sent
    body     TEXT    NOT NULL,
    attempts INTEGER NOT NULL,
    due      INTEGER,                         -- when it is tried next; NULL where it was given up
    tried    INTEGER,                         -- when it was tried last
    answer   TEXT    NOT NULL,                -- what came of that, shortened
    PRIMARY KEY (webhook, event)
) STRICT, WITHOUT ROWID;

-- Those of a webhook that wait, and those that were given up.
CREATE INDEX webhook_deliveries_by_due ON webhook_deliveries (webhook, due);
