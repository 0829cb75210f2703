//! [`OneTimeCodes`] in SQLite.
//!
//! A code or link is used up in the transaction of what it allows, so of two that present it at once one finds it gone.
//! A wrong code is a write, which takes as long as a sync of the disk. Where nothing is found, the same is written and
//! taken back: else the time would tell whether the request is that of an account.

use std::net::IpAddr;

use async_trait::async_trait;
use rusqlite::types::Null;
use rusqlite::{Connection, OptionalExtension as _, ToSql, params};

use super::emails::{Email, Verification, find_email, is_taken, set_email, verify_email};
use super::error::Failure;
use super::factors::{forget_ways_in, forget_ways_in_since};
use super::lookup::{begin_change, find_user, holds, require_session};
use super::offers::{
    Found, Offer, delete_all_offers, delete_offer, end_restorers_since, find_by_code, find_by_token, find_pending,
    find_presented, try_code,
};
use super::outbox::begin_confirmation;
use super::rows::{read_truth, read_username};
use super::tokens::{delete_session, id_of, set_reauthentication};
use super::transaction::Transaction;
use super::{SqliteRepository, events, sql};
use crate::domain::email::EmailAddress;
use crate::domain::event::EventKind;
use crate::domain::one_time::{CODE_LIFETIME, Code, CodeMac, Presented, Purpose, RESTORES_EMAIL};
use crate::domain::session::{Caller, SessionCutoffs, SessionId};
use crate::domain::token::TokenDigest;
use crate::domain::user::{PasswordHash, UserId, Username};
use crate::repository::session_cache::Change;
use crate::repository::{
    Confirmed, Disowned, EmailState, NewEmailChange, NewOffer, OneTimeCodes, Proof, Recipient, RepositoryError, Tried,
    Whom,
};
use crate::system::clock::Timestamp;

/// How many codes are pruned in one transaction, so that no other write waits long.
const PRUNED_AT_ONCE: u32 = 500;

/// What the event of a first proof by a login tells: what was set up before was not trusted.
const PASSWORD_REMOVED: &str = "password_removed";

#[async_trait]
impl OneTimeCodes for SqliteRepository {
    async fn find_email(&self, caller: &Caller, now: Timestamp) -> Result<EmailState, RepositoryError> {
        let caller = *caller;
        self.read_snapshot(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            let Email { text: email, is_verified, .. } = find_email(connection, user_id)?;
            let pending = find_pending(connection, user_id, now)?.map(|offer| (offer.email, offer.expires));
            Ok(EmailState { email, is_verified, pending })
        })
        .await
    }

    async fn request_email_change(
        &self,
        caller: &Caller,
        proof: Proof,
        change: NewEmailChange,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            if !holds(connection, &proof, &caller, user_id, now)? {
                return Ok(false);
            }
            begin_confirmation(connection, user_id, &change, now)?;
            if find_email(connection, user_id)?.text != change.email.as_str() {
                events::by_owner(connection, EventKind::EmailChangeRequested, user_id, caller.ip, "", now)?;
            }
            Ok(true)
        })
        .await
    }

    async fn withdraw_email_change(&self, caller: &Caller, now: Timestamp) -> Result<bool, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            let Some(pending) = find_pending(connection, user_id, now)? else { return Ok(false) };
            delete_offer(connection, &pending.request)?;
            events::by_owner(connection, EventKind::EmailChangeWithdrawn, user_id, caller.ip, "", now)?;
            Ok(true)
        })
        .await
    }

    async fn confirm_email_by_code(
        &self,
        caller: &Caller,
        request: Option<TokenDigest>,
        code: Code,
        now: Timestamp,
    ) -> Result<Confirmed, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            let Some(pending) = find_pending(connection, user_id, now)? else { return Ok(Confirmed::Refused(None)) };
            if request.is_some_and(|request| *request.as_bytes() != pending.request) {
                return Ok(Confirmed::Refused(None));
            }
            let mac = code.mac_in_session(&TokenDigest::from_bytes(pending.request));
            match try_code(connection, pending, &mac, now)? {
                Found::Right(offer) => confirm(connection, &offer, caller.ip, now),
                Found::Wrong { username, .. } => Ok(Confirmed::Refused(Some(username))),
                Found::Nothing => Ok(Confirmed::Refused(None)),
            }
        })
        .await
    }

    async fn confirm_email_by_link(
        &self,
        token: TokenDigest,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Confirmed, RepositoryError> {
        self.write(move |connection| match find_by_token(connection, Purpose::ConfirmEmail, &token, now)? {
            Some(offer) => confirm(connection, &offer, ip, now),
            None => Ok(Confirmed::Refused(None)),
        })
        .await
    }

    async fn find_recipient(&self, whom: &Whom, ip: Option<IpAddr>) -> Result<Option<Recipient>, RepositoryError> {
        let whom = whom.clone();
        self.read_snapshot(move |connection| {
            Ok(match &whom {
                Whom::Username(username) => find_recipient(connection, sql::FIND_RECIPIENT_NAMED, &username.key(), ip)?,
                Whom::Email(email) => {
                    match find_recipient(connection, sql::FIND_RECIPIENT_VERIFIED, &email.key(), ip)? {
                        None => find_recipient(connection, sql::FIND_RECIPIENT_UNVERIFIED, &email.key(), ip)?,
                        verified => verified,
                    }
                }
            })
        })
        .await
    }

    async fn find_own_recipient(&self, caller: &Caller) -> Result<Option<Recipient>, RepositoryError> {
        let caller = *caller;
        self.read_snapshot(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            let found = find_recipient(connection, sql::FIND_RECIPIENT, &user_id.0, caller.ip)?;
            Ok(found.filter(|recipient| recipient.is_verified))
        })
        .await
    }

    async fn store_offer(&self, offer: NewOffer, ip: Option<IpAddr>, now: Timestamp) -> Result<bool, RepositoryError> {
        self.write(move |connection| store_offer(connection, &offer, ip, now)).await
    }

    async fn try_code(
        &self,
        purpose: Purpose,
        request: TokenDigest,
        mac: CodeMac,
        now: Timestamp,
    ) -> Result<Tried, RepositoryError> {
        self.write(move |connection| {
            Ok(match find_by_code(connection, purpose, &request, &mac, None, now)? {
                Found::Right(offer) => Tried::Right(offer.username),
                Found::Wrong { username, is_verified: true } => Tried::Wrong(username),
                // For the same reason as with the event of a reset: see `store_offer`.
                Found::Wrong { is_verified: false, .. } | Found::Nothing => Tried::Unknown,
            })
        })
        .await
    }

    async fn find_link(
        &self,
        purpose: Purpose,
        token: TokenDigest,
        now: Timestamp,
    ) -> Result<Option<Username>, RepositoryError> {
        self.read(move |connection| Ok(find_by_token(connection, purpose, &token, now)?.map(|offer| offer.username)))
            .await
    }

    async fn reset_password(
        &self,
        presented: Presented,
        new_hash: PasswordHash,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Option<Username>, RepositoryError> {
        self.write(move |connection| match find_presented(connection, Purpose::ResetPassword, &presented, now)? {
            Found::Right(offer) => reset_password(connection, offer, &new_hash, ip, now).map(Some),
            Found::Wrong { .. } | Found::Nothing => Ok(None),
        })
        .await
    }

    async fn reauthenticate_by_code(
        &self,
        caller: &Caller,
        request: TokenDigest,
        mac: CodeMac,
        now: Timestamp,
    ) -> Result<Tried, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            Ok(match find_by_code(connection, Purpose::Reauthenticate, &request, &mac, Some(user_id), now)? {
                Found::Right(offer) => {
                    delete_offer(connection, &offer.request)?;
                    set_reauthentication(connection, &caller, Some(now))?;
                    connection.prepare_cached(sql::RESET_FAILURES_BY_ONE_FACTOR)?.execute([user_id.0])?;
                    let (kind, id) = (EventKind::Reauthenticated, id_of(&caller.digest));
                    events::by_owner(connection, kind, user_id, caller.ip, &id, now)?;
                    Tried::Right(offer.username)
                }
                Found::Wrong { username, .. } => Tried::Wrong(username),
                Found::Nothing => Tried::Unknown,
            })
        })
        .await
    }

    async fn disown(
        &self,
        token: TokenDigest,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Option<Disowned>, RepositoryError> {
        self.write(move |connection| {
            let found = find_by_token(connection, Purpose::NotMe, &token, now)?;
            found.map(|offer| disown(connection, offer, ip, now)).transpose()
        })
        .await
    }

    async fn prune_codes(&self, now: Timestamp) -> Result<usize, RepositoryError> {
        let expired: Vec<[u8; 32]> = self
            .scan(None, move |connection| {
                let mut find = connection.prepare_cached(sql::FIND_EXPIRED_OFFERS)?;
                Ok(find
                    .query_map(params![now.as_millis(), PRUNED_AT_ONCE], |row| row.get(0))?
                    .collect::<Result<_, _>>()?)
            })
            .await?;
        if expired.is_empty() {
            return Ok(0);
        }
        self.write(move |connection| {
            let mut delete = connection.prepare_cached(sql::DELETE_EXPIRED_OFFER)?;
            let mut deleted = 0;
            for request in expired {
                deleted += delete.execute(params![request, now.as_millis()])?;
            }
            Ok(deleted)
        })
        .await
    }
}

fn confirm(
    connection: &Transaction<'_>,
    offer: &Offer,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<Confirmed, Failure> {
    let user_id = offer.user_id;
    delete_offer(connection, &offer.request)?;
    if is_taken(connection, user_id, &offer.email_key)? {
        return Ok(Confirmed::Taken);
    }
    connection.changes(user_id, Change::Text);
    if offer.email == offer.current_email {
        verify_email(connection, user_id, now)?;
    } else {
        // Before the change: its notice goes to the former address.
        events::by_owner(connection, EventKind::EmailChanged, user_id, ip, "", now)?;
        set_email(connection, user_id, &offer.email, true, now)?;
    }
    events::by_owner(connection, EventKind::EmailVerified, user_id, ip, "", now)?;
    Ok(Confirmed::Done(Box::new(find_user(connection, user_id)?)))
}

fn find_recipient(
    connection: &Connection,
    statement: &str,
    key: &dyn ToSql,
    ip: Option<IpAddr>,
) -> rusqlite::Result<Option<Recipient>> {
    let found = connection.prepare_cached(statement)?.query_row([key], |row| {
        let email: String = row.get("email")?;
        let is_verified = read_truth(row, "email_verified")?;
        let (user_id, username) = (UserId(row.get("user_id")?), read_username(row, "username")?);
        let is_active = read_truth(row, "is_active")?;
        // One that had a key when it was stored, and would not be taken by now, is none.
        Ok(EmailAddress::parse(&email).ok().map(|email| Recipient {
            user_id,
            username,
            email,
            is_verified,
            is_active,
            is_familiar: false,
        }))
    });
    let Some(mut recipient) = found.optional()?.flatten() else { return Ok(None) };
    if let Some(ip) = ip {
        recipient.is_familiar = events::is_familiar(connection, recipient.user_id, ip)?;
    }
    Ok(Some(recipient))
}

fn store_offer(
    connection: &Transaction<'_>,
    offer: &NewOffer,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<bool, Failure> {
    let Some(email) = find_email(connection, offer.user_id).optional()? else { return Ok(false) };
    if email.key.as_deref() != Some(&*offer.email_key) {
        return Ok(false);
    }
    let purpose = offer.purpose;
    let mut replaced = connection.prepare_cached(sql::DELETE_OFFER_FOR)?;
    let _: Option<[u8; 32]> =
        replaced.query_row(params![offer.user_id.0, purpose.name(), offer.is_familiar], |row| row.get(0)).optional()?;
    connection.prepare_cached(sql::INSERT_OFFER)?.execute(params![
        offer.request.as_bytes(),
        purpose.name(),
        offer.user_id.0,
        offer.is_familiar,
        email.text,
        offer.email_key,
        Null,
        "",
        offer.token.as_bytes(),
        offer.mac.as_bytes(),
        now.as_millis(),
        now.plus(CODE_LIFETIME).as_millis(),
        now.plus(purpose.lifetime()).as_millis(),
    ])?;
    // Whoever has registered with somebody else's address must not learn from its own events that the address is free.
    if purpose == Purpose::ResetPassword && email.is_verified {
        // Nobody has shown who asks.
        events::insert(connection, EventKind::ResetRequested, offer.user_id, Some(""), ip, "", now)?;
    }
    Ok(true)
}

fn reset_password(
    connection: &Transaction<'_>,
    offer: Offer,
    new_hash: &PasswordHash,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<Username, Failure> {
    let user_id = offer.user_id;
    connection.changes(user_id, Change::Sessions);
    delete_all_offers(connection, user_id)?;
    connection.prepare_cached(sql::SET_PASSWORD)?.execute(params![user_id.0, new_hash.as_stored()])?;
    connection.prepare_cached(sql::DELETE_ALL_TOKENS)?.execute([user_id.0])?;
    if let Verification::Now = verify_email(connection, user_id, now)? {
        events::by_owner(connection, EventKind::EmailVerified, user_id, ip, "", now)?;
    }
    if !offer.is_verified {
        forget_ways_in(connection, user_id, ip, now)?;
    }
    connection.prepare_cached(sql::RESET_FAILURES_BY_ONE_FACTOR)?.execute([user_id.0])?;
    // After the verification, so that the notice has an address.
    events::by_owner(connection, EventKind::PasswordReset, user_id, ip, "", now)?;
    Ok(offer.username)
}

/// Uses up what a mail offers for a login. It is the first proof of the mailbox where the address was not verified: what
/// was set up before is not trusted then.
pub(super) fn use_sign_in_offer(
    connection: &Transaction<'_>,
    offer: &Offer,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<(), Failure> {
    let user_id = offer.user_id;
    if offer.is_verified {
        delete_offer(connection, &offer.request)?;
        return Ok(());
    }
    // Whoever has set the account up may have given an address of somebody else, who is here for the first time.
    connection.changes(user_id, Change::Sessions);
    delete_all_offers(connection, user_id)?;
    connection.prepare_cached(sql::SET_PASSWORD)?.execute(params![user_id.0, PasswordHash::none().as_stored()])?;
    if connection.prepare_cached(sql::DELETE_ALL_TOKENS)?.execute([user_id.0])? > 0 {
        events::by_owner(connection, EventKind::AllSessionsRevoked, user_id, ip, "", now)?;
    }
    if let Verification::Now = verify_email(connection, user_id, now)? {
        events::by_owner(connection, EventKind::EmailVerified, user_id, ip, PASSWORD_REMOVED, now)?;
    }
    forget_ways_in(connection, user_id, ip, now)?;
    Ok(())
}

fn disown(connection: &Transaction<'_>, offer: Offer, ip: Option<IpAddr>, now: Timestamp) -> Result<Disowned, Failure> {
    let user_id = offer.user_id;
    connection.changes(user_id, Change::Sessions);
    let is_withdrawn = find_pending(connection, user_id, now)?.is_some();
    delete_all_offers(connection, user_id)?;
    if is_withdrawn {
        events::by_owner(connection, EventKind::EmailChangeWithdrawn, user_id, ip, "", now)?;
    }
    let is_restored = offer.detail == RESTORES_EMAIL && offer.email != offer.current_email;
    if is_restored {
        let is_verified = !is_taken(connection, user_id, &offer.email_key)?;
        set_email(connection, user_id, &offer.email, is_verified, now)?;
        events::by_owner(connection, EventKind::EmailRestored, user_id, ip, "", now)?;
    }
    if offer.detail == RESTORES_EMAIL {
        end_restorers_since(connection, user_id, offer.created)?;
    }
    forget_ways_in_since(connection, user_id, offer.created, ip, now)?;
    // Whoever it was may know the password.
    connection.prepare_cached(sql::SET_PASSWORD)?.execute(params![user_id.0, PasswordHash::none().as_stored()])?;
    let session = SessionId::parse(&offer.detail);
    match &session {
        Some(id) => drop(delete_session(connection, user_id, id, SessionCutoffs::EVER)?),
        None => drop(connection.prepare_cached(sql::DELETE_ALL_TOKENS)?.execute([user_id.0])?),
    }
    let detail = session.as_ref().map(SessionId::as_str).unwrap_or_default();
    events::by_owner(connection, EventKind::Disowned, user_id, ip, detail, now)?;
    Ok(Disowned { username: offer.username, session, email_kept: is_withdrawn || is_restored })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::challenge::{ChallengePurpose, NewChallenge};
    use crate::domain::profile::Profile;
    use crate::domain::session::NewSession;
    use crate::domain::token::PlainToken;
    use crate::domain::user::NewUser;
    use crate::repository::sqlite::test_store::{open_in, registration, worker};
    use crate::repository::{Accounts as _, FirstFactor, SecondFactor, SessionOutcome, SessionRequest, Sessions as _};

    #[test]
    fn a_code_of_no_account_reaches_the_disk_as_a_wrong_one_does() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let size = || std::fs::metadata(folder.path().join("test.db-wal")).unwrap().len();
        let now = Timestamp::from_millis(0).unwrap();
        worker(2).block_on(async {
            let (user, session) = registration(1);
            let digest = session.digest;
            let profile = Profile { email: "azure@diamond.example".to_owned(), ..Profile::default() };
            repository.register_user(NewUser { profile, ..user }, session, None, now).await.unwrap();
            let (request, code) = (PlainToken::generate(), Code::generate());
            let offer = NewOffer {
                purpose: Purpose::ResetPassword,
                user_id: UserId(1),
                email_key: "azure@diamond.example".to_owned(),
                is_familiar: false,
                request: request.digest(),
                mac: code.mac(&request),
                token: PlainToken::generate().digest(),
            };
            assert!(repository.store_offer(offer, None, now).await.unwrap());
            let unknown = PlainToken::generate();
            let caller = Caller { digest, cutoffs: SessionCutoffs::EVER, ip: None };
            for request in [request, unknown] {
                // The MAC under another request id: a wrong code.
                let (digest, mac) = (request.digest(), code.mac(&PlainToken::generate()));
                let mut before = size();
                let mut has_written = || {
                    let grown = size() > before;
                    before = size();
                    grown
                };
                repository.try_code(Purpose::ResetPassword, digest, mac, now).await.unwrap();
                assert!(has_written());
                let presented = Presented::Code(digest, mac);
                repository.reset_password(presented, PasswordHash::none(), None, now).await.unwrap();
                assert!(has_written());
            }
            let (digest, mac) = (PlainToken::generate().digest(), code.mac(&PlainToken::generate()));
            let before = size();
            assert_eq!(repository.reauthenticate_by_code(&caller, digest, mac, now).await.unwrap(), Tried::Unknown);
            let between = size();
            let session = NewSession { digest, ..registration(2).1 };
            let presented = Presented::Code(digest, mac);
            let challenge =
                NewChallenge { digest, purpose: ChallengePurpose::SecondFactor, state: String::new(), expires: now };
            let (first, second) = (FirstFactor::Mail(presented), SecondFactor::NotGiven);
            let request =
                SessionRequest { first, second, session, challenge, max_sessions: 100, needs_verified_email: false };
            assert_eq!(repository.open_session(request, now).await.unwrap(), SessionOutcome::Refused);
            assert!(before < between && between < size());
            let rows: i64 = repository
                .read(|connection| Ok(connection.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?))
                .await
                .unwrap();
            assert_eq!(rows, 0, "nothing remains of it");
        });
    }
}
