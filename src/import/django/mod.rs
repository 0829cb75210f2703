//! What a Django site stores: users, their profile, lists and tokens, from SQLite, a dump of PostgreSQL or `dumpdata`.

mod layout;
mod rows;
mod tokens;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde_json::Value;

use crate::import::account::{Source, SourceAccount, SourceToken, Warning};
use crate::import::django::layout::{
    LISTS, Layout, List, OWN_COLUMNS, ProfileTable, Side, TOKEN_TABLES, listed, reference,
};
use crate::import::django::rows::{Row, Times, count_rows, key_text, read_rows};
use crate::import::django::tokens::{Knox, TOKEN_FORM, read_plain};
use crate::import::formats::dumpdata::DumpData;
use crate::import::formats::pg_dump::PgDump;
use crate::import::formats::sqlite::{HEADER, SqliteFile};
use crate::import::formats::tables::{Cell, TableInfo, Tables, shown};
use crate::import::zone::Zone;
use crate::import::{Common, ImportError, formats};

/// Tables of second factors, each with a row a factor.
const SECOND_FACTORS: [&str; 6] = [
    "mfa_authenticator",
    "otp_email_emaildevice",
    "otp_hotp_hotpdevice",
    "otp_static_staticdevice",
    "otp_totp_totpdevice",
    "two_factor_phonedevice",
];

/// The options of this source alone.
#[derive(Clone, Default)]
#[expect(missing_docs, reason = "the names are those of the options")]
pub struct Options {
    pub user_table: Option<String>,
    pub profile_table: Option<String>,
    pub timezone: Option<String>,
    /// Which list is taken from which table or field.
    pub items: Vec<(String, String)>,
    pub no_rights: bool,
    pub no_tokens: bool,
    pub knox_hash: Option<String>,
}

/// Reads all accounts.
///
/// # Errors
/// See [`ImportError`].
pub(super) fn read(path: &Path, common: &Common, options: &Options) -> Result<Source, ImportError> {
    let zone = options.timezone.as_deref().map_or(Ok(Zone::UTC), Zone::find)?;
    let head = formats::head(path)?;
    let first = head.strip_prefix(b"\xef\xbb\xbf".as_slice()).unwrap_or(&head).trim_ascii_start().first().copied();
    if head.starts_with(HEADER) {
        let mut file = SqliteFile::open(path)?;
        let mut source = read_file(&mut file, zone, common, options)?;
        source.notes.splice(0..0, file.notes().iter().cloned());
        Ok(source)
    } else if matches!(first, Some(b'[' | b'{')) {
        read_file(&mut DumpData::open(path)?, zone, common, options)
    } else {
        read_file(&mut PgDump::open(path)?, zone, common, options)
    }
}

fn read_file(file: &mut dyn Tables, zone: Zone, common: &Common, options: &Options) -> Result<Source, ImportError> {
    let layout = Layout::find(file.tables(), common, options)?;
    let mut reading = Reading {
        file,
        layout,
        times: Times::new(zone),
        source: Source::default(),
        by_key: HashMap::new(),
        by_natural_key: HashMap::new(),
        by_profile: HashMap::new(),
    };
    reading.users(options)?;
    reading.profiles()?;
    reading.lists()?;
    if !options.no_tokens {
        reading.tokens(common, options)?;
    }
    reading.second_factors()?;
    reading.count_left_out()?;
    reading.notes(options);
    for account in &mut reading.source.accounts {
        account.warnings.sort();
        account.warnings.dedup();
    }
    Ok(reading.source)
}

/// A file that is being read.
struct Reading<'a> {
    file: &'a mut dyn Tables,
    layout: Layout,
    times: Times,
    source: Source,
    /// Accounts by the keys that other tables refer to them by.
    by_key: HashMap<String, usize>,
    by_natural_key: HashMap<String, usize>,
    /// Accounts by the keys of their profiles.
    by_profile: HashMap<String, usize>,
}

impl Reading<'_> {
    fn users(&mut self, options: &Options) -> Result<(), ImportError> {
        let layout = &self.layout;
        let mut columns = vec!["groups", "user_permissions", &layout.natural_key, &layout.name];
        columns.extend(OWN_COLUMNS);
        columns.extend(layout.key.as_deref());
        columns.extend(columns_of(layout, Side::User));
        let (times, source) = (&mut self.times, &mut self.source);
        let (by_key, by_natural_key) = (&mut self.by_key, &mut self.by_natural_key);
        read_rows(self.file, &layout.user, &columns, &mut |row| {
            let index = source.accounts.len();
            let natural_key = row.text(&layout.natural_key).unwrap_or_default();
            let key = layout.key.as_deref().and_then(|key| key_text(row.cell(key)));
            // A dump with natural keys has no others: the name is what the source knows an account by.
            let id = key.unwrap_or_else(|| natural_key.clone());
            if by_key.insert(id.clone(), index).is_some() {
                return Err(ImportError::new(format!("two users have the key {}", shown(&id))));
            }
            by_natural_key.entry(natural_key).or_insert(index);
            for (what, column) in [("groups", "groups"), ("permissions", "user_permissions")] {
                add(&mut source.left_out, what, array(row.cell(column)).len() as u64);
            }
            let account = read_user(layout, &row, id, times, options);
            source.accounts.push(account);
            Ok(())
        })
    }

    fn profiles(&mut self) -> Result<(), ImportError> {
        let layout = &self.layout;
        let Some(ProfileTable { table, owner, key }) = &layout.profile else { return Ok(()) };
        let mut columns = vec!["created", "modified", owner];
        columns.extend(key.as_deref());
        columns.extend(columns_of(layout, Side::Profile));
        let (times, source) = (&mut self.times, &mut self.source);
        let (by_key, by_natural_key, by_profile) = (&self.by_key, &self.by_natural_key, &mut self.by_profile);
        let mut seen = HashSet::new();
        read_rows(self.file, table, &columns, &mut |row| {
            let Some(index) = find_owner(by_key, by_natural_key, row.cell(owner)) else { return Ok(()) };
            let account = &mut source.accounts[index];
            if !seen.insert(index) {
                let (table, id) = (shown(&table.name), shown(&account.id));
                return Err(ImportError::new(format!(
                    "{table} has several rows for the user {id}: name the profile's table by --profile-table"
                )));
            }
            if let Some(key) = key.as_deref().and_then(|key| key_text(row.cell(key))) {
                by_profile.insert(key, index);
            }
            read_fields(layout, Side::Profile, &row, account);
            account.created = account.created.or_else(|| times.read_column(&row, "created", &mut account.warnings));
            account.modified = account.modified.or_else(|| times.read_column(&row, "modified", &mut account.warnings));
            Ok(())
        })
    }

    /// The lists that are tables of their own.
    fn lists(&mut self) -> Result<(), ImportError> {
        for (place, list) in self.layout.lists.iter().enumerate() {
            let Some(List::Table { side, table, owner, item }) = list else { continue };
            let source = &mut self.source;
            let (by_key, by_natural_key, by_profile) = (&self.by_key, &self.by_natural_key, &self.by_profile);
            read_rows(self.file, table, &[owner, item], &mut |row| {
                let index = match side {
                    Side::User => find_owner(by_key, by_natural_key, row.cell(owner)),
                    Side::Profile => key_text(row.cell(owner)).and_then(|key| by_profile.get(&key).copied()),
                };
                if let Some(index) = index {
                    list_mut(&mut source.accounts[index], place).push(item_of(row.cell(item)));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn tokens(&mut self, common: &Common, options: &Options) -> Result<(), ImportError> {
        for name in TOKEN_TABLES {
            let Some((table, owner)) = self.table_of_users(name) else { continue };
            let source = &mut self.source;
            let (by_key, by_natural_key) = (&self.by_key, &self.by_natural_key);
            let mut ownerless = 0_u64;
            let mut each = |owner: &Cell, token: SourceToken| {
                let Some(index) = find_owner(by_key, by_natural_key, owner) else {
                    ownerless += 1;
                    return Ok(());
                };
                let account = &mut source.accounts[index];
                if token.digest.as_ref().err() == Some(&TOKEN_FORM) && account.is_active {
                    account.warnings.push(Warning::new(TOKEN_FORM));
                }
                account.tokens.push(token);
                Ok(())
            };
            if name == TOKEN_TABLES[0] {
                read_plain(self.file, &table, &owner, &mut self.times, &mut each)?;
            } else {
                let knox = Knox { hash: options.knox_hash.as_deref(), now: common.now };
                knox.read(self.file, &table, &owner, &mut self.times, &mut each)?;
            }
            if ownerless > 0 {
                self.source.notes.push(format!("{ownerless} tokens of {name} belong to no user that is there"));
            }
        }
        Ok(())
    }

    fn second_factors(&mut self) -> Result<(), ImportError> {
        for name in SECOND_FACTORS {
            let Some((table, owner)) = self.table_of_users(name) else { continue };
            let source = &mut self.source;
            let (by_key, by_natural_key) = (&self.by_key, &self.by_natural_key);
            read_rows(self.file, &table, &[&owner, "confirmed"], &mut |row| {
                // One that was begun and never confirmed protected nothing.
                if row.truth("confirmed") != Some(false)
                    && let Some(index) = find_owner(by_key, by_natural_key, row.cell(&owner))
                {
                    source.accounts[index].warnings.push(Warning::new("mfa_dropped"));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// A table that is beside the users' and refers to them, and its column that does.
    fn table_of_users(&self, name: &str) -> Option<(TableInfo, String)> {
        let table = self.beside(name)?;
        let owner = reference(table, &self.layout.user)?;
        Some((table.clone(), owner))
    }

    fn beside(&self, name: &str) -> Option<&TableInfo> {
        self.file.tables().iter().find(|table| table.schema == self.layout.user.schema && table.name == name)
    }

    fn count_left_out(&mut self) -> Result<(), ImportError> {
        let user = &self.layout.user.name;
        let counted = [
            ("groups", format!("{user}_groups")),
            ("permissions", format!("{user}_user_permissions")),
            ("sessions", "django_session".to_owned()),
        ];
        for (what, name) in counted {
            if let Some(table) = self.beside(&name).cloned() {
                let count = count_rows(self.file, &table)?;
                add(&mut self.source.left_out, what, count);
            }
        }
        Ok(())
    }

    fn notes(&mut self, options: &Options) {
        let layout = &self.layout;
        let notes = &mut self.source.notes;
        for (side, table) in
            [(Side::User, Some(&layout.user)), (Side::Profile, layout.profile.as_ref().map(|profile| &profile.table))]
        {
            let left = layout.columns_left(side);
            if let Some(table) = table.filter(|_| !left.is_empty()) {
                notes.push(format!("columns of {} that are not carried: {}", shown(&table.name), listed(&left)));
            }
        }
        let is_list = |table: &TableInfo| {
            layout.lists.iter().flatten().any(|list| matches!(list, List::Table { table: own, .. } if own == table))
        };
        let is_profile = |table: &TableInfo| layout.profile.as_ref().is_some_and(|profile| profile.table == *table);
        let counted = ["groups", "user_permissions"].map(|field| format!("{}_{field}", layout.user.name));
        let left = self.file.tables().iter().filter(|table| {
            layout.refers_to_users(table)
                && !TOKEN_TABLES.contains(&table.name.as_str())
                && !SECOND_FACTORS.contains(&table.name.as_str())
                && !counted.contains(&table.name)
                && !is_list(table)
                && !is_profile(table)
        });
        let left: Vec<String> = left.map(|table| table.name.clone()).collect();
        if !left.is_empty() {
            notes.push(format!("tables about users that are not carried: {}", listed(&left)));
        }
        if let Some(newest) = self.times.newest_without_zone {
            let zone = options.timezone.as_deref().unwrap_or("UTC");
            notes.push(format!(
                "times have no zone and were read as {zone}'s: the newest is {newest} (--timezone names another zone)"
            ));
        }
    }
}

/// The columns of the profile and of lists on one side.
fn columns_of(layout: &Layout, side: Side) -> impl Iterator<Item = &str> {
    let texts = layout.texts.iter().filter(move |text| text.1 == side).map(|text| text.2.as_str());
    let lists = layout.lists.iter().flatten().filter_map(move |list| match list {
        List::Column(own, column) if *own == side => Some(column.as_str()),
        _ => None,
    });
    texts.chain(lists)
}

fn read_user(layout: &Layout, row: &Row<'_>, id: String, times: &mut Times, options: &Options) -> SourceAccount {
    let mut warnings = Vec::new();
    let mut time = |column| times.read_column(row, column, &mut warnings);
    let (created, modified) = (time("created"), time("modified"));
    let mut account = SourceAccount {
        id,
        name: row.text(&layout.name).unwrap_or_default(),
        password: row.text("password"),
        // A model of users without the column has active users only.
        is_active: row.truth("is_active").unwrap_or_else(|| !rows::has(&layout.user, "is_active")),
        is_staff: !options.no_rights && row.truth("is_staff").unwrap_or_default(),
        is_superuser: !options.no_rights && row.truth("is_superuser").unwrap_or_default(),
        date_joined: time("date_joined").or(created),
        created,
        modified,
        last_login: time("last_login"),
        ..SourceAccount::default()
    };
    account.warnings = warnings;
    read_fields(layout, Side::User, row, &mut account);
    account
}

/// Reads the fields of the profile and the lists that one of the two tables has. What the user's own table has counts.
fn read_fields(layout: &Layout, side: Side, row: &Row<'_>, account: &mut SourceAccount) {
    for (field, own, column) in &layout.texts {
        let is_set = account.profile.iter().any(|(set, _)| set == field);
        if *own == side
            && !is_set
            && let Some(text) = row.text(column).filter(|text| !text.is_empty())
        {
            account.profile.push((*field, text));
        }
    }
    for (place, list) in layout.lists.iter().enumerate() {
        if let Some(List::Column(own, column)) = list
            && *own == side
        {
            list_mut(account, place).extend(array(row.cell(column)).iter().map(json_item));
        }
    }
}

/// The list at a place of [`LISTS`].
fn list_mut(account: &mut SourceAccount, place: usize) -> &mut Vec<Option<i64>> {
    if LISTS[place] == "cellar" { &mut account.cellar } else { &mut account.wants }
}

/// The values of a field of many: a JSON array. What is none has none.
fn array(cell: &Cell) -> Vec<Value> {
    match cell {
        Cell::Text(text) if text.trim_start().starts_with('[') => serde_json::from_str(text).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn json_item(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn item_of(cell: &Cell) -> Option<i64> {
    cell.text()?.parse().ok()
}

/// The account that a reference leads to: by its key, or by a natural key, which is an array.
fn find_owner(
    by_key: &HashMap<String, usize>,
    by_natural_key: &HashMap<String, usize>,
    reference: &Cell,
) -> Option<usize> {
    if let [Value::String(natural_key)] = array(reference).as_slice() {
        return by_natural_key.get(natural_key).copied();
    }
    by_key.get(&key_text(reference)?).copied()
}

fn add(counts: &mut BTreeMap<String, u64>, what: &str, count: u64) {
    if count > 0 {
        *counts.entry(what.to_owned()).or_default() += count;
    }
}
