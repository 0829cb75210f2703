//! Whose a token is, as other services are told.

use std::sync::Arc;

use crate::domain::authentication_methods::AuthenticationMethods;
use crate::domain::public_id::PublicId;
use crate::domain::rights::Rights;
use crate::domain::session::Session;
use crate::domain::user::Username;
use crate::system::clock::Timestamp;

/// Whose a token is: the account, and how its person has shown who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct TokenHolder {
    pub public_id: PublicId,
    pub username: Username,
    /// The address, where it is verified.
    pub verified_email: Option<String>,
    pub rights: Rights,
    /// When the person showed once more who they are, in the session.
    pub reauthenticated: Option<Timestamp>,
    /// By what the session was opened.
    pub methods: AuthenticationMethods,
}

impl TokenHolder {
    /// The groups of the account: `users`, and one for each of its rights.
    pub fn groups(&self) -> impl Iterator<Item = &'static str> {
        let Rights { is_staff, is_superuser } = self.rights;
        [(true, "users"), (is_staff, "staff"), (is_superuser, "superusers")]
            .into_iter()
            .filter_map(|(is_in, group)| is_in.then_some(group))
    }
}

/// A live session, with what other services are told of it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct HeldToken {
    pub session: Session,
    pub created: Timestamp,
    /// When it ends, whatever else holds: a session of another system may bring its own end.
    pub expires: Option<Timestamp>,
    pub holder: Arc<TokenHolder>,
}

impl HeldToken {
    /// When the person last showed who they are; `None` where that is not known.
    #[must_use]
    pub fn authenticated(&self) -> Option<Timestamp> {
        let at_login = (!self.holder.methods.is_imported()).then_some(self.created);
        at_login.max(self.holder.reauthenticated)
    }
}
