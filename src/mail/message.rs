//! A mail as it goes over the wire: its envelope, its headers, and its text and HTML in quoted-printable, so that no
//! server needs to know more than ASCII.

use std::time::{Duration, SystemTime};

use lettre::address::{AddressError, Envelope};
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};

use crate::config::mail::Sender;
use crate::domain::email::EmailAddress;
use crate::mail::error::DeliveryError;
use crate::mail::templates::Rendered;
use crate::system::clock::Timestamp;

/// A mail that is ready to be delivered.
pub(super) struct Prepared {
    pub envelope: Envelope,
    pub bytes: Vec<u8>,
}

/// Makes a message of a rendered mail.
pub(super) fn prepare(
    sender: &Sender,
    to: &EmailAddress,
    rendered: &Rendered,
    now: Timestamp,
) -> Result<Prepared, DeliveryError> {
    let refused = |_| DeliveryError::of_mail("the mail's address is none that mail can be sent to".to_owned(), true);
    let (from, to) = (address(&sender.email).map_err(refused)?, address(to).map_err(refused)?);
    let envelope = Envelope::new(Some(from.clone()), vec![to.clone()]);
    let envelope = envelope.map_err(|_| DeliveryError::of_mail("the mail has no recipient".to_owned(), true))?;
    let id = format!("<{:032x}@{}>", rand::random::<u128>(), from.domain());
    let millis = u64::try_from(now.as_millis()).unwrap_or_default();
    let message = Message::builder()
        .from(Mailbox::new(sender.name.as_deref().map(one_line), from))
        .to(Mailbox::new(None, to))
        .subject(one_line(&rendered.subject))
        .date(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
        .message_id(Some(id))
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
        .multipart(
            MultiPart::alternative()
                .singlepart(part(ContentType::TEXT_PLAIN, &rendered.text))
                .singlepart(part(ContentType::TEXT_HTML, &rendered.html)),
        );
    let message = message.map_err(|_| DeliveryError::of_mail("the mail has no recipient".to_owned(), true))?;
    Ok(Prepared { envelope, bytes: message.formatted() })
}

/// The address in ASCII: a domain is given in its IDNA form.
fn address(email: &EmailAddress) -> Result<Address, AddressError> {
    email.to_ascii().parse()
}

/// A text that cannot break the line of a header.
fn one_line(text: &str) -> String {
    text.split(char::is_control).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn part(content_type: ContentType, text: &str) -> SinglePart {
    // Lines end with CRLF; a CR alone ends none and has no place in a mail.
    let text = text.replace('\r', "").replace('\n', "\r\n");
    // What is quoted-printable may hold any bytes, so this cannot fail.
    let body = Body::new_with_encoding(text, ContentTransferEncoding::QuotedPrintable);
    SinglePart::builder().header(content_type).body(body.unwrap_or_else(Body::new))
}
