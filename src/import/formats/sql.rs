//! The words of a SQL script as `pg_dump` writes it, read from the front in bounded memory.
//!
//! It knows how PostgreSQL's own client splits a script: comments, quoted names, texts with and without escapes, and texts
//! between dollars. What stands in a text is never taken for SQL.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::import::ImportError;

/// How many bytes a value, and all that is kept of a row, may have.
pub(super) const MAX_ROW: usize = 16 << 20;
/// How many bytes a name, a number or a key word may have. A `numeric` of PostgreSQL has more digits than any name.
const MAX_WORD: usize = 256 << 10;
/// How many bytes the tag of a dollar quote may have.
const MAX_TAG: usize = 256;
/// How much of a comment is kept.
const MAX_COMMENT: usize = 80;

/// A word of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A key word or a name without quotes, in lower case.
    Word(String),
    /// A name in quotes.
    Name(String),
    /// A text; nothing where it was to be skipped.
    Text(Option<String>),
    Number(String),
    /// Any other character.
    Sign(u8),
    End,
}

impl Token {
    /// Whether it is this key word.
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }

    /// The name that it is, in quotes or not.
    pub(super) fn into_name(self) -> Option<String> {
        match self {
            Self::Word(name) | Self::Name(name) => Some(name),
            _ => None,
        }
    }
}

/// A place in a script, which reading can begin at again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) line: u64,
}

/// A script that is being read.
pub(super) struct Script {
    path: PathBuf,
    file: BufReader<File>,
    place: Place,
    /// Whether a backslash in a plain text stands for itself.
    pub(super) is_backslash_plain: bool,
    /// Whether a comment was read that `pg_dump` begins a dump with.
    pub(super) has_begin: bool,
    /// Whether a comment was read that `pg_dump` ends a dump with.
    pub(super) has_end: bool,
}

impl Script {
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let file = File::open(path).map_err(|source| unreadable(path, source))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::with_capacity(64 << 10, file),
            place: Place { offset: 0, line: 1 },
            is_backslash_plain: true,
            has_begin: false,
            has_end: false,
        })
    }

    /// Where reading stands.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Goes on from another place.
    pub(super) fn go_to(&mut self, place: Place) -> Result<(), ImportError> {
        self.file.seek(SeekFrom::Start(place.offset)).map_err(|source| unreadable(&self.path, source))?;
        self.place = place;
        Ok(())
    }

    /// An error at the line that reading stands at.
    pub(super) fn error(&self, why: &str) -> ImportError {
        self.error_at(self.place.line, why)
    }

    /// An error at another line.
    pub(super) fn error_at(&self, line: u64, why: &str) -> ImportError {
        ImportError::new(format!("line {line} of {}: {why}", self.path.display()))
    }

    pub(super) fn peek(&mut self) -> Result<Option<u8>, ImportError> {
        match self.file.fill_buf() {
            Ok(bytes) => Ok(bytes.first().copied()),
            Err(source) => Err(unreadable(&self.path, source)),
        }
    }

    pub(super) fn next_byte(&mut self) -> Result<Option<u8>, ImportError> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.file.consume(1);
            self.place.offset += 1;
            self.place.line += u64::from(byte == b'\n');
        }
        Ok(byte)
    }

    fn skip_if(&mut self, byte: u8) -> Result<bool, ImportError> {
        let is_there = self.peek()? == Some(byte);
        if is_there {
            self.next_byte()?;
        }
        Ok(is_there)
    }

    /// Reads a line into `line`, without its end; at most `most` bytes are kept of it. Whether it was whole and is kept
    /// whole; nothing at the end of the file.
    pub(super) fn line(&mut self, line: &mut Vec<u8>, most: usize) -> Result<Option<LineKept>, ImportError> {
        line.clear();
        let mut kept = LineKept::Torn;
        let mut has_any = false;
        loop {
            let bytes = self.file.fill_buf().map_err(|source| unreadable(&self.path, source))?;
            if bytes.is_empty() {
                return Ok(has_any.then_some(kept));
            }
            has_any = true;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let room = most - line.len();
            line.extend_from_slice(&part[..part.len().min(room)]);
            let is_cut = part.len() > room;
            let taken = end.map_or(bytes.len(), |end| end + 1);
            self.file.consume(taken);
            self.place.offset += taken as u64;
            if is_cut && kept == LineKept::Torn {
                kept = LineKept::Cut;
            }
            if end.is_some() {
                self.place.line += 1;
                if kept != LineKept::Cut {
                    kept = LineKept::Whole;
                    // A dump that Windows wrote; a carriage return of the data itself is written with a backslash.
                    if line.last() == Some(&b'\r') {
                        line.pop();
                    }
                }
                return Ok(Some(kept));
            }
        }
    }

    /// Skips white space and comments.
    pub(super) fn skip_blank(&mut self) -> Result<Option<u8>, ImportError> {
        loop {
            match self.peek()? {
                Some(b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c) => {
                    self.next_byte()?;
                }
                Some(b'-') if self.starts_with(b"--")? => self.skip_line_comment()?,
                Some(b'/') if self.starts_with(b"/*")? => self.skip_comment()?,
                other => return Ok(other),
            }
        }
    }

    /// Whether these two bytes come next. Both are in the buffer, but for its very end.
    fn starts_with(&mut self, two: &[u8; 2]) -> Result<bool, ImportError> {
        let bytes = self.file.fill_buf().map_err(|source| unreadable(&self.path, source))?;
        if bytes.len() >= 2 {
            return Ok(bytes.starts_with(two));
        }
        let place = self.place;
        self.next_byte()?;
        let second = self.peek()?;
        self.go_to(place)?;
        Ok(second == Some(two[1]))
    }

    fn skip_line_comment(&mut self) -> Result<(), ImportError> {
        let mut line = Vec::new();
        self.line(&mut line, MAX_COMMENT)?;
        self.has_begin |= line == b"-- PostgreSQL database dump";
        self.has_end |= line == b"-- PostgreSQL database dump complete";
        Ok(())
    }

    /// Comments of this kind can stand in one another.
    fn skip_comment(&mut self) -> Result<(), ImportError> {
        let begin = self.place.line;
        let mut depth = 0_u64;
        loop {
            match self.next_byte()? {
                Some(b'/') if self.skip_if(b'*')? => depth += 1,
                Some(b'*') if self.skip_if(b'/')? => depth -= 1,
                Some(_) => {}
                None => return Err(self.torn("comment", begin)),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn torn(&self, what: &str, begin: u64) -> ImportError {
        self.error(&format!("the file ends in a {what} that begins on line {begin}: it is torn"))
    }

    /// Reads the next word. A text is kept only where `is_kept`.
    pub(super) fn token(&mut self, is_kept: bool) -> Result<Token, ImportError> {
        let Some(first) = self.skip_blank()? else { return Ok(Token::End) };
        match first {
            b'\'' => {
                self.next_byte()?;
                let has_escapes = !self.is_backslash_plain;
                Ok(Token::Text(self.text(is_kept, has_escapes)?))
            }
            b'"' => {
                self.next_byte()?;
                self.quoted_name()
            }
            b'$' => {
                self.next_byte()?;
                self.dollar()
            }
            b'0'..=b'9' => Ok(Token::Number(self.word(|byte, last| {
                byte.is_ascii_alphanumeric()
                    || matches!(byte, b'.' | b'_')
                    || (matches!(byte, b'+' | b'-') && matches!(last, b'e' | b'E'))
            })?)),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => {
                let word =
                    self.word(|byte, _| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80)?;
                if self.peek()? == Some(b'\'') {
                    if word.eq_ignore_ascii_case("e") {
                        self.next_byte()?;
                        return Ok(Token::Text(self.text(is_kept, true)?));
                    }
                    if word.eq_ignore_ascii_case("b") || word.eq_ignore_ascii_case("x") {
                        self.next_byte()?;
                        return Ok(Token::Text(self.text(is_kept, false)?));
                    }
                }
                Ok(Token::Word(word.to_ascii_lowercase()))
            }
            other => {
                self.next_byte()?;
                Ok(Token::Sign(other))
            }
        }
    }

    /// Reads while `belongs` says so of a byte and the one before it.
    fn word(&mut self, belongs: impl Fn(u8, u8) -> bool) -> Result<String, ImportError> {
        let (mut word, mut last) = (Vec::new(), 0);
        while let Some(byte) = self.peek()?.filter(|byte| belongs(*byte, last)) {
            if word.len() == MAX_WORD {
                return Err(self.error("a name or a number is too long"));
            }
            word.push(byte);
            last = byte;
            self.next_byte()?;
        }
        self.utf8(word)
    }

    fn quoted_name(&mut self) -> Result<Token, ImportError> {
        let begin = self.place.line;
        let mut name = Vec::new();
        loop {
            match self.next_byte()? {
                Some(b'"') if !self.skip_if(b'"')? => return Ok(Token::Name(self.utf8(name)?)),
                Some(byte) if name.len() < MAX_WORD => name.push(byte),
                Some(_) => return Err(self.error("a name is too long")),
                None => return Err(self.torn("name", begin)),
            }
        }
    }

    /// Reads a text behind its first quote.
    fn text(&mut self, is_kept: bool, has_escapes: bool) -> Result<Option<String>, ImportError> {
        let begin = self.place.line;
        let mut text = Vec::new();
        loop {
            let Some(byte) = self.next_byte()? else { return Err(self.torn("text", begin)) };
            let byte = match byte {
                b'\'' if !self.skip_if(b'\'')? => break,
                b'\\' if has_escapes => {
                    let Some(escaped) = self.next_byte()? else { return Err(self.torn("text", begin)) };
                    if is_kept && matches!(escaped, b'u' | b'U') {
                        let c = self.unicode(if escaped == b'u' { 4 } else { 8 })?;
                        text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                        continue;
                    }
                    self.escaped(escaped)?
                }
                byte => byte,
            };
            if is_kept {
                if text.len() >= MAX_ROW {
                    return Err(self.error("a text is too long"));
                }
                text.push(byte);
            }
        }
        if is_kept { self.utf8(text).map(Some) } else { Ok(None) }
    }

    fn unicode(&mut self, digits: u32) -> Result<char, ImportError> {
        let mut code = 0_u32;
        for _ in 0..digits {
            let digit = self.next_byte()?.and_then(|byte| char::from(byte).to_digit(16));
            code = digit.and_then(|digit| code.checked_mul(16)?.checked_add(digit)).unwrap_or(u32::MAX);
        }
        char::from_u32(code).ok_or_else(|| self.error("a text has an escape that stands for no character"))
    }

    /// The byte that an escape in a text stands for, whose first character has been read.
    fn escaped(&mut self, escaped: u8) -> Result<u8, ImportError> {
        let mut number = |first: u32, radix: u32, most: usize| {
            let mut number = first;
            for _ in 0..most {
                let Some(digit) = self.peek()?.and_then(|byte| char::from(byte).to_digit(radix)) else { break };
                number = number * radix + digit;
                self.next_byte()?;
            }
            Ok(u8::try_from(number & 0xff).unwrap_or_default())
        };
        match escaped {
            b'0'..=b'7' => number(u32::from(escaped - b'0'), 8, 2),
            b'x' => number(0, 16, 2),
            other => Ok(control(other).unwrap_or(other)),
        }
    }

    /// A text between dollars, which is skipped, or a dollar by itself.
    fn dollar(&mut self) -> Result<Token, ImportError> {
        let begin = self.place.line;
        let mut tag = vec![b'$'];
        loop {
            match self.peek()? {
                Some(b'$') => break,
                Some(byte)
                    if byte.is_ascii_alphabetic()
                        || byte == b'_'
                        || byte >= 0x80
                        || (byte.is_ascii_digit() && tag.len() > 1) =>
                {
                    if tag.len() == MAX_TAG {
                        return Err(self.error("the tag of a dollar quote is too long"));
                    }
                    tag.push(byte);
                    self.next_byte()?;
                }
                // A parameter such as $1.
                _ => return Ok(Token::Sign(b'$')),
            }
        }
        self.next_byte()?;
        tag.push(b'$');
        // A tag has a dollar at its ends only, so where it does not go on, it can begin only with the byte at hand.
        let mut matched = 0;
        while matched < tag.len() {
            let Some(byte) = self.next_byte()? else { return Err(self.torn("text", begin)) };
            matched = if byte == tag[matched] { matched + 1 } else { usize::from(byte == b'$') };
        }
        Ok(Token::Text(None))
    }

    fn utf8(&self, bytes: Vec<u8>) -> Result<String, ImportError> {
        String::from_utf8(bytes).map_err(|_| self.not_utf8(self.place.line))
    }

    pub(super) fn not_utf8(&self, line: u64) -> ImportError {
        self.error_at(line, "it is not UTF-8: make the dump with pg_dump --encoding=UTF8")
    }
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKept {
    Whole,
    /// It is longer than what is kept.
    Cut,
    /// The file ends in it.
    Torn,
}

/// The control character that a letter behind a backslash stands for.
pub(super) fn control(letter: u8) -> Option<u8> {
    Some(match letter {
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

fn unreadable(path: &Path, source: std::io::Error) -> ImportError {
    ImportError::Unreadable { path: path.to_owned(), source }
}
