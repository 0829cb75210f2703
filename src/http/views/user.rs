//! The JSON of a user, and schemas of its parts.

use serde::Serialize;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::item::ItemId;
use crate::domain::user::User;

/// The user, as its owner sees it: eighteen keys in the order of the API's source.
#[derive(PartialEq, Serialize, ToSchema)]
pub struct UserResponse {
    /// The name, as it was typed at registration.
    #[schema(example = "AzureDiamond")]
    pub(crate) username: String,
    #[schema(example = "")]
    pub(crate) first_name: String,
    #[schema(example = "")]
    pub(crate) last_name: String,
    #[schema(example = "")]
    pub(crate) email: String,
    /// Whether the account may be used.
    #[schema(example = true)]
    pub(crate) is_active: bool,
    #[schema(example = false)]
    pub(crate) is_superuser: bool,
    #[schema(example = false)]
    pub(crate) is_staff: bool,
    /// The last login, or the registration.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    pub(crate) last_login: String,
    /// The ids of the items that the user has, ascending.
    #[schema(example = json!([1, 2, 3]))]
    pub(crate) cellar: Vec<i64>,
    /// The ids of the items that the user wishes for, ascending.
    #[schema(example = json!([4, 5]))]
    pub(crate) wants: Vec<i64>,
    #[schema(example = "123 N Main St.")]
    pub(crate) address: String,
    #[schema(example = "#100")]
    pub(crate) address2: String,
    #[schema(example = "Chicago")]
    pub(crate) city: String,
    #[schema(example = "IL")]
    pub(crate) state: String,
    #[schema(example = "60647")]
    pub(crate) zipcode: String,
    /// When the account was made; never changes.
    #[schema(example = "2015-01-04T22:51:35.238Z", format = DateTime)]
    pub(crate) created: String,
    /// The last change to the profile or to a list.
    #[schema(example = "2015-01-04T22:51:35.238Z", format = DateTime)]
    pub(crate) modified: String,
    /// When its owner joined; never changes.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    pub(crate) date_joined: String,
}

/// An account, as staff and the operator see it: the user, and where the service sends mail one thing more.
#[derive(Serialize, ToSchema)]
#[schema(as = Account)]
pub struct AccountResponse {
    #[serde(flatten)]
    user: UserResponse,
    /// Whether its address was shown to be the account's. It is there where the service sends mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = true, nullable = false)]
    email_verified: Option<bool>,
}

impl AccountResponse {
    /// The account as it is shown where the service sends mail, or where it does not.
    #[must_use]
    pub fn new(user: User, sends_mail: bool) -> Self {
        let email_verified = sends_mail.then_some(user.is_email_verified);
        Self { user: user.into(), email_verified }
    }
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
pub(crate) fn numbers(items: &[ItemId]) -> Vec<i64> {
    items.iter().map(|item| item.get()).collect()
}

/// The schema of a list of item ids.
pub(crate) struct ItemIds;

impl PartialSchema for ItemIds {
    fn schema() -> RefOr<Schema> {
        item_ids().into()
    }
}

impl ToSchema for ItemIds {}

/// The same in a user object that a client sends back. utoipa cannot mark an array read-only.
pub(crate) fn unchanged_item_ids() -> RefOr<Schema> {
    item_ids().description(Some("Taken only as it is stored; it is set at its own path")).into()
}

fn item_ids() -> ArrayBuilder {
    let item = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(1))
        .maximum(Some(ItemId::MAX));
    ArrayBuilder::new().items(item)
}
