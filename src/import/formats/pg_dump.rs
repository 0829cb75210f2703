//! A plain dump of PostgreSQL, as `pg_dump` writes it: with COPY or INSERT, with or without the definitions of tables.
//!
//! The file is read once to find the tables, what they refer to and where their rows are, and then once more for the rows
//! of each table that is asked for. Every value is a text, as `COPY` writes it: a truth value is `t` or `f` in both forms.

use std::collections::HashMap;
use std::path::Path;

use crate::import::ImportError;
use crate::import::formats::head;
use crate::import::formats::sql::{LineKept, MAX_ROW, Place, Script, Token, control};
use crate::import::formats::tables::{Cell, EachRow, ForeignKey, TableInfo, Tables, shown};

/// How many columns a table may have: PostgreSQL's own limit.
const MAX_COLUMNS: usize = 1_600;
/// How many bytes the names of all tables and columns may have together.
const MAX_NAMES: usize = 16 << 20;
/// How many stretches of rows a dump may have. The rows of a table stand together, so there is about one a table.
const MAX_STRETCHES: usize = 1_000_000;
/// What ends the rows of a COPY.
const END_OF_ROWS: &[u8] = b"\\.";
/// How many bytes of a command for PostgreSQL's client are looked at.
const MAX_COMMAND: usize = 16;
/// What `pg_dump` writes in front of every name is at most this deep: database, schema, table.
const MAX_NAME_PARTS: usize = 3;

/// A dump.
pub(crate) struct PgDump {
    script: Script,
    tables: Vec<TableInfo>,
    stretches: Vec<Stretch>,
}

/// Rows of one table that stand together: one COPY, or INSERTs.
struct Stretch {
    table: usize,
    begin: Place,
    end: u64,
    is_backslash_plain: bool,
}

impl PgDump {
    /// Opens a dump and finds its tables.
    ///
    /// # Errors
    /// Where it is no plain dump in UTF-8, or torn.
    pub(crate) fn open(path: &Path) -> Result<Self, ImportError> {
        refuse_other_forms(path)?;
        let scan = Scan::new(Script::open(path)?).run()?;
        Ok(Self { script: scan.script, tables: scan.tables, stretches: scan.stretches })
    }
}

impl Tables for PgDump {
    fn tables(&self) -> &[TableInfo] {
        &self.tables
    }

    fn read(&mut self, table: &TableInfo, columns: &[&str], each: EachRow<'_>) -> Result<(), ImportError> {
        let is_it = |own: &TableInfo| own.schema == table.schema && own.name == table.name;
        let Some(index) = self.tables.iter().position(is_it) else { return Ok(()) };
        let own = &self.tables[index];
        for stretch in self.stretches.iter().filter(|stretch| stretch.table == index) {
            self.script.go_to(stretch.begin)?;
            self.script.is_backslash_plain = stretch.is_backslash_plain;
            while self.script.place().offset < stretch.end {
                match self.script.token(false)? {
                    word if word.is("copy") => {
                        let named = copy_head(&mut self.script)?.1.unwrap_or_else(|| own.columns.clone());
                        copied_rows(&mut self.script, &wanted(&named, columns), named.len(), each)?;
                    }
                    word if word.is("insert") => {
                        let named = insert_head(&mut self.script)?.1.unwrap_or_else(|| own.columns.clone());
                        inserted_rows(&mut self.script, &wanted(&named, columns), named.len(), each)?;
                    }
                    Token::Sign(b';') => {}
                    _ => return Err(self.script.error("the file was changed while it was read")),
                }
                self.script.skip_blank()?;
            }
        }
        Ok(())
    }
}

/// What a dump may be instead, and what to do then.
fn refuse_other_forms(path: &Path) -> Result<(), ImportError> {
    let shown = path.display();
    if path.is_dir() {
        return Err(ImportError::new(format!(
            "{shown} is a folder: make a plain dump of a folder that pg_dump wrote with pg_restore -f dump.sql {shown}"
        )));
    }
    let head = head(path)?;
    let is_tar = head.get(257..262) == Some(b"ustar");
    let why = if head.starts_with(b"PGDMP") || (is_tar && head.starts_with(b"toc.dat")) {
        format!("is a dump in pg_dump's own format: make a plain one with pg_restore -f - {shown} > dump.sql")
    } else if head.starts_with(&[0x1f, 0x8b]) {
        format!("is compressed: gunzip it first, with gunzip -k {shown}")
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        format!("is compressed: unzstd it first, with unzstd {shown}")
    } else if is_tar || head.starts_with(b"PK\x03\x04") {
        "is an archive: unpack it first".to_owned()
    } else if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        "is UTF-16, as Windows writes what is redirected: make the dump with pg_dump -f dump.sql".to_owned()
    } else if head.contains(&0) {
        "is no plain dump of PostgreSQL: it is binary".to_owned()
    } else {
        return Ok(());
    };
    Err(ImportError::new(format!("{shown} {why}")))
}

/// The first reading.
struct Scan {
    script: Script,
    tables: Vec<TableInfo>,
    by_name: HashMap<(String, String), usize>,
    stretches: Vec<Stretch>,
    /// The schema of names that are written without one.
    schema: String,
    /// Tables whose INSERTs name no columns, and the line of the first.
    unnamed: HashMap<usize, u64>,
    name_bytes: usize,
    /// The table whose rows the statement before this one brought.
    previous: Option<usize>,
}

impl Scan {
    fn new(script: Script) -> Self {
        Self {
            script,
            tables: Vec::new(),
            by_name: HashMap::new(),
            stretches: Vec::new(),
            schema: "public".to_owned(),
            unnamed: HashMap::new(),
            name_bytes: 0,
            previous: None,
        }
    }

    fn run(mut self) -> Result<Self, ImportError> {
        // A mark that Windows puts in front of UTF-8.
        if self.script.peek()? == Some(0xef) {
            (0..3).try_for_each(|_| self.script.next_byte().map(drop))?;
        }
        while self.script.skip_blank()?.is_some() {
            self.statement()?;
        }
        if self.script.has_begin && !self.script.has_end {
            return Err(self.script.error("the file ends before the dump does: it is torn"));
        }
        for (table, line) in &self.unnamed {
            if self.tables[*table].columns.is_empty() {
                return Err(ImportError::new(format!(
                    "line {line}: the columns of {} are named nowhere: make the dump without --data-only or with \
                     --column-inserts",
                    shown(&self.tables[*table].name)
                )));
            }
        }
        Ok(self)
    }

    fn statement(&mut self) -> Result<(), ImportError> {
        let begin = self.script.place();
        let previous = self.previous.take();
        match self.script.token(false)? {
            Token::Sign(b';') => Ok(()),
            Token::Sign(b'\\') => self.client_command(),
            word if word.is("set") => self.setting(begin),
            word if word.is("create") => self.creation(begin),
            word if word.is("alter") => self.alteration(begin),
            word if word.is("copy") => self.copy(begin, previous),
            word if word.is("insert") => self.insert(begin, previous),
            _ => self.rest(begin, false),
        }
    }

    /// Skips the rest of a statement. A semicolon in parentheses does not end it, nor one in the body of a routine.
    fn rest(&mut self, begin: Place, is_routine: bool) -> Result<(), ImportError> {
        let (mut parentheses, mut blocks) = (0_u64, 0_u64);
        loop {
            match self.script.token(false)? {
                Token::Sign(b';') if parentheses == 0 && blocks == 0 => return Ok(()),
                Token::Sign(b'(') => parentheses += 1,
                Token::Sign(b')') => parentheses = parentheses.saturating_sub(1),
                Token::Word(word) if is_routine => match word.as_str() {
                    "begin" => blocks += 1,
                    "case" if blocks > 0 => blocks += 1,
                    "end" => blocks = blocks.saturating_sub(1),
                    _ => {}
                },
                Token::End => return Err(self.torn(begin)),
                _ => {}
            }
        }
    }

    fn torn(&self, begin: Place) -> ImportError {
        self.script.error(&format!("the file ends in the statement of line {}: it is torn", begin.line))
    }

    /// A line for PostgreSQL's client, such as `\restrict`.
    fn client_command(&mut self) -> Result<(), ImportError> {
        let mut line = Vec::new();
        self.script.line(&mut line, MAX_COMMAND)?;
        let is_connect = line.starts_with(b"connect") || line.starts_with(b"c ");
        if is_connect && !self.tables.is_empty() {
            return Err(self.script.error("a dump of several databases: make one of a single database with pg_dump"));
        }
        Ok(())
    }

    fn setting(&mut self, begin: Place) -> Result<(), ImportError> {
        let Some(name) = self.script.token(false)?.into_name() else { return self.rest(begin, false) };
        match name.as_str() {
            "client_encoding" => {
                self.script.token(false)?;
                let encoding = literal_text(self.script.token(true)?).unwrap_or_default();
                if !["utf8", "utf-8", "unicode"].contains(&encoding.to_ascii_lowercase().as_str()) {
                    return Err(self
                        .script
                        .error(&format!("the dump is in {}: make it with pg_dump --encoding=UTF8", shown(&encoding))));
                }
            }
            "standard_conforming_strings" => {
                self.script.token(false)?;
                let value = literal_text(self.script.token(true)?).unwrap_or_default();
                self.script.is_backslash_plain = !["off", "false", "0"].contains(&value.as_str());
            }
            "search_path" => {
                self.script.token(false)?;
                if let Some(schema) = literal_text(self.script.token(true)?).filter(|schema| !schema.is_empty()) {
                    self.schema = schema;
                }
            }
            _ => {}
        }
        self.rest(begin, false)
    }

    fn creation(&mut self, begin: Place) -> Result<(), ImportError> {
        loop {
            match self.script.token(false)? {
                Token::Word(word) => match word.as_str() {
                    "or" | "replace" | "unlogged" | "foreign" | "global" | "local" | "temporary" | "temp" => {}
                    "table" => return self.table(begin),
                    "function" | "procedure" => return self.rest(begin, true),
                    _ => return self.rest(begin, false),
                },
                Token::Sign(b';') => return Ok(()),
                Token::End => return Err(self.torn(begin)),
                _ => return self.rest(begin, false),
            }
        }
    }

    /// A definition of a table, behind `CREATE TABLE`.
    fn table(&mut self, begin: Place) -> Result<(), ImportError> {
        let (name, mut token) = self.name_behind(&["if", "not", "exists"])?;
        let index = self.index_of(name)?;
        if token != Token::Sign(b'(') {
            return if token == Token::Sign(b';') { Ok(()) } else { self.rest(begin, false) };
        }
        loop {
            token = self.script.token(false)?;
            match &token {
                Token::Word(word)
                    if ["constraint", "primary", "unique", "foreign", "check", "exclude", "like"]
                        .contains(&word.as_str()) =>
                {
                    token = self.constraint(index, token)?;
                }
                Token::Word(_) | Token::Name(_) => {
                    let column = token.into_name().unwrap_or_default();
                    self.add_column(index, &column)?;
                    token = self.column_rules(index, &column)?;
                }
                _ => {}
            }
            // What is left of the definition.
            let mut depth = 0_u64;
            loop {
                match token {
                    Token::Sign(b'(') => depth += 1,
                    Token::Sign(b')') if depth == 0 => return self.rest(begin, false),
                    Token::Sign(b')') => depth -= 1,
                    Token::Sign(b',') if depth == 0 => break,
                    Token::End => return Err(self.torn(begin)),
                    _ => {}
                }
                token = self.script.token(false)?;
            }
        }
    }

    /// Reads what stands behind a column's name, and returns the sign that ends it or the first word that is not for it.
    fn column_rules(&mut self, index: usize, column: &str) -> Result<Token, ImportError> {
        let mut depth = 0_u64;
        loop {
            let token = self.script.token(false)?;
            match &token {
                Token::Sign(b'(') => depth += 1,
                Token::Sign(b')') if depth > 0 => depth -= 1,
                Token::Sign(b',' | b')') if depth == 0 => return Ok(token),
                Token::End => return Ok(token),
                Token::Word(word) if depth == 0 => match word.as_str() {
                    "primary" => self.tables[index].primary_key = vec![column.to_owned()],
                    "unique" => self.add_unique(index, column),
                    "references" => {
                        let (table, next) = self.name_behind(&[])?;
                        self.add_reference(index, column.to_owned(), table.1)?;
                        // The columns that are referred to, in parentheses.
                        match next {
                            Token::Sign(b'(') => depth += 1,
                            Token::Sign(b',' | b')') | Token::End => return Ok(next),
                            _ => {}
                        }
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }

    /// A rule about columns, from its first word. Returns the token behind what was understood of it.
    fn constraint(&mut self, index: usize, first: Token) -> Result<Token, ImportError> {
        let mut token = first;
        if token.is("constraint") {
            self.script.token(false)?;
            token = self.script.token(false)?;
        }
        let Token::Word(kind) = token else { return Ok(token) };
        match kind.as_str() {
            "primary" => {
                self.script.token(false)?;
                let (columns, next) = self.columns()?;
                self.tables[index].primary_key = columns;
                Ok(next)
            }
            "unique" => {
                let (columns, next) = self.columns()?;
                if let [column] = columns.as_slice() {
                    self.add_unique(index, column);
                }
                Ok(next)
            }
            "foreign" => {
                self.script.token(false)?;
                let (mut columns, next) = self.columns()?;
                if !next.is("references") || columns.len() != 1 {
                    return Ok(next);
                }
                let (table, next) = self.name_behind(&[])?;
                self.add_reference(index, columns.remove(0), table.1)?;
                Ok(next)
            }
            _ => self.script.token(false),
        }
    }

    /// Names in parentheses, and the token behind them. Whatever else stands there yields no names.
    fn columns(&mut self) -> Result<(Vec<String>, Token), ImportError> {
        let token = self.script.token(false)?;
        if token != Token::Sign(b'(') {
            return Ok((Vec::new(), token));
        }
        let columns = column_list(&mut self.script)?;
        Ok((columns, self.script.token(false)?))
    }

    fn alteration(&mut self, begin: Place) -> Result<(), ImportError> {
        if !self.script.token(false)?.is("table") {
            return self.rest(begin, false);
        }
        let (name, token) = self.name_behind(&["if", "exists", "only"])?;
        if !token.is("add") {
            return if token == Token::Sign(b';') { Ok(()) } else { self.rest(begin, false) };
        }
        let token = self.script.token(false)?;
        let end = match self.by_name.get(&name).copied() {
            Some(index) if token.is("constraint") => self.constraint(index, token)?,
            _ => token,
        };
        if end == Token::Sign(b';') { Ok(()) } else { self.rest(begin, false) }
    }

    fn copy(&mut self, begin: Place, previous: Option<usize>) -> Result<(), ImportError> {
        let (name, columns) = copy_head(&mut self.script)?;
        let index = self.index_of(self.with_schema(name))?;
        for column in columns.unwrap_or_default() {
            self.add_column(index, &column)?;
        }
        let mut line = Vec::new();
        loop {
            // Three bytes are enough to know the end by.
            let kept = self.script.line(&mut line, 3)?;
            if line == END_OF_ROWS && kept.is_some() {
                break;
            }
            if matches!(kept, Some(LineKept::Torn) | None) {
                return Err(self.script.error(&format!(
                    "the file ends in the rows of {}, which begin on line {}: it is torn",
                    shown(&self.tables[index].name),
                    begin.line
                )));
            }
        }
        self.add_rows(index, begin, previous)
    }

    fn insert(&mut self, begin: Place, previous: Option<usize>) -> Result<(), ImportError> {
        let (name, columns) = insert_head(&mut self.script)?;
        let index = self.index_of(self.with_schema(name))?;
        if let Some(columns) = columns {
            for column in columns {
                self.add_column(index, &column)?;
            }
        } else {
            self.unnamed.entry(index).or_insert(begin.line);
        }
        self.rest(begin, false)?;
        self.add_rows(index, begin, previous)
    }

    /// Remembers where rows are. Statements that follow one another with rows of one table are one stretch.
    fn add_rows(&mut self, table: usize, begin: Place, previous: Option<usize>) -> Result<(), ImportError> {
        self.previous = Some(table);
        let end = self.script.place().offset;
        let is_backslash_plain = self.script.is_backslash_plain;
        if let Some(last) = self.stretches.last_mut().filter(|_| previous == Some(table)) {
            last.end = end;
            return Ok(());
        }
        if self.stretches.len() == MAX_STRETCHES {
            return Err(self.script.error("the rows of the tables are too mixed up"));
        }
        self.stretches.push(Stretch { table, begin, end, is_backslash_plain });
        Ok(())
    }

    /// Reads a table's name, behind key words that may be there, and returns the token behind it.
    fn name_behind(&mut self, key_words: &[&str]) -> Result<((String, String), Token), ImportError> {
        let mut token = self.script.token(false)?;
        while key_words.iter().any(|word| token.is(word)) {
            token = self.script.token(false)?;
        }
        let (name, next) = qualified(&mut self.script, token)?;
        Ok((self.with_schema(name), next))
    }

    fn with_schema(&self, (schema, name): PartedName) -> (String, String) {
        (schema.unwrap_or_else(|| self.schema.clone()), name)
    }

    fn count_name(&mut self, name: &str) -> Result<(), ImportError> {
        self.name_bytes += name.len() + size_of::<TableInfo>();
        if self.name_bytes > MAX_NAMES { Err(self.script.error("too many tables and columns")) } else { Ok(()) }
    }

    fn index_of(&mut self, name: (String, String)) -> Result<usize, ImportError> {
        if let Some(index) = self.by_name.get(&name) {
            return Ok(*index);
        }
        self.count_name(&name.1)?;
        let index = self.tables.len();
        self.tables.push(TableInfo { schema: name.0.clone(), name: name.1.clone(), ..TableInfo::default() });
        self.by_name.insert(name, index);
        Ok(index)
    }

    fn add_column(&mut self, index: usize, column: &str) -> Result<(), ImportError> {
        let columns = &self.tables[index].columns;
        if columns.iter().any(|own| own == column) {
            return Ok(());
        }
        if columns.len() == MAX_COLUMNS {
            return Err(self.script.error("a table has too many columns"));
        }
        self.count_name(column)?;
        self.tables[index].columns.push(column.to_owned());
        Ok(())
    }

    fn add_unique(&mut self, index: usize, column: &str) {
        let unique = &mut self.tables[index].unique;
        if !unique.iter().any(|own| own == column) {
            unique.push(column.to_owned());
        }
    }

    fn add_reference(&mut self, index: usize, column: String, table: String) -> Result<(), ImportError> {
        self.count_name(&table)?;
        self.tables[index].foreign_keys.push(ForeignKey { column, table });
        Ok(())
    }
}

/// A table's name, behind its schema where one is written.
type PartedName = (Option<String>, String);

/// Reads a name from its first token, and returns the token behind it.
fn qualified(script: &mut Script, first: Token) -> Result<(PartedName, Token), ImportError> {
    let (mut schema, mut token) = (None, first);
    for _ in 0..MAX_NAME_PARTS {
        let Some(name) = token.into_name() else { break };
        token = script.token(false)?;
        if token != Token::Sign(b'.') {
            return Ok(((schema, name), token));
        }
        schema = Some(name);
        token = script.token(false)?;
    }
    Err(script.error("a table's name is missing"))
}

/// Reads names up to the closing parenthesis.
fn column_list(script: &mut Script) -> Result<Vec<String>, ImportError> {
    let mut columns = Vec::new();
    loop {
        match script.token(false)? {
            Token::Sign(b')') => return Ok(columns),
            Token::Sign(b',') => {}
            token => match token.into_name() {
                Some(column) if columns.len() < MAX_COLUMNS => columns.push(column),
                _ => return Err(script.error("a list of columns is not as pg_dump writes it")),
            },
        }
    }
}

/// What a statement begins with that brings rows: the table, the columns where they are named, and the token behind.
fn rows_head(script: &mut Script) -> Result<(PartedName, Option<Vec<String>>, Token), ImportError> {
    let first = script.token(false)?;
    let (name, token) = qualified(script, first)?;
    if token != Token::Sign(b'(') {
        return Ok((name, None, token));
    }
    let columns = column_list(script)?;
    Ok((name, Some(columns), script.token(false)?))
}

/// Reads a COPY behind its first word, to the end of its line.
fn copy_head(script: &mut Script) -> Result<(PartedName, Option<Vec<String>>), ImportError> {
    let (name, columns, token) = rows_head(script)?;
    if !token.is("from") || !script.token(false)?.is("stdin") || script.token(false)? != Token::Sign(b';') {
        return Err(script.error("a COPY is not as pg_dump writes it"));
    }
    let mut line = Vec::new();
    script.line(&mut line, 1)?;
    Ok((name, columns))
}

/// Reads an INSERT behind its first word, as far as VALUES.
fn insert_head(script: &mut Script) -> Result<(PartedName, Option<Vec<String>>), ImportError> {
    let is_into = script.token(false)?.is("into");
    let (name, mut columns, mut token) = rows_head(script)?;
    while is_into {
        match &token {
            Token::Word(word) => match word.as_str() {
                "values" => return Ok((name, columns)),
                // DEFAULT VALUES: a row of a table without columns.
                "default" => columns = Some(Vec::new()),
                "overriding" | "system" | "user" | "value" => {}
                _ => break,
            },
            _ => break,
        }
        token = script.token(false)?;
    }
    Err(script.error("an INSERT is not as pg_dump writes it"))
}

/// Where in a row each of the columns is that were asked for.
fn wanted(named: &[String], columns: &[&str]) -> Vec<Option<usize>> {
    columns.iter().map(|column| named.iter().position(|own| own == column)).collect()
}

/// The cells that were asked for. A column that a row does not have is NULL.
fn chosen(values: &[Cell], wanted: &[Option<usize>]) -> Vec<Cell> {
    wanted.iter().map(|place| place.and_then(|place| values.get(place)).cloned().unwrap_or(Cell::Null)).collect()
}

/// Reads the rows of a COPY.
fn copied_rows(
    script: &mut Script,
    wanted: &[Option<usize>],
    count: usize,
    each: EachRow<'_>,
) -> Result<(), ImportError> {
    let mut line = Vec::new();
    loop {
        let number = script.place().line;
        let kept = script.line(&mut line, MAX_ROW)?;
        if line == END_OF_ROWS && kept.is_some() {
            return Ok(());
        }
        match kept {
            Some(LineKept::Whole) => {}
            Some(LineKept::Cut) => return Err(script.error_at(number, "a row is too long")),
            Some(LineKept::Torn) | None => return Err(script.error_at(number, "the file ends in a row: it is torn")),
        }
        let text = str::from_utf8(&line).map_err(|_| script.not_utf8(number))?;
        let fields: Vec<&str> = if count == 0 && text.is_empty() { Vec::new() } else { text.split('\t').collect() };
        if fields.len() != count {
            let why = format!("a row has {} values for {count} columns", fields.len());
            return Err(script.error_at(number, &why));
        }
        let cells: Option<Vec<Cell>> =
            wanted.iter().map(|place| place.map_or(Some(Cell::Null), |place| copied(fields[place]))).collect();
        each(&cells.ok_or_else(|| script.not_utf8(number))?)?;
    }
}

/// A value of a COPY; nothing where its escapes make no UTF-8.
fn copied(field: &str) -> Option<Cell> {
    if field == "\\N" {
        return Some(Cell::Null);
    }
    if !field.contains('\\') {
        return Some(Cell::Text(field.to_owned()));
    }
    let mut text = Vec::with_capacity(field.len());
    let mut bytes = field.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        let escaped = bytes.next()?;
        let (first, radix, most) = match escaped {
            b'0'..=b'7' => (u32::from(escaped - b'0'), 8, 2),
            b'x' if bytes.peek().is_some_and(u8::is_ascii_hexdigit) => (0, 16, 2),
            b'v' => {
                text.push(0x0b);
                continue;
            }
            other => {
                text.push(control(other).unwrap_or(other));
                continue;
            }
        };
        let mut number = first;
        for _ in 0..most {
            let Some(digit) = bytes.peek().and_then(|byte| char::from(*byte).to_digit(radix)) else { break };
            number = number * radix + digit;
            bytes.next();
        }
        text.push(u8::try_from(number & 0xff).unwrap_or_default());
    }
    String::from_utf8(text).ok().map(Cell::Text)
}

/// Reads the rows of an INSERT, behind VALUES, to the end of the statement.
fn inserted_rows(
    script: &mut Script,
    wanted: &[Option<usize>],
    count: usize,
    each: EachRow<'_>,
) -> Result<(), ImportError> {
    loop {
        match script.token(false)? {
            Token::Sign(b'(') => {
                let values = inserted_row(script, wanted)?;
                if values.len() != count {
                    let why = format!("a row has {} values for {count} columns", values.len());
                    return Err(script.error(&why));
                }
                each(&chosen(&values, wanted))?;
            }
            Token::Sign(b',') => {}
            Token::Sign(b';') => return Ok(()),
            // ON CONFLICT DO NOTHING, which has no rows.
            word if word.is("on") || word.is("do") || word.is("conflict") || word.is("nothing") => {}
            _ => return Err(script.error("an INSERT is not as pg_dump writes it")),
        }
    }
}

/// Reads a row behind its opening parenthesis. Only what was asked for is kept.
fn inserted_row(script: &mut Script, wanted: &[Option<usize>]) -> Result<Vec<Cell>, ImportError> {
    let (mut values, mut kept_bytes) = (Vec::new(), 0);
    loop {
        let is_wanted = wanted.contains(&Some(values.len()));
        let first = script.token(is_wanted)?;
        let (value, mut token) = match first {
            Token::Sign(sign @ (b'-' | b'+')) => {
                let number = script.token(false)?;
                let Token::Number(digits) = number else { return Err(odd_value(script)) };
                let number = if sign == b'-' { format!("-{digits}") } else { digits };
                (Some(Cell::Text(number)), script.token(false)?)
            }
            // An empty row.
            Token::Sign(b')') if values.is_empty() => return Ok(values),
            Token::Sign(_) | Token::End => (None, first),
            first => (literal(first), script.token(false)?),
        };
        let is_plain = matches!(token, Token::Sign(b',' | b')' | b':'));
        if is_wanted && (value.is_none() || !is_plain) {
            return Err(odd_value(script));
        }
        // A cast, or an expression that nobody asked for.
        let mut depth = 0_u64;
        let is_last = loop {
            match token {
                Token::Sign(b'(' | b'[') => depth += 1,
                Token::Sign(b')') if depth == 0 => break true,
                Token::Sign(b')' | b']') => depth = depth.saturating_sub(1),
                Token::Sign(b',') if depth == 0 => break false,
                Token::Sign(b';') | Token::End => return Err(odd_value(script)),
                _ => {}
            }
            token = script.token(false)?;
        };
        let value = value.filter(|_| is_wanted).unwrap_or(Cell::Null);
        if let Cell::Text(text) = &value {
            kept_bytes += text.len();
        }
        if kept_bytes > MAX_ROW {
            return Err(script.error("a row is too long"));
        }
        values.push(value);
        if is_last {
            return Ok(values);
        }
        if values.len() == MAX_COLUMNS {
            return Err(script.error("a row has too many values"));
        }
    }
}

fn odd_value(script: &Script) -> ImportError {
    script.error("a value is not as pg_dump writes it")
}

/// The value that a token is.
fn literal(token: Token) -> Option<Cell> {
    match token {
        Token::Text(text) => text.map(Cell::Text),
        Token::Number(digits) => Some(Cell::Text(digits)),
        Token::Word(word) => match word.as_str() {
            "null" | "default" => Some(Cell::Null),
            "true" => Some(Cell::Text("t".to_owned())),
            "false" => Some(Cell::Text("f".to_owned())),
            _ => None,
        },
        Token::Name(_) | Token::Sign(_) | Token::End => None,
    }
}

/// The text of a setting's value, in quotes or not.
fn literal_text(token: Token) -> Option<String> {
    match token {
        Token::Text(text) => text,
        token => token.into_name(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn opened(sql: &[u8]) -> Result<PgDump, ImportError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.sql");
        fs::write(&path, sql).unwrap();
        // The file stays open.
        PgDump::open(&path)
    }

    fn dump(sql: &str) -> PgDump {
        opened(sql.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refusal(sql: impl AsRef<[u8]>) -> String {
        match opened(sql.as_ref()) {
            Err(error) => error.to_string(),
            Ok(mut dump) => {
                for table in dump.tables().to_vec() {
                    let columns: Vec<_> = table.columns.iter().map(String::as_str).collect();
                    if let Err(error) = dump.read(&table, &columns, &mut |_| Ok(())) {
                        return error.to_string();
                    }
                }
                panic!("it is taken")
            }
        }
    }

    fn rows(dump: &mut PgDump, name: &str, columns: &[&str]) -> Vec<Vec<Option<String>>> {
        let table = dump.tables().iter().find(|table| table.name == name).unwrap().clone();
        let mut rows = Vec::new();
        let mut each = |cells: &[Cell]| {
            rows.push(cells.iter().map(Cell::text).collect());
            Ok(())
        };
        dump.read(&table, columns, &mut each).unwrap_or_else(|error| panic!("{error}"));
        rows
    }

    fn texts(row: &[Option<String>]) -> Vec<&str> {
        row.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect()
    }

    const DEFINED: &str = r#"
CREATE TABLE public.people (
    id integer NOT NULL,
    "Name" character varying(30) DEFAULT 'a, b); --'::character varying NOT NULL,
    price numeric(10,2),
    boss_id integer,
    CONSTRAINT positive CHECK ((id > 0))
);
ALTER TABLE public.people OWNER TO me;
ALTER TABLE ONLY public.people
    ADD CONSTRAINT people_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.people ADD CONSTRAINT one UNIQUE ("Name");
ALTER TABLE ONLY public.people ADD CONSTRAINT two UNIQUE (price, boss_id);
ALTER TABLE ONLY public.people
    ADD CONSTRAINT boss FOREIGN KEY (boss_id) REFERENCES public.people(id) DEFERRABLE INITIALLY DEFERRED;
"#;

    #[test]
    fn tables_are_found_with_their_columns_keys_and_references() {
        let dump = dump(DEFINED);
        let [table] = dump.tables() else { panic!("{:?}", dump.tables()) };
        assert_eq!((table.schema.as_str(), table.name.as_str()), ("public", "people"));
        assert_eq!(table.columns, ["id", "Name", "price", "boss_id"]);
        assert_eq!(table.primary_key, ["id"]);
        assert_eq!(table.unique, ["Name"]);
        assert_eq!(table.foreign_keys, [ForeignKey { column: "boss_id".to_owned(), table: "people".to_owned() }]);
    }

    #[test]
    fn rows_of_copy_are_read_with_their_escapes() {
        let sql = DEFINED.to_owned()
            + "COPY public.people (id, \"Name\", price) FROM stdin;\n1\ta\\tb\\\\c\\nd\\101\\x41\\.e\t\\N\n2\t\t\\\\N\n\\.\n";
        let rows = rows(&mut dump(&sql), "people", &["Name", "price", "id", "boss_id"]);
        assert_eq!(texts(&rows[0]), ["a\tb\\c\ndAA.e", "NULL", "1", "NULL"]);
        assert_eq!(texts(&rows[1]), ["", "\\N", "2", "NULL"]);
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn rows_of_insert_are_read_with_and_without_names_of_columns() {
        let sql = DEFINED.to_owned()
            + "INSERT INTO public.people VALUES (1, 'it''s \\n', -1.50, NULL);\n\
               INSERT INTO public.people (\"Name\", id) OVERRIDING SYSTEM VALUE VALUES\n\
               \t(E'a\\'b\\n\\u00e4', 2), -- '\n\t('x'::character varying(3), 3) ON CONFLICT DO NOTHING;\n\
               SET standard_conforming_strings = off;\n\
               INSERT INTO public.people VALUES (4, 'a\\tb', ARRAY[1, 2], true);\n";
        let rows = rows(&mut dump(&sql), "people", &["id", "Name", "boss_id"]);
        assert_eq!(texts(&rows[0]), ["1", "it's \\n", "NULL"]);
        assert_eq!(texts(&rows[1]), ["2", "a'b\nä", "NULL"]);
        assert_eq!(texts(&rows[2]), ["3", "x", "NULL"]);
        assert_eq!(texts(&rows[3]), ["4", "a\tb", "t"]);
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn a_dump_of_data_alone_names_its_columns_with_the_rows() {
        let sql = "\\restrict x'\nCOPY \"auth\".\"users\" (\"id\", \"e\"\"mail\") FROM stdin;\r\n7\ta\r\n\\.\r\n\
                   INSERT INTO other.users (id) VALUES (8);\n\\unrestrict x'\n";
        let mut dump = dump(sql);
        assert_eq!(dump.tables().len(), 2);
        assert_eq!(dump.tables()[0].schema, "auth");
        assert_eq!(rows(&mut dump, "users", &["e\"mail", "id"]), [[Some("a".to_owned()), Some("7".to_owned())]]);
        let unnamed = refusal("INSERT INTO auth.users VALUES (1);\n");
        assert!(unnamed.contains("named nowhere"), "{unnamed}");
    }

    #[test]
    fn sql_in_a_text_a_comment_or_a_routine_is_data() {
        let sql = DEFINED.to_owned()
            + "-- COPY public.people (id) FROM stdin;\n/* INSERT /* nested */ INTO public.people VALUES (9); */\n\
               CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $_$ INSERT INTO public.people VALUES (9, $$x$$); $_$;\n\
               CREATE FUNCTION g() RETURNS void BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; \
               INSERT INTO public.people VALUES (9); END;\n\
               COMMENT ON TABLE public.people IS 'x; INSERT INTO public.people VALUES (9);';\n\
               INSERT INTO public.people VALUES (1, '\n\\.\n''); INSERT INTO public.people VALUES (9);', 1, 1);\n\
               COPY public.people (id, \"Name\") FROM stdin;\n2\tINSERT INTO public.people VALUES (9);\n\\.\n";
        let rows = rows(&mut dump(&sql), "people", &["id"]);
        assert_eq!(rows.iter().map(|row| texts(row)[0]).collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn a_torn_dump_is_refused_with_the_line() {
        let copy = "COPY public.a (id, b) FROM stdin;\n1\t2\n3\t4\n\\.\n";
        for end in 1..copy.len() - 2 {
            let why = refusal(&copy[..end]);
            assert!(why.starts_with("line "), "{end}: {why}");
        }
        let insert = "INSERT INTO public.a (id, b) VALUES (1, 'x');";
        for end in 1..insert.len() {
            let why = refusal(&insert[..end]);
            assert!(why.starts_with("line "), "{end}: {why}");
        }
        let marked = refusal("--\n-- PostgreSQL database dump\n--\nCOPY public.a (id) FROM stdin;\n\\.\n");
        assert!(marked.contains("torn"), "{marked}");
        let uneven = refusal("COPY public.a (id, b) FROM stdin;\n1\t2\n3\n\\.\n");
        assert!(uneven.starts_with("line 3 "), "{uneven}");
    }

    #[test]
    fn other_forms_of_a_dump_are_refused_with_what_to_type() {
        let mut tar = vec![b'x'; 512];
        tar[..7].copy_from_slice(b"toc.dat");
        tar[257..262].copy_from_slice(b"ustar");
        for (head, told) in [
            (b"PGDMP\x01\x0e".to_vec(), "pg_restore -f - "),
            (tar, "pg_restore -f - "),
            (vec![0x1f, 0x8b, 8], "gunzip"),
            (b"\xff\xfe-\0".to_vec(), "UTF-16"),
            (b"a\0".to_vec(), "binary"),
            (b"SET client_encoding = 'LATIN1';".to_vec(), "--encoding=UTF8"),
            (b"COPY a (b) FROM stdin;\nM\xfcller\n\\.\n".to_vec(), "line 2 "),
            (b"COPY a (b) FROM stdin;\n\\xfc\n\\.\n".to_vec(), "not UTF-8"),
            (b"COPY a (b) FROM stdin;\n\\.\n\\connect b\n".to_vec(), "several databases"),
        ] {
            let why = refusal(head);
            assert!(why.contains(told), "{why}");
        }
        let folder = tempfile::tempdir().unwrap();
        let why = PgDump::open(folder.path()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(why.contains("pg_restore -f dump.sql"), "{why}");
    }

    #[test]
    fn whatever_bytes_a_dump_has_it_is_read_or_refused() {
        let whole =
            DEFINED.to_owned() + "COPY public.people (id) FROM stdin;\n1\n\\.\nINSERT INTO a (b) VALUES ('c');\n";
        for index in 0..whole.len() {
            for byte in [0_u8, b'\'', b'"', b'(', b')', b';', b'$', b'\\', b'\n', b'.', b'-', 0xff] {
                let mut bytes = whole.clone().into_bytes();
                bytes[index] = byte;
                if let Ok(mut dump) = opened(&bytes) {
                    for table in dump.tables().to_vec() {
                        let columns: Vec<_> = table.columns.iter().map(String::as_str).collect();
                        let _ = dump.read(&table, &columns, &mut |_| Ok(()));
                    }
                }
            }
        }
    }
}
