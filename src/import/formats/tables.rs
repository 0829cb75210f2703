//! Tables, whatever file they are in.

use crate::import::ImportError;
use crate::system::visible::is_unseen;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A table: its name without a schema, what it is made of, and what it refers to, as far as the file tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableInfo {
    /// The schema of PostgreSQL, such as `auth`; empty elsewhere.
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    pub(crate) primary_key: Vec<String>,
    pub(crate) foreign_keys: Vec<ForeignKey>,
    /// Columns that are unique by themselves.
    pub(crate) unique: Vec<String>,
}

/// A column that refers to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignKey {
    pub(crate) column: String,
    pub(crate) table: String,
}

/// What is done with each row: the cells of the columns that were asked for, in their order.
pub(crate) type EachRow<'a> = &'a mut dyn FnMut(&[Cell]) -> Result<(), ImportError>;

/// A file of tables. Rows are streamed: nothing but what a source system keeps of them stays in memory.
pub(crate) trait Tables {
    /// All of them.
    fn tables(&self) -> &[TableInfo];

    /// Reads rows of a table, which is one of [`Self::tables`], as are the columns its own.
    fn read(&mut self, table: &TableInfo, columns: &[&str], each: EachRow<'_>) -> Result<(), ImportError>;
}

impl Cell {
    /// Its text; an integer's digits. `None` for NULL and for what is no text.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Integer(number) => Some(number.to_string()),
            Self::Null | Self::Real(_) | Self::Bytes(_) => None,
        }
    }
}

/// How many characters of a name are shown.
const SHOWN_CHARS: usize = 80;

/// A name of the source as a message shows it: what cannot be seen is escaped, and what is long is cut.
pub(crate) fn shown(name: &str) -> String {
    let mut shown = String::new();
    for c in name.chars().take(SHOWN_CHARS) {
        if is_unseen(c) || c == '\\' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    if name.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}
