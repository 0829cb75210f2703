//! Reads the mails that the service has written to a folder, for the developer who looks at them: as much of MIME as our
//! own mails have.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// What a list shows of a mail.
#[derive(Clone, Default, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) file: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) subject: String,
    pub(crate) date: String,
}

/// A mail's text, and what it begins with.
pub(crate) struct Mail {
    pub(crate) summary: Summary,
    pub(crate) pieces: Vec<Piece>,
}

/// A part of a text: a link, a code, or whatever is between them.
#[derive(Default, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Piece {
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

impl Summary {
    pub(crate) fn read(file: String, mail: &str) -> Self {
        let (head, _) = split(mail);
        let value = |name| header(head, name).map(|value| decoded_words(&value)).unwrap_or_default();
        Self { file, from: value("From"), to: value("To"), subject: value("Subject"), date: value("Date") }
    }
}

impl Mail {
    pub(crate) fn read(file: String, mail: &str) -> Self {
        Self { summary: Summary::read(file, mail), pieces: pieces(&text_of(mail).unwrap_or_default()) }
    }
}

/// Head and body.
fn split(part: &str) -> (&str, &str) {
    part.split_once("\r\n\r\n").or_else(|| part.split_once("\n\n")).unwrap_or((part, ""))
}

/// The value of a header, on one line.
fn header(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines();
    let first = lines.find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })?;
    let folded = lines.take_while(|line| line.starts_with([' ', '\t']));
    Some(folded.fold(first, |value, line| value + " " + line.trim()))
}

/// The plain text of a mail, or of the first of its parts that is plain text.
fn text_of(part: &str) -> Option<String> {
    let (head, body) = split(part);
    let kind = header(head, "Content-Type").unwrap_or_else(|| "text/plain".to_owned());
    let is =
        |kind: &str, beginning: &str| kind.get(..beginning.len()).is_some_and(|is| is.eq_ignore_ascii_case(beginning));
    if is(&kind, "multipart/") {
        let boundary = kind.split_once("boundary=")?.1;
        let boundary = boundary.split(';').next()?.trim().trim_matches('"');
        let delimiter = format!("--{boundary}");
        return body.split(&delimiter).skip(1).find_map(|part| text_of(part.trim_start_matches(['\r', '\n'])));
    }
    if !is(&kind, "text/plain") {
        return None;
    }
    let encoding = header(head, "Content-Transfer-Encoding").unwrap_or_default().to_ascii_lowercase();
    let text = match encoding.as_str() {
        "quoted-printable" => unquoted(body, false),
        "base64" => from_base64(body)?,
        _ => body.to_owned(),
    };
    Some(text.replace("\r\n", "\n").trim_end().to_owned())
}

/// Without the encoding of RFC 2045, 6.7; in a header, of RFC 2047, 4.2.
fn unquoted(text: &str, is_header: bool) -> String {
    let text = text.replace("=\r\n", "").replace("=\n", "");
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.as_bytes();
    while let [first, rest @ ..] = left {
        let escaped = rest.get(..2).filter(|_| *first == b'=').and_then(|digits| str::from_utf8(digits).ok());
        if let Some(byte) = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            left = &rest[2..];
        } else {
            bytes.push(if is_header && *first == b'_' { b' ' } else { *first });
            left = rest;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn from_base64(text: &str) -> Option<String> {
    let text: String = text.split_whitespace().collect();
    STANDARD.decode(text).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// A header's text without its encoded words. Blanks between two of them do not count.
fn decoded_words(value: &str) -> String {
    let mut text = String::new();
    let mut was_encoded = false;
    for word in value.split(' ') {
        let decoded = decoded_word(word);
        if !text.is_empty() && (!was_encoded || decoded.is_none()) {
            text.push(' ');
        }
        was_encoded = decoded.is_some();
        text.push_str(decoded.as_deref().unwrap_or(word));
    }
    text
}

fn decoded_word(word: &str) -> Option<String> {
    let inside = word.strip_prefix("=?")?.strip_suffix("?=")?;
    let mut parts = inside.splitn(3, '?');
    let (_, encoding, text) = (parts.next()?, parts.next()?, parts.next()?);
    match encoding {
        "b" | "B" => from_base64(text),
        "q" | "Q" => Some(unquoted(text, true)),
        _ => None,
    }
}

/// A text with its links and codes apart.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for word in text.split_inclusive([' ', '\n']) {
        let bare = word.trim_end();
        let is_link = ["http://", "https://"].iter().any(|scheme| bare.starts_with(scheme));
        let is_group = |text: &str| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        match pieces.last_mut() {
            _ if is_link => {
                pieces.push(Piece { kind: "link", text: bare.to_owned() });
                pieces.push(Piece { kind: "text", text: word[bare.len()..].to_owned() });
            }
            // The second half of a code: its first half is a piece of its own already.
            Some(half) if half.kind == "half" && is_group(bare.trim_end_matches(['.', ','])) => {
                half.kind = "code";
                half.text.push_str(&bare[..3]);
                pieces.push(Piece { kind: "text", text: word[3..].to_owned() });
            }
            _ if is_group(bare) && word.ends_with(' ') => {
                pieces.push(Piece { kind: "half", text: word.to_owned() });
            }
            Some(before) if before.kind == "text" => before.text.push_str(word),
            _ => pieces.push(Piece { kind: "text", text: word.to_owned() }),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = "From: =?utf-8?b?RGlhbW9uZHM=?= <noreply@diamond.example>\r\n\
        To: azure@diamond.example\r\nSubject: Reset your\r\n password =?utf-8?q?f=C3=BCr?= =?utf-8?b?IGRpY2g=?= now\r\n\
        Date: Sun, 04 Jan 2015 22:51:35 +0000\r\n\
        Content-Type: multipart/alternative;\r\n boundary=\"b\"\r\n\r\n\
        --b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        Gr=C3=BC=C3=9Fe, your code is 123 456.\r\n\r\nhttps://a.example/account/reset#d96163b8bc9127d8c5d58=\r\n\
        39018580123c64a324b\r\nIn 100 years.\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>no</p>\r\n--b--\r\n";

    #[test]
    fn a_mail_of_ours_is_read_with_its_link_and_its_code_apart() {
        let mail = Mail::read("1.eml".to_owned(), MAIL);
        assert_eq!(mail.summary.from, "Diamonds <noreply@diamond.example>");
        assert_eq!(mail.summary.subject, "Reset your password für dich now");
        assert_eq!(mail.summary.date, "Sun, 04 Jan 2015 22:51:35 +0000");
        let shown: Vec<(&str, &str)> = mail.pieces.iter().map(|piece| (piece.kind, piece.text.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("text", "Grüße, your code is "),
                ("code", "123 456"),
                ("text", ".\n\n"),
                ("link", "https://a.example/account/reset#d96163b8bc9127d8c5d5839018580123c64a324b"),
                ("text", "\nIn "),
                ("half", "100 "),
                ("text", "years."),
            ]
        );
    }

    #[test]
    fn any_text_is_read_as_a_mail_without_a_panic() {
        let broken =
            ["", "\r\n\r\n", "Content-Type: multipart/x\r\n\r\n", "Subject: =?", "Subject: =?utf-8?b??=", "=", "=é"];
        for text in broken {
            Mail::read(String::new(), text);
        }
        for end in 0..MAIL.len() {
            Mail::read(String::new(), &MAIL[..end]);
        }
        assert_eq!(text_of("Content-Transfer-Encoding: base64\n\nR3LD\nvMOfZQ=="), Some("Grüße".to_owned()));
    }
}
