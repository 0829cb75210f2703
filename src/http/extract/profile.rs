//! The profile's fields, as the requests have them that take them.

use crate::domain::field::InvalidField;
use crate::domain::profile::{ProfileField, ProfileText};

/// Makes a request that takes the profile's fields, each optional, behind fields of its own. A test holds what is
/// documented here against what [`ProfileText`] takes.
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
            /// The profile's fields that are given, each a text that it can hold.
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

/// Of all fields, in their order, those that are given.
pub(crate) fn read(fields: [Option<String>; ProfileField::ALL.len()]) -> Result<Vec<ProfileText>, InvalidField> {
    let given = ProfileField::ALL.into_iter().zip(fields).filter_map(|(field, text)| Some((field, text?)));
    given.map(|(field, text)| ProfileText::parse(field, text)).collect()
}
