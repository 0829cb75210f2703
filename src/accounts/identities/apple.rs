//! What Apple asks of those who offer its login: the tokens that it gave are revoked with the account, and what its
//! owner withdraws there ends here.

use super::outcome::IdentityError;
use super::told::{AppCode, Told};
use crate::accounts::service::Accounts;
use crate::accounts::throttle::Admission;
use crate::accounts::throttle::limits::Call;
use crate::domain::identity::{Subject, refresh_token_binding};
use crate::providers::NoticeKind;
use crate::system::error_chain::Chain;

impl Accounts {
    /// Seals a refresh token; `None` where there is no key.
    pub(super) fn seal_refresh_token(&self, subject: &Subject, token: &str) -> Option<Vec<u8>> {
        let key = self.sealing.as_deref()?;
        Some(key.seal(&refresh_token_binding(&subject.binding()), token.as_bytes()))
    }

    /// Exchanges the authorization code that an app was given for the refresh token, so that this is kept with whatever
    /// becomes of the identity: a link now, or one that waits. It is needed when the account goes, so whatever stands in
    /// its way does not stand in that of the login.
    pub(super) async fn fetch_refresh_token(&self, told: &mut Told) {
        let Some(AppCode { client_id, code }) = told.app_code.take() else { return };
        let Ok(provider) = self.provider(&told.identity.provider) else { return };
        if self.sealing.is_none() || !provider.gives_refresh_tokens() {
            return;
        }
        let now = self.clock.now();
        // It may be a used one: that is known only where the session is opened.
        if !told.identity.token.as_ref().is_some_and(|token| self.identities.exchanged.is_first(token, now)) {
            return;
        }
        let exchanged = match self.identities.providers.exchange_app_code(provider, &client_id, &code, now).await {
            Ok(exchanged) => exchanged,
            Err(error) => return log::warn!("{} gave no refresh token: {}", provider.name(), Chain(&error)),
        };
        // A code of somebody else would have their access end with this account.
        let subject = &told.identity.subject;
        if exchanged.claims.subject != *subject {
            return log::warn!("{} gave a refresh token of somebody else, which is not kept", provider.name());
        }
        told.identity.refresh_token =
            exchanged.refresh_token.and_then(|token| self.seal_refresh_token(subject, &token));
    }

    /// Takes a signed notice of Apple's: of an owner who has withdrawn what an identity gave, the sessions end. The same
    /// notice twice does no more than once, and one of what was before the identity was linked does nothing.
    ///
    /// # Errors
    /// [`IdentityError::NotOffered`] where no provider is Apple, [`IdentityError::Refused`] for what Apple has not signed.
    pub async fn take_apple_notice(&self, admission: Admission<'_>, payload: &str) -> Result<(), IdentityError> {
        admission.confirm(Call::LogIn);
        let (notice, now) =
            (self.identities.providers.verify_apple_notice(payload, self.clock.now()).await?, self.clock.now());
        match notice.kind {
            NoticeKind::Withdrawn => {
                self.repository.withdraw_identity(&notice.subject, notice.happened, self.offered_ways(), now).await?;
            }
            // Whether Apple forwards mail to the address is not ours to keep.
            NoticeKind::Other => {}
        }
        Ok(())
    }
}
