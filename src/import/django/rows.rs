//! Rows of a source by the names of their columns.

use crate::import::ImportError;
use crate::import::account::Warning;
use crate::import::formats::tables::{Cell, TableInfo, Tables};
use crate::import::zone::Zone;
use crate::system::clock::Timestamp;

/// A row: the columns that were asked for, and their cells.
pub(super) struct Row<'a> {
    columns: &'a [&'a str],
    cells: &'a [Cell],
}

impl Row<'_> {
    /// The cell of a column; NULL where the table has no such column.
    pub(super) fn cell(&self, column: &str) -> &Cell {
        let place = self.columns.iter().position(|own| *own == column);
        place.and_then(|place| self.cells.get(place)).unwrap_or(&Cell::Null)
    }

    pub(super) fn text(&self, column: &str) -> Option<String> {
        self.cell(column).text()
    }

    /// Whether a truth value is true; nothing where there is none.
    pub(super) fn truth(&self, column: &str) -> Option<bool> {
        match self.cell(column) {
            Cell::Integer(number) => Some(*number != 0),
            Cell::Text(text) => Some(["t", "true", "1"].contains(&text.to_ascii_lowercase().as_str())),
            Cell::Null | Cell::Real(_) | Cell::Bytes(_) => None,
        }
    }
}

/// Reads those of the columns that a table has.
pub(super) fn read_rows(
    file: &mut dyn Tables,
    table: &TableInfo,
    columns: &[&str],
    each: &mut dyn FnMut(Row<'_>) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    let mut known: Vec<&str> = Vec::new();
    for column in columns {
        if has(table, column) && !known.contains(column) {
            known.push(column);
        }
    }
    if known.is_empty() {
        // So that there are rows all the same: some column of each.
        known.extend(table.columns.first().map(String::as_str));
    }
    if known.is_empty() {
        return Ok(());
    }
    file.read(table, &known, &mut |cells| each(Row { columns: &known, cells }))
}

/// How many rows a table has.
pub(super) fn count_rows(file: &mut dyn Tables, table: &TableInfo) -> Result<u64, ImportError> {
    let mut count = 0;
    read_rows(file, table, &[], &mut |_| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// Whether a table has a column.
pub(super) fn has(table: &TableInfo, column: &str) -> bool {
    table.columns.iter().any(|own| own == column)
}

/// A key as a text. Django writes a UUID with hyphens, but into SQLite without them.
pub(super) fn key_text(cell: &Cell) -> Option<String> {
    let text = cell.text()?;
    let is_bare_uuid = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_bare_uuid {
        return Some(text);
    }
    let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
    Some(parts.join("-"))
}

/// The times of a source, which may have no zone.
pub(super) struct Times {
    zone: Zone,
    /// The newest of those that had none.
    pub(super) newest_without_zone: Option<Timestamp>,
}

impl Times {
    pub(super) fn new(zone: Zone) -> Self {
        Self { zone, newest_without_zone: None }
    }

    /// Reads a time; nothing where it is none.
    pub(super) fn read(&mut self, text: &str) -> Option<Timestamp> {
        let (moment, has_zone) = self.zone.read(text)?;
        if !has_zone {
            self.newest_without_zone = self.newest_without_zone.max(Some(moment));
        }
        Some(moment)
    }

    /// Reads a time of an account, and warns where there is one that cannot be read.
    pub(super) fn read_column(
        &mut self,
        row: &Row<'_>,
        column: &str,
        warnings: &mut Vec<Warning>,
    ) -> Option<Timestamp> {
        let text = row.text(column)?;
        let read = self.read(&text);
        if read.is_none() {
            warnings.push(Warning::new(format!("{column}_dropped")));
        }
        read
    }
}
