//! A JSON file that is a list of rows, as PostgreSQL's `json_agg` and many a program write a table.
//!
//! The file is read twice: for the columns, and for the rows, which are never in memory all at once.

use std::cell::Cell as Shared;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Deserializer as _;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::import::ImportError;
use crate::import::formats::tables::{Cell, EachRow, TableInfo, Tables, shown};

/// How many bytes a row may have.
const MAX_ROW: u64 = 16 << 20;
/// How many columns a table may have.
const MAX_COLUMNS: usize = 2_000;

/// A list of rows.
pub(crate) struct JsonRows {
    path: PathBuf,
    tables: Vec<TableInfo>,
}

impl JsonRows {
    /// Opens a file and finds its columns. The file does not tell which table it is of.
    ///
    /// # Errors
    /// Where it cannot be read, or is no list of rows.
    pub(crate) fn open(path: &Path, schema: &str, name: &str) -> Result<Self, ImportError> {
        let mut columns = BTreeSet::new();
        read_rows(path, &mut |row| {
            let new: Vec<String> = row.keys().filter(|key| !columns.contains(*key)).cloned().collect();
            columns.extend(new);
            if columns.len() > MAX_COLUMNS {
                return Err(ImportError::new(format!("{} has more than {MAX_COLUMNS} columns", path.display())));
            }
            Ok(())
        })?;
        let columns = columns.into_iter().collect();
        let table = TableInfo { schema: schema.to_owned(), name: name.to_owned(), columns, ..TableInfo::default() };
        Ok(Self { path: path.to_owned(), tables: vec![table] })
    }
}

impl Tables for JsonRows {
    fn tables(&self) -> &[TableInfo] {
        &self.tables
    }

    fn read(&mut self, _table: &TableInfo, columns: &[&str], each: EachRow<'_>) -> Result<(), ImportError> {
        read_rows(&self.path, &mut |mut row| {
            let cells: Vec<Cell> = columns.iter().map(|column| read_cell(row.remove(*column))).collect();
            each(&cells)
        })
    }
}

/// A value as PostgreSQL would write it: a truth value is `t` or `f`, and JSON within JSON its text.
fn read_cell(value: Option<Value>) -> Cell {
    match value {
        None | Some(Value::Null) => Cell::Null,
        Some(Value::Bool(is_true)) => Cell::Text(if is_true { "t" } else { "f" }.to_owned()),
        Some(Value::String(text)) => Cell::Text(text),
        Some(Value::Number(number)) => match number.as_i64() {
            Some(number) => Cell::Integer(number),
            None => Cell::Real(number.as_f64().unwrap_or(f64::NAN)),
        },
        Some(value) => Cell::Text(value.to_string()),
    }
}

type EachObject<'a> = &'a mut dyn FnMut(Map<String, Value>) -> Result<(), ImportError>;

fn read_rows(path: &Path, each: EachObject<'_>) -> Result<(), ImportError> {
    let file = File::open(path).map_err(|source| ImportError::Unreadable { path: path.to_owned(), source })?;
    let left = Rc::new(Shared::new(MAX_ROW));
    let mut failed = None;
    let mut json = serde_json::Deserializer::from_reader(Bounded { file: BufReader::new(file), left: left.clone() });
    let read = json.deserialize_seq(Rows { each, left, failed: &mut failed }).and_then(|()| json.end());
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(ImportError::new(format!(
            "{} is no list of rows in JSON: {}",
            path.display(),
            shown(&error.to_string())
        ))),
        (None, Ok(())) => Ok(()),
    }
}

/// A file of which only so many bytes may be read before the next row.
struct Bounded {
    file: BufReader<File>,
    left: Rc<Shared<u64>>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        match self.left.get().checked_sub(read as u64) {
            Some(left) => self.left.set(left),
            None => return Err(io::Error::other(format!("a row of more than {} MiB", MAX_ROW >> 20))),
        }
        Ok(read)
    }
}

/// Hands over each row of the list.
struct Rows<'a> {
    each: EachObject<'a>,
    left: Rc<Shared<u64>>,
    failed: &'a mut Option<ImportError>,
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(row) = list.next_element()? {
            self.left.set(MAX_ROW);
            if let Err(error) = (self.each)(row) {
                *self.failed = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(json: &str, columns: &[&str]) -> Result<Vec<Vec<Cell>>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        fs::write(&path, json).unwrap();
        let run = || {
            let mut file = JsonRows::open(&path, "auth", "users")?;
            let table = file.tables()[0].clone();
            let mut rows = Vec::new();
            file.read(&table, columns, &mut |cells| {
                rows.push(cells.to_vec());
                Ok(())
            })?;
            Ok(rows)
        };
        run().map_err(|error: ImportError| error.to_string())
    }

    #[test]
    fn rows_are_read_by_their_keys() {
        let rows =
            read(r#"[{"a": "x", "b": true, "c": {"k": [1]}}, {"c": 7, "a": null}, {"b": 1.5}]"#, &["a", "b", "c"]);
        let text = |text: &str| Cell::Text(text.to_owned());
        assert_eq!(
            rows.unwrap(),
            [
                [text("x"), text("t"), text(r#"{"k":[1]}"#)],
                [Cell::Null, Cell::Null, Cell::Integer(7)],
                [Cell::Null, Cell::Real(1.5), Cell::Null],
            ]
        );
    }

    #[test]
    fn what_is_no_list_of_rows_is_refused() {
        let deep = "[".repeat(100_000);
        for json in ["", "{}", "[1]", "[{}", "[{}] x", "[{\"a\": \"\\ud800\"}]", deep.as_str()] {
            assert!(read(json, &[]).unwrap_err().contains("is no list of rows"), "{json}");
        }
    }

    #[test]
    fn what_a_row_may_cost_is_bounded() {
        let long = format!("[{{\"a\": \"{}", "x".repeat(17 << 20));
        assert!(read(&long, &[]).unwrap_err().contains("a row of more than 16 MiB"));
        let many = format!("[{}{{}}]", format!("{{\"a\": \"{}\"}},", "x".repeat(1 << 20)).repeat(20));
        assert_eq!(read(&many, &["a"]).unwrap().len(), 21);
    }
}
