//! What `manage.py dumpdata` writes, as tables: a JSON array of `{"model", "pk", "fields"}`.
//!
//! A model `shop.profile` is the table `shop_profile`, as Django names it. Its columns are `pk` and its fields; a field that
//! has many values, and a reference by a natural key, is the text of the JSON array.

use std::cell::Cell as Shared;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_json::value::RawValue;

use crate::import::ImportError;
use crate::import::formats::tables::{Cell, EachRow, TableInfo, Tables};

/// The column of the key.
pub(crate) const KEY: &str = "pk";

/// How many bytes an object may have.
const MAX_OBJECT: usize = 16 << 20;
/// How many columns a table may have, as in PostgreSQL.
const MAX_COLUMNS: usize = 1_600;
/// How many bytes the names of all tables and columns may have together.
const MAX_NAMES: usize = 16 << 20;

/// A file that `dumpdata` wrote.
pub(crate) struct DumpData {
    path: PathBuf,
    tables: Vec<TableInfo>,
}

/// An object of the array.
#[derive(Deserialize)]
struct Object {
    model: String,
    #[serde(default)]
    pk: Option<Box<RawValue>>,
    fields: BTreeMap<String, Box<RawValue>>,
}

impl DumpData {
    /// Opens a file and finds its tables.
    ///
    /// # Errors
    /// Where it is not what `dumpdata` writes, or torn.
    pub(crate) fn open(path: &Path) -> Result<Self, ImportError> {
        let mut tables: BTreeMap<String, TableInfo> = BTreeMap::new();
        let mut name_bytes = 0;
        each_object(path, &mut |object| {
            let mut count = |name: &str| {
                name_bytes += name.len() + size_of::<TableInfo>();
                if name_bytes > MAX_NAMES { Err(ImportError::new("too many models and fields")) } else { Ok(()) }
            };
            if !tables.contains_key(&object.model) {
                count(&object.model)?;
            }
            let table = tables.entry(object.model).or_default();
            let key = object.pk.as_ref().map(|_| KEY.to_owned());
            for column in key.into_iter().chain(object.fields.into_keys()) {
                if table.columns.contains(&column) {
                    continue;
                }
                count(&column)?;
                if table.columns.len() == MAX_COLUMNS {
                    return Err(ImportError::new("a model has too many fields"));
                }
                table.columns.push(column);
            }
            Ok(())
        })?;
        let named = |(model, mut table): (String, TableInfo)| {
            table.name = model.replace('.', "_");
            if table.columns.iter().any(|column| column == KEY) {
                table.primary_key.push(KEY.to_owned());
            }
            table
        };
        Ok(Self { path: path.to_owned(), tables: tables.into_iter().map(named).collect() })
    }
}

impl Tables for DumpData {
    fn tables(&self) -> &[TableInfo] {
        &self.tables
    }

    fn read(&mut self, table: &TableInfo, columns: &[&str], each: EachRow<'_>) -> Result<(), ImportError> {
        each_object(&self.path, &mut |object| {
            if object.model.replace('.', "_") != table.name {
                return Ok(());
            }
            let value = |column: &&str| {
                let value = if *column == KEY { object.pk.as_ref() } else { object.fields.get(*column) };
                value.map_or(Some(Cell::Null), |value| cell(value.get()))
            };
            let cells: Option<Vec<Cell>> = columns.iter().map(value).collect();
            each(&cells.ok_or_else(|| ImportError::new("a text has an escape that stands for no character"))?)
        })
    }
}

/// A value; nothing where it is a text with half of a surrogate pair.
fn cell(json: &str) -> Option<Cell> {
    let first = json.bytes().next();
    Some(match first {
        Some(b'"') => Cell::Text(serde_json::from_str(json).ok()?),
        Some(b'n') => Cell::Null,
        Some(b't') => Cell::Integer(1),
        Some(b'f') => Cell::Integer(0),
        _ => json.parse().map_or_else(|_| Cell::Text(json.to_owned()), Cell::Integer),
    })
}

/// Reads a file, and hands on each object of its array.
fn each_object(path: &Path, each: &mut dyn FnMut(Object) -> Result<(), ImportError>) -> Result<(), ImportError> {
    let unreadable = |source| ImportError::Unreadable { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    // A mark that Windows puts in front of UTF-8.
    if file.fill_buf().map_err(unreadable)?.starts_with(b"\xef\xbb\xbf") {
        file.consume(3);
    }
    let room = Rc::new(Shared::new(MAX_OBJECT));
    let bounded = Bounded { file, room: Rc::clone(&room) };
    let mut reader = serde_json::Deserializer::from_reader(bounded);
    let mut refusal = None;
    let read = reader.deserialize_seq(Objects { each, room: &room, refusal: &mut refusal }).and_then(|()| reader.end());
    match (refusal, read) {
        (Some(refusal), Err(error)) => Err(match refusal {
            ImportError::Source(why) => ImportError::new(format!("line {} of {}: {why}", error.line(), path.display())),
            other => other,
        }),
        (_, Err(error)) => Err(told(path, &error)),
        (_, Ok(())) => Ok(()),
    }
}

/// What is wrong with a file. The words of the error itself may hold values of the file, and are not shown.
fn told(path: &Path, error: &serde_json::Error) -> ImportError {
    let why = match error.classify() {
        serde_json::error::Category::Eof => "the file ends there: it is torn",
        serde_json::error::Category::Io if error.io_error_kind() == Some(io::ErrorKind::FileTooLarge) => {
            "an object is too long"
        }
        serde_json::error::Category::Io => "it cannot be read further",
        serde_json::error::Category::Syntax => "it is not JSON in UTF-8, or it is torn",
        serde_json::error::Category::Data => "it is not what dumpdata writes, which is a list of objects",
    };
    ImportError::new(format!("line {} of {}: {why}", error.line(), path.display()))
}

/// The array.
struct Objects<'a> {
    each: &'a mut dyn FnMut(Object) -> Result<(), ImportError>,
    room: &'a Shared<usize>,
    refusal: &'a mut Option<ImportError>,
}

impl<'de> Visitor<'de> for Objects<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut objects: A) -> Result<(), A::Error> {
        while let Some(object) = objects.next_element::<Object>()? {
            self.room.set(MAX_OBJECT);
            if let Err(error) = (self.each)(object) {
                *self.refusal = Some(error);
                return Err(serde::de::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

/// A file of which only so much is read without an object's end.
struct Bounded<R> {
    file: R,
    room: Rc<Shared<usize>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let room = self.room.get().checked_sub(count).ok_or(io::ErrorKind::FileTooLarge)?;
        self.room.set(room);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn opened(json: &[u8]) -> (tempfile::TempDir, Result<DumpData, ImportError>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.json");
        fs::write(&path, json).unwrap();
        (folder, DumpData::open(&path))
    }

    fn refusal(json: &[u8]) -> String {
        opened(json).1.err().map(|error| error.to_string()).unwrap_or_default()
    }

    const WHOLE: &str = r#"[
{"model": "shop.beer", "pk": 1, "fields": {"name": "a"}},
{"model": "auth.user", "pk": "x", "fields": {"n": "\u00e4\ud83c\udf77", "cellar": [1, 2], "on": true, "none": null}},
{"model": "auth.user", "fields": {"n": "b", "rate": 1.5, "key": ["c"]}}
]
"#;

    #[test]
    fn models_are_tables_and_their_fields_columns() {
        let (_folder, dump) = opened(("\u{feff}".to_owned() + WHOLE).as_bytes());
        let mut dump = dump.unwrap_or_else(|error| panic!("{error}"));
        let names: Vec<_> = dump.tables().iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["auth_user", "shop_beer"]);
        let user = dump.tables()[0].clone();
        assert_eq!(user.columns, ["pk", "cellar", "n", "none", "on", "key", "rate"]);
        let mut rows = Vec::new();
        let mut each = |cells: &[Cell]| {
            rows.push(cells.to_vec());
            Ok(())
        };
        dump.read(&user, &["pk", "n", "cellar", "on", "none", "rate", "key"], &mut each).unwrap();
        let text = |text: &str| Cell::Text(text.to_owned());
        assert_eq!(
            rows,
            [
                vec![text("x"), text("ä🍷"), text("[1, 2]"), Cell::Integer(1), Cell::Null, Cell::Null, Cell::Null],
                vec![Cell::Null, text("b"), Cell::Null, Cell::Null, Cell::Null, text("1.5"), text("[\"c\"]")],
            ]
        );
    }

    #[test]
    fn a_torn_file_is_refused_with_the_line() {
        for end in 1..WHOLE.len() - 2 {
            let why = refusal(&WHOLE.as_bytes()[..end]);
            assert!(why.starts_with("line ") && why.contains("torn"), "{end}: {why}");
        }
    }

    #[test]
    fn what_is_no_dumpdata_is_refused_without_its_words() {
        for (json, told) in [
            ("[1]", "not what dumpdata writes"),
            ("[{\"model\": 1}]", "not what dumpdata writes"),
            ("{\"model\": \"secret\"}", "not what dumpdata writes"),
            ("[secret]", "not JSON"),
            ("[] secret", "not JSON"),
        ] {
            let why = refusal(json.as_bytes());
            assert!(why.contains(told) && !why.contains("secret"), "{why}");
        }
        let deep = format!("[{{\"model\": \"a.b\", \"fields\": {{\"c\": {}", "[".repeat(1 << 20));
        assert!(refusal(deep.as_bytes()).contains("torn"));
        let long = format!("[{{\"model\": \"a.b\", \"fields\": {{\"c\": \"{}\"}}}}]", "x".repeat(MAX_OBJECT));
        assert!(refusal(long.as_bytes()).contains("too long"));
    }
}
