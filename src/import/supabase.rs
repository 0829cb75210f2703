//! What Supabase Auth stores: the table `auth.users`, from a dump with the tables around it, or alone as CSV or JSON.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::{Map, Value};

use crate::domain::profile::ProfileField;
use crate::import::account::{Source, SourceAccount, Warning};
use crate::import::fields::{Asked, is_true_at, listed, moment_at, profile_fields, text_at};
use crate::import::formats::csv::CsvFile;
use crate::import::formats::json::JsonRows;
use crate::import::formats::pg_dump::PgDump;
use crate::import::formats::tables::{Cell, TableInfo, Tables, shown};
use crate::import::time::read_moment;
use crate::import::{Common, ImportError};
use crate::system::clock::Timestamp;

const SCHEMA: &str = "auth";
const USERS: &str = "users";
/// The column with what a site stores of its users.
const USER_META: &str = "raw_user_meta_data";
/// What a field is called that is a key in it.
const META: &str = "meta.";
/// What says who may not come. A file without one of them is read, and that is said.
const TELLING: [&str; 7] = [
    "banned_until",
    "deleted_at",
    "email_confirmed_at",
    "encrypted_password",
    "is_anonymous",
    "is_sso_user",
    "phone_confirmed_at",
];
/// Columns that are never shown.
const SECRETS: [&str; 7] = [
    "confirmation_token",
    "email_change_token_current",
    "email_change_token_new",
    "encrypted_password",
    "phone_change_token",
    "reauthentication_token",
    "recovery_token",
];
/// Columns of Supabase's own that nobody would miss: what is under way, and what is the same for all.
const OWN: [&str; 10] = [
    "aud",
    "confirmation_sent_at",
    "email_change",
    "email_change_confirm_status",
    "email_change_sent_at",
    "instance_id",
    "phone_change",
    "phone_change_sent_at",
    "reauthentication_sent_at",
    "recovery_sent_at",
];
/// How many keys of [`USER_META`] are remembered, to be named.
const MAX_KEYS: usize = 1_000;

/// The options of this source alone.
#[derive(Clone, Default)]
pub struct Options {
    /// Whether an account that is not confirmed becomes active.
    pub is_unconfirmed_active: bool,
}

/// Reads all accounts.
///
/// # Errors
/// See [`ImportError`].
pub(super) fn read(path: &Path, common: &Common, options: &Options) -> Result<Source, ImportError> {
    let mut file = open(path)?;
    let file = file.as_mut();
    let users = find_table(file, USERS).ok_or_else(|| {
        ImportError::new(format!(
            "{} has no table auth.users: `supabase db dump --data-only --schema auth` makes a file that has it",
            path.display()
        ))
    })?;
    let around = Around::read(file)?;
    let mut source = Source::default();
    let mut reader = Reader::new(users, common, options, &around)?;
    source.notes.append(&mut reader.notes);
    if around.refresh_tokens > 0 {
        source.not_carried.insert("refresh_token".to_owned(), around.refresh_tokens);
    }
    let mut keys = BTreeSet::new();
    file.read(&reader.table, &reader.asked.columns(), &mut |cells| {
        match reader.read(cells, &around, &mut keys)? {
            Read::Account(account) => source.accounts.push(*account),
            Read::LeftOut(what) => *source.left_out.entry(what.to_owned()).or_default() += 1,
        }
        Ok(())
    })?;
    if !keys.is_empty() {
        let keys = listed(keys.iter().map(String::as_str));
        source.notes.push(format!("keys of {USER_META} that are not carried: {keys}"));
    }
    Ok(source)
}

/// Opens a file in the form that its content has.
fn open(path: &Path) -> Result<Box<dyn Tables>, ImportError> {
    let unreadable = |source| ImportError::Unreadable { path: path.to_owned(), source };
    let mut head = Vec::new();
    File::open(path).map_err(unreadable)?.take(1024).read_to_end(&mut head).map_err(unreadable)?;
    if head.trim_ascii_start().starts_with(b"[") {
        return Ok(Box::new(JsonRows::open(path, SCHEMA, USERS)?));
    }
    let columns = CsvFile::columns_of(path)?;
    if columns.iter().any(|column| column == "id") {
        return Ok(Box::new(CsvFile::open(path, SCHEMA, USERS)?));
    }
    Ok(Box::new(PgDump::open(path)?))
}

fn find_table(file: &dyn Tables, name: &str) -> Option<TableInfo> {
    file.tables().iter().find(|table| table.schema == SCHEMA && table.name == name).cloned()
}

/// What the tables around `auth.users` tell.
#[derive(Default)]
struct Around {
    /// Whether there are such tables: a dump has them.
    is_there: bool,
    /// By user: whether one of the ways in is another system's.
    external: HashMap<String, bool>,
    /// The users with a second factor.
    second_factors: HashSet<String>,
    /// Those that would still open something.
    refresh_tokens: u64,
    passkeys: u64,
}

impl Around {
    fn read(file: &mut dyn Tables) -> Result<Self, ImportError> {
        let mut around = Self::default();
        let mut is_there = false;
        let mut each = |name: &str, columns: &[&str], each: &mut dyn FnMut(&[Cell])| {
            let Some(table) = find_table(file, name) else { return Ok(()) };
            if !columns.iter().all(|column| table.columns.iter().any(|own| own == column)) {
                return Ok(());
            }
            is_there = true;
            file.read(&table, columns, &mut |cells| {
                each(cells);
                Ok(())
            })
        };
        each("identities", &["user_id", "provider"], &mut |cells| {
            if let (Some(user), Some(provider)) = (text_at(cells, Some(0)), text_at(cells, Some(1))) {
                *around.external.entry(user).or_default() |= is_external(&provider);
            }
        })?;
        each("mfa_factors", &["user_id", "status"], &mut |cells| {
            let is_verified = text_at(cells, Some(1)).is_some_and(|status| status == "verified");
            around.second_factors.extend(text_at(cells, Some(0)).filter(|_| is_verified));
        })?;
        each("refresh_tokens", &["revoked"], &mut |cells| {
            around.refresh_tokens += u64::from(!is_true_at(cells, Some(0)));
        })?;
        // The newer ones stand in no table: a session has the key that they are signed with.
        each("sessions", &["refresh_token_hmac_key"], &mut |cells| {
            around.refresh_tokens += u64::from(text_at(cells, Some(0)).is_some());
        })?;
        each("webauthn_credentials", &["id"], &mut |_| around.passkeys += 1)?;
        around.is_there = is_there;
        Ok(around)
    }
}

/// Whether a way in is another system's.
fn is_external(provider: &str) -> bool {
    !["email", "phone"].contains(&provider)
}

/// What a row is.
enum Read {
    Account(Box<SourceAccount>),
    LeftOut(&'static str),
}

/// A column, or a key of [`USER_META`].
enum Field {
    Column(usize),
    Meta(String),
}

/// Turns rows into accounts.
struct Reader {
    table: TableInfo,
    asked: Asked,
    id: usize,
    names: Vec<Field>,
    profile: Vec<(ProfileField, Vec<Field>)>,
    email: Option<usize>,
    password: Option<usize>,
    confirmed: [Option<usize>; 3],
    email_confirmed: Option<usize>,
    banned_until: Option<usize>,
    deleted: Option<usize>,
    is_anonymous: Option<usize>,
    is_sso: Option<usize>,
    app_meta: Option<usize>,
    meta: Option<usize>,
    created: Option<usize>,
    updated: Option<usize>,
    last_login: Option<usize>,
    now: Timestamp,
    is_unconfirmed_active: bool,
    notes: Vec<String>,
}

impl Reader {
    fn new(table: TableInfo, common: &Common, options: &Options, around: &Around) -> Result<Self, ImportError> {
        let has = |column: &str| table.columns.iter().any(|own| own == column);
        let mut asked = Asked::default();
        let mut field = |option: &str, name: &str| match name.strip_prefix(META) {
            Some(key) if has(USER_META) => Ok(Field::Meta(key.to_owned())),
            Some(_) => Err(ImportError::new(format!("{option}: auth.users has no column {USER_META}"))),
            None if has(name) && !SECRETS.contains(&name) => Ok(Field::Column(asked.place(name))),
            None => {
                let columns = listed(table.columns.iter().map(String::as_str).filter(|own| !SECRETS.contains(own)));
                let name = shown(name);
                Err(ImportError::new(format!(
                    "{option}: auth.users has no column {name}; it has {columns}, and the keys of {USER_META} as \
                     {META}KEY"
                )))
            }
        };
        let Field::Column(id) = field("the file", "id")? else { return Err(ImportError::new("auth.users has no id")) };
        let names = match &common.name {
            Some(name) => vec![field("--name", name)?],
            None => ["email", "phone"].iter().filter_map(|name| field("--name", name).ok()).collect(),
        };
        let mut profile = Vec::new();
        for (ours, theirs) in profile_fields(&common.fields, |_| None)? {
            profile.push((ours, vec![field("--field", &theirs)?]));
        }
        let is_told = |ours: ProfileField| common.fields.iter().any(|(name, _)| name == ours.name());
        if !is_told(ProfileField::FirstName) {
            let names = ["full_name", "name"].map(|key| Field::Meta(key.to_owned()));
            profile.push((ProfileField::FirstName, names.into()));
        }
        if !is_told(ProfileField::Email)
            && let Ok(email) = field("--field", "email")
        {
            profile.push((ProfileField::Email, vec![email]));
        }
        let mut place = |column: &str| asked.place_in(&table, column);
        let email_confirmed = place("email_confirmed_at");
        let confirmed = [email_confirmed, place("phone_confirmed_at"), place("confirmed_at")];
        let (email, password, banned_until) = (place("email"), place("encrypted_password"), place("banned_until"));
        let (deleted, is_anonymous, is_sso) = (place("deleted_at"), place("is_anonymous"), place("is_sso_user"));
        let (app_meta, meta) = (place("raw_app_meta_data"), place(USER_META));
        let (created, updated, last_login) = (place("created_at"), place("updated_at"), place("last_sign_in_at"));
        let mut reader = Self {
            id,
            names,
            profile,
            email,
            password,
            confirmed,
            email_confirmed,
            banned_until,
            deleted,
            is_anonymous,
            is_sso,
            app_meta,
            meta,
            created,
            updated,
            last_login,
            now: common.now,
            is_unconfirmed_active: options.is_unconfirmed_active,
            notes: Vec::new(),
            table,
            asked,
        };
        reader.notes = reader.notes(around);
        Ok(reader)
    }

    /// What the operator should know of the file.
    fn notes(&self, around: &Around) -> Vec<String> {
        let has = |column: &str| self.table.columns.iter().any(|own| own == column);
        let mut notes = Vec::new();
        let missing = listed(TELLING.into_iter().filter(|column| !has(column)));
        if !missing.is_empty() {
            notes.push(format!(
                "the file lacks {missing}: it does not tell who is banned, deleted, anonymous, not confirmed or without a \
                 password, as far as these say it"
            ));
        }
        if !around.is_there {
            notes.push(
                "the file has auth.users alone: it does not tell of second factors, whose protection falls away"
                    .to_owned(),
            );
        }
        if around.passkeys > 0 {
            notes.push(format!("passkeys that are not carried: {}", around.passkeys));
        }
        let others = self.asked.others(&self.table).chain(self.app_meta.map(|_| "raw_app_meta_data"));
        let others = listed(others.filter(|name| !SECRETS.contains(name) && !OWN.contains(name)));
        if !others.is_empty() {
            notes.push(format!("columns that are not carried: {others}"));
        }
        notes.push(
            "tokens of Supabase are JWTs and refresh tokens, which are not honoured: everybody logs in again"
                .to_owned(),
        );
        notes
    }

    fn read(&self, cells: &[Cell], around: &Around, keys: &mut BTreeSet<String>) -> Result<Read, ImportError> {
        let has = |place: Option<usize>| text_at(cells, place).is_some();
        if has(self.deleted) {
            return Ok(Read::LeftOut("deleted users"));
        }
        if is_true_at(cells, self.is_anonymous) {
            return Ok(Read::LeftOut("anonymous users"));
        }
        let no_id = || ImportError::new("auth.users has a row without an id");
        let id = text_at(cells, Some(self.id)).ok_or_else(no_id)?;
        let meta = json_object(text_at(cells, self.meta));
        self.note_keys(&meta, keys);
        let text = |field: &Field| match field {
            Field::Column(place) => text_at(cells, Some(*place)),
            Field::Meta(key) => meta_text(&meta, key),
        };
        let password = text_at(cells, self.password);
        let mut warnings = Vec::new();
        let mut warn = |what: &str| warnings.push(Warning::new(what));
        let is_banned = text_at(cells, self.banned_until).is_some_and(|until| is_to_come(&until, self.now));
        let is_confirmed = self.confirmed.iter().any(|place| has(*place));
        let is_email_verified = has(self.email_confirmed);
        if is_banned {
            warn("banned_inactive");
        }
        if !is_confirmed && !self.is_unconfirmed_active {
            warn("unconfirmed_inactive");
        } else if !is_confirmed || has(self.email) && !is_email_verified {
            warn("unverified");
        }
        if password.is_none() && self.has_other_way(&id, cells, around) {
            warn("external_only");
        }
        if around.second_factors.contains(&id) {
            warn("mfa_dropped");
        }
        let profile = self.profile.iter().filter_map(|(field, from)| Some((*field, from.iter().find_map(text)?)));
        let date_joined = moment_at(cells, self.created);
        Ok(Read::Account(Box::new(SourceAccount {
            name: self.names.iter().find_map(text).unwrap_or_default(),
            profile: profile.collect(),
            password,
            is_email_verified,
            is_active: !is_banned && (is_confirmed || self.is_unconfirmed_active),
            date_joined,
            created: date_joined,
            modified: moment_at(cells, self.updated),
            last_login: moment_at(cells, self.last_login),
            warnings,
            id,
            ..SourceAccount::default()
        })))
    }

    /// Whether a user gets in by another system: by an identity, where they are in the file, or by what the row says.
    fn has_other_way(&self, id: &str, cells: &[Cell], around: &Around) -> bool {
        if is_true_at(cells, self.is_sso) || around.external.get(id).copied().unwrap_or_default() {
            return true;
        }
        let app_meta = json_object(text_at(cells, self.app_meta));
        let providers = app_meta.get("providers").and_then(Value::as_array).into_iter().flatten();
        providers.chain(app_meta.get("provider")).filter_map(Value::as_str).any(is_external)
    }

    /// Remembers the keys that are not carried.
    fn note_keys(&self, meta: &Map<String, Value>, keys: &mut BTreeSet<String>) {
        let fields = self.profile.iter().flat_map(|(_, from)| from).chain(&self.names);
        let carried: Vec<&str> =
            fields.filter_map(|field| if let Field::Meta(key) = field { Some(key.as_str()) } else { None }).collect();
        for key in meta.keys().filter(|key| !carried.contains(&key.as_str())) {
            if keys.len() < MAX_KEYS {
                keys.insert(shown(key));
            }
        }
    }
}

/// Whether a moment is after now. One that cannot be read is: PostgreSQL has `infinity`.
fn is_to_come(moment: &str, now: Timestamp) -> bool {
    moment != "-infinity" && read_moment(moment).is_none_or(|moment| moment > now)
}

/// A JSON object; an empty one where it is none.
fn json_object(text: Option<String>) -> Map<String, Value> {
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn meta_text(meta: &Map<String, Value>, key: &str) -> Option<String> {
    match meta.get(key)? {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn run(
        content: &str,
        name: Option<&str>,
        fields: &[(&str, &str)],
        is_unconfirmed_active: bool,
    ) -> Result<Source, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, content).unwrap();
        let common = Common {
            name: name.map(str::to_owned),
            fields: fields.iter().map(|(ours, theirs)| ((*ours).to_owned(), (*theirs).to_owned())).collect(),
            now: read_moment("2026-01-01 00:00:00Z").unwrap(),
        };
        read(&path, &common, &Options { is_unconfirmed_active }).map_err(|error| error.to_string())
    }

    fn source(content: &str) -> Source {
        run(content, None, &[], false).unwrap()
    }

    fn warnings(account: &SourceAccount) -> Vec<&str> {
        account.warnings.iter().map(|Warning(what)| what.as_str()).collect()
    }

    const CSV: &str = "\
id,email,encrypted_password,email_confirmed_at,phone,phone_confirmed_at,banned_until,deleted_at,is_anonymous,is_sso_user,raw_user_meta_data,raw_app_meta_data,created_at,updated_at,last_sign_in_at
1,ana@a.example,$2a$10$x,2024-01-01 00:00:00+00,,,,,f,f,\"{\"\"full_name\"\": \"\"Ana A\"\", \"\"name\"\": \"\"Ana\"\", \"\"nick\"\": 7}\",,2024-03-04 05:06:00.123987+05:30,2024-03-05 00:00:00+00,2024-03-06 00:00:00+00
2,ben@a.example,$2a$10$x,,,,,,f,f,{},,,,
3,,$2a$10$x,,4915,2024-01-01 00:00:00+00,2025-12-31 00:00:00+00,,f,f,,,,,
4,dan@a.example,$2a$10$x,2024-01-01 00:00:00+00,,,2026-01-02 00:00:00+00,,f,f,,,,,
5,eva@a.example,$2a$10$x,2024-01-01 00:00:00+00,,,infinity,,f,f,,,,,
6,fay@a.example,\"\",2024-01-01 00:00:00+00,,,,,f,f,\"{\"\"name\"\": \"\"Fay\"\"}\",\"{\"\"providers\"\": [\"\"google\"\"]}\",,,
7,gus@a.example,,2024-01-01 00:00:00+00,,,,,f,t,,,,,
8,hal@a.example,,2024-01-01 00:00:00+00,,,,,f,f,,\"{\"\"providers\"\": [\"\"email\"\"]}\",,,
9,x,,,,,,2024-01-01 00:00:00+00,f,f,,,,,
10,,,,,,,,t,f,,,,,
11,kim@a.example,$2a$10$x,,4916,2024-01-01 00:00:00+00,,,f,f,,,,,
";

    #[test]
    fn users_are_read_with_who_may_log_in() {
        let source = source(CSV);
        let expected: [(&str, &str, bool, bool, &[&str]); 9] = [
            ("1", "ana@a.example", true, true, &[]),
            ("2", "ben@a.example", false, false, &["unconfirmed_inactive"]),
            ("3", "4915", true, false, &[]),
            ("4", "dan@a.example", false, true, &["banned_inactive"]),
            ("5", "eva@a.example", false, true, &["banned_inactive"]),
            ("6", "fay@a.example", true, true, &["external_only"]),
            ("7", "gus@a.example", true, true, &["external_only"]),
            ("8", "hal@a.example", true, true, &[]),
            ("11", "kim@a.example", true, false, &["unverified"]),
        ];
        for (account, (id, name, is_active, is_verified, told)) in source.accounts.iter().zip(expected) {
            assert_eq!((account.id.as_str(), account.name.as_str()), (id, name));
            assert_eq!((account.is_active, account.is_email_verified), (is_active, is_verified), "{name}");
            assert_eq!(warnings(account), told, "{name}");
            assert!(!account.is_staff && !account.is_superuser);
        }
        assert_eq!(source.accounts.len(), 9);
        let left_out: Vec<_> = source.left_out.iter().map(|(what, count)| (what.as_str(), *count)).collect();
        assert_eq!(left_out, [("anonymous users", 1), ("deleted users", 1)]);
        let [ana, ben, _, _, _, fay, gus, ..] = &*source.accounts else { panic!() };
        let times = [ana.date_joined, ana.created, ana.modified, ana.last_login].map(|time| time.unwrap().to_string());
        let joined = "2024-03-03T23:36:00.123Z";
        assert_eq!(times, [joined, joined, "2024-03-05T00:00:00.000Z", "2024-03-06T00:00:00.000Z"]);
        assert_eq!((ben.date_joined, ben.modified, ben.last_login), (None, None, None));
        let first_name = |account: &SourceAccount| {
            let found = account.profile.iter().find(|(field, _)| *field == ProfileField::FirstName);
            found.map(|(_, text)| text.clone())
        };
        assert_eq!([ana, ben, fay].map(first_name), [Some("Ana A".to_owned()), None, Some("Fay".to_owned())]);
        assert_eq!((fay.password.as_deref(), gus.password.as_deref()), (None, None));
    }

    #[test]
    fn users_who_are_not_confirmed_may_be_taken_as_active() {
        let source = run(CSV, None, &[], true).unwrap();
        let ben = &source.accounts[1];
        assert!(ben.is_active && !ben.is_email_verified);
        assert_eq!(warnings(ben), ["unverified"]);
    }

    #[test]
    fn names_and_fields_may_be_keys_of_the_meta_data() {
        let source = run(CSV, Some("meta.nick"), &[("city", "meta.name"), ("first_name", "phone")], false).unwrap();
        assert_eq!(source.accounts[0].name, "7");
        assert_eq!(source.accounts[1].name, "");
        assert!(source.accounts[0].profile.contains(&(ProfileField::City, "Ana".to_owned())));
        assert!(source.accounts[2].profile.contains(&(ProfileField::FirstName, "4915".to_owned())));
        assert!(source.notes.iter().any(|note| note.ends_with("not carried: full_name")), "{:?}", source.notes);
        for (name, fields, what) in [
            (Some("encrypted_password"), &[][..], "--name: auth.users has no column encrypted_password"),
            (None, &[("city", "recovery_token")], "--field: auth.users has no column recovery_token"),
            (None, &[("town", "email")], "--field town: the profile has first_name"),
        ] {
            let error = run(CSV, name, fields, false).err().unwrap();
            assert!(error.starts_with(what), "{error}");
        }
        let error = run("id,email\n", Some("meta.nick"), &[], false).err().unwrap();
        assert!(error.contains("has no column raw_user_meta_data"), "{error}");
    }

    #[test]
    fn a_dump_tells_of_second_factors_identities_and_tokens() {
        let source = source(
            "COPY \"auth\".\"users\" (\"id\", \"email\", \"encrypted_password\", \"email_confirmed_at\") FROM stdin;\n\
             1\tana@a.example\t$2a$10$x\t2024-01-01 00:00:00+00\n\
             2\tben@a.example\t\\N\t2024-01-01 00:00:00+00\n\
             \\.\n\
             COPY \"auth\".\"identities\" (\"user_id\", \"provider\") FROM stdin;\n\
             1\temail\n2\tgithub\n\
             \\.\n\
             COPY \"auth\".\"mfa_factors\" (\"user_id\", \"status\") FROM stdin;\n\
             1\tverified\n2\tunverified\n\
             \\.\n\
             COPY \"auth\".\"refresh_tokens\" (\"token\", \"revoked\") FROM stdin;\n\
             a\tf\nb\tt\n\
             \\.\n\
             COPY \"auth\".\"sessions\" (\"id\", \"refresh_token_hmac_key\") FROM stdin;\n\
             a\t\\N\nb\tkey\n\
             \\.\n\
             COPY \"public\".\"users\" (\"id\", \"email\") FROM stdin;\n\
             3\tnot@a.example\n\
             \\.\n",
        );
        let [ana, ben] = &*source.accounts else { panic!() };
        assert_eq!(warnings(ana), ["mfa_dropped"]);
        assert_eq!(warnings(ben), ["external_only"]);
        assert_eq!(source.not_carried.get("refresh_token"), Some(&2));
        assert!(!source.notes.iter().any(|note| note.contains("auth.users alone")));
    }

    #[test]
    fn what_a_file_does_not_tell_is_said() {
        let notes = source("id,email,encrypted_password,email_confirmed_at\n").notes;
        assert!(
            notes[0].starts_with("the file lacks banned_until, deleted_at, is_anonymous, is_sso_user"),
            "{notes:?}"
        );
        assert!(notes[1].starts_with("the file has auth.users alone"), "{notes:?}");
    }

    #[test]
    fn json_is_read_as_csv_is() {
        let source = source(
            r#" [{"id": "1", "email": "ana@a.example", "is_anonymous": false, "email_confirmed_at": "2024-01-01T00:00:00+00:00",
                "raw_user_meta_data": {"name": "Ana"}, "banned_until": null}, {"id": "2", "is_anonymous": true}]"#,
        );
        let [ana] = &*source.accounts else { panic!() };
        assert!(ana.is_active);
        assert!(ana.profile.contains(&(ProfileField::FirstName, "Ana".to_owned())));
    }

    #[test]
    fn a_file_without_the_users_is_refused() {
        assert!(
            run("CREATE TABLE public.users (id integer);\n", None, &[], false)
                .err()
                .unwrap()
                .contains("no table auth.users")
        );
        assert!(run("id,email\n,ana@a.example\n", None, &[], false).err().unwrap().contains("without an id"));
    }
}
