//! The commands about mail: one that tries the way out, and one that shows what is sent.

use std::fmt::Write as _;

use serde_json::json;

use crate::cli::context::{CommandError, Context};
use crate::domain::email::EmailAddress;
use crate::mail::{self, Postman};

/// Sends a short mail through the configured transport.
///
/// # Errors
/// [`CommandError`] with what went wrong.
pub async fn test(context: &mut Context, address: &EmailAddress) -> Result<(), CommandError> {
    let postman = Postman::new(&context.config, context.clock.clone())?;
    postman.deliver_test(address).await?;
    let done = json!({"sent_to": address.as_str()});
    context.tell(&done, || format!("The mail to {} was sent. It may take a minute to arrive.\n", address.as_str()))
}

/// Prints a mail with values of nobody's, or all of them: their subjects and texts, or the HTML.
///
/// # Errors
/// [`CommandError`] for a template that is wrong.
pub fn preview(context: &mut Context, name: Option<&str>, as_html: bool) -> Result<(), CommandError> {
    let names: Vec<_> = mail::names().filter(|known| name.is_none_or(|name| name == *known)).collect();
    let mut shown = serde_json::Map::new();
    let mut lines = String::new();
    for known in names {
        let rendered = mail::preview(&context.config, known)?;
        if as_html {
            lines.push_str(&rendered.html);
        } else {
            if name.is_none() {
                // Writing to a string does not fail.
                let _ = writeln!(lines, "=== {known}");
            }
            let _ = writeln!(lines, "Subject: {}\n\n{}", rendered.subject, rendered.text.trim_end());
            if name.is_none() {
                lines.push('\n');
            }
        }
        let parts = json!({"subject": rendered.subject, "text": rendered.text, "html": rendered.html});
        shown.insert(known.to_owned(), parts);
    }
    Ok(context.output.print(&shown, || lines)?)
}
