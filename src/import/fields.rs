//! Which of a source's fields become fields of the profile, and what else is in common to the sources.

use std::collections::BTreeSet;

use crate::domain::profile::ProfileField;
use crate::import::ImportError;
use crate::import::formats::tables::{Cell, TableInfo, shown};
use crate::import::time::read_moment;
use crate::system::clock::Timestamp;

/// How many names a sentence lists.
const MOST_LISTED: usize = 30;

/// Where each field of the profile is taken from: what the operator says, otherwise `default`.
///
/// # Errors
/// Where the operator names a field that there is none of.
pub(super) fn profile_fields(
    told: &[(String, String)],
    default: impl Fn(ProfileField) -> Option<String>,
) -> Result<Vec<(ProfileField, String)>, ImportError> {
    let ours = ProfileField::ALL.map(ProfileField::name);
    if let Some((unknown, _)) = told.iter().find(|(name, _)| !ours.contains(&name.as_str())) {
        return Err(ImportError::new(format!("--field {}: the profile has {}", shown(unknown), ours.join(", "))));
    }
    let fields = ProfileField::ALL.into_iter().filter_map(|field| {
        let told = told.iter().rfind(|(name, _)| name == field.name()).map(|(_, theirs)| theirs.clone());
        Some((field, told.or_else(|| default(field))?))
    });
    Ok(fields.collect())
}

/// A list of names in a sentence, safe to show; those that are too many are counted.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: BTreeSet<&str> = names.into_iter().collect();
    let mut list: Vec<String> = names.iter().take(MOST_LISTED).map(|name| shown(name)).collect();
    if let Some(others) = names.len().checked_sub(MOST_LISTED).filter(|others| *others > 0) {
        list.push(format!("and {others} others"));
    }
    list.join(", ")
}

/// The columns of a table that are read, each once.
#[derive(Default)]
pub(super) struct Asked {
    columns: Vec<String>,
}

impl Asked {
    /// Asks for a column, and says where it comes in a row.
    pub(super) fn place(&mut self, column: &str) -> usize {
        self.columns.iter().position(|own| own == column).unwrap_or_else(|| {
            self.columns.push(column.to_owned());
            self.columns.len() - 1
        })
    }

    /// As [`Self::place`], where the table has the column.
    pub(super) fn place_in(&mut self, table: &TableInfo, column: &str) -> Option<usize> {
        table.columns.iter().any(|own| own == column).then(|| self.place(column))
    }

    /// All of them, in their order.
    pub(super) fn columns(&self) -> Vec<&str> {
        self.columns.iter().map(String::as_str).collect()
    }

    /// The table's other columns.
    pub(super) fn others<'a>(&self, table: &'a TableInfo) -> impl Iterator<Item = &'a str> {
        table.columns.iter().filter(|column| !self.columns.contains(*column)).map(String::as_str)
    }
}

/// The text of a cell that may not have been asked for; nothing where it is empty.
pub(super) fn text_at(cells: &[Cell], place: Option<usize>) -> Option<String> {
    cells.get(place?)?.text().filter(|text| !text.is_empty())
}

/// Whether a cell says yes, as SQLite, PostgreSQL or JSON say it.
pub(super) fn is_true_at(cells: &[Cell], place: Option<usize>) -> bool {
    match place.and_then(|place| cells.get(place)) {
        Some(Cell::Integer(number)) => *number != 0,
        Some(Cell::Text(text)) => matches!(text.as_str(), "t" | "true" | "1"),
        _ => false,
    }
}

/// The moment in a cell.
pub(super) fn moment_at(cells: &[Cell], place: Option<usize>) -> Option<Timestamp> {
    read_moment(&text_at(cells, place)?)
}
