//! Which characters a person sees as they are, and how wide a terminal shows them.
//!
//! Strangers typed what is stored, and sent what is logged. A control character, or one that is not shown, could make
//! one text look like another in a terminal.

use icu_properties::props::{DefaultIgnorableCodePoint, EastAsianWidth, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Whether a character is a control character, is invisible, or looks like a space without being one. One for private
/// use may look like anything, and counts as unseen.
#[must_use]
pub fn is_unseen(c: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator, PrivateUse, SpaceSeparator};
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(
        CodePointMapData::<GeneralCategory>::new().get(c),
        Control | Format | LineSeparator | ParagraphSeparator | PrivateUse | SpaceSeparator
    ) || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        // The Braille pattern without dots.
        || c == '\u{2800}'
}

/// How many columns of a terminal a text takes, where none of its characters is unseen.
#[must_use]
pub fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// How many columns a character takes: two for a wide one, such as Chinese; none for one that combines with the one
/// before it.
#[must_use]
pub fn width(c: char) -> usize {
    use GeneralCategory::{EnclosingMark, NonspacingMark};
    if c.is_ascii() {
        return 1;
    }
    // The vowels and finals of a Korean syllable that is written in parts (conjoining jamo).
    let is_part = matches!(c, '\u{1160}'..='\u{11ff}' | '\u{d7b0}'..='\u{d7ff}');
    if is_part || matches!(CodePointMapData::<GeneralCategory>::new().get(c), NonspacingMark | EnclosingMark) {
        return 0;
    }
    match CodePointMapData::<EastAsianWidth>::new().get(c) {
        EastAsianWidth::Wide | EastAsianWidth::Fullwidth => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_obeyed_or_not_seen_is_unseen_and_what_people_write_is_seen() {
        for unseen in "\0\t\n\u{1b}\u{7f}\u{85}\u{9b}\u{a0}\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{180b}\
            \u{180e}\u{180f}\u{200b}\u{200f}\u{2028}\u{202e}\u{2060}\u{2066}\u{206f}\u{2800}\u{3000}\u{3164}\u{e000}\
            \u{fe00}\u{fe0f}\u{feff}\u{ffa0}\u{fff0}\u{fffb}\u{1d173}\u{e0001}\u{e0041}\u{e007f}\u{e0100}\u{e0fff}\
            \u{f0000}"
            .chars()
        {
            assert!(is_unseen(unseen), "{unseen:?}");
        }
        for seen in " ~aü€жא한中あ👍\u{301}\u{fffd}".chars() {
            assert!(!is_unseen(seen), "{seen:?}");
        }
    }

    #[test]
    fn a_text_is_as_wide_as_a_terminal_shows_it() {
        for (text, expected) in [
            ("", 0),
            ("name", 4),
            ("ünïcödé…€ж", 10),
            ("u\u{308}", 1),
            ("山田太郎", 8),
            ("ＡＢ", 4),
            ("ｱｲ", 2),
            ("한국", 4),
            ("\u{1112}\u{1161}\u{11ab}", 2),
            ("👍!", 3),
        ] {
            assert_eq!(columns(text), expected, "{text}");
        }
    }
}
