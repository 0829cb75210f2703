//! Sources to import: files as the other systems write them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

/// The password of every account, unless a test gives it another hash.
pub const PASSWORD: &str = "old password";

/// Its hashes as Django stores them, at low costs.
pub const HASHES: [&str; 5] = [
    PBKDF2,
    "bcrypt_sha256$$2b$04$6zmTx1N29SsRz7BFO3JiGOiFvdzTBbWV0UNgAXEztowdqn7pTovs2",
    "bcrypt$$2a$04$C7n47YiQ9C7F.O1DRk2.1uN/PG0V/5/.vNYX2ZJc4jZphD2WwrTBu",
    "argon2$argon2id$v=19$m=64,t=1,p=1$+h9Lh5yiPGr1WL939vtxuQ$y2bKaB3gj9zPA6ERyfDIbXoOzScs4bMaAdiK3T2/8jM",
    "scrypt$16$Q5xk8yNvR2Lt$8$1$EwYNfDTlJ0y9A0F4h8vl68aVmk8qzOm9v1sAxrKrj2sz9QkDAFnHx+O4X5TaNenVxMgjChZ/qPKxsPU1PdUBcA==",
];
pub const PBKDF2: &str = "pbkdf2_sha256$1000$mPq4nVb7LkX2$sDugozuDHFJdxOaRimZkdHjwWXflmlouynuZ3teBUHI=";
pub const BCRYPT: &str = "$2a$04$C7n47YiQ9C7F.O1DRk2.1uN/PG0V/5/.vNYX2ZJc4jZphD2WwrTBu";
/// A fast digest of it, which is taken only where it is asked for.
pub const MD5: &str = "md5$salt$5770abb2e7475c36c34d22e1d41595fd";

/// A token of django-rest-framework.
pub fn drf_token(number: u32) -> String {
    format!("{number:08x}").repeat(5)
}

/// A token of django-rest-knox.
pub fn knox_token(number: u32) -> String {
    format!("{number:08x}").repeat(8)
}

/// What a site has that was made by Django and Django REST framework.
const DJANGO: &str = "
CREATE TABLE wine_beer (id integer NOT NULL PRIMARY KEY AUTOINCREMENT, name varchar(200) NOT NULL);
CREATE TABLE wine_user (id integer NOT NULL PRIMARY KEY AUTOINCREMENT, password varchar(128) NOT NULL,
    last_login datetime NULL, is_superuser bool NOT NULL, first_name varchar(150) NOT NULL,
    last_name varchar(150) NOT NULL, email varchar(254) NOT NULL, is_staff bool NOT NULL, is_active bool NOT NULL,
    date_joined datetime NOT NULL, address varchar(255) NOT NULL, city varchar(255) NOT NULL,
    created datetime NOT NULL, modified datetime NOT NULL, username varchar(150) NOT NULL UNIQUE);
CREATE TABLE wine_user_cellar (id integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    user_id integer NOT NULL REFERENCES wine_user (id), beer_id integer NOT NULL REFERENCES wine_beer (id),
    UNIQUE (user_id, beer_id));
CREATE TABLE wine_user_wants (id integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    user_id integer NOT NULL REFERENCES wine_user (id), beer_id integer NOT NULL REFERENCES wine_beer (id),
    UNIQUE (user_id, beer_id));
CREATE TABLE authtoken_token (key varchar(40) NOT NULL PRIMARY KEY, created datetime NOT NULL,
    user_id integer NOT NULL UNIQUE REFERENCES wine_user (id));
CREATE TABLE knox_authtoken (digest varchar(128) NOT NULL PRIMARY KEY, token_key varchar(25) NOT NULL,
    created datetime NOT NULL, expiry datetime NULL, user_id integer NOT NULL REFERENCES wine_user (id));
";

/// The database of a Django site.
pub struct Site {
    pub connection: Connection,
    pub path: PathBuf,
}

impl Site {
    pub fn new(path: PathBuf) -> Self {
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection.execute_batch(DJANGO).unwrap();
        connection.execute_batch("BEGIN").unwrap();
        Self { connection, path }
    }

    /// One that was closed.
    pub fn reopen(path: PathBuf) -> Self {
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("BEGIN").unwrap();
        Self { connection, path }
    }

    /// A site with these users, who have nothing but their names and passwords.
    pub fn with(folder: &Path, names: &[&str]) -> Self {
        let site = Self::new(folder.join("site.db"));
        for name in names {
            site.user(name);
        }
        site
    }

    /// Adds a user; their id.
    pub fn user(&self, name: &str) -> i64 {
        let insert = "INSERT INTO wine_user (password, is_superuser, first_name, last_name, email, is_staff, is_active, \
             date_joined, address, city, created, modified, username) VALUES (?1, 0, '', '', '', 0, 1, \
             '2015-01-04 22:51:35.144999', '', '', '2015-01-04 22:51:35.238', '2016-01-01 00:00:00', ?2)";
        self.connection.execute(insert, params![PBKDF2, name]).unwrap();
        self.connection.last_insert_rowid()
    }

    /// Sets a column of a user.
    pub fn set(&self, user: i64, column: &str, value: &str) {
        let set = format!("UPDATE wine_user SET {column} = ?1 WHERE id = ?2");
        assert_eq!(self.connection.execute(&set, params![value, user]).unwrap(), 1);
    }

    pub fn items(&self, user: i64, list: &str, items: &[i64]) {
        for item in items {
            let insert = format!("INSERT INTO wine_user_{list} (user_id, beer_id) VALUES (?1, ?2)");
            self.connection.execute(&insert, params![user, item]).unwrap();
        }
    }

    pub fn token(&self, user: i64, token: &str) {
        let insert = "INSERT INTO authtoken_token VALUES (?1, '2015-02-03 04:05:06', ?2)";
        self.connection.execute(insert, params![token, user]).unwrap();
    }

    /// A token as knox 5 stores it.
    pub fn knox(&self, user: i64, token: &str, expiry: Option<&str>) {
        self.knox_row(user, &hex(&Sha512::digest(token)), &token[..15], expiry);
    }

    /// A token as knox 4.2 stores it.
    pub fn old_knox(&self, user: i64, token: &str, expiry: Option<&str>) {
        let bytes: Vec<u8> = (0..token.len() / 2).map(|at| read_hex(&token[2 * at..2 * at + 2])).collect();
        self.knox_row(user, &hex(&Sha512::digest(bytes)), &token[..8], expiry);
    }

    fn knox_row(&self, user: i64, digest: &str, key: &str, expiry: Option<&str>) {
        let insert = "INSERT INTO knox_authtoken VALUES (?1, ?2, '2026-01-02 03:04:05', ?3, ?4)";
        self.connection.execute(insert, params![digest, key, expiry, user]).unwrap();
    }

    /// Closes it, as a site does that is stopped.
    pub fn close(self) {
        self.connection.execute_batch("COMMIT").unwrap();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn read_hex(text: &str) -> u8 {
    u8::from_str_radix(text, 16).unwrap()
}

/// Users of a site with items, in each of the three forms that Django's rows come in.
pub fn three_forms(folder: &Path, names: &[&str]) -> [PathBuf; 3] {
    let site = Site::new(folder.join("site.db"));
    for name in names {
        let user = site.user(name);
        site.items(user, "cellar", &[1, 2]);
        site.items(user, "wants", &[3]);
    }
    let paths = [site.path.clone(), folder.join("dump.json"), folder.join("dump.sql")];
    site.close();
    fs::write(&paths[1], dumpdata(names)).unwrap();
    fs::write(&paths[2], pg_dump(names)).unwrap();
    paths
}

/// What `manage.py dumpdata` writes.
fn dumpdata(names: &[&str]) -> String {
    let user = |(at, name): (usize, &&str)| {
        json!({"model": "wine.user", "pk": at + 1, "fields": {
            "password": PBKDF2, "last_login": null, "is_superuser": false, "first_name": "", "last_name": "",
            "email": "", "is_staff": false, "is_active": true, "date_joined": "2015-01-04T22:51:35.144Z",
            "address": "", "city": "", "created": "2015-01-04T22:51:35.238Z", "modified": "2016-01-01T00:00:00Z",
            "username": name, "groups": [], "user_permissions": [], "cellar": [1, 2], "wants": [3],
        }})
    };
    Value::Array(names.iter().enumerate().map(user).collect()).to_string()
}

/// What `pg_dump` writes.
fn pg_dump(names: &[&str]) -> String {
    let mut text = String::from(
        "--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n\nCREATE TABLE public.wine_user (\n    \
         id integer NOT NULL,\n    password character varying(128) NOT NULL,\n    last_login timestamp with time zone,\n    \
         is_superuser boolean NOT NULL,\n    is_staff boolean NOT NULL,\n    is_active boolean NOT NULL,\n    \
         date_joined timestamp with time zone NOT NULL,\n    created timestamp with time zone NOT NULL,\n    \
         modified timestamp with time zone NOT NULL,\n    username character varying(150) NOT NULL\n);\n\n",
    );
    for list in ["cellar", "wants"] {
        write!(
            text,
            "CREATE TABLE public.wine_user_{list} (\n    id bigint NOT NULL,\n    user_id integer NOT NULL,\n    \
             beer_id integer NOT NULL\n);\n\n"
        )
        .unwrap();
    }
    text.push_str(
        "COPY public.wine_user (id, password, last_login, is_superuser, is_staff, is_active, date_joined, created, \
         modified, username) FROM stdin;\n",
    );
    for (at, name) in names.iter().enumerate() {
        writeln!(
            text,
            "{}\t{PBKDF2}\t\\N\tf\tf\tt\t2015-01-04 23:51:35.144999+01\t2015-01-04 23:51:35.238+01\t\
             2016-01-01 00:00:00+00\t{name}",
            at + 1
        )
        .unwrap();
    }
    text.push_str("\\.\n\n");
    for (list, items) in [("cellar", [1, 2].as_slice()), ("wants", &[3])] {
        writeln!(text, "COPY public.wine_user_{list} (id, user_id, beer_id) FROM stdin;").unwrap();
        let rows = (1..=names.len()).flat_map(|user| items.iter().map(move |item| (user, item)));
        for (row, (user, item)) in rows.enumerate() {
            writeln!(text, "{}\t{user}\t{item}", row + 1).unwrap();
        }
        text.push_str("\\.\n\n");
    }
    text.push_str("ALTER TABLE ONLY public.wine_user\n    ADD CONSTRAINT wine_user_pkey PRIMARY KEY (id);\n\n");
    for list in ["cellar", "wants"] {
        write!(
            text,
            "ALTER TABLE ONLY public.wine_user_{list}\n    ADD CONSTRAINT wine_user_{list}_user_id_fk FOREIGN KEY \
             (user_id) REFERENCES public.wine_user(id) DEFERRABLE INITIALLY DEFERRED;\n\n"
        )
        .unwrap();
    }
    text + "--\n-- PostgreSQL database dump complete\n--\n\n"
}

/// A folder `pb_data` with users, as PocketBase writes it.
pub fn pocketbase(folder: &Path, emails: &[&str]) {
    fs::create_dir(folder).unwrap();
    let connection = Connection::open(folder.join("data.db")).unwrap();
    let tables = "
CREATE TABLE _collections (id TEXT PRIMARY KEY NOT NULL, system BOOLEAN DEFAULT FALSE NOT NULL,
    type TEXT DEFAULT 'base' NOT NULL, name TEXT UNIQUE NOT NULL, fields JSON DEFAULT '[]' NOT NULL,
    indexes JSON DEFAULT '[]' NOT NULL, options JSON DEFAULT '{}' NOT NULL);
CREATE TABLE _externalAuths (id TEXT PRIMARY KEY NOT NULL, collectionRef TEXT NOT NULL, recordRef TEXT NOT NULL,
    provider TEXT NOT NULL, providerId TEXT NOT NULL);
CREATE TABLE _superusers (id TEXT PRIMARY KEY NOT NULL, email TEXT NOT NULL, password TEXT NOT NULL);
CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, email TEXT DEFAULT '' NOT NULL,
    emailVisibility BOOLEAN DEFAULT FALSE NOT NULL, verified BOOLEAN DEFAULT FALSE NOT NULL,
    password TEXT DEFAULT '' NOT NULL, tokenKey TEXT DEFAULT '' NOT NULL, name TEXT DEFAULT '' NOT NULL,
    avatar TEXT DEFAULT '' NOT NULL, created TEXT DEFAULT '' NOT NULL, updated TEXT DEFAULT '' NOT NULL);
INSERT INTO _collections (id, type, name, fields, options) VALUES ('_pb_users_auth_', 'auth', 'users', '[]',
    '{\"authRule\": \"\"}');
INSERT INTO _superusers VALUES ('aaaaaaaaaaaaaaa', 'root@wine.example', '');
";
    connection.execute_batch(tables).unwrap();
    for (number, email) in emails.iter().enumerate() {
        let insert = "INSERT INTO users (id, email, verified, password, tokenKey, name, created, updated) \
             VALUES (?1, ?2, 1, ?3, ?4, 'Anna', '2026-11-25 04:22:37.105Z', '2026-11-25 04:22:38.105Z')";
        connection.execute(insert, params![format!("record{number:09}"), email, BCRYPT, "k".repeat(50)]).unwrap();
    }
}

/// The table `auth.users` of Supabase as CSV.
pub fn supabase(path: &Path, emails: &[&str]) {
    let mut text = String::from(
        "id,email,encrypted_password,email_confirmed_at,last_sign_in_at,raw_user_meta_data,created_at,updated_at,phone,\
         banned_until,is_sso_user,deleted_at,is_anonymous\n",
    );
    for (number, email) in emails.iter().enumerate() {
        writeln!(
            text,
            "00000000-0000-4000-8000-{number:012},{email},{BCRYPT},2024-03-04 05:06:07.08+00,,\
             \"{{\"\"full_name\"\": \"\"Anna\"\"}}\",2024-03-04 05:06:00.123987+00,2024-04-05 06:07:00.5+00,,,f,,f"
        )
        .unwrap();
    }
    fs::write(path, text).unwrap();
}
