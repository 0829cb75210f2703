//! A CSV file as PostgreSQL's `\copy … csv header` writes it: RFC 4180, and a cell without anything is NULL where one of
//! two quotes is the empty text.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use crate::import::ImportError;
use crate::import::formats::tables::{Cell, EachRow, TableInfo, Tables, shown};

/// How many bytes a row may have.
const MAX_ROW: usize = 16 << 20;
/// How many columns a table may have: more than PostgreSQL's 1,600.
const MAX_COLUMNS: usize = 2_000;
/// What some programs begin a text in UTF-8 with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A CSV file: one table.
pub(crate) struct CsvFile {
    path: PathBuf,
    tables: Vec<TableInfo>,
}

impl CsvFile {
    /// Opens a file and reads its header. The file does not tell which table it is of.
    ///
    /// # Errors
    /// Where it cannot be read, or has no header.
    pub(crate) fn open(path: &Path, schema: &str, name: &str) -> Result<Self, ImportError> {
        let columns = Rows::open(path)?.header()?;
        let table = TableInfo { schema: schema.to_owned(), name: name.to_owned(), columns, ..TableInfo::default() };
        Ok(Self { path: path.to_owned(), tables: vec![table] })
    }

    /// The columns that a file has if it is a CSV file; none where its first line cannot be read as one.
    pub(crate) fn columns_of(path: &Path) -> Result<Vec<String>, ImportError> {
        Ok(Rows::open(path)?.header().unwrap_or_default())
    }
}

impl Tables for CsvFile {
    fn tables(&self) -> &[TableInfo] {
        &self.tables
    }

    fn read(&mut self, table: &TableInfo, columns: &[&str], each: EachRow<'_>) -> Result<(), ImportError> {
        let places: Vec<usize> =
            columns.iter().filter_map(|column| table.columns.iter().position(|own| own == column)).collect();
        let mut rows = Rows::open(&self.path)?;
        rows.header()?;
        let mut asked = Vec::with_capacity(places.len());
        while let Some(row) = rows.next()? {
            // A blank line is no row, unless NULL is all that a row can be.
            if row.len() == 1 && row[0] == Cell::Null && table.columns.len() > 1 {
                continue;
            }
            if row.len() != table.columns.len() {
                return Err(rows.error(&format!(
                    "has {} cells, and the header has {}",
                    row.len(),
                    table.columns.len()
                )));
            }
            asked.clear();
            asked.extend(places.iter().map(|place| row[*place].clone()));
            each(&asked)?;
        }
        Ok(())
    }
}

/// Where a cell is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Begin,
    Plain,
    Quoted,
    /// Behind a quote in a quoted cell: the cell's end, or the first half of a quote in it.
    Quote,
}

/// The rows of a file.
struct Rows {
    path: PathBuf,
    file: BufReader<File>,
    /// The line that is being read, and the one that the row begins in.
    line: u64,
    begin: u64,
}

impl Rows {
    fn open(path: &Path) -> Result<Self, ImportError> {
        let unreadable = |source| ImportError::Unreadable { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let mut mark = Vec::new();
        (&mut file).take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut mark).map_err(unreadable)?;
        if mark != BYTE_ORDER_MARK {
            file = File::open(path).map_err(unreadable)?;
        }
        Ok(Self { path: path.to_owned(), file: BufReader::new(file), line: 1, begin: 1 })
    }

    fn header(&mut self) -> Result<Vec<String>, ImportError> {
        let row = self.next()?.unwrap_or_default();
        let columns: Vec<String> = row.iter().filter_map(Cell::text).filter(|column| !column.is_empty()).collect();
        if columns.is_empty() || columns.len() != row.len() {
            return Err(self.error("is no header: it has to name every column"));
        }
        if let [column] = &*columns
            && let Some(sign) = [';', '\t'].into_iter().find(|sign| column.contains(*sign))
        {
            return Err(self.error(&format!("separates columns by {sign:?}: they have to be separated by commas")));
        }
        let mut sorted: Vec<&String> = columns.iter().collect();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(self.error(&format!("names the column {} twice", shown(twice[0]))));
        }
        Ok(columns)
    }

    /// The next row, or nothing at the end of the file.
    fn next(&mut self) -> Result<Option<Vec<Cell>>, ImportError> {
        self.begin = self.line;
        let (mut row, mut text, mut at, mut length) = (Vec::new(), Vec::new(), At::Begin, 0);
        loop {
            let Some(byte) = self.peek()? else {
                if at == At::Quoted {
                    return Err(self.error("has a quote that nothing closes: the file is torn"));
                }
                let is_end = row.is_empty() && at == At::Begin;
                if !is_end {
                    row.push(self.cell(text, at)?);
                }
                return Ok((!is_end).then_some(row));
            };
            self.file.consume(1);
            length += 1;
            if length > MAX_ROW {
                return Err(self.error(&format!("has more than {} MiB", MAX_ROW >> 20)));
            }
            self.line += u64::from(byte == b'\n');
            match (at, byte) {
                (At::Quoted, b'"') => at = At::Quote,
                (At::Quote, b'"') => {
                    text.push(byte);
                    at = At::Quoted;
                }
                (At::Quoted, _) => text.push(byte),
                (_, b',' | b'\n') => {
                    row.push(self.cell(std::mem::take(&mut text), at)?);
                    at = At::Begin;
                    if byte == b'\n' {
                        return Ok(Some(row));
                    }
                    if row.len() == MAX_COLUMNS {
                        return Err(self.error(&format!("has more than {MAX_COLUMNS} cells")));
                    }
                }
                (_, b'\r') if self.peek()? == Some(b'\n') => {}
                (At::Begin, b'"') => at = At::Quoted,
                (At::Plain, b'"') => return Err(self.error("has a quote in a cell that does not begin with one")),
                (At::Quote, _) => {
                    return Err(self.error("has something between a cell's last quote and the next comma"));
                }
                (At::Begin | At::Plain, _) => {
                    text.push(byte);
                    at = At::Plain;
                }
            }
        }
    }

    fn cell(&self, text: Vec<u8>, at: At) -> Result<Cell, ImportError> {
        if at == At::Begin {
            return Ok(Cell::Null);
        }
        String::from_utf8(text).map(Cell::Text).map_err(|_| self.error("is not in UTF-8"))
    }

    fn peek(&mut self) -> Result<Option<u8>, ImportError> {
        let buffer = self.file.fill_buf();
        let buffer = buffer.map_err(|source| ImportError::Unreadable { path: self.path.clone(), source })?;
        Ok(buffer.first().copied())
    }

    /// What is wrong with the row.
    fn error(&self, what: &str) -> ImportError {
        ImportError::new(format!("{}: the row in line {} {what}", self.path.display(), self.begin))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Vec<Cell>>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        fs::write(&path, bytes).unwrap();
        let run = || {
            let mut file = CsvFile::open(&path, "auth", "users")?;
            let table = file.tables()[0].clone();
            let columns: Vec<&str> = table.columns.iter().map(String::as_str).collect();
            let mut rows = Vec::new();
            file.read(&table, &columns, &mut |cells| {
                rows.push(cells.to_vec());
                Ok(())
            })?;
            Ok(rows)
        };
        run().map_err(|error: ImportError| error.to_string())
    }

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    #[test]
    fn nothing_is_null_and_two_quotes_are_the_empty_text() {
        let rows = read(b"a,b,c\n,\"\",x\n\"\",,\n").unwrap();
        assert_eq!(rows, [[Cell::Null, text(""), text("x")], [text(""), Cell::Null, Cell::Null]]);
    }

    #[test]
    fn quotes_hold_commas_quotes_and_line_breaks() {
        let rows = read("a,b\r\n\"{\"\"k\"\": \"\"v,w\"\"}\",\"one\r\ntwo\n\"\r\nä,\" \"\r\n".as_bytes()).unwrap();
        assert_eq!(rows, [[text("{\"k\": \"v,w\"}"), text("one\r\ntwo\n")], [text("ä"), text(" ")]]);
    }

    #[test]
    fn a_byte_order_mark_and_a_missing_last_line_break_do_not_matter() {
        assert_eq!(read(b"\xef\xbb\xbf\"a\",b\n1,2").unwrap(), [[text("1"), text("2")]]);
        assert_eq!(read(b"a,b\n1,").unwrap(), [[text("1"), Cell::Null]]);
        assert_eq!(read(b"a,b\n\n1,2\n\n").unwrap(), [[text("1"), text("2")]]);
        assert_eq!(read(b"a\n\n1\n").unwrap(), [[Cell::Null], [text("1")]]);
        assert!(read(b"a,b\n").unwrap().is_empty());
    }

    #[test]
    fn columns_are_asked_for_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        fs::write(&path, "a,b,c\n1,2,3\n").unwrap();
        let mut file = CsvFile::open(&path, "", "t").unwrap();
        let table = file.tables()[0].clone();
        let mut seen = Vec::new();
        file.read(&table, &["c", "a"], &mut |cells| {
            seen = cells.to_vec();
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [text("3"), text("1")]);
    }

    #[test]
    fn what_is_no_csv_is_refused_with_its_line() {
        for (bytes, what) in [
            (&b""[..], "line 1 is no header"),
            (b"a,,b\n", "line 1 is no header"),
            (b"a;b\n1;2\n", "separates columns by ';'"),
            (b"a,b,a\n", "names the column a twice"),
            (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells, and the header has 2"),
            (b"a,b\n\"x\ny\",2\n1\n", "line 4 has 1 cells"),
            (b"a,b\n1,\"2\n3,4\n", "line 2 has a quote that nothing closes"),
            (b"a,b\n1,2\"\n", "line 2 has a quote in a cell"),
            (b"a,b\n\"1\"x,2\n", "line 2 has something between"),
            (b"a,b\n1,\xff\n", "line 2 is not in UTF-8"),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn what_a_row_may_cost_is_bounded() {
        let long = [b"a,b\n\"".as_slice(), &vec![b'x'; MAX_ROW]].concat();
        assert!(read(&long).unwrap_err().contains("line 2 has more than 16 MiB"));
        let wide = [b"a,b\n".as_slice(), &vec![b','; MAX_COLUMNS]].concat();
        assert!(read(&wide).unwrap_err().contains("line 2 has more than 2000 cells"));
    }
}
