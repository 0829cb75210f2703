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
    let (table, columns) = (reader.table.clone(), reader.asked.columns().join("\n"));
    let columns: Vec<&str> = columns.split('\n').collect();
    file.read(&table, &columns, &mut |cells| {
        match reader.read(cells, &around)? {
            Read::Account(account) => source.accounts.push(*account),
            Read::LeftOut(what) => *source.left_out.entry(what.to_owned()).or_default() += 1,
        }
        Ok(())
    })?;
    source.notes.extend(reader.keys_not_carried());
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
    /// The keys of [`USER_META`] that are not carried.
    keys: BTreeSet<String>,
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
            keys: BTreeSet::new(),
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
                "the file has auth.users alone: it does not tell of second factors, whose protection falls away".to_owned(),
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
        notes.push("tokens of Supabase are JWTs and refresh tokens, which are not honoured: everybody logs in again".to_owned());
        notes
    }

    fn keys_not_carried(&self) -> Option<String> {
        (!self.keys.is_empty())
            .then(|| format!("keys of {USER_META} that are not carried: {}", listed(self.keys.iter().map(String::as_str))))
    }

    fn read(&mut self, cells: &[Cell], around: &Around) -> Result<Read, ImportError> {
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
        self.note_keys(&meta);
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
    fn note_keys(&mut self, meta: &Map<String, Value>) {
        let fields = self.profile.iter().flat_map(|(_, from)| from).chain(&self.names);
        let carried: Vec<&str> =
            fields.filter_map(|field| if let Field::Meta(key) = field { Some(key.as_str()) } else { None }).collect();
        for key in meta.keys().filter(|key| !carried.contains(&key.as_str())) {
            if self.keys.len() < MAX_KEYS && !self.keys.contains(key) {
                self.keys.insert(shown(key));
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
