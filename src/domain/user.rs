//! Users: names, password hashes and accounts, in types that cannot hold a bad value.
//!
//! A [`Username`] or a [`Profile`] is validated once, where it comes in, and nowhere else. The rules are the API
//! specification's; each type states its own.

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::domain::field::InvalidField;
use crate::domain::item::ItemId;
use crate::domain::profile::Profile;
use crate::system::clock::Timestamp;
use crate::system::visible::is_unseen;

/// The bcrypt costs that are used: from bcrypt's lowest to 16, at which a login takes some seconds. At bcrypt's own
/// highest, 31, a login would take a day, and a hash that somebody else has put into the file could ask for it.
pub(crate) const COSTS: std::ops::RangeInclusive<u32> = 4..=16;

/// The actor of what a command on the server did. No account can have this name, in any case.
pub const COMMAND_LINE: &str = "command line";

/// A name to log in with, kept as it was typed. A new one has 1 to 30 characters of `A-Z a-z 0-9 _ @ + . -`. One that was
/// imported from another system may be longer and have other characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Username(String);

impl Username {
    /// How many characters a new name may have.
    pub const MAX_CHARS: usize = 30;

    /// How many characters an imported name may have.
    pub const MAX_IMPORTED_CHARS: usize = 254;

    /// Reads a new name.
    ///
    /// # Errors
    /// [`InvalidField`] when it is empty, too long or has a character outside the set.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let fits = (1..=Self::MAX_CHARS).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_@+.-".contains(&b));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidField {
                field: "username",
                rule: format!("must be 1 to {} characters of A-Z a-z 0-9 _ @ + . -", Self::MAX_CHARS),
            })
        }
    }

    /// Reads a name that an account may have: a new one, or one that was imported.
    ///
    /// # Errors
    /// [`InvalidField`] when it is empty or longer than an imported one may be, begins or ends with white space, has a
    /// character that is a control character or not seen, or is what events call the operator.
    pub fn parse_existing(text: &str) -> Result<Self, InvalidField> {
        let fits = !text.is_empty()
            && text.chars().take(Self::MAX_IMPORTED_CHARS + 1).count() <= Self::MAX_IMPORTED_CHARS
            && text.trim() == text
            && !text.chars().any(is_unseen);
        let name = Self(text.to_owned());
        if fits && name.key() != COMMAND_LINE {
            Ok(name)
        } else {
            Err(InvalidField {
                field: "username",
                rule: format!(
                    "must be 1 to {} characters, without outer spaces, control characters and invisible ones",
                    Self::MAX_IMPORTED_CHARS
                ),
            })
        }
    }

    /// What stands for an address where failures are counted at names. It begins with a space, as no name does, so that
    /// nobody can have it.
    #[must_use]
    pub(crate) fn standing_for(digest: &str) -> Self {
        Self(format!(" {digest}"))
    }

    /// Whether a new account could have it, too.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        Self::parse(&self.0).is_ok()
    }

    /// The name as it was typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name folded: in lower case and, where it is not ASCII, in the composed form (NFC). It is what must be unique and
    /// what a login looks up, so that a phone's capital letter does no harm and `Admin` cannot pose as `admin`.
    #[must_use]
    pub fn key(&self) -> String {
        fold_name(&self.0)
    }
}

/// How many characters a folded name may have: three for one of the name's, at most.
pub(crate) const MAX_KEY_CHARS: usize = 3 * Username::MAX_IMPORTED_CHARS;

/// Folds a name, as [`Username::key`] says. What is folded already stays as it is.
pub(crate) fn fold_name(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    let nfc = ComposingNormalizerBorrowed::new_nfc();
    nfc.normalize(&nfc.normalize(name).to_lowercase()).into_owned()
}

/// The service's own id of an account. No client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserId(pub i64);

/// A stored password hash. Only `passwords` reads it; it has no `Debug`, no `Display` and no `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// What an account without a password has. No password matches it.
    const NONE: &'static str = "!";

    /// That of an account without a password.
    #[must_use]
    pub fn none() -> Self {
        Self(Self::NONE.to_owned())
    }

    /// Whether the account has no password.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0 == Self::NONE
    }

    /// As `passwords` made it, or as it was stored.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// As it is stored.
    #[must_use]
    pub fn as_stored(&self) -> &str {
        &self.0
    }
}

/// An account to be created.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewUser {
    pub username: Username,
    pub password_hash: PasswordHash,
    pub profile: Profile,
}

/// What a login is checked against.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Credentials {
    pub user_id: UserId,
    pub username: Username,
    pub password_hash: PasswordHash,
    pub is_active: bool,
    pub is_email_verified: bool,
    /// The failures that the store has counted at the account since its last success; `None` where there are none.
    pub failures: Option<CountedFailures>,
}

/// How many attempts at an account have failed in a row, and when the last one did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CountedFailures {
    pub count: u32,
    pub last: Timestamp,
}

/// An account as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct User {
    pub username: Username,
    pub profile: Profile,
    pub is_active: bool,
    pub is_superuser: bool,
    pub is_staff: bool,
    /// The last login, or the registration.
    pub last_login: Timestamp,
    /// Ascending, as is `wants`.
    pub cellar: Vec<ItemId>,
    pub wants: Vec<ItemId>,
    /// Never changes.
    pub created: Timestamp,
    /// The last change to the profile or to a list.
    pub modified: Timestamp,
    /// Never changes.
    pub date_joined: Timestamp,
    /// Whether the address of the profile was shown to be the account's. It is no part of the user object.
    pub is_email_verified: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_username_is_1_to_30_characters_of_the_set_and_is_kept_as_typed(text in "[A-Za-z0-9_@+.-]{1,30}") {
            let username = Username::parse(&text).unwrap();
            prop_assert_eq!(username.as_str(), &text);
            prop_assert_eq!(username.key(), text.to_lowercase());
        }

        #[test]
        fn a_username_with_any_other_character_is_refused(
            before in "[A-Za-z0-9_@+.-]{0,10}", other in "[^A-Za-z0-9_@+.-]", after in "[A-Za-z0-9_@+.-]{0,10}",
        ) {
            let text = format!("{before}{other}{after}");
            prop_assert!(Username::parse(&text).is_err());
        }

        #[test]
        fn an_imported_name_is_kept_as_it_is_and_its_key_folds_to_itself_in_at_most_three_times_its_characters(
            text in "\\PC{1,254}",
        ) {
            if let Ok(name) = Username::parse_existing(&text) {
                let key = name.key();
                prop_assert_eq!(name.as_str(), &text);
                prop_assert_eq!(fold_name(&key), key.clone());
                prop_assert!(key.chars().count() <= 3 * text.chars().count());
                prop_assert!(!key.chars().any(is_unseen) && key.trim() == key, "{key:?}");
            }
        }

        #[test]
        fn every_new_name_is_one_that_an_account_may_have_and_nothing_that_stands_for_an_address_is(
            text in "[A-Za-z0-9_@+.-]{1,30}",
        ) {
            prop_assert_eq!(Username::parse_existing(&text).unwrap(), Username::parse(&text).unwrap());
            prop_assert!(Username::parse_existing(Username::standing_for(&text).as_str()).is_err());
        }

        #[test]
        fn a_username_of_more_than_30_characters_is_refused(text in "[A-Za-z0-9_@+.-]{31,200}") {
            prop_assert!(Username::parse(&text).is_err());
        }
    }

    #[test]
    fn each_character_folds_to_at_most_three_that_are_seen_and_fold_to_themselves() {
        for c in ('\0'..=char::MAX).filter(|c| !is_unseen(*c)) {
            let key = fold_name(&c.to_string());
            assert!(
                key.chars().count() <= 3 && !key.chars().any(is_unseen) && fold_name(&key) == key,
                "{c:?}: {key:?}"
            );
        }
    }

    #[test]
    fn an_imported_name_may_have_other_scripts_and_signs_but_nothing_that_is_not_seen() {
        for name in ["José", "山田 太郎", "a/b", "50% <b>\"x\"</b>", "{{ code }}", "@home", &"ß".repeat(254)] {
            assert_eq!(Username::parse_existing(name).unwrap().as_str(), name);
            assert!(Username::parse(name).is_err() || name == "@home");
        }
        for name in ["", " a", "a ", "a\u{a0}b", "a\u{200b}b", "a\tb", "Command Line", &"ß".repeat(255)] {
            assert!(Username::parse_existing(name).is_err(), "{name:?}");
        }
        let key = |name| Username::parse_existing(name).unwrap().key();
        assert_eq!(key("JOSE\u{301}"), key("José"));
        assert_ne!(key("Jose"), key("José"));
    }
}
