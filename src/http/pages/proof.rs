//! What a person gives a page of a mail: its link, or its code.

use crate::domain::one_time::Code;
use crate::domain::token::PlainToken;

/// A link's token, or a code.
pub(crate) enum Proof {
    Link(PlainToken),
    Code(Code),
}

impl Proof {
    /// Reads the link as it stands in the mail, its token alone, or a code. `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('<').trim_end_matches('>');
        let token = text.rsplit_once('#').map_or(text, |(_, token)| token);
        PlainToken::parse(token).map(Self::Link).or_else(|| Code::parse(text).map(Self::Code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_its_token_and_a_code_are_told_apart_however_they_were_copied() {
        const TOKEN: &str = "d96163b8bc9127d8c5d5839018580123c64a324b";
        let read = |text: &str| match Proof::parse(text) {
            Some(Proof::Link(token)) => token.reveal().to_owned(),
            Some(Proof::Code(code)) => code.reveal().to_owned(),
            None => String::new(),
        };
        let link = format!("https://accounts.example.org/account/reset#{TOKEN}");
        for text in [TOKEN.to_owned(), format!(" #{TOKEN}\n"), link.clone(), format!("<{link}>"), format!("\t{link} ")]
        {
            assert_eq!(read(&text), TOKEN, "{text}");
        }
        assert_eq!((read("123456"), read(" 123 456 ")), ("123456".to_owned(), "123456".to_owned()));
        for bad in ["", "#", "12345", "#123456", &TOKEN[1..], &format!("{TOKEN}0"), &TOKEN.to_uppercase()] {
            assert_eq!(read(bad), "", "{bad}");
        }
    }
}
