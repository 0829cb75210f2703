//! Logging in by an identity, and registering where there is no account yet.

use super::outcome::{GivenIdToken, IdentityError, LinkOffer};
use super::told::Told;
use crate::accounts::service::{Accounts, Client};
use crate::accounts::sign_in::{OpenedSession, Opening, Verified};
use crate::accounts::throttle::Admission;
use crate::accounts::throttle::limits::Call;
use crate::domain::challenge::{ChallengePurpose, NewChallenge};
use crate::domain::profile::{Profile, ProfileField, ProfileText};
use crate::domain::token::PlainToken;
use crate::domain::user::{NewUser, PasswordHash, Username};
use crate::repository::{FirstFactor, IdentityOwner, IdentityUse, RepositoryError, SecondFactor, UniqueField};

/// How often a name is made for an account whose owner gives none.
const NAMES: usize = 3;

/// A login by an ID token.
#[expect(missing_docs, reason = "the names say it")]
pub struct IdentitySignIn {
    pub given: GivenIdToken,
    pub newcomer: Newcomer,
}

/// What the client says of somebody who may have no account yet. The provider is asked for nothing of it.
#[derive(Default)]
pub struct Newcomer {
    /// The name that the account is to have.
    pub username: Option<Username>,
    /// What is known of the profile. Its address is the provider's.
    pub profile: Profile,
}

/// A session that an identity has opened.
#[expect(missing_docs, reason = "the names say it")]
pub struct SignedIn {
    pub opened: OpenedSession,
    /// Whether the account was made for it.
    pub is_new: bool,
}

/// What becomes of a login by an identity.
enum Way {
    /// It is linked to this account, or is to be by this address.
    Account(IdentityOwner, Option<String>),
    /// It is linked by whoever logs in otherwise.
    Link,
    /// An account is made.
    Registration,
}

impl Accounts {
    /// Opens a session by an ID token that an app was given.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub async fn sign_in_by_identity(
        &self,
        admission: Admission<'_>,
        IdentitySignIn { given, newcomer }: IdentitySignIn,
        client: &impl Client,
    ) -> Result<SignedIn, IdentityError> {
        self.provider(&given.provider)?;
        admission.confirm(Call::LogIn);
        match self.verify_given(&given).await {
            Ok(told) => self.sign_in_as_told(told, newcomer, client).await,
            Err(error) => {
                if matches!(error, IdentityError::Refused) {
                    self.note_refused_identity(client);
                }
                Err(error)
            }
        }
    }

    /// Opens a session for somebody of whom a provider has told.
    pub(super) async fn sign_in_as_told(
        &self,
        mut told: Told,
        newcomer: Newcomer,
        client: &impl Client,
    ) -> Result<SignedIn, IdentityError> {
        let mut signed_in = self.try_sign_in(&mut told, newcomer, client).await;
        // Of several first logins at once, one makes the account or finds it, and the others find it now.
        if signed_in.as_ref().is_err_and(IdentityError::is_of_a_first_login)
            && let Some(owner) = self.repository.find_identity_owner(&told.identity.subject).await?
        {
            signed_in = self.sign_in_to(owner, &told, None, client).await;
        }
        if matches!(signed_in, Err(IdentityError::Refused)) {
            self.note_refused_identity(client);
        }
        signed_in
    }

    async fn try_sign_in(
        &self,
        told: &mut Told,
        newcomer: Newcomer,
        client: &impl Client,
    ) -> Result<SignedIn, IdentityError> {
        let way = self.find_way(told, &newcomer, client).await?;
        self.fetch_refresh_token(told).await;
        match way {
            Way::Account(owner, by_email) => self.sign_in_to(owner, told, by_email, client).await,
            Way::Link => Err(self.offer_link(told).await?),
            Way::Registration => self.register_as_told(told, newcomer, client).await,
        }
    }

    /// Finds out what becomes of a login. What counts once is not used up by it: who cannot be registered under a name
    /// tries again with another.
    async fn find_way(&self, told: &Told, newcomer: &Newcomer, client: &impl Client) -> Result<Way, IdentityError> {
        if let Some(owner) = self.repository.find_identity_owner(&told.identity.subject).await? {
            return Ok(Way::Account(owner, None));
        }
        if let Some(email) = told.email()
            && let Some(owner) = self.repository.find_email_owner(&email).await?
        {
            // Only its owner, who logs in otherwise, can say that both are the same person.
            return Ok(if told.speaks_for_email {
                Way::Account(owner, Some(email.key().to_owned()))
            } else {
                Way::Link
            });
        }
        if !self.identities.registers {
            return Ok(Way::Link);
        }
        let admission = self.throttle.admit(Call::Register, client.ip())?;
        admission.confirm(Call::Register);
        if let Some(username) = &newcomer.username {
            self.check_name(username, told.email().as_ref())?;
            // The store alone decides who is first.
            if self.repository.find_credentials(username).await?.is_some() {
                return Err(RepositoryError::Conflict(UniqueField::Username).into());
            }
        }
        Ok(Way::Registration)
    }

    async fn sign_in_to(
        &self,
        owner: IdentityOwner,
        told: &Told,
        by_email: Option<String>,
        client: &impl Client,
    ) -> Result<SignedIn, IdentityError> {
        let used = IdentityUse { user_id: owner.user_id, identity: told.identity.clone(), by_email };
        let verified = Verified::Factors(FirstFactor::Identity(used), SecondFactor::NotGiven);
        match self.open_session(verified, client).await? {
            Opening::Session(opened) => {
                self.throttle.clear_failures(&opened.user.username);
                Ok(SignedIn { opened, is_new: false })
            }
            Opening::SecondFactorDue(due) => Err(IdentityError::SecondFactorDue(Box::new(due))),
            Opening::EmailNotVerified => Err(IdentityError::EmailNotVerified),
            Opening::SecondFactorRefused(_) | Opening::Refused | Opening::IdentityRefused => {
                Err(IdentityError::Refused)
            }
        }
    }

    async fn register_as_told(
        &self,
        told: &Told,
        Newcomer { username, mut profile }: Newcomer,
        client: &impl Client,
    ) -> Result<SignedIn, IdentityError> {
        let email = told.email();
        if let Some(email) = &email
            && let Ok(text) = ProfileText::parse(ProfileField::Email, email.as_str().to_owned())
        {
            profile.set(text);
        }
        let is_verified = email.is_some() && told.speaks_for_email;
        for left in (0..NAMES).rev() {
            let name = username.clone().map_or_else(made_name, Ok)?;
            // An address for which the provider does not speak is confirmed like one that its owner has typed.
            let confirmation = if is_verified { None } else { self.confirmation_of(&profile)? };
            let has_confirmation = confirmation.is_some();
            let user = NewUser { username: name, password_hash: PasswordHash::none(), profile: profile.clone() };
            let identity = Box::new(told.identity.clone());
            let verified = Verified::IdentityRegistration(Box::new(user), is_verified, confirmation, identity);
            match self.open_session(verified, client).await {
                Ok(Opening::Session(opened)) => {
                    self.send_mails_of_registration(&opened.user.username, has_confirmation, client);
                    return Ok(SignedIn { opened, is_new: true });
                }
                Ok(_) => break,
                // Another account has just been given the name that was made.
                Err(RepositoryError::Conflict(UniqueField::Username)) if username.is_none() && left > 0 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(IdentityError::Refused)
    }

    /// Keeps an identity for ten minutes, so that it is linked by whoever logs in to the account.
    async fn offer_link(&self, told: &Told) -> Result<IdentityError, RepositoryError> {
        let (token, now, purpose) = (PlainToken::generate(), self.clock.now(), ChallengePurpose::LinkIdentity);
        let expires = now.plus(purpose.lifetime());
        let challenge = NewChallenge { digest: token.digest(), purpose, state: told.to_json(), expires };
        self.repository.store_challenge(None, challenge, now).await?;
        Ok(IdentityError::NotLinked(Box::new(LinkOffer { token, expires })))
    }
}

/// A name made from nothing personal.
fn made_name() -> Result<Username, crate::domain::field::InvalidField> {
    let token = PlainToken::generate();
    Username::parse(&format!("user-{}", token.reveal().get(..12).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_name_is_one_and_no_two_are_alike() {
        assert_ne!(made_name().unwrap(), made_name().unwrap());
    }
}
