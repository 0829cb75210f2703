//! Challenges: what is begun in one request and finished in another, once, soon.
//!
//! Whoever begins it is given a token of 160 bits or, in a ceremony with a passkey, the authenticator signs one. The
//! store finds the row by its SHA-256, and the row holds nothing that finishes it: what is secret is either the token or
//! derived from it.

use std::time::Duration;

use crate::domain::token::TokenDigest;
use crate::system::clock::Timestamp;

/// What is to be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChallengePurpose {
    /// A login whose first factor was right, and that lacks the second.
    SecondFactor,
    /// A passkey is to be added to the caller's account.
    AddPasskey,
    /// Somebody is to show who they are by a passkey.
    UsePasskey,
    /// The caller's session is to become fresh by a passkey.
    ReauthenticateByPasskey,
    /// A browser is on its way through a provider.
    ProviderFlow,
    /// It has come back, and its app is to fetch what came of it.
    ProviderResult,
    /// An identity is to be linked by whoever logs in to the account.
    LinkIdentity,
    /// Nothing: an ID token was used, and is worth nothing until it has expired.
    UsedIdToken,
}

impl ChallengePurpose {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::SecondFactor,
        Self::AddPasskey,
        Self::UsePasskey,
        Self::ReauthenticateByPasskey,
        Self::ProviderFlow,
        Self::ProviderResult,
        Self::LinkIdentity,
        Self::UsedIdToken,
    ];

    /// Those whose state may hold a sealed secret: the refresh token of an identity that is not linked yet.
    pub const SEALING: [Self; 3] = [Self::SecondFactor, Self::ProviderResult, Self::LinkIdentity];

    /// Its name, as stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SecondFactor => "second_factor",
            Self::AddPasskey => "add_passkey",
            Self::UsePasskey => "use_passkey",
            Self::ReauthenticateByPasskey => "reauthenticate_by_passkey",
            Self::ProviderFlow => "provider_flow",
            Self::ProviderResult => "provider_result",
            Self::LinkIdentity => "link_identity",
            Self::UsedIdToken => "used_id_token",
        }
    }

    /// The purpose of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }

    /// How many of them an account has at most: a new one ends the oldest. Of logins that lack their second factor there are
    /// more than one network may begin while one lives, by default: who knows the password cannot end the owner's by theirs.
    #[must_use]
    pub const fn most_of_an_account(self) -> u32 {
        match self {
            Self::SecondFactor => 1_000,
            _ => 10,
        }
    }

    /// How long it can be finished. An ID token that was used is kept for as long as it says of itself instead.
    #[must_use]
    pub const fn lifetime(self) -> Duration {
        Duration::from_secs(match self {
            Self::SecondFactor | Self::AddPasskey | Self::UsePasskey | Self::ReauthenticateByPasskey => 5 * 60,
            Self::ProviderFlow | Self::LinkIdentity | Self::UsedIdToken => 10 * 60,
            Self::ProviderResult => 60,
        })
    }
}

/// How often somebody may try to finish a login by a second factor.
pub const MAX_FACTOR_TRIES: u32 = 5;

/// What is to be finished, as it is stored.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewChallenge {
    pub digest: TokenDigest,
    pub purpose: ChallengePurpose,
    /// What finishing it needs, as JSON.
    pub state: String,
    pub expires: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_has_a_name_of_its_own_and_is_found_by_it() {
        for purpose in ChallengePurpose::ALL {
            assert_eq!(ChallengePurpose::parse(purpose.name()), Some(purpose));
        }
        assert_eq!(ChallengePurpose::parse("anything"), None);
    }
}
