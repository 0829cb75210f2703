//! Request framing: where one request ends and the next begins in the bytes of a connection.
//!
//! The framework parses requests; this module only finds their ends. It finds the end of a head with the parser that
//! the framework uses, and the end of a body by the rules that the framework follows. So a connection can hand over one
//! request at a time, a head only when it is complete and within its limit, and without any offer to change protocols.

use std::mem::MaybeUninit;
use std::ops::Range;

/// How large a request's head may be. The framework would accept 128 KiB, of which no client of ours needs a tenth.
pub const MAX_HEAD: usize = 32 * 1024;

/// How many headers the framework accepts.
const MAX_HEADERS: usize = 96;

/// What the unread bytes of a connection begin with.
#[derive(Debug, PartialEq, Eq)]
pub enum Head {
    /// At most the empty lines that some old clients send between requests.
    Nothing,
    /// The beginning of a head.
    Partial,
    /// A complete head: its length in bytes, the framing of its body, and whether the client awaits `100 Continue`
    /// before it sends the body.
    Whole(usize, Body, bool),
    /// Bytes that the framework refuses.
    Malformed,
}

impl Head {
    /// Looks for a head. In a complete one, every offer to change protocols is overwritten with spaces: a server may
    /// ignore it (RFC 9110, 7.8), and the framework does not. `Expect: 100-continue` (10.1.1) is overwritten too: the
    /// framework would ask for the body before anybody knows whether it is wanted.
    pub fn find(bytes: &mut [u8]) -> Self {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut []);
        let length = match request.parse_with_uninit_headers(bytes, &mut headers) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.iter().all(|byte| b"\r\n".contains(byte)) => return Self::Nothing,
            Ok(httparse::Status::Partial) => return Self::Partial,
            Err(_) => return Self::Malformed,
        };
        let mut body = Body::default();
        let mut waits = false;
        let mut offers: Vec<Range<usize>> = Vec::new();
        for header in request.headers.iter() {
            let value = header.value;
            let start = value.as_ptr() as usize - bytes.as_ptr() as usize;
            if header.name.eq_ignore_ascii_case("connection") {
                offers.extend(upgrade_options(value).map(|option| start + option.start..start + option.end));
            } else if header.name.eq_ignore_ascii_case("upgrade") {
                offers.push(start..start + value.len());
            } else if header.name.eq_ignore_ascii_case("expect") && value.eq_ignore_ascii_case(b"100-continue") {
                // In HTTP/1.0 it is ignored.
                waits = request.version == Some(1);
                offers.push(start..start + value.len());
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                body = Body(Remaining::Chunked(Chunk::Size(0)));
            } else if header.name.eq_ignore_ascii_case("content-length") && body.is_over() {
                let length = std::str::from_utf8(value).ok().and_then(|length| length.trim().parse().ok());
                body = Body(Remaining::Length(length.unwrap_or(0)));
            }
        }
        for offer in offers {
            bytes[offer].fill(b' ');
        }
        Self::Whole(length, body, waits)
    }
}

/// Where the option `upgrade` is in a `Connection` header.
fn upgrade_options(value: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut next = 0;
    value.split(|byte| *byte == b',').filter_map(move |option| {
        let start = next;
        next += option.len() + 1;
        option.trim_ascii().eq_ignore_ascii_case(b"upgrade").then(|| start..start + option.len())
    })
}

/// What has not arrived yet of a request's body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Body(Remaining);

#[derive(Debug, PartialEq, Eq)]
enum Remaining {
    Length(u64),
    Chunked(Chunk),
}

impl Default for Remaining {
    fn default() -> Self {
        Self::Length(0)
    }
}

/// What the next byte of a chunked body is: the parser's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// Part of a chunk's size, with the size up to here.
    Size(u64),
    /// Part of the chunk extension, after the size.
    Extension(u64),
    /// The LF of the size's line.
    SizeLf(u64),
    /// Data, with the number of bytes to the end of the chunk.
    Data(u64),
    /// The CR after a chunk.
    DataCr,
    DataLf,
    /// The first of a line after the last chunk: a trailer, or the end.
    LineOrEnd,
    /// Part of a trailer.
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

/// A chunked body that the framework refuses.
#[derive(Debug, PartialEq, Eq)]
pub struct MalformedChunk;

impl Body {
    /// Whether all of it has arrived.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.0, Remaining::Length(0) | Remaining::Chunked(Chunk::End))
    }

    /// Takes the bytes that arrive next. Returns how many of them belong to the body.
    ///
    /// # Errors
    /// [`MalformedChunk`] where the chunked encoding is malformed.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, MalformedChunk> {
        match &mut self.0 {
            Remaining::Length(left) => Ok(take_up_to(left, bytes.len())),
            Remaining::Chunked(chunk) => {
                let mut taken = 0;
                while *chunk != Chunk::End && taken < bytes.len() {
                    if let Chunk::Data(left) = chunk {
                        taken += take_up_to(left, bytes.len() - taken);
                        if *left == 0 {
                            *chunk = Chunk::DataCr;
                        }
                    } else {
                        *chunk = chunk.after(bytes[taken]).ok_or(MalformedChunk)?;
                        taken += 1;
                    }
                }
                Ok(taken)
            }
        }
    }
}

fn take_up_to(left: &mut u64, available: usize) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
    *left -= taken as u64;
    taken
}

impl Chunk {
    /// The state after this byte. It accepts at least what the framework accepts: where the framework accepts a body,
    /// the two agree on its end.
    fn after(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Size(size), _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16)?;
                Self::Size(size.checked_mul(16)? + u64::from(digit))
            }
            (Self::Size(size) | Self::Extension(size), b'\r') => Self::SizeLf(size),
            (Self::Size(size), b'\t' | b' ' | b';') | (Self::Extension(size), _) => Self::Extension(size),
            (Self::SizeLf(0) | Self::TrailerLf, b'\n') => Self::LineOrEnd,
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size(0),
            (Self::LineOrEnd, b'\r') => Self::EndLf,
            (Self::Trailer, b'\r') => Self::TrailerLf,
            (Self::LineOrEnd | Self::Trailer, _) => Self::Trailer,
            (Self::EndLf, b'\n') => Self::End,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use actix_codec::Decoder as _;
    use actix_http::ConnectionType;
    use actix_http::h1::{Codec, Message};
    use bytes::BytesMut;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    use super::*;

    fn find(head: &str) -> (Head, String) {
        let mut bytes = head.as_bytes().to_vec();
        let found = Head::find(&mut bytes);
        (found, String::from_utf8(bytes).unwrap())
    }

    /// Where a body ends by our rules, if it has ended.
    fn end_by_us(body: &[u8], pieces: usize) -> Option<usize> {
        let (found, _) = find("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let Head::Whole(_, mut body_left, _) = found else { panic!("{found:?}") };
        let mut taken = 0;
        for piece in body.chunks(pieces) {
            taken += body_left.take(piece).ok()?;
            if body_left.is_over() {
                return Some(taken);
            }
        }
        None
    }

    /// The same by the framework's.
    fn end_by_framework(body: &[u8]) -> Option<usize> {
        let mut codec = Codec::default();
        let mut bytes = BytesMut::from("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        bytes.extend_from_slice(body);
        assert!(matches!(codec.decode(&mut bytes), Ok(Some(Message::Item(_)))));
        loop {
            match codec.decode(&mut bytes) {
                Ok(Some(Message::Chunk(Some(_)))) => {}
                Ok(Some(Message::Chunk(None))) => return Some(body.len() - bytes.len()),
                _ => return None,
            }
        }
    }

    #[test]
    fn a_head_is_whole_partial_nothing_or_malformed() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(
            find(&format!("{head}GET")),
            (Head::Whole(head.len(), Body::default(), false), format!("{head}GET"))
        );
        for partial in ["G", "\r\nG", "GET / HTTP/1.1\r\nHost: a\r\n", &head[..head.len() - 1]] {
            assert_eq!(find(partial).0, Head::Partial, "{partial:?}");
        }
        for nothing in ["", "\r", "\r\n", "\n\r\n"] {
            assert_eq!(find(nothing).0, Head::Nothing, "{nothing:?}");
        }
        for malformed in ["\x16\x03\x01", "\r\r", " ", "GET / HTTP/2.0\r\n\r\n", &"A: b\r\n".repeat(97)] {
            assert_eq!(find(malformed).0, Head::Malformed, "{malformed:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(97));
        assert_eq!(find(&many).0, Head::Malformed, "more headers than the framework takes");
    }

    #[test]
    fn a_body_is_as_long_as_its_headers_say() {
        for (headers, length) in [
            ("", 0),
            ("Content-Length: 0\r\n", 0),
            ("content-length: 7 \r\n", 7),
            ("Content-Length: 18446744073709551615\r\n", u64::MAX),
        ] {
            let (found, _) = find(&format!("POST / HTTP/1.1\r\n{headers}\r\n"));
            assert!(
                matches!(found, Head::Whole(_, body, false) if body == Body(Remaining::Length(length))),
                "{headers}"
            );
        }
        let mut body = Body(Remaining::Length(7));
        assert_eq!((body.take(b"1234"), body.is_over()), (Ok(4), false));
        assert_eq!((body.take(b"567GET /"), body.is_over()), (Ok(3), true));
        assert_eq!(body.take(b"GET /"), Ok(0));
    }

    #[test]
    fn an_offer_to_change_protocols_is_overwritten_and_nothing_else_is() {
        for (offered, left) in [
            (
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n",
                "Connection:        , HTTP2-Settings\r\nUpgrade:    \r\n",
            ),
            ("connection:upgrade\r\nUPGRADE: WebSocket \r\n", "connection:       \r\nUPGRADE:           \r\n"),
            ("Connection: keep-alive,UPGRADE , close\r\n", "Connection: keep-alive,        , close\r\n"),
            ("Connection: upgraded\r\nX: upgrade\r\n", "Connection: upgraded\r\nX: upgrade\r\n"),
        ] {
            let head = |headers: &str| format!("GET /upgrade HTTP/1.1\r\nHost: upgrade\r\n{headers}\r\nupgrade");
            assert_eq!(find(&head(offered)).1, head(left));
            let head = head(left);
            let decoded = actix_rt::System::new()
                .block_on(async { Codec::default().decode(&mut BytesMut::from(head.as_bytes())) });
            let Ok(Some(Message::Item(request))) = decoded else { panic!("{left}") };
            let expected = if left.contains("close") { ConnectionType::Close } else { ConnectionType::KeepAlive };
            assert_eq!(request.head().connection_type(), expected, "{left}");
        }
    }

    /// Bodies that are chunked, or nearly.
    fn chunked() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            8 => Just("3\r\nabc\r\n"), 4 => Just("0\r\n\r\n"), 2 => Just("0\r\nA: b\r\n\r\n"), 2 => Just("00a;x=\"y\"\r\n0123456789\r\n"),
            1 => Just("1 \r\na\r\n"), 1 => Just("\r\n"), 1 => Just("\n"), 1 => Just("f"), 1 => Just(" ;"), 1 => Just("\r"), 1 => Just("\x01"),
            1 => Just("ffffffffffffffff"), 1 => Just("0\r\n\rA"), 1 => Just("GET / HTTP/1.1\r\n"),
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat().into_bytes())
    }

    #[test]
    fn a_chunked_body_that_the_framework_takes_ends_where_the_framework_ends_it() {
        actix_rt::System::new().block_on(async {
            let bodies = (chunked(), 1_usize..9);
            let same_end = |(body, pieces): (Vec<u8>, usize)| {
                if let Some(end) = end_by_framework(&body) {
                    prop_assert_eq!(end_by_us(&body, pieces), Some(end));
                }
                Ok(())
            };
            TestRunner::default().run(&bodies, same_end).unwrap();
        });
    }
}
