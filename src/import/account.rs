//! An account as a source system has it, before anything is decided about it.

use std::collections::BTreeMap;

use crate::domain::profile::ProfileField;
use crate::domain::token::TokenDigest;
use crate::system::clock::Timestamp;

/// All that was read of a source.
#[derive(Default)]
pub struct Source {
    /// Its accounts, in any order.
    pub accounts: Vec<SourceAccount>,
    /// What was left out, by what it is, such as "superusers" or "deleted users": how many.
    pub left_out: BTreeMap<String, u64>,
    /// Tokens of the source that are of no account here, by the reason: how many.
    pub not_carried: BTreeMap<String, u64>,
    /// Sentences about the source as a whole, such as the columns that are not carried.
    pub notes: Vec<String>,
}

/// An account of a source system. Texts are as they are there, in whatever length and form.
#[derive(Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct SourceAccount {
    /// Its id there.
    pub id: String,
    /// Its name there; empty where it has none.
    pub name: String,
    /// The texts of the profile that are not empty.
    pub profile: Vec<(ProfileField, String)>,
    /// The stored password hash, or nothing where there is none.
    pub password: Option<String>,
    /// Whether the source had verified the address.
    pub is_email_verified: bool,
    /// Whether it may log in.
    pub is_active: bool,
    /// Whether it is staff.
    pub is_staff: bool,
    /// Whether it is a superuser.
    pub is_superuser: bool,
    /// When it was made there; nothing where that is not known or cannot be read: the moment of the import.
    pub date_joined: Option<Timestamp>,
    /// As `date_joined` where there is none.
    pub created: Option<Timestamp>,
    /// As `created` where there is none.
    pub modified: Option<Timestamp>,
    /// As `date_joined` where there is none.
    pub last_login: Option<Timestamp>,
    /// The items of its cellar; one that is no whole number is `None`.
    pub cellar: Vec<Option<i64>>,
    /// The items of its wish list.
    pub wants: Vec<Option<i64>>,
    /// Its tokens.
    pub tokens: Vec<SourceToken>,
    /// What the operator must hear of: a word of [`Warning`].
    pub warnings: Vec<Warning>,
}

/// A token of a source system.
#[derive(Clone)]
pub struct SourceToken {
    /// What it can be found by, or why it cannot be carried: a word of the report, such as `token_form`.
    pub digest: Result<SourceDigest, &'static str>,
    /// When it was made there: the newest are carried.
    pub created: Option<Timestamp>,
    /// When it ends there.
    pub expires: Option<Timestamp>,
}

/// What a token can be found by.
#[derive(Clone, Copy)]
pub enum SourceDigest {
    /// The SHA-256 of its 40 characters.
    Sha256(TokenDigest),
    /// The first 32 bytes of a SHA-512.
    Sha512(TokenDigest),
}

/// What the operator must hear of, about an account that is imported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning(pub String);

impl Warning {
    /// A warning by its word, such as `no_password`.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}
