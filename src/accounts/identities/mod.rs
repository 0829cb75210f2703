//! Identities: logins by what a provider says of somebody, and what accounts are linked to.
//!
//! An account is found by the provider's issuer and its own id of the person, never by an address alone: an address
//! links an identity to an account only where both sides have verified it. Else the client is given a token, and the
//! identity is linked once its owner has logged in to the account by other means.

mod apple;
mod exchanged;
mod link;
mod outcome;
pub mod policy;
mod reauthenticate;
mod sign_in;
mod told;
mod web;

pub use self::exchanged::Exchanged;
pub use self::link::Linking;
pub use self::outcome::{GivenCode, GivenIdToken, GivenIdentity, IdentityError, LinkOffer};
pub use self::sign_in::{IdentitySignIn, Newcomer, SignedIn};
pub use self::web::{Callback, FlowStart, Returned, Started};
