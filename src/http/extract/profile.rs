//! The profile's fields, for the requests that take them.

use crate::domain::field::InvalidField;
use crate::domain::profile::{ProfileField, ProfileText};

/// Declares a request's struct: its own fields, and then the profile's, each optional. A test compares the limits
/// documented here with those of [`ProfileText`].
macro_rules! request_with_profile {
    ($(#[$about:meta])* $visibility:vis struct $request:ident { $($own:tt)* }) => {
        $(#[$about])*
        #[derive(serde::Deserialize, utoipa::ToSchema)]
        $visibility struct $request {
            $($own)*
            #[schema(nullable = false, max_length = 150)]
            first_name: Option<String>,
            #[schema(nullable = false, max_length = 150)]
            last_name: Option<String>,
            /// Empty or an address.
            #[schema(nullable = false, max_length = 254)]
            email: Option<String>,
            #[schema(nullable = false, max_length = 255, example = "123 N Main St.")]
            address: Option<String>,
            #[schema(nullable = false, max_length = 255, example = "#100")]
            address2: Option<String>,
            #[schema(nullable = false, max_length = 100, example = "Chicago")]
            city: Option<String>,
            #[schema(nullable = false, max_length = 100, example = "IL")]
            state: Option<String>,
            #[schema(nullable = false, max_length = 20, example = "60647")]
            zipcode: Option<String>,
        }

        impl $request {
            /// Takes the profile's fields that are given, each checked against its rule.
            fn take_profile(
                &mut self,
            ) -> Result<Vec<$crate::domain::profile::ProfileText>, $crate::domain::field::InvalidField> {
                $crate::http::extract::profile::read([
                    self.first_name.take(),
                    self.last_name.take(),
                    self.email.take(),
                    self.address.take(),
                    self.address2.take(),
                    self.city.take(),
                    self.state.take(),
                    self.zipcode.take(),
                ])
            }
        }
    };
}

pub(crate) use request_with_profile;

/// Of all fields in their order, reads those that are given.
pub(crate) fn read(fields: [Option<String>; ProfileField::ALL.len()]) -> Result<Vec<ProfileText>, InvalidField> {
    let given = ProfileField::ALL.into_iter().zip(fields).filter_map(|(field, text)| Some((field, text?)));
    given.map(|(field, text)| ProfileText::parse(field, text)).collect()
}
