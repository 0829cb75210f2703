//! Users, and the types that a bad value cannot enter.
//!
//! A [`Username`] or a [`Profile`] is validated once, where it comes in, and nowhere else. The rules themselves are the
//! API's: see each type.

use email_address::{EmailAddress, Options};

use crate::domain::field::InvalidField;
use crate::domain::item::ItemId;
use crate::system::clock::Timestamp;

/// From bcrypt's lowest cost to the highest that is used. A login takes some seconds at 16. At bcrypt's own highest,
/// 31, which a hash that somebody else has put into the file could ask for, it takes a day.
pub(crate) const COSTS: std::ops::RangeInclusive<u32> = 4..=16;

/// A name to log in with: 1 to 30 characters of `A-Z a-z 0-9 _ @ + . -`, kept as it was typed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Username(String);

impl Username {
    /// How many characters a name may have.
    pub const MAX_CHARS: usize = 30;

    /// Reads a name.
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

    /// The name as it was typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name folded to lower case: what is unique, and what a login finds, so that a phone's capital letter does no
    /// harm and `Admin` cannot pose as `admin`.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// One of the eight texts about a person that an account has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the API's own name")]
pub enum ProfileField {
    FirstName,
    LastName,
    Email,
    Address,
    Address2,
    City,
    State,
    Zipcode,
}

impl ProfileField {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::FirstName,
        Self::LastName,
        Self::Email,
        Self::Address,
        Self::Address2,
        Self::City,
        Self::State,
        Self::Zipcode,
    ];

    /// The field's name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FirstName => "first_name",
            Self::LastName => "last_name",
            Self::Email => "email",
            Self::Address => "address",
            Self::Address2 => "address2",
            Self::City => "city",
            Self::State => "state",
            Self::Zipcode => "zipcode",
        }
    }

    /// How many characters the field may have.
    #[must_use]
    pub const fn max_chars(self) -> usize {
        match self {
            Self::FirstName | Self::LastName => 150,
            Self::Email => 254,
            Self::Address | Self::Address2 => 255,
            Self::City | Self::State => 100,
            Self::Zipcode => 20,
        }
    }
}

/// What an account has about a person. Every text defaults to `""`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the API's own name")]
pub struct Profile {
    pub first_name: String,
    pub last_name: String,
    pub email: String,
    pub address: String,
    pub address2: String,
    pub city: String,
    pub state: String,
    pub zipcode: String,
}

/// A text that one profile field can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileText {
    field: ProfileField,
    text: String,
}

/// Fields to be set, each to a text that it can hold.
pub type ProfileChanges = Vec<ProfileText>;

impl ProfileText {
    /// Reads a text for a field.
    ///
    /// # Errors
    /// [`InvalidField`] when the text is longer than the field, has a control character, or is meant for `email` and is
    /// neither empty nor an address.
    pub fn parse(field: ProfileField, text: String) -> Result<Self, InvalidField> {
        let refuse = |rule: String| Err(InvalidField { field: field.name(), rule });
        if text.chars().count() > field.max_chars() {
            return refuse(format!("must be at most {} characters", field.max_chars()));
        }
        if text.chars().any(char::is_control) {
            return refuse("must not have control characters".to_owned());
        }
        if field == ProfileField::Email && !text.is_empty() && !is_email(&text) {
            return refuse("must be empty or an e-mail address".to_owned());
        }
        Ok(Self { field, text })
    }
}

impl Profile {
    /// Sets one field.
    pub fn set(&mut self, change: ProfileText) {
        *self.slot(change.field) = change.text;
    }

    fn slot(&mut self, field: ProfileField) -> &mut String {
        match field {
            ProfileField::FirstName => &mut self.first_name,
            ProfileField::LastName => &mut self.last_name,
            ProfileField::Email => &mut self.email,
            ProfileField::Address => &mut self.address,
            ProfileField::Address2 => &mut self.address2,
            ProfileField::City => &mut self.city,
            ProfileField::State => &mut self.state,
            ProfileField::Zipcode => &mut self.zipcode,
        }
    }
}

fn is_email(text: &str) -> bool {
    let bare_address = Options::default().without_display_text().without_domain_literal().with_minimum_sub_domains(1);
    EmailAddress::parse_with_options(text, bare_address).is_ok()
}

/// The service's own id of an account. No client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserId(pub i64);

/// A stored password hash. Only `passwords` reads it; it has no `Debug`, no `Display` and no `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
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

/// An account to be registered.
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
}

/// An account as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
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
            before in "[A-Za-z0-9_@+.-]{0,10}", odd in "[^A-Za-z0-9_@+.-]", after in "[A-Za-z0-9_@+.-]{0,10}",
        ) {
            let text = format!("{before}{odd}{after}");
            prop_assert!(Username::parse(&text).is_err());
        }

        #[test]
        fn a_username_of_more_than_30_characters_is_refused(text in "[A-Za-z0-9_@+.-]{31,200}") {
            prop_assert!(Username::parse(&text).is_err());
        }

        #[test]
        fn a_profile_field_takes_any_text_within_its_length(index in 0_usize..8, text in "\\PC{0,20}") {
            let field = ProfileField::ALL[index];
            prop_assume!(field != ProfileField::Email);
            let mut profile = Profile::default();
            profile.set(ProfileText::parse(field, text.clone()).unwrap());
            prop_assert_eq!(&*profile.slot(field), &text);
        }
    }

    #[test]
    fn a_profile_field_longer_than_its_length_is_refused_and_the_length_counts_characters() {
        for field in ProfileField::ALL.into_iter().filter(|field| *field != ProfileField::Email) {
            assert!(ProfileText::parse(field, "ü".repeat(field.max_chars())).is_ok(), "{}", field.name());
            assert!(ProfileText::parse(field, "ü".repeat(field.max_chars() + 1)).is_err(), "{}", field.name());
        }
    }

    #[test]
    fn an_email_is_empty_or_an_address() {
        for good in ["", "azure@diamond.example", "a.b+c@sub.example.org", "jürgen@exämple.de"] {
            assert!(ProfileText::parse(ProfileField::Email, good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["azure", "@example.org", "azure@", "a b@example.org", "A <a@example.org>", "a@b@example.org"] {
            assert!(ProfileText::parse(ProfileField::Email, bad.to_owned()).is_err(), "{bad}");
        }
    }
}
