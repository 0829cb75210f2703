//! What PocketBase stores: a table a collection, and a table that describes them all. Versions before 0.23 name some columns
//! otherwise.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::domain::profile::ProfileField;
use crate::import::account::{Source, SourceAccount, Warning};
use crate::import::fields::{Asked, is_true_at, listed, moment_at, profile_fields, text_at};
use crate::import::formats::sqlite::SqliteFile;
use crate::import::formats::tables::{Cell, TableInfo, Tables, shown};
use crate::import::{Common, ImportError};
use crate::system::clock::Timestamp;

/// The file in `pb_data` that has the accounts.
const DATA_FILE: &str = "data.db";
/// What a backup begins with.
const ZIP: &[u8] = b"PK\x03\x04";
/// How many collections there may be.
const MAX_COLLECTIONS: usize = 10_000;
/// How soon after an account its link to a provider is made where the account came by that provider. Both are made at once.
const CAME_BY_PROVIDER: Duration = Duration::from_secs(60);
/// Columns that are never shown.
const SECRETS: [&str; 3] = ["password", "passwordHash", "tokenKey"];
/// Columns of PocketBase's own that nobody would miss.
const OWN: [&str; 5] =
    ["emailVisibility", "lastLoginAlertSentAt", "lastResetSentAt", "lastVerificationSentAt", "verified"];

/// The options of this source alone.
#[derive(Clone, Default)]
#[expect(missing_docs, reason = "the names are those of the options")]
pub struct Options {
    pub collection: String,
    /// Which list is taken from which field.
    pub items: Vec<(String, String)>,
    /// Whether an account that the source did not let in, because it is not confirmed, becomes active.
    pub is_unconfirmed_active: bool,
}

/// Reads all accounts.
///
/// # Errors
/// See [`ImportError`].
pub(super) fn read(path: &Path, common: &Common, options: &Options) -> Result<Source, ImportError> {
    let path = data_file(path)?;
    let mut file = SqliteFile::open(&path)?;
    let collections = Collections::read(&mut file, &path)?;
    let collection = collections.find(&options.collection)?;
    let mut source = Source { notes: file.notes().to_vec(), ..Source::default() };
    let superusers = if collections.is_old { "_admins" } else { "_superusers" };
    let count = count_rows(&mut file, superusers)?;
    if count > 0 {
        source.left_out.insert("superusers".to_owned(), count);
    }
    let mut reader = Reader::new(&mut file, &collections, collection, common, options)?;
    source.notes.append(&mut reader.notes);
    source.notes.extend(collections.notes(collection));
    file.read(&reader.table, &reader.asked.columns(), &mut |cells| {
        source.accounts.push(reader.account(cells)?);
        Ok(())
    })?;
    Ok(source)
}

/// The file that is meant: one in a folder `pb_data`, or itself.
fn data_file(path: &Path) -> Result<PathBuf, ImportError> {
    if path.is_dir() {
        let file = path.join(DATA_FILE);
        if !file.exists() {
            let path = path.display();
            return Err(ImportError::new(format!("{path} has no {DATA_FILE}: name the folder pb_data of PocketBase")));
        }
        return Ok(file);
    }
    let mut head = Vec::new();
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    if is_file && let Ok(file) = File::open(path) {
        let _ = file.take(ZIP.len() as u64).read_to_end(&mut head);
    }
    if head == ZIP {
        let path = path.display();
        return Err(ImportError::new(format!("{path} is a backup: unpack it, and name the {DATA_FILE} in it")));
    }
    Ok(path.to_owned())
}

fn find_table<'a>(tables: &'a [TableInfo], name: &str) -> Option<&'a TableInfo> {
    tables.iter().find(|table| table.name == name)
}

fn count_rows(file: &mut SqliteFile, name: &str) -> Result<u64, ImportError> {
    let Some(table) = find_table(file.tables(), name).filter(|table| table.columns.iter().any(|own| own == "id"))
    else {
        return Ok(0);
    };
    let mut count = 0;
    file.read(&table.clone(), &["id"], &mut |_| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// A collection, as PocketBase describes it.
struct Collection {
    id: String,
    name: String,
    is_auth: bool,
    fields: Vec<Field>,
    options: Value,
}

/// A field of a collection.
struct Field {
    name: String,
    kind: String,
    /// The id of the collection that it refers to.
    related: Option<String>,
}

impl Field {
    fn read(described: &Value, is_old: bool) -> Option<Self> {
        let related = if is_old { &described["options"]["collectionId"] } else { &described["collectionId"] };
        Some(Self {
            name: described["name"].as_str()?.to_owned(),
            kind: described["type"].as_str()?.to_owned(),
            related: related.as_str().map(str::to_owned),
        })
    }
}

struct Collections {
    all: Vec<Collection>,
    /// Whether they are of a version before 0.23.
    is_old: bool,
}

impl Collections {
    fn read(file: &mut SqliteFile, path: &Path) -> Result<Self, ImportError> {
        let not_one = || ImportError::new(format!("{} is no {DATA_FILE} of PocketBase", path.display()));
        let table = find_table(file.tables(), "_collections").ok_or_else(not_one)?.clone();
        let has = |column: &str| table.columns.iter().any(|own| own == column);
        let is_old = !has("fields");
        let columns = ["id", "name", "type", if is_old { "schema" } else { "fields" }, "options"];
        if !columns.iter().all(|column| has(column)) {
            return Err(not_one());
        }
        let mut all = Vec::new();
        file.read(&table, &columns, &mut |cells| {
            let text = |place| text_at(cells, Some(place)).unwrap_or_default();
            let json = |place| serde_json::from_str::<Value>(&text(place)).unwrap_or_default();
            let fields = json(3);
            let fields = fields.as_array().into_iter().flatten();
            all.push(Collection {
                id: text(0),
                name: text(1),
                is_auth: text(2) == "auth",
                fields: fields.filter_map(|field| Field::read(field, is_old)).collect(),
                options: json(4),
            });
            if all.len() > MAX_COLLECTIONS {
                return Err(ImportError::new(format!("there are more than {MAX_COLLECTIONS} collections")));
            }
            Ok(())
        })?;
        Ok(Self { all, is_old })
    }

    /// Those of accounts, but not the superusers'.
    fn of_accounts(&self) -> impl Iterator<Item = &str> {
        let collections = self.all.iter().filter(|collection| collection.is_auth && collection.name != "_superusers");
        collections.map(|collection| collection.name.as_str())
    }

    fn find(&self, name: &str) -> Result<&Collection, ImportError> {
        let found = self.all.iter().find(|collection| collection.name == name);
        found.filter(|_| self.of_accounts().any(|own| own == name)).ok_or_else(|| {
            let accounts = listed(self.of_accounts());
            ImportError::new(format!(
                "there is no collection {} of accounts: --collection is one of {accounts}",
                shown(name)
            ))
        })
    }

    /// What the operator should know of the others.
    fn notes(&self, read: &Collection) -> Option<String> {
        let others = listed(self.of_accounts().filter(|name| *name != read.name));
        (!others.is_empty()).then(|| format!("other collections of accounts are not read: {others}"))
    }
}

/// Whom the source lets in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LetsIn {
    Everybody,
    Verified,
    Nobody,
}

/// Turns records into accounts.
struct Reader {
    table: TableInfo,
    asked: Asked,
    id: usize,
    names: Vec<usize>,
    profile: Vec<(ProfileField, usize)>,
    password: Option<usize>,
    verified: Option<usize>,
    created: Option<usize>,
    updated: Option<usize>,
    lists: [Option<List>; 2],
    /// When the first link of a record to a provider was made.
    links: HashMap<String, Option<Timestamp>>,
    lets_in: LetsIn,
    has_second_factor: bool,
    is_unconfirmed_active: bool,
    notes: Vec<String>,
}

impl Reader {
    fn new(
        file: &mut SqliteFile,
        collections: &Collections,
        collection: &Collection,
        common: &Common,
        options: &Options,
    ) -> Result<Self, ImportError> {
        let missing = || ImportError::new(format!("the collection {} has no table", shown(&collection.name)));
        let table = find_table(file.tables(), &collection.name).ok_or_else(missing)?.clone();
        let require = |option: &str, column: &str| require_column(&table, option, column);
        let has = |column: &str| table.columns.iter().any(|own| own == column);
        require("--collection", "id")?;
        let mut asked = Asked::default();
        let id = asked.place("id");
        let names = match &common.name {
            Some(name) => {
                require("--name", name)?;
                vec![asked.place(name)]
            }
            None => ["username", "email"].iter().filter_map(|name| asked.place_in(&table, name)).collect(),
        };
        let default = |field: ProfileField| {
            let same = Some(field.name()).filter(|name| has(name));
            let name = Some("name").filter(|name| field == ProfileField::FirstName && has(name));
            same.or(name).map(str::to_owned)
        };
        let mut profile = Vec::new();
        for (field, column) in profile_fields(&common.fields, default)? {
            require("--field", &column)?;
            profile.push((field, asked.place(&column)));
        }
        let mut notes = Vec::new();
        let mut lists = [None, None];
        for (list, name) in lists.iter_mut().zip(["cellar", "wants"]) {
            let told = options.items.iter().rfind(|(ours, _)| ours == name).map(|(_, from)| from.as_str());
            *list = List::find(name, told, file, (collections, collection, &table), &mut asked, &mut notes)?;
        }
        let password = asked.place_in(&table, if collections.is_old { "passwordHash" } else { "password" });
        let verified = asked.place_in(&table, "verified");
        let created = asked.place_in(&table, "created");
        let updated = asked.place_in(&table, "updated");
        let others = listed(asked.others(&table).filter(|name| !SECRETS.contains(name) && !OWN.contains(name)));
        if !others.is_empty() {
            notes.push(format!("columns that are not carried: {others}"));
        }
        let lets_in = lets_in(collection, collections.is_old, &mut notes);
        notes.push("tokens of PocketBase are JWTs, which are not honoured: everybody logs in again".to_owned());
        Ok(Self {
            id,
            names,
            profile,
            password,
            verified,
            created,
            updated,
            lists,
            links: read_links(file, collection, collections.is_old)?,
            lets_in,
            has_second_factor: collection.options["mfa"]["enabled"] == Value::Bool(true),
            is_unconfirmed_active: options.is_unconfirmed_active,
            notes,
            table,
            asked,
        })
    }

    fn account(&self, cells: &[Cell]) -> Result<SourceAccount, ImportError> {
        let text = |place: usize| text_at(cells, Some(place));
        let id = text(self.id).ok_or_else(|| {
            ImportError::new(format!("the collection {} has a record without an id", shown(&self.table.name)))
        })?;
        let created = moment_at(cells, self.created);
        let mut warnings = Vec::new();
        if let Some(linked) = self.links.get(&id) {
            let came_by_it = match (created, linked) {
                (Some(created), Some(linked)) => linked.since(created) <= CAME_BY_PROVIDER,
                _ => true,
            };
            if came_by_it {
                warnings.push(Warning::new("external_only"));
            }
        }
        let is_verified = is_true_at(cells, self.verified);
        let is_active = match self.lets_in {
            LetsIn::Everybody => true,
            LetsIn::Verified => is_verified || self.is_unconfirmed_active,
            LetsIn::Nobody => false,
        };
        if !is_active {
            let what = if self.lets_in == LetsIn::Nobody { "auth_rule_inactive" } else { "unverified_inactive" };
            warnings.push(Warning::new(what));
        } else if !is_verified {
            warnings.push(Warning::new("unverified"));
        }
        if self.has_second_factor {
            warnings.push(Warning::new("mfa_dropped"));
        }
        let [cellar, wants] = &self.lists;
        let mut read_list = |name: &str, list: &Option<List>| match list.as_ref().map(|list| list.items(cells)) {
            None => Vec::new(),
            Some(Ok(items)) => items,
            Some(Err(NoList)) => {
                warnings.push(Warning(format!("{name}_dropped")));
                Vec::new()
            }
        };
        let (cellar, wants) = (read_list("cellar", cellar), read_list("wants", wants));
        let profile = self.profile.iter().filter_map(|(field, place)| Some((*field, text(*place)?))).collect();
        Ok(SourceAccount {
            id,
            name: self.names.iter().find_map(|place| text(*place)).unwrap_or_default(),
            profile,
            password: text_at(cells, self.password),
            is_email_verified: is_verified,
            is_active,
            date_joined: created,
            created,
            modified: moment_at(cells, self.updated),
            cellar,
            wants,
            warnings,
            ..SourceAccount::default()
        })
    }
}

/// Requires that a table has a column, and that it may be shown.
fn require_column(table: &TableInfo, option: &str, column: &str) -> Result<(), ImportError> {
    let is_open = |column: &str| !SECRETS.contains(&column);
    if is_open(column) && table.columns.iter().any(|own| own == column) {
        return Ok(());
    }
    let columns = listed(table.columns.iter().map(String::as_str).filter(|column| is_open(column)));
    let (column, table) = (shown(column), shown(&table.name));
    Err(ImportError::new(format!("{option}: the collection {table} has no field {column}; it has {columns}")))
}

/// Whom a collection's rule lets in. A rule is a formula, of which only one term is read.
fn lets_in(collection: &Collection, is_old: bool, notes: &mut Vec<String>) -> LetsIn {
    if is_old {
        let only = collection.options["onlyVerified"] == Value::Bool(true);
        return if only { LetsIn::Verified } else { LetsIn::Everybody };
    }
    let rule = match collection.options.get("authRule") {
        Some(Value::String(rule)) => rule.trim(),
        Some(Value::Null) => {
            notes.push("the collection's authRule lets nobody log in: its accounts come inactive".to_owned());
            return LetsIn::Nobody;
        }
        _ => "",
    };
    let bare: String = rule.chars().filter(|c| !c.is_whitespace()).collect();
    let is_verified = ["verified=true", "verified!=false"].into_iter().find(|term| bare.contains(term));
    if !bare.is_empty() && is_verified != Some(bare.as_str()) {
        notes.push(format!("the collection's authRule is not carried beyond `verified = true`: {}", shown(rule)));
    }
    if is_verified.is_some() { LetsIn::Verified } else { LetsIn::Everybody }
}

/// The records of a collection that are linked to a provider, and when they first were.
fn read_links(
    file: &mut SqliteFile,
    collection: &Collection,
    is_old: bool,
) -> Result<HashMap<String, Option<Timestamp>>, ImportError> {
    let mut links = HashMap::new();
    let Some(table) = find_table(file.tables(), "_externalAuths").cloned() else { return Ok(links) };
    let columns =
        if is_old { ["collectionId", "recordId", "created"] } else { ["collectionRef", "recordRef", "created"] };
    if !columns.iter().all(|column| table.columns.iter().any(|own| own == column)) {
        return Ok(links);
    }
    file.read(&table, &columns, &mut |cells| {
        let is_ours = text_at(cells, Some(0)).is_some_and(|id| id == collection.id);
        if let Some(record) = text_at(cells, Some(1)).filter(|_| is_ours) {
            let linked = moment_at(cells, Some(2));
            links
                .entry(record)
                .and_modify(|first: &mut Option<Timestamp>| *first = linked.min(*first))
                .or_insert(linked);
        }
        Ok(())
    })?;
    Ok(links)
}

/// Where a list of items is taken from.
struct List {
    place: usize,
    /// Whether a text that is no JSON is the one item: the field refers to at most one.
    may_be_one: bool,
    /// The numbers of the records that the field refers to.
    numbers: Option<HashMap<String, Option<i64>>>,
}

/// What a field holds is no list.
struct NoList;

impl List {
    fn find(
        list: &str,
        told: Option<&str>,
        file: &mut SqliteFile,
        (collections, collection, table): (&Collections, &Collection, &TableInfo),
        asked: &mut Asked,
        notes: &mut Vec<String>,
    ) -> Result<Option<Self>, ImportError> {
        let (name, number) = match told {
            // A field's name has no dot.
            Some(told) => told.split_once('.').map_or((told, None), |(field, number)| (field, Some(number))),
            None if table.columns.iter().any(|own| own == list) => (list, None),
            None => return Ok(None),
        };
        require_column(table, "--items", name)?;
        let field = collection.fields.iter().find(|field| field.name == name);
        let related = field.and_then(|field| field.related.as_ref());
        let related = related.and_then(|id| collections.all.iter().find(|collection| collection.id == *id));
        let numbers = match (number, related) {
            (Some(number), Some(related)) => Some(read_numbers(file, related, number)?),
            (Some(_), None) => {
                let name = shown(name);
                return Err(ImportError::new(format!("--items: the field {name} refers to no other collection")));
            }
            (None, Some(related)) => {
                let numbers =
                    related.fields.iter().filter(|field| field.kind == "number").map(|field| field.name.as_str());
                let (name, other, numbers) = (shown(name), shown(&related.name), listed(numbers));
                notes.push(format!(
                    "{name} refers to records of {other}, whose ids are no numbers: --items {list}={name}.FIELD takes a \
                     number of theirs{}",
                    if numbers.is_empty() { String::new() } else { format!("; it has {numbers}") }
                ));
                None
            }
            (None, None) => None,
        };
        let may_be_one = field.is_some_and(|field| ["relation", "select"].contains(&field.kind.as_str()));
        Ok(Some(Self { place: asked.place(name), may_be_one, numbers }))
    }

    fn items(&self, cells: &[Cell]) -> Result<Vec<Option<i64>>, NoList> {
        let text = match cells.get(self.place) {
            None | Some(Cell::Null) => return Ok(Vec::new()),
            Some(Cell::Text(text)) => text.trim(),
            Some(_) => return Err(NoList),
        };
        if text.is_empty() {
            return Ok(Vec::new());
        }
        match serde_json::from_str(text) {
            Ok(Value::Null) => Ok(Vec::new()),
            Ok(Value::Array(items)) => Ok(items.iter().map(|item| self.number(item)).collect()),
            _ if self.may_be_one => Ok(vec![self.number(&Value::String(text.to_owned()))]),
            _ => Err(NoList),
        }
    }

    fn number(&self, item: &Value) -> Option<i64> {
        match (&self.numbers, item) {
            (Some(numbers), Value::String(id)) => *numbers.get(id)?,
            (Some(_), _) => None,
            (None, Value::String(digits)) => digits.parse().ok(),
            (None, Value::Number(number)) => number.as_i64().or_else(|| whole(number.as_f64()?)),
            (None, _) => None,
        }
    }
}

/// A number that is written with a point and is whole all the same.
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0).then(|| format!("{number:.0}"))?.parse().ok()
}

/// A number of each record of a collection, by the record's id.
fn read_numbers(
    file: &mut SqliteFile,
    collection: &Collection,
    number: &str,
) -> Result<HashMap<String, Option<i64>>, ImportError> {
    let missing = || ImportError::new(format!("the collection {} has no table", shown(&collection.name)));
    let table = find_table(file.tables(), &collection.name).ok_or_else(missing)?.clone();
    require_column(&table, "--items", "id")?;
    require_column(&table, "--items", number)?;
    let mut numbers = HashMap::new();
    file.read(&table, &["id", number], &mut |cells| {
        let number = match cells {
            [_, Cell::Integer(number)] => Some(*number),
            [_, Cell::Real(number)] => whole(*number),
            [_, Cell::Text(digits)] => digits.parse().ok(),
            _ => None,
        };
        if let Some(id) = text_at(cells, Some(0)) {
            numbers.insert(id, number);
        }
        Ok(())
    })?;
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::import::time::read_moment;

    /// `pb_data` of 0.23 or later, with two collections of accounts.
    const NEW: &str = r#"
        CREATE TABLE _collections (id TEXT, type TEXT, name TEXT, fields JSON, options JSON);
        INSERT INTO _collections VALUES
            ('c_users', 'auth', 'users', '[]', '{"authRule": "", "mfa": {"enabled": false}}'),
            ('c_members', 'auth', 'members', '[{"name": "cellar", "type": "relation", "collectionId": "c_wines"},
                {"name": "wants", "type": "json"}]', '{"authRule": "verified = true", "mfa": {"enabled": true}}'),
            ('c_wines', 'base', 'wines', '[{"name": "number", "type": "number"}]', '{}'),
            ('c_superusers', 'auth', '_superusers', '[]', '{}');
        CREATE TABLE _superusers (id TEXT PRIMARY KEY, email TEXT);
        INSERT INTO _superusers VALUES ('s1', 'root@a.example');
        CREATE TABLE _externalAuths (collectionRef TEXT, recordRef TEXT, created TEXT);
        INSERT INTO _externalAuths VALUES ('c_users', 'u3', '2026-01-01 00:00:00.005Z'), ('c_users', 'u1', '2026-02-01 00:00:00.000Z'),
            ('c_members', 'u2', '2026-01-01 00:00:00.000Z');
        CREATE TABLE users (id TEXT PRIMARY KEY, email TEXT, emailVisibility BOOLEAN, name TEXT, city TEXT, password TEXT,
            tokenKey TEXT, verified BOOLEAN, created TEXT, updated TEXT, avatar TEXT);
        INSERT INTO users VALUES
            ('u1', 'ana@a.example', 1, 'Ana A', 'Krems', '$2a$10$x', 'k', 1, '2026-01-01 00:00:00.123Z', '2026-01-02 00:00:00.000Z', ''),
            ('u2', 'ben@a.example', 1, '', '', '$2a$10$x', 'k', 0, '', '', ''),
            ('u3', 'cay@a.example', 1, '', '', '$2a$10$x', 'k', 1, '2026-01-01 00:00:00.000Z', '', '');
        CREATE TABLE wines (id TEXT PRIMARY KEY, number NUMERIC);
        INSERT INTO wines VALUES ('w1', 1), ('w2', 2.0), ('w3', 2.5);
        CREATE TABLE members (id TEXT PRIMARY KEY, username TEXT, email TEXT, password TEXT, verified BOOLEAN, cellar JSON, wants JSON);
        INSERT INTO members VALUES
            ('m1', 'norbert', 'n@a.example', '$2a$10$x', 1, '["w2","w1","w3","gone"]', '[4, 5]'),
            ('m2', '', 'o@a.example', '$2a$10$x', 0, 'w1', '["7", 7, 7.0, 0, -1, 1.5, null, 1e300]'),
            ('m3', 'p', '', '$2a$10$x', 1, '', '{"a": 1}'),
            ('m4', 'q', '', '$2a$10$x', 1, '[]', NULL);"#;

    fn run(sql: &str, common: &Common, options: &Options) -> Result<Source, String> {
        let folder = tempfile::tempdir().unwrap();
        Connection::open(folder.path().join(DATA_FILE)).unwrap().execute_batch(sql).unwrap();
        read(folder.path(), common, options).map_err(|error| error.to_string())
    }

    fn common() -> Common {
        Common { name: None, fields: Vec::new(), now: read_moment("2026-06-01 00:00:00Z").unwrap() }
    }

    fn options(collection: &str, items: &[(&str, &str)]) -> Options {
        let items = items.iter().map(|(list, from)| ((*list).to_owned(), (*from).to_owned())).collect();
        Options { collection: collection.to_owned(), items, is_unconfirmed_active: false }
    }

    fn warnings(account: &SourceAccount) -> Vec<&str> {
        account.warnings.iter().map(|Warning(what)| what.as_str()).collect()
    }

    #[test]
    fn records_are_read_with_what_the_operator_must_hear() {
        let source = run(NEW, &common(), &options("users", &[])).unwrap();
        let [ana, ben, cay] = &*source.accounts else { panic!() };
        assert_eq!(
            (ana.id.as_str(), ana.name.as_str(), ana.password.as_deref()),
            ("u1", "ana@a.example", Some("$2a$10$x"))
        );
        let profile = [
            (ProfileField::FirstName, "Ana A".to_owned()),
            (ProfileField::Email, "ana@a.example".to_owned()),
            (ProfileField::City, "Krems".to_owned()),
        ];
        assert_eq!(ana.profile, profile);
        let times = [ana.date_joined, ana.created, ana.modified].map(|time| time.unwrap().to_string());
        assert_eq!(times, ["2026-01-01T00:00:00.123Z", "2026-01-01T00:00:00.123Z", "2026-01-02T00:00:00.000Z"]);
        assert_eq!((ben.date_joined, ben.modified, ana.last_login), (None, None, None));
        // A link that came later is of somebody who had a password before it; one of another collection is nobody's here.
        assert_eq!([ana, ben, cay].map(warnings), [vec![], vec!["unverified"], vec!["external_only"]]);
        assert_eq!([ana, ben, cay].map(|account| account.is_active), [true; 3]);
        assert_eq!([ana, ben].map(|account| account.is_email_verified), [true, false]);
        assert_eq!(source.left_out.get("superusers"), Some(&1));
        let notes = source.notes.join("\n");
        for note in ["not carried: avatar", "JWTs, which are not honoured", "accounts are not read: members"] {
            assert!(notes.contains(note), "{notes}");
        }
    }

    #[test]
    fn lists_are_read_from_relations_and_from_json() {
        let source = run(NEW, &common(), &options("members", &[("cellar", "cellar.number")])).unwrap();
        let [m1, m2, m3, m4] = &*source.accounts else { panic!() };
        assert_eq!(m1.cellar, [Some(2), Some(1), None, None]);
        assert_eq!(m1.wants, [Some(4), Some(5)]);
        assert_eq!(m2.cellar, [Some(1)]);
        assert_eq!(m2.wants, [Some(7), Some(7), Some(7), Some(0), Some(-1), None, None, None]);
        assert!(m3.cellar.is_empty() && m3.wants.is_empty() && m4.cellar.is_empty() && m4.wants.is_empty());
        assert_eq!(warnings(m3), ["mfa_dropped", "wants_dropped"]);
        assert_eq!(warnings(m4), ["mfa_dropped"]);
        // Without a field of numbers the ids are no numbers.
        let source = run(NEW, &common(), &options("members", &[])).unwrap();
        assert_eq!(source.accounts[0].cellar, [None; 4]);
        assert!(source.notes.iter().any(|note| note.contains("--items cellar=cellar.FIELD")), "{:?}", source.notes);
    }

    #[test]
    fn an_account_that_the_rule_did_not_let_in_comes_inactive_unless_it_is_told_otherwise() {
        let mut options = options("members", &[]);
        let source = run(NEW, &common(), &options).unwrap();
        let m2 = &source.accounts[1];
        // Without a name of its own it has its address.
        assert_eq!((m2.name.as_str(), m2.is_active), ("o@a.example", false));
        assert_eq!(warnings(m2), ["unverified_inactive", "mfa_dropped"]);
        options.is_unconfirmed_active = true;
        let source = run(NEW, &common(), &options).unwrap();
        assert!(source.accounts[1].is_active);
        assert_eq!(warnings(&source.accounts[1]), ["unverified", "mfa_dropped"]);
        let rule = |rule: &str| NEW.replace("\"verified = true\"", rule);
        let source = run(&rule("\"verified=true && role != 'x'\""), &common(), &options).unwrap();
        assert!(source.notes.iter().any(|note| note.contains("authRule is not carried beyond")), "{:?}", source.notes);
        let source = run(&rule("null"), &common(), &options).unwrap();
        assert!(source.accounts.iter().all(|account| !account.is_active));
        assert_eq!(warnings(&source.accounts[0]), ["auth_rule_inactive", "mfa_dropped"]);
    }

    #[test]
    fn versions_before_0_23_are_read() {
        let source = run(
            r#"CREATE TABLE _collections (id TEXT, type TEXT, name TEXT, schema JSON, options JSON);
            INSERT INTO _collections VALUES ('c', 'auth', 'users', '[{"name": "cellar", "type": "relation",
                "options": {"collectionId": "w"}}]', '{"onlyVerified": true}'), ('w', 'base', 'wines', '[]', '{}');
            CREATE TABLE _admins (id TEXT); INSERT INTO _admins VALUES ('a'), ('b');
            CREATE TABLE _externalAuths (collectionId TEXT, recordId TEXT, created TEXT);
            INSERT INTO _externalAuths VALUES ('c', 'u2', '');
            CREATE TABLE wines (id TEXT, nr NUMERIC); INSERT INTO wines VALUES ('w1', 3);
            CREATE TABLE users (id TEXT, username TEXT, email TEXT, passwordHash TEXT, verified BOOLEAN, cellar JSON);
            INSERT INTO users VALUES ('u1', 'old', '', '$2a$12$x', 1, '["w1"]'), ('u2', 'new', '', '$2a$12$x', 0, '[]');"#,
            &common(),
            &options("users", &[("cellar", "cellar.nr")]),
        )
        .unwrap();
        let [old, new] = &*source.accounts else { panic!() };
        assert_eq!(
            (old.name.as_str(), old.password.as_deref(), &*old.cellar),
            ("old", Some("$2a$12$x"), &[Some(3)][..])
        );
        assert_eq!(warnings(new), ["external_only", "unverified_inactive"]);
        assert_eq!(source.left_out.get("superusers"), Some(&2));
    }

    #[test]
    fn fields_are_the_operators_to_choose_but_no_secret_is() {
        let told =
            Common { name: Some("city".to_owned()), fields: vec![("state".to_owned(), "name".to_owned())], ..common() };
        let source = run(NEW, &told, &options("users", &[])).unwrap();
        assert_eq!(source.accounts[0].name, "Krems");
        assert!(source.accounts[0].profile.contains(&(ProfileField::State, "Ana A".to_owned())));
        for secret in SECRETS {
            let told = Common { name: Some(secret.to_owned()), ..common() };
            assert!(run(NEW, &told, &options("users", &[])).err().unwrap().starts_with("--name: "));
            let told = Common { fields: vec![("city".to_owned(), secret.to_owned())], ..common() };
            assert!(run(NEW, &told, &options("users", &[])).err().unwrap().starts_with("--field: "));
        }
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let fails =
            |collection, items: &[(&str, &str)]| run(NEW, &common(), &options(collection, items)).err().unwrap();
        assert!(fails("wines", &[]).ends_with("--collection is one of members, users"));
        assert!(fails("_superusers", &[]).starts_with("there is no collection _superusers of accounts"));
        assert!(fails("members", &[("wants", "gone")]).contains("has no field gone; it has cellar"));
        assert!(fails("members", &[("wants", "wants.number")]).contains("wants refers to no other collection"));
        assert!(fails("members", &[("wants", "cellar.nr")]).contains("wines has no field nr; it has id, number"));
        assert!(run("CREATE TABLE t (a)", &common(), &options("users", &[])).err().unwrap().contains("is no data.db"));
        let folder = tempfile::tempdir().unwrap();
        let read = |path: &Path| read(path, &common(), &options("users", &[])).err().unwrap().to_string();
        assert!(read(folder.path()).contains("has no data.db"));
        let zip = folder.path().join("backup.zip");
        fs::write(&zip, "PK\x03\x04 and more").unwrap();
        assert!(read(&zip).contains("is a backup: unpack it"));
    }
}
