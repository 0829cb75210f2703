//! Standard output: for people as lines and aligned columns, for programs as JSON.
//!
//! What is stored was typed by anybody. Control characters could make a terminal show what is not there (terminal
//! escape injection), so they are always escaped.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};
use std::iter;
use std::ops::Range;

use rustix::termios::tcgetwinsize;
use serde::Serialize;
use serde_json::Value;

use crate::http::json;
use crate::system::visible::{columns, is_unseen, width};

/// The gap between two columns.
const GAP: usize = 2;

/// How far a row's later lines are indented.
const INDENT: usize = 4;

/// The width of a terminal that does not tell its own.
const USUAL_WIDTH: usize = 80;

/// Standard output in one of two forms, for people or for programs.
pub struct Output {
    out: BufWriter<Stdout>,
    form: Form,
    /// How wide a line may be; `None` is any width, as in a pipe.
    width: Option<usize>,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// People.
    Text,
    /// Programs.
    Json,
}

impl Output {
    /// Standard output in this form.
    #[must_use]
    pub fn new(form: Form) -> Self {
        let out = io::stdout();
        let width = out.is_terminal().then(|| {
            tcgetwinsize(&out).map_or(USUAL_WIDTH, |size| match size.ws_col {
                0 => USUAL_WIDTH,
                columns => columns.into(),
            })
        });
        Self { out: BufWriter::new(out), form, width }
    }

    /// Prints one thing: as JSON, or as the lines that `text` makes of it.
    ///
    /// # Errors
    /// When standard output takes nothing.
    pub fn print<T: Serialize>(&mut self, thing: &T, text: impl FnOnce() -> String) -> io::Result<()> {
        match self.form {
            Form::Json => writeln!(self.out, "{}", to_json(thing)?)?,
            Form::Text => self.out.write_all(text().as_bytes())?,
        }
        self.out.flush()
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// When standard output takes nothing.
    pub fn print_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// Starts a list whose columns have these headings.
    #[must_use]
    pub fn list<const COLUMNS: usize>(&mut self, headings: [&'static str; COLUMNS]) -> List<'_, COLUMNS> {
        let widths = headings.map(columns);
        List { output: self, headings, widths, lines: Vec::new(), is_begun: false }
    }
}

/// A list that is printed as its rows come: a table for people, one array for programs.
///
/// At a terminal, a row that is too wide continues on the next line, indented, and a cell that is too wide is cut.
pub struct List<'a, const COLUMNS: usize> {
    output: &'a mut Output,
    headings: [&'static str; COLUMNS],
    widths: [usize; COLUMNS],
    /// The columns of each line of a row, as the headings were last printed.
    lines: Vec<Range<usize>>,
    is_begun: bool,
}

impl<const COLUMNS: usize> List<'_, COLUMNS> {
    /// Prints some more rows: each as JSON for programs, and as columns for people.
    ///
    /// # Errors
    /// When standard output takes nothing.
    pub fn add<T: Serialize>(&mut self, rows: impl IntoIterator<Item = (T, [String; COLUMNS])>) -> io::Result<()> {
        if self.output.form == Form::Json {
            for (thing, _) in rows {
                let before = if self.is_begun { ",\n " } else { "[" };
                self.is_begun = true;
                write!(self.output.out, "{before}{}", to_json(&thing)?)?;
            }
        } else {
            let rows: Vec<[String; COLUMNS]> = rows
                .into_iter()
                .map(|(_, cells)| {
                    cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { printable(&cell).into() })
                })
                .collect();
            // Columns never become narrower, so that later rows are aligned with earlier ones if possible.
            for row in &rows {
                for (width, cell) in self.widths.iter_mut().zip(row) {
                    *width = (*width).max(columns(cell));
                }
            }
            self.head()?;
            for row in &rows {
                self.row(row)?;
            }
        }
        self.output.out.flush()
    }

    /// Ends the list.
    ///
    /// # Errors
    /// When standard output takes nothing.
    pub fn end(mut self) -> io::Result<()> {
        match (self.output.form, self.is_begun) {
            (Form::Json, true) => writeln!(self.output.out, "]")?,
            (Form::Json, false) => writeln!(self.output.out, "[]")?,
            (Form::Text, _) => self.head()?,
        }
        self.output.out.flush()
    }

    /// Prints the headings, once; again only where rows are wider than those before and so need other lines.
    fn head(&mut self) -> io::Result<()> {
        let lines = break_lines(&self.widths, self.output.width);
        if self.lines == lines {
            return Ok(());
        }
        self.lines = lines;
        self.is_begun = true;
        self.row(&self.headings.map(str::to_owned))
    }

    fn row(&mut self, cells: &[String; COLUMNS]) -> io::Result<()> {
        for columns in &self.lines {
            let start = if columns.start == 0 { 0 } else { INDENT };
            let room = self.output.width.map_or(usize::MAX, |width| width.saturating_sub(start).max(1));
            let mut line = " ".repeat(start);
            for (cell, width) in cells.iter().zip(self.widths).take(columns.end).skip(columns.start) {
                push(&mut line, &cut(cell, room), width.min(room) + GAP);
            }
            writeln!(self.output.out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Which columns are on each line of a row.
fn break_lines(widths: &[usize], width: Option<usize>) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let (mut first, mut end) = (0, 0);
    for (column, needed) in widths.iter().enumerate() {
        if column > first && width.is_some_and(|width| end + GAP + needed > width) {
            lines.push(first..column);
            (first, end) = (column, INDENT);
        }
        end += needed + if column > first { GAP } else { 0 };
    }
    lines.push(first..widths.len());
    lines
}

/// Cuts a text that is wider than there is room for.
fn cut(text: &str, room: usize) -> Cow<'_, str> {
    if columns(text) <= room {
        return Cow::Borrowed(text);
    }
    let mut left = room - 1;
    let fits = |c: &char| {
        let remaining = left.checked_sub(width(*c));
        left = remaining.unwrap_or(left);
        remaining.is_some()
    };
    Cow::Owned(text.chars().take_while(fits).chain(['…']).collect())
}

/// Adds a text, and pads it to a width: the formatter would count characters, which may be wider or narrower.
fn push(line: &mut String, text: &str, width: usize) {
    line.push_str(text);
    line.extend(iter::repeat_n(' ', width.saturating_sub(columns(text))));
}

/// Names and values in two columns, for people.
#[must_use]
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| columns(name)).max().unwrap_or_default();
    pairs.iter().fold(String::new(), |mut text, (name, value)| {
        let mut line = String::new();
        push(&mut line, name, width + GAP);
        line.push_str(&printable(value));
        text.push_str(line.trim_end());
        text.push('\n');
        text
    })
}

/// A text that is safe to show on a terminal: control characters and invisible ones are escaped, so that two texts that
/// look the same are the same.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, |out, c| write!(out, "{}", c.escape_default()))
}

/// JSON that is safe to show on a terminal. A character that JSON does not require to be escaped can only be in a
/// string, where it may be escaped.
///
/// # Errors
/// Only when a value's own `Serialize` fails.
pub fn to_json<T: Serialize + ?Sized>(thing: &T) -> io::Result<String> {
    let json = String::from_utf8(json::to_vec(thing)?).map_err(io::Error::other)?;
    // Beyond the basic multilingual plane JSON has only UTF-16 surrogate pairs.
    let halves = |out: &mut String, c: char| {
        c.encode_utf16(&mut [0; 2]).iter().try_for_each(|half| write!(out, "\\u{half:04x}"))
    };
    Ok(escape(&json, halves).into_owned())
}

/// A string, a number, a boolean or a list of them as TOML that is safe to show on a terminal. TOML writes them as JSON
/// does, except for characters beyond the basic multilingual plane.
///
/// # Errors
/// Never: such a value is always written.
pub fn to_toml(value: &Value) -> io::Result<String> {
    let json = String::from_utf8(json::to_vec(value)?).map_err(io::Error::other)?;
    Ok(escape(&json, |out, c| write!(out, "\\U{:08x}", u32::from(c))).into_owned())
}

fn escape(text: &str, mut write: impl FnMut(&mut String, char) -> fmt::Result) -> Cow<'_, str> {
    if !text.contains(is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unseen(c) {
            // Writing to a string does not fail.
            let _ = write(&mut out, c);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_broken_between_columns_where_the_terminal_ends() {
        let sessions = [16, 24, 24, 24, 9, 100];
        for enough in [None, Some(207)] {
            let lines = break_lines(&sessions, enough);
            assert!(lines.len() == 1 && lines[0] == (0..6), "{lines:?}");
        }
        assert_eq!(break_lines(&sessions, Some(206)), [0..5, 5..6]);
        assert_eq!(break_lines(&sessions, Some(80)), [0..3, 3..5, 5..6]);
        assert_eq!(break_lines(&sessions, Some(10)), [0..1, 1..2, 2..3, 3..4, 4..5, 5..6]);
        assert_eq!((cut("12345", 5), cut("ünïcödé", 5)), ("12345".into(), "ünïc…".into()));
    }

    #[test]
    fn columns_stand_below_each_other_however_wide_their_characters_are() {
        for (text, shown) in [("山田太郎", "山田…"), ("a山田太郎", "a山…"), ("e\u{301}山田太", "e\u{301}山…")]
        {
            assert_eq!(cut(text, 5), shown);
        }
        for text in ["", "ab", "山", "e\u{301}", "山田太"] {
            let mut line = String::new();
            push(&mut line, text, 6);
            assert_eq!(columns(&line), 6, "{text}");
        }
    }

    #[test]
    fn no_control_character_reaches_a_terminal() {
        let nasty = "a\u{1b}[31mb\r\n\u{9b}c\u{7f}\u{202e}ü\u{200b}\u{feff}\u{3164}\u{e0041}";
        let shown = "a\\u{1b}[31mb\\r\\n\\u{9b}c\\u{7f}\\u{202e}ü\\u{200b}\\u{feff}\\u{3164}\\u{e0041}";
        assert_eq!(printable(nasty), shown);
        let json = to_json(nasty).unwrap();
        assert!(!json.contains(is_unseen), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), nasty);
        let toml = format!("a = {}", to_toml(&nasty.into()).unwrap());
        assert!(!toml.contains(is_unseen), "{toml}");
        assert_eq!(toml::from_str::<Value>(&toml).unwrap()["a"], nasty);
        assert_eq!(pairs(&[("a", "x\ny".to_owned()), ("long", String::new())]), "a     x\\ny\nlong\n");
    }
}
