//! What a Django site stores: users, their profile, lists and tokens, from SQLite, a dump of PostgreSQL or `dumpdata`.

mod layout;
mod options;
mod rows;
mod tokens;

pub use crate::import::django::options::Options;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde_json::Value;

use crate::import::account::{Source, SourceAccount, SourceToken, Warning};
use crate::import::django::layout::{LISTS, Layout, List, OWN_COLUMNS, ProfileTable, Side, TOKEN_TABLES, reference};
use crate::import::django::rows::{Row, Times, count_rows, key_text, read_rows};
use crate::import::django::tokens::{Knox, TOKEN_FORM, read_plain};
use crate::import::fields::listed;
use crate::import::formats::dumpdata::DumpData;
use crate::import::formats::pg_dump::PgDump;
use crate::import::formats::sqlite::{HEADER, SqliteFile};
use crate::import::formats::tables::{Cell, TableInfo, Tables, shown};
use crate::import::zone::Zone;
use crate::import::{Common, ImportError, formats};

/// What begins a word in the names of tables of second factors (django-otp, allauth, django-mfa and others), which have a row
/// a factor.
const SECOND_FACTORS: [&str; 10] =
    ["fido", "hotp", "mfa", "otp", "passkey", "totp", "trench", "u2f", "webauthn", "yubikey"];

/// Whether a table is of second factors, by its name.
fn is_of_second_factors(table: &TableInfo) -> bool {
    let name = table.name.to_ascii_lowercase();
    name.contains("two_factor")
        || name.split('_').any(|word| SECOND_FACTORS.iter().any(|begin| word.starts_with(begin)))
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
    let layout = Layout::find(file, common, options)?;
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
    reading.notes(options)?;
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
        let Some(ProfileTable { table, owner, key, .. }) = &layout.profile else { return Ok(()) };
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
            let Some(table) = self.beside(name).cloned() else { continue };
            let Some(owner) = reference(&table, &self.layout.user) else {
                if count_rows(self.file, &table)? == 0 {
                    continue;
                }
                return Err(ImportError::new(format!(
                    "the tokens of {name} are not those of {}: --user-table names another table, --no-tokens leaves them behind",
                    shown(&self.layout.user.name)
                )));
            };
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
        for table in self.layout.tables.iter().filter(|table| is_of_second_factors(table)) {
            let Some(owner) = reference(table, &self.layout.user) else { continue };
            let source = &mut self.source;
            let (by_key, by_natural_key) = (&self.by_key, &self.by_natural_key);
            read_rows(self.file, table, &[&owner, "confirmed"], &mut |row| {
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

    fn beside(&self, name: &str) -> Option<&TableInfo> {
        self.layout.tables.iter().find(|table| table.schema == self.layout.user.schema && table.name == name)
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

    fn notes(&mut self, options: &Options) -> Result<(), ImportError> {
        let layout = &self.layout;
        let notes = &mut self.source.notes;
        for (side, table) in
            [(Side::User, Some(&layout.user)), (Side::Profile, layout.profile.as_ref().map(|profile| &profile.table))]
        {
            let left = layout.columns_left(side);
            if let Some(table) = table.filter(|_| !left.is_empty()) {
                notes.push(format!(
                    "columns of {} that are not carried: {}",
                    shown(&table.name),
                    listed(left.iter().map(String::as_str))
                ));
            }
        }
        if let Some(profile) = layout.profile.as_ref().filter(|profile| profile.is_guess) {
            notes.push(format!(
                "{} is taken for the users' profile by its columns, and because it has no two rows of a user: \
                 --profile-table names another",
                shown(&profile.table.name)
            ));
        }
        let is_list = |table: &TableInfo| {
            layout.lists.iter().flatten().any(|list| matches!(list, List::Table { table: own, .. } if own == table))
        };
        let is_profile = |table: &TableInfo| layout.profile.as_ref().is_some_and(|profile| profile.table == *table);
        let counted = ["groups", "user_permissions"].map(|field| format!("{}_{field}", layout.user.name));
        let left = layout.tables.iter().filter(|table| {
            layout.refers_to_users(table)
                && !TOKEN_TABLES.contains(&table.name.as_str())
                && !is_of_second_factors(table)
                && !counted.contains(&table.name)
                && !is_list(table)
                && !is_profile(table)
        });
        let left: Vec<TableInfo> = left.cloned().collect();
        let mut counted = Vec::new();
        for table in left {
            let count = count_rows(self.file, &table)?;
            if count > 0 {
                counted.push(format!("{} (rows: {count})", table.name));
            }
        }
        if !counted.is_empty() {
            let counted = listed(counted.iter().map(String::as_str));
            notes.push(format!("tables about users that are not carried: {counted}"));
        }
        if let Some(newest) = self.times.newest_without_zone {
            let zone = options.timezone.as_deref().unwrap_or("UTC");
            notes.push(format!(
                "times have no zone and were read as {zone}'s: the newest is {newest} (--timezone names another zone)"
            ));
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::import::account::SourceDigest;
    use crate::system::clock::Timestamp;

    /// What is read of a file with these words.
    fn outcome(words: &str, options: &Options, common: &Common) -> Result<Source, ImportError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump");
        fs::write(&path, words).unwrap();
        read(&path, common, options)
    }

    fn common() -> Common {
        Common { name: None, fields: Vec::new(), now: Timestamp::BEFORE_THIS_RELEASE }
    }

    fn source(words: &str, options: &Options) -> Source {
        outcome(words, options, &common()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refusal(words: &str, options: &Options) -> String {
        outcome(words, options, &common()).err().map(|error| error.to_string()).unwrap_or_default()
    }

    fn words(warnings: &[Warning]) -> Vec<&str> {
        warnings.iter().map(|Warning(what)| what.as_str()).collect()
    }

    /// A site with a profile, lists of the profile, a token and a second factor.
    const SITE: &str = "
CREATE TABLE public.people_member (id uuid NOT NULL, password text, last_login timestamp with time zone,
    username text, first_name text, email text, is_active boolean, is_staff boolean, is_superuser boolean,
    date_joined timestamp with time zone, shoe_size integer, CONSTRAINT a PRIMARY KEY (id));
CREATE TABLE public.shop_profile (id integer, member_id uuid, first_name text, city text, created timestamp with time zone);
CREATE TABLE public.shop_profile_cellar (id integer, profile_id integer, beer_id integer);
CREATE TABLE public.shop_order (id integer, member_id uuid, city text);
CREATE TABLE public.authtoken_token (key text, created timestamp with time zone, user_id uuid);
CREATE TABLE public.otp_totp_totpdevice (id integer, user_id uuid, confirmed boolean);
ALTER TABLE ONLY public.shop_profile ADD CONSTRAINT b FOREIGN KEY (member_id) REFERENCES public.people_member(id);
ALTER TABLE ONLY public.shop_profile ADD CONSTRAINT c UNIQUE (member_id);
ALTER TABLE ONLY public.shop_profile ADD CONSTRAINT d PRIMARY KEY (id);
ALTER TABLE ONLY public.shop_profile_cellar ADD CONSTRAINT e FOREIGN KEY (profile_id) REFERENCES public.shop_profile(id);
ALTER TABLE ONLY public.shop_order ADD CONSTRAINT f FOREIGN KEY (member_id) REFERENCES public.people_member(id);
ALTER TABLE ONLY public.authtoken_token ADD CONSTRAINT g FOREIGN KEY (user_id) REFERENCES public.people_member(id);
ALTER TABLE ONLY public.otp_totp_totpdevice ADD CONSTRAINT h FOREIGN KEY (user_id) REFERENCES public.people_member(id);
INSERT INTO public.people_member VALUES
    ('00000000-0000-0000-0000-00000000000a', '!x', NULL, 'ana', '', 'ana@x.example', true, true, true, '2020-01-02 03:04:05.678999+01', 44),
    ('00000000-0000-0000-0000-00000000000b', '', '2021-01-01 00:00:00+00', 'bob', 'Bob', '', false, false, false, 'never', 45);
INSERT INTO public.shop_profile VALUES (7, '00000000-0000-0000-0000-00000000000a', 'Ana', 'Porto', '2020-01-03 00:00:00+00');
INSERT INTO public.shop_profile_cellar VALUES (1, 7, 3), (2, 7, 5), (3, 8, 9);
INSERT INTO public.shop_order VALUES (1, '00000000-0000-0000-0000-00000000000a', 'Lyon');
INSERT INTO public.authtoken_token VALUES
    ('d96163b8bc9127d8c5d5839018580123c64a324b', '2020-01-02 03:04:05+00', '00000000-0000-0000-0000-00000000000a'),
    ('short', '2020-01-02 03:04:05+00', '00000000-0000-0000-0000-00000000000a'),
    ('ffff63b8bc9127d8c5d5839018580123c64a324b', '2020-01-02 03:04:05+00', '00000000-0000-0000-0000-00000000000c');
INSERT INTO public.otp_totp_totpdevice VALUES (1, '00000000-0000-0000-0000-00000000000a', true), (2, '00000000-0000-0000-0000-00000000000b', false);
";

    #[test]
    fn foreign_keys_tell_the_users_their_profile_their_lists_and_their_tokens() {
        let source = source(SITE, &Options::default());
        let [ana, bob] = source.accounts.as_slice() else { panic!() };
        assert_eq!((ana.id.as_str(), ana.name.as_str()), ("00000000-0000-0000-0000-00000000000a", "ana"));
        let profile: Vec<_> = ana.profile.iter().map(|(field, text)| (field.name(), text.as_str())).collect();
        assert_eq!(profile, [("email", "ana@x.example"), ("first_name", "Ana"), ("city", "Porto")]);
        assert!(ana.is_active && ana.is_staff && ana.is_superuser);
        let joined = ana.date_joined.map(|moment| moment.to_string());
        assert_eq!(joined.as_deref(), Some("2020-01-02T02:04:05.678Z"));
        assert_eq!(ana.created.map(|moment| moment.to_string()).as_deref(), Some("2020-01-03T00:00:00.000Z"));
        assert_eq!((&ana.cellar, &ana.wants), (&vec![Some(3), Some(5)], &Vec::new()));
        assert_eq!(ana.password.as_deref(), Some("!x"));
        assert_eq!(words(&ana.warnings), ["mfa_dropped", "token_form"]);
        assert!(matches!(ana.tokens[0].digest, Ok(SourceDigest::Sha256(_))));
        assert_eq!(ana.tokens[1].digest.as_ref().err(), Some(&"token_form"));
        assert!(!bob.is_active && bob.date_joined.is_none() && bob.profile.len() == 1);
        assert_eq!(words(&bob.warnings), ["date_joined_dropped"]);
        assert_eq!(
            source.notes,
            [
                "1 tokens of authtoken_token belong to no user that is there",
                "columns of people_member that are not carried: shoe_size",
                "tables about users that are not carried: shop_order (rows: 1)",
            ]
        );
    }

    /// A user whose model inherits from another, references that a renamed table has left behind, and factors of several kinds.
    const HEIRS: &str = "
CREATE TABLE public.auth_user (id integer, password text, last_login timestamp with time zone, username text);
CREATE TABLE public.shop_customer (user_ptr_id integer, city text);
CREATE TABLE public.authtoken_token (key text, created timestamp with time zone, user_id integer);
CREATE TABLE public.trench_mfamethod (id integer, user_id integer);
CREATE TABLE public.print_footprint (id integer, user_id integer);
ALTER TABLE ONLY public.auth_user ADD CONSTRAINT a PRIMARY KEY (id);
ALTER TABLE ONLY public.shop_customer ADD CONSTRAINT b PRIMARY KEY (user_ptr_id);
ALTER TABLE ONLY public.shop_customer ADD CONSTRAINT c FOREIGN KEY (user_ptr_id) REFERENCES public.auth_user(id);
ALTER TABLE ONLY public.authtoken_token ADD CONSTRAINT d FOREIGN KEY (user_id) REFERENCES public.shop_customer(user_ptr_id);
ALTER TABLE ONLY public.trench_mfamethod ADD CONSTRAINT e FOREIGN KEY (user_id) REFERENCES public.auth_user__old(id);
ALTER TABLE ONLY public.print_footprint ADD CONSTRAINT f FOREIGN KEY (user_id) REFERENCES public.auth_user(id);
INSERT INTO public.auth_user VALUES (1, '!', NULL, 'ana'), (2, '!', NULL, 'bob');
INSERT INTO public.shop_customer VALUES (1, 'Porto');
INSERT INTO public.authtoken_token VALUES ('d96163b8bc9127d8c5d5839018580123c64a324b', '2020-01-02 03:04:05+00', 1);
INSERT INTO public.trench_mfamethod VALUES (1, 2);
INSERT INTO public.print_footprint VALUES (1, 1);
";

    #[test]
    fn a_reference_to_a_model_that_inherits_or_to_a_renamed_table_leads_to_the_users() {
        let source = source(HEIRS, &Options::default());
        let [ana, bob] = source.accounts.as_slice() else { panic!() };
        assert_eq!((ana.name.as_str(), ana.profile[0].1.as_str(), ana.tokens.len()), ("ana", "Porto", 1));
        assert!(ana.warnings.is_empty(), "{:?}", words(&ana.warnings));
        assert_eq!(words(&bob.warnings), ["mfa_dropped"]);
    }

    #[test]
    fn tokens_that_belong_to_another_table_than_the_users_are_an_error_and_not_left_behind() {
        let others = SITE.replace(
            "CONSTRAINT g FOREIGN KEY (user_id) REFERENCES public.people_member",
            "CONSTRAINT g FOREIGN KEY (user_id) REFERENCES public.shop_order",
        );
        let asked = Options { user_table: Some("people_member".to_owned()), ..Options::default() };
        assert!(refusal(&others, &asked).contains("--no-tokens"));
        source(&others, &Options { no_tokens: true, ..asked });
    }

    #[test]
    fn a_table_that_only_looks_like_a_profile_is_named() {
        let order = "[{\"model\": \"auth.user\", \"pk\": 1, \"fields\": {\"password\": \"\", \"last_login\": null, \"username\": \"x\"}},
            {\"model\": \"shop.order\", \"pk\": 1, \"fields\": {\"user\": 1, \"address\": \"Bobstreet 1\"}}]";
        let source = source(order, &Options::default());
        assert!(source.notes.iter().any(|note| note.starts_with("shop_order is taken for the users' profile")));
    }

    #[test]
    fn rights_and_tokens_stay_there_where_the_operator_says_so() {
        let options = Options { no_rights: true, no_tokens: true, ..Options::default() };
        let source = source(SITE, &options);
        assert!(source.accounts.iter().all(|one| !one.is_staff && !one.is_superuser && one.tokens.is_empty()));
        assert_eq!(words(&source.accounts[0].warnings), ["mfa_dropped"]);
    }

    #[test]
    fn the_operator_names_what_the_file_does_not_tell() {
        let two = "[{\"model\": \"a.user\", \"pk\": 1, \"fields\": {\"password\": \"\", \"last_login\": null, \"email\": \"x\"}},
            {\"model\": \"b.user\", \"pk\": 1, \"fields\": {\"password\": \"\", \"last_login\": null, \"nick\": \"y\"}},
            {\"model\": \"c.taste\", \"pk\": 1, \"fields\": {\"user\": 1, \"beer\": 4, \"stars\": 2}},
            {\"model\": \"c.taste\", \"pk\": 2, \"fields\": {\"user\": 1, \"beer\": 6, \"stars\": 1}}]";
        assert_eq!(refusal(two, &Options::default()), "--user-table: which of a_user, b_user is it?");
        let asked = |table: &str| Options { user_table: Some(table.to_owned()), ..Options::default() };
        assert!(refusal(two, &asked("d_user")).contains("no table d_user"));
        assert!(refusal(two, &asked("b.user")).contains("--name"));
        let mut common = common();
        (common.name, common.fields) = (Some("nick".to_owned()), vec![("city".to_owned(), "nick".to_owned())]);
        let mut options = asked("b.user");
        options.items = vec![("wants".to_owned(), "c_taste.beer".to_owned())];
        let read = outcome(two, &options, &common).unwrap_or_else(|error| panic!("{error}"));
        let [account] = read.accounts.as_slice() else { panic!() };
        assert_eq!((account.name.as_str(), account.profile[0].1.as_str()), ("y", "y"));
        assert_eq!(account.wants, [Some(4), Some(6)]);
        options.items[0].1 = "c.taste".to_owned();
        assert!(
            refusal(two, &Options { user_table: Some("a_user".to_owned()), ..options.clone() })
                .contains("c_taste.COLUMN")
        );
        options.items[0].1 = "c_sip".to_owned();
        assert!(refusal(two, &Options { user_table: Some("a_user".to_owned()), ..options }).contains("no field c_sip"));
        common.fields = vec![("city".to_owned(), "town".to_owned())];
        assert!(outcome(two, &asked("b.user"), &common).is_err());
    }

    #[test]
    fn a_natural_key_leads_to_its_user_and_names_one_that_has_no_other() {
        let dump = "[{\"model\": \"auth.user\", \"fields\": {\"password\": \"\", \"last_login\": \"2020-01-01T00:00:00.5\",
            \"username\": \"[\\\"ana\\\"]\", \"cellar\": [1, \"2\", [\"x\"], -3], \"groups\": [1], \"is_active\": false}},
            {\"model\": \"auth.user\", \"fields\": {\"password\": \"\", \"username\": \"ana\", \"is_active\": true}},
            {\"model\": \"authtoken.token\", \"pk\": \"d96163b8bc9127d8c5d5839018580123c64a324b\", \"fields\": {\"user\": [\"ana\"]}}]";
        let source = source(dump, &Options::default());
        let [odd, ana] = source.accounts.as_slice() else { panic!() };
        assert_eq!((ana.id.as_str(), ana.tokens.len(), odd.tokens.len()), ("ana", 1, 0));
        assert_eq!(odd.cellar, [Some(1), Some(2), None, Some(-3)]);
        assert_eq!((ana.is_active, odd.is_active), (true, false));
        assert_eq!(source.left_out.get("groups"), Some(&1));
        let note = "times have no zone and were read as UTC's: the newest is 2020-01-01T00:00:00.500Z";
        assert!(source.notes.iter().any(|own| own.starts_with(note)), "{:?}", source.notes);
        assert!(refusal(&dump.replace("[\\\"ana\\\"]", "ana"), &Options::default()).contains("two users"));
    }

    #[test]
    fn a_model_with_several_rows_a_user_is_no_profile_unless_the_operator_says_so() {
        let dump = "[{\"model\": \"auth.user\", \"pk\": 1, \"fields\": {\"password\": \"\", \"last_login\": null, \"username\": \"a\"}},
            {\"model\": \"shop.order\", \"pk\": 1, \"fields\": {\"user\": 1, \"city\": \"Lyon\"}},
            {\"model\": \"shop.order\", \"pk\": 2, \"fields\": {\"user\": 1, \"city\": \"Graz\"}}]";
        assert!(source(dump, &Options::default()).accounts[0].profile.is_empty());
        let asked = Options { profile_table: Some("shop.order".to_owned()), ..Options::default() };
        assert!(refusal(dump, &asked).contains("several rows for the user 1"));
        let one = dump.replace("\"pk\": 2, \"fields\": {\"user\": 1", "\"pk\": 2, \"fields\": {\"user\": 2");
        assert_eq!(source(&one, &Options::default()).accounts[0].profile[0].1, "Lyon");
    }

    /// knox's table with a row for each: the beginning of the token, and its end.
    fn knox(extra: &str, rows: &[(&str, &str)]) -> String {
        let user = "[{\"model\": \"auth.user\", \"pk\": 1, \"fields\": {\"password\": \"\", \"last_login\": null, \"username\": \"a\"}}";
        let row = |(index, (key, expiry)): (usize, &(&str, &str))| {
            format!(
                ", {{\"model\": \"knox.authtoken\", \"pk\": \"{index:0128x}\", \"fields\": {{\"user\": 1, {extra} \
                 \"token_key\": \"{key}\", \"expiry\": {expiry}}}}}"
            )
        };
        user.to_owned() + &rows.iter().enumerate().map(row).collect::<String>() + "]"
    }

    fn fates(dump: &str, options: &Options) -> Vec<&'static str> {
        let source = source(dump, options);
        let fate = |token: &SourceToken| match token.digest {
            Ok(SourceDigest::Sha512(_)) => "sha512",
            Ok(SourceDigest::Sha256(_)) => "sha256",
            Err(reason) => reason,
        };
        source.accounts[0].tokens.iter().map(fate).collect()
    }

    #[test]
    fn tokens_of_knox_are_carried_where_their_digest_is_all_that_it_takes() {
        let none = Options::default();
        let (old, new) = (("12345678", "null"), ("123456789012345", "\"2099-01-01T00:00:00Z\""));
        let (gone, odd) = (("123456789012345", "\"2020-01-01T00:00:00Z\""), ("123456789012345", "\"soon\""));
        assert_eq!(fates(&knox("", &[old]), &none), ["sha512"]);
        assert_eq!(fates(&knox("\"salt\": \"ab\",", &[old]), &none), ["token_salted"]);
        let all = knox("", &[old, new, gone, odd]);
        assert_eq!(fates(&all, &none), ["token_dead_at_source", "sha512", "expired", "token_form"]);
        let expires = source(&all, &none).accounts[0].tokens[1].expires.map(|end| end.to_string());
        assert_eq!(expires.as_deref(), Some("2099-01-01T00:00:00.000Z"));
        for (hash, fate) in [("SHA-512", "sha512"), ("hashlib.sha512", "sha512"), ("blake2b", "token_form")] {
            let options = Options { knox_hash: Some(hash.to_owned()), ..Options::default() };
            assert_eq!(fates(&knox("", &[new]), &options), [fate], "{hash}");
        }
        assert_eq!(fates(&knox("", &[new]).replace(&"0".repeat(128), "abcd"), &none), ["token_form"]);
    }
}
