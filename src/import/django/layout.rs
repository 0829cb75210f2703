//! Where a Django site keeps its users, and what belongs to them.
//!
//! Foreign keys tell, where the file has them; else what the tables look like does, and the operator where that is not plain.

use crate::domain::profile::ProfileField;
use crate::import::django::Options;
use crate::import::django::rows::has;
use crate::import::formats::dumpdata::KEY;
use crate::import::formats::tables::{TableInfo, shown};
use crate::import::{Common, ImportError};

/// The tables of tokens, whose foreign keys lead to the users.
pub(super) const TOKEN_TABLES: [&str; 2] = ["authtoken_token", "knox_authtoken"];

/// Our lists, by their names.
pub(super) const LISTS: [&str; 2] = ["cellar", "wants"];

/// Columns that a table is known by as a profile. Not `email`: tables of addresses have that as well.
const PROFILE_COLUMNS: [&str; 7] = ["first_name", "last_name", "address", "address2", "city", "state", "zipcode"];

/// Columns of the user that are read.
pub(super) const OWN_COLUMNS: [&str; 8] =
    ["password", "is_active", "is_staff", "is_superuser", "date_joined", "last_login", "created", "modified"];

/// How many names a message lists.
const MAX_NAMED: usize = 20;

/// Where everything is.
pub(super) struct Layout {
    pub(super) user: TableInfo,
    /// The column of the users' key; nothing where a dump has natural keys alone.
    pub(super) key: Option<String>,
    /// The column of what stands for a user in a natural key.
    pub(super) natural_key: String,
    /// The column of the name.
    pub(super) name: String,
    pub(super) profile: Option<ProfileTable>,
    /// Which columns a field of the profile is taken from: the first that is not empty counts.
    pub(super) texts: Vec<(ProfileField, Side, String)>,
    /// For each of [`LISTS`], where its items are.
    pub(super) lists: [Option<List>; 2],
}

/// A table with one row a user.
pub(super) struct ProfileTable {
    pub(super) table: TableInfo,
    /// The column that refers to the user.
    pub(super) owner: String,
    /// The column of its own key.
    pub(super) key: Option<String>,
}

/// To which of the two tables something belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    User,
    Profile,
}

/// Where the items of a list are.
pub(super) enum List {
    /// In a column of many values.
    Column(Side, String),
    /// In a table of its own: the columns of the owner and of the item.
    Table { side: Side, table: TableInfo, owner: String, item: String },
}

impl Layout {
    pub(super) fn find(tables: &[TableInfo], common: &Common, options: &Options) -> Result<Self, ImportError> {
        let user = find_user(tables, options.user_table.as_deref())?.clone();
        let key = key_of(&user);
        let natural_key = if has(&user, "username") { "username" } else { "email" };
        let name = common.name.clone().unwrap_or_else(|| natural_key.to_owned());
        if !has(&user, &name) {
            return Err(ImportError::new(format!(
                "{} has no column {}: name the one that people log in with by --name",
                shown(&user.name),
                shown(&name)
            )));
        }
        let profile = find_profile(tables, &user, options.profile_table.as_deref())?;
        let mut layout = Self {
            user,
            key,
            natural_key: natural_key.to_owned(),
            name,
            profile,
            texts: Vec::new(),
            lists: [None, None],
        };
        layout.texts = layout.find_texts(common)?;
        layout.lists = layout.find_lists(tables, options)?;
        Ok(layout)
    }

    fn side_has(&self, side: Side, column: &str) -> bool {
        match side {
            Side::User => has(&self.user, column),
            Side::Profile => self.profile.as_ref().is_some_and(|profile| has(&profile.table, column)),
        }
    }

    fn find_texts(&self, common: &Common) -> Result<Vec<(ProfileField, Side, String)>, ImportError> {
        if let Some((ours, _)) =
            common.fields.iter().find(|(ours, _)| ProfileField::ALL.iter().all(|field| field.name() != ours))
        {
            return Err(ImportError::new(format!("--field: the profile has no field {}", shown(ours))));
        }
        let mut texts = Vec::new();
        for field in ProfileField::ALL {
            let mapped = common.fields.iter().find(|(ours, _)| ours == field.name());
            let column = mapped.map_or(field.name(), |(_, theirs)| theirs);
            let sides = [Side::User, Side::Profile].into_iter().filter(|side| self.side_has(*side, column));
            let before = texts.len();
            texts.extend(sides.map(|side| (field, side, column.to_owned())));
            if mapped.is_some() && texts.len() == before {
                return Err(ImportError::new(format!("--field: there is no column {}", shown(column))));
            }
        }
        Ok(texts)
    }

    fn find_lists(&self, tables: &[TableInfo], options: &Options) -> Result<[Option<List>; 2], ImportError> {
        if let Some((ours, _)) = options.items.iter().find(|(ours, _)| !LISTS.contains(&ours.as_str())) {
            return Err(ImportError::new(format!("--items: there is no list {}", shown(ours))));
        }
        let mut found = [None, None];
        for (list, found) in LISTS.iter().zip(&mut found) {
            let asked = options.items.iter().find(|(ours, _)| ours == list).map(|(_, theirs)| theirs.as_str());
            *found = match asked {
                None => self.field_list(tables, list)?,
                Some(theirs) => Some(self.asked_list(tables, theirs)?),
            };
        }
        Ok(found)
    }

    /// The items of a field of many values: a table that is named for it, or a column.
    fn field_list(&self, tables: &[TableInfo], field: &str) -> Result<Option<List>, ImportError> {
        for side in [Side::User, Side::Profile] {
            let Some(owner) = self.owner_table(side) else { continue };
            let name = format!("{}_{field}", owner.name);
            if let Some(table) = tables.iter().find(|table| table.schema == owner.schema && table.name == name) {
                return self.table_list(table, None).map(Some);
            }
            if self.side_has(side, field) {
                return Ok(Some(List::Column(side, field.to_owned())));
            }
        }
        Ok(None)
    }

    /// The list that `--items` names: a field, a table, or a table and its column of items.
    fn asked_list(&self, tables: &[TableInfo], asked: &str) -> Result<List, ImportError> {
        if let Some(list) = self.field_list(tables, asked)? {
            return Ok(list);
        }
        if let Some(table) = named(tables, asked).first() {
            return self.table_list(table, None);
        }
        if let Some((table, column)) = asked.rsplit_once('.')
            && let Some(table) = named(tables, table).first()
            && has(table, column)
        {
            return self.table_list(table, Some(column));
        }
        Err(ImportError::new(format!("--items: there is no table and no field {}", shown(asked))))
    }

    fn table_list(&self, table: &TableInfo, asked_item: Option<&str>) -> Result<List, ImportError> {
        for side in [Side::Profile, Side::User] {
            let Some(owner_table) = self.owner_table(side) else { continue };
            let Some(owner) = reference(table, owner_table) else { continue };
            let key = key_of(table);
            let is_other = |column: &&String| **column != owner && Some(*column) != key.as_ref();
            let mut others = table.columns.iter().filter(is_other);
            // A table that a field of many values has has no other columns. One of the site's own may have: there the
            // reference tells.
            let mut referring: Vec<&String> =
                table.foreign_keys.iter().map(|key| &key.column).filter(|column| **column != owner).collect();
            referring.dedup();
            let item = match (asked_item, others.next(), others.next(), referring.as_slice()) {
                (Some(item), ..) => item,
                (None, Some(item), None, _) => item,
                (None, _, _, [item]) => item,
                _ => {
                    let name = shown(&table.name);
                    return Err(ImportError::new(format!(
                        "--items: which column of {name} is the item? Name it as {name}.COLUMN"
                    )));
                }
            };
            return Ok(List::Table { side, table: table.clone(), owner, item: item.to_owned() });
        }
        Err(ImportError::new(format!("--items: {} refers to no user and no profile", shown(&table.name))))
    }

    fn owner_table(&self, side: Side) -> Option<&TableInfo> {
        match side {
            Side::User => Some(&self.user),
            Side::Profile => self.profile.as_ref().map(|profile| &profile.table),
        }
    }

    /// Which columns of a table are not carried.
    pub(super) fn columns_left(&self, side: Side) -> Vec<String> {
        let Some(table) = self.owner_table(side) else { return Vec::new() };
        let mut used: Vec<&str> = self.texts.iter().filter(|text| text.1 == side).map(|text| text.2.as_str()).collect();
        used.extend(self.lists.iter().flatten().filter_map(|list| match list {
            List::Column(own, column) if *own == side => Some(column.as_str()),
            _ => None,
        }));
        match (side, &self.profile) {
            (Side::Profile, Some(profile)) => {
                used.extend(["created", "modified", &profile.owner]);
                used.extend(profile.key.as_deref());
            }
            _ => {
                // Groups and permissions are counted.
                used.extend(OWN_COLUMNS);
                used.extend(["groups", "user_permissions", &self.name]);
                used.extend(self.key.as_deref());
            }
        }
        table.columns.iter().filter(|column| !used.contains(&column.as_str())).cloned().collect()
    }

    /// Whether a table refers to the users.
    pub(super) fn refers_to_users(&self, table: &TableInfo) -> bool {
        reference(table, &self.user).is_some()
    }
}

/// The column of a table's key, where it is one.
fn key_of(table: &TableInfo) -> Option<String> {
    match table.primary_key.as_slice() {
        [key] => Some(key.clone()),
        _ => Some("id".to_owned()).filter(|id| has(table, id)),
    }
}

/// The column of a table that refers to another: by its foreign key or, in a file that has none, by its name, which is
/// that of the other's model.
pub(super) fn reference(table: &TableInfo, other: &TableInfo) -> Option<String> {
    if table.schema != other.schema || table.name == other.name {
        return None;
    }
    if !table.foreign_keys.is_empty() {
        return table.foreign_keys.iter().find(|key| key.table == other.name).map(|key| key.column.clone());
    }
    let is_model = |column: &&String| {
        let model = column.strip_suffix("_id").unwrap_or(column);
        other.name.strip_suffix(model).is_some_and(|app| app.is_empty() || app.ends_with('_'))
    };
    // A site's own model of users may have any name, but what comes with Django calls the reference `user`.
    let is_user = |column: &&String| has(other, "password") && (*column == "user" || *column == "user_id");
    table.columns.iter().find(is_model).or_else(|| table.columns.iter().find(is_user)).cloned()
}

/// The tables that a name on the command line may mean: `auth_user`, `public.auth_user` or the model `auth.user`.
fn named<'a>(tables: &'a [TableInfo], name: &str) -> Vec<&'a TableInfo> {
    let table_name = name.replace('.', "_");
    let is_it = |table: &&TableInfo| {
        let with_schema = format!("{}.{}", table.schema, table.name);
        table.name == name || with_schema == name || table.name.eq_ignore_ascii_case(&table_name)
    };
    tables.iter().filter(is_it).collect()
}

fn find_user<'a>(tables: &'a [TableInfo], asked: Option<&str>) -> Result<&'a TableInfo, ImportError> {
    if let Some(asked) = asked {
        return only(
            named(tables, asked),
            &format!("--user-table: there is no table {}", shown(asked)),
            "--user-table",
        );
    }
    let mut found: Vec<&TableInfo> = Vec::new();
    for token in tables.iter().filter(|table| TOKEN_TABLES.contains(&table.name.as_str())) {
        for key in token.foreign_keys.iter().filter(|key| key.column == "user_id") {
            found.extend(tables.iter().filter(|table| table.schema == token.schema && table.name == key.table));
        }
    }
    if found.is_empty() {
        found.extend(tables.iter().filter(|table| has(table, "password") && has(table, "last_login")));
    }
    found.sort_by_key(|table| (&table.schema, &table.name));
    found.dedup();
    only(
        found,
        "no table looks like the users of a Django site, which have a password and a last_login: name it by --user-table",
        "--user-table",
    )
}

fn find_profile(
    tables: &[TableInfo],
    user: &TableInfo,
    asked: Option<&str>,
) -> Result<Option<ProfileTable>, ImportError> {
    let found = if let Some(asked) = asked {
        let none = format!("--profile-table: there is no table {}", shown(asked));
        Some(only(named(tables, asked), &none, "--profile-table")?)
    } else {
        let is_profile = |table: &&TableInfo| {
            let Some(owner) = reference(table, user) else { return false };
            // Where a file has no keys, that there is one row a user shows when they are read.
            let is_one_to_one = table.foreign_keys.is_empty()
                || table.unique.contains(&owner)
                || table.primary_key.as_slice() == [owner.as_str()];
            let has_list = LISTS.iter().any(|list| {
                let name = format!("{}_{list}", table.name);
                has(table, list) || tables.iter().any(|other| other.schema == table.schema && other.name == name)
            });
            is_one_to_one && (has_list || PROFILE_COLUMNS.iter().any(|column| has(table, column)))
        };
        let found: Vec<&TableInfo> = tables.iter().filter(is_profile).collect();
        if found.is_empty() { None } else { Some(only(found, "", "--profile-table")?) }
    };
    let Some(table) = found else { return Ok(None) };
    // In what dumpdata writes, a reference that is the key itself has no name of its own.
    let key = || Some(KEY.to_owned()).filter(|key| has(table, key));
    let Some(owner) = reference(table, user).or_else(key) else {
        let why = format!("--profile-table: {} has no column that refers to {}", shown(&table.name), shown(&user.name));
        return Err(ImportError::new(why));
    };
    Ok(Some(ProfileTable { table: table.clone(), owner, key: key_of(table) }))
}

/// The one table that was found.
fn only<'a>(found: Vec<&'a TableInfo>, none: &str, option: &str) -> Result<&'a TableInfo, ImportError> {
    match found.as_slice() {
        [table] => Ok(table),
        [] => Err(ImportError::new(none)),
        several => {
            let name = |table: &&TableInfo| match table.schema.as_str() {
                "" => table.name.clone(),
                schema => format!("{schema}.{}", table.name),
            };
            let names: Vec<String> = several.iter().map(name).collect();
            Err(ImportError::new(format!("{option}: which of {} is it?", listed(&names))))
        }
    }
}

/// Names, as a message lists them.
pub(super) fn listed(names: &[String]) -> String {
    let mut listed: Vec<String> = names.iter().take(MAX_NAMED).map(|name| shown(name)).collect();
    if names.len() > MAX_NAMED {
        listed.push(format!("{} more", names.len() - MAX_NAMED));
    }
    listed.join(", ")
}
