//! The profile: texts about a person, each with a rule of its own.

use email_address::{EmailAddress, Options};

use crate::domain::field::InvalidField;

/// Makes the profile and its fields from one list: each field's name in the API, its variant, and how many characters
/// it may have.
macro_rules! profile {
    ($($name:ident $variant:ident $max_chars:literal,)*) => {
        /// A field of the profile.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is the API's own name")]
        pub enum ProfileField {
            $($variant,)*
        }

        impl ProfileField {
            /// All of them, in the order in which the store has them.
            pub const ALL: [Self; [$($max_chars),*].len()] = [$(Self::$variant),*];

            /// The field's name in the API.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($name),)*
                }
            }

            /// How many characters the field may have.
            #[must_use]
            pub const fn max_chars(self) -> usize {
                match self {
                    $(Self::$variant => $max_chars,)*
                }
            }
        }

        /// The texts about a person that an account has, each `""` by default.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is the API's own name")]
        pub struct Profile {
            $(pub $name: String,)*
        }

        impl Profile {
            /// Its texts, in the order of [`ProfileField::ALL`].
            #[must_use]
            pub fn texts(&self) -> [&str; ProfileField::ALL.len()] {
                [$(&self.$name),*]
            }

            fn text_mut(&mut self, field: ProfileField) -> &mut String {
                match field {
                    $(ProfileField::$variant => &mut self.$name,)*
                }
            }
        }
    };
}

profile! {
    first_name FirstName 150,
    last_name LastName 150,
    email Email 254,
    address Address 255,
    address2 Address2 255,
    city City 100,
    state State 100,
    zipcode Zipcode 20,
}

/// A text that was checked against its profile field's rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileText {
    field: ProfileField,
    text: String,
}

/// The fields to set, each with its new text.
pub type ProfileChanges = Vec<ProfileText>;

impl ProfileText {
    /// Reads a text for a field.
    ///
    /// # Errors
    /// [`InvalidField`] when the text is longer than the field, has a control character, or is for `email` and neither
    /// empty nor an address.
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
        *self.text_mut(change.field) = change.text;
    }

    /// Sets one field to a stored text, without checking it again.
    pub fn set_stored(&mut self, field: ProfileField, text: String) {
        *self.text_mut(field) = text;
    }
}

impl FromIterator<ProfileText> for Profile {
    fn from_iter<I: IntoIterator<Item = ProfileText>>(texts: I) -> Self {
        let mut profile = Self::default();
        texts.into_iter().for_each(|text| profile.set(text));
        profile
    }
}

fn is_email(text: &str) -> bool {
    let bare_address = Options::default().without_display_text().without_domain_literal().with_minimum_sub_domains(1);
    EmailAddress::parse_with_options(text, bare_address).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_profile_field_takes_any_text_within_its_length(index in 0..ProfileField::ALL.len(), text in "\\PC{0,20}") {
            let field = ProfileField::ALL[index];
            prop_assume!(field != ProfileField::Email);
            let mut profile = Profile::default();
            profile.set(ProfileText::parse(field, text.clone()).unwrap());
            prop_assert_eq!(&*profile.text_mut(field), &text);
            prop_assert_eq!(profile.texts()[index], &text);
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
