//! Items: ids of the client app's own things, in the two lists that each user has.

use crate::domain::field::InvalidField;

/// An item's id: an integer from 1 to 2^53 - 1, the largest that every JSON reader keeps exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(i64);

impl ItemId {
    /// 2^53 - 1.
    pub const MAX: i64 = 9_007_199_254_740_991;

    /// # Errors
    /// [`InvalidField`] when it is out of range.
    pub fn new(number: i64) -> Result<Self, InvalidField> {
        if (1..=Self::MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(InvalidField { field: "item_id", rule: format!("must be a whole number from 1 to {}", Self::MAX) })
        }
    }

    /// Reads an id from a path: plain decimal digits.
    ///
    /// # Errors
    /// [`InvalidField`] when it is anything else, or out of range.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        Self::new(text.parse().ok().filter(|_| is_plain).unwrap_or_default())
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

/// The highest `[lists] max_items` that can be set.
pub(crate) const MAX_ITEMS: usize = 100_000;

/// One of the two lists that every user has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// What the user has.
    Cellar,
    /// What the user wishes for.
    Wants,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_id_is_a_whole_number_from_1_to_2_to_the_53_minus_1() {
        for (text, id) in [("1", 1), ("42", 42), ("9007199254740991", ItemId::MAX)] {
            assert_eq!(ItemId::parse(text).unwrap().get(), id);
        }
        for text in ["", "0", "-1", "+1", "01", "1.0", "1e3", "٣", " 1", "9007199254740992", "99999999999999999999"] {
            assert!(ItemId::parse(text).is_err(), "{text}");
        }
    }
}
