//! The JSON that several calls answer with.

use serde::Serialize;
use utoipa::ToSchema;

use crate::item::ItemId;
use crate::user::User;

/// The user, as its owner sees it: eighteen keys in the order of the API's source.
#[derive(Serialize, ToSchema)]
pub struct UserResponse {
    /// The name, as it was typed at registration.
    #[schema(example = "AzureDiamond")]
    username: String,
    #[schema(example = "")]
    first_name: String,
    #[schema(example = "")]
    last_name: String,
    #[schema(example = "")]
    email: String,
    /// Whether the account may be used.
    #[schema(example = true)]
    is_active: bool,
    #[schema(example = false)]
    is_superuser: bool,
    #[schema(example = false)]
    is_staff: bool,
    /// The last login, or the registration.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    last_login: String,
    /// The ids of the items that the user has, ascending.
    #[schema(example = json!([1, 2, 3]))]
    cellar: Vec<i64>,
    /// The ids of the items that the user wishes for, ascending.
    #[schema(example = json!([4, 5]))]
    wants: Vec<i64>,
    #[schema(example = "123 N Main St.")]
    address: String,
    #[schema(example = "#100")]
    address2: String,
    #[schema(example = "Chicago")]
    city: String,
    #[schema(example = "IL")]
    state: String,
    #[schema(example = "60647")]
    zipcode: String,
    /// When the account was made; never changes.
    #[schema(example = "2015-01-04T22:51:35.238Z", format = DateTime)]
    created: String,
    /// The last change to the profile or to a list.
    #[schema(example = "2015-01-04T22:51:35.238Z", format = DateTime)]
    modified: String,
    /// When its owner joined; never changes.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    date_joined: String,
}

impl From<User> for UserResponse {
    fn from(user: User) -> Self {
        Self {
            username: user.username.as_str().to_owned(),
            first_name: user.profile.first_name,
            last_name: user.profile.last_name,
            email: user.profile.email,
            is_active: user.is_active,
            is_superuser: user.is_superuser,
            is_staff: user.is_staff,
            last_login: user.last_login.to_string(),
            cellar: numbers(&user.cellar),
            wants: numbers(&user.wants),
            address: user.profile.address,
            address2: user.profile.address2,
            city: user.profile.city,
            state: user.profile.state,
            zipcode: user.profile.zipcode,
            created: user.created.to_string(),
            modified: user.modified.to_string(),
            date_joined: user.date_joined.to_string(),
        }
    }
}

/// The ids as numbers.
pub(super) fn numbers(items: &[ItemId]) -> Vec<i64> {
    items.iter().map(|item| item.get()).collect()
}

/// That it was done.
#[derive(Serialize, ToSchema)]
pub(super) struct StatusResponse {
    #[schema(example = "success")]
    status: &'static str,
}

impl StatusResponse {
    pub(super) const SUCCESS: Self = Self { status: "success" };
}

/// How every error is answered: a sentence for a person.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorResponse {
    error: String,
}
