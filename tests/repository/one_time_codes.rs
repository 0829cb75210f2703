//! An account's address, and what the codes and links of mails may do.

use authtokens::domain::email::EmailAddress;
use authtokens::domain::event::EventKind;
use authtokens::domain::mail::MailKind;
use authtokens::domain::one_time::{Code, MAX_TRIES, Purpose};
use authtokens::domain::profile::ProfileField;
use authtokens::domain::rights::{AccountChange, Actor, Rights};
use authtokens::domain::session::{NewSession, SessionId, UserAgent};
use authtokens::domain::token::{PlainToken, TokenDigest};
use authtokens::domain::user::{User, UserId};
use authtokens::repository::{
    Cause, Confirmed, Disowned, EmailState, EmailVerification, IdentityRegistered, Proof, Recipient, RepositoryError,
    Tried, Whom,
};
use bytes::Bytes;

use crate::fixture::Fixture;
use crate::ways::says;
use crate::words::{
    HASH, Mailed, OpensSessions as _, at, by_password, caller, change_password, change_to, claim, create, email,
    events, hash, is_fresh, is_live, list_session_ids, login, mailed, name, new_session, new_user, open, refused,
    register, register_verified, register_with, request_change, send, send_only, take, text,
};

const MINUTE: i64 = 60_000;

async fn find_email(fixture: &Fixture, session: TokenDigest, millis: i64) -> EmailState {
    fixture.repository.find_email(&caller(session), at(millis)).await.unwrap()
}

async fn is_found_by(fixture: &Fixture, address: &str) -> bool {
    fixture.repository.find_credentials_by_email(&email(address)).await.unwrap().is_some()
}

async fn recipient(fixture: &Fixture, whom: Whom, ip: Option<&str>) -> Option<Recipient> {
    let ip = ip.map(|ip| ip.parse().unwrap());
    fixture.repository.find_recipient(&whom, ip).await.unwrap()
}

async fn stored_hash(fixture: &Fixture, username: &str) -> String {
    let credentials = fixture.repository.find_credentials(&name(username)).await.unwrap().unwrap();
    credentials.password_hash.as_stored().to_owned()
}

async fn try_code(fixture: &Fixture, purpose: Purpose, mailed: &Mailed, millis: i64) -> Tried {
    fixture.repository.try_code(purpose, mailed.request.digest(), mailed.mac(), at(millis)).await.unwrap()
}

async fn is_link(fixture: &Fixture, purpose: Purpose, mailed: &Mailed, millis: i64) -> bool {
    fixture.repository.find_link(purpose, mailed.token.digest(), at(millis)).await.unwrap().is_some()
}

pub async fn an_address_is_known_by_its_key_wherever_it_was_written_and_verified_until_it_is_another(
    fixture: &Fixture,
) {
    let (_, digest) = register_with(fixture, "AzureDiamond", "Azure@DIAMOND.example").await;
    assert!(!is_found_by(fixture, "azure@diamond.example").await, "nobody has verified it");
    let verify = async || {
        let username = name("azurediamond");
        fixture.repository.verify_account_email(&Actor::CommandLine, &username, at(2_000)).await.unwrap()
    };
    assert_eq!(verify().await, Some(EmailVerification::Verified));
    assert_eq!(verify().await, Some(EmailVerification::Verified), "as before");
    assert!(events(fixture).await.contains(&"email_verified AzureDiamond command line ".to_owned()));
    assert_eq!(events(fixture).await.iter().filter(|event| event.starts_with("email_verified")).count(), 1);
    assert!(is_found_by(fixture, "AZURE@diamond.EXAMPLE").await);
    let user = fixture.repository.find_user(&caller(digest)).await.unwrap().1;
    assert!(user.is_email_verified);
    let credentials = fixture.repository.find_credentials(&name("AzureDiamond")).await.unwrap().unwrap();
    assert!(credentials.is_email_verified);
    let change = async |field, to| {
        let changes = vec![text(field, to)];
        fixture.repository.update_profile(&caller(digest), changes, at(3_000)).await.unwrap()
    };
    assert!(change(ProfileField::City, "Boston").await.is_email_verified, "that is no address");
    let user = change(ProfileField::Email, "azure@new.example").await;
    assert!(!user.is_email_verified);
    for address in ["azure@diamond.example", "azure@new.example"] {
        assert!(!is_found_by(fixture, address).await, "{address}");
    }
    assert!(recipient(fixture, Whom::Email(email("AZURE@new.example")), None).await.is_some());
    assert!(recipient(fixture, Whom::Email(email("azure@diamond.example")), None).await.is_none());
    let mut user = new_user("carol");
    user.profile.set(text(ProfileField::Email, "Carol@Diamond.example"));
    fixture.repository.create_account(user, Rights::default(), at(1_000)).await.unwrap();
    assert!(recipient(fixture, Whom::Email(email("carol@diamond.example")), None).await.is_some());
}

/// What a response shows of an address.
#[expect(clippy::needless_pass_by_value, clippy::unnecessary_wraps, reason = "it is a `Render`")]
fn render(user: User) -> Result<Bytes, Cause> {
    Ok(format!("{} {}", user.profile.email, user.is_email_verified).into())
}

pub async fn what_is_shown_of_an_address_is_what_is_stored_of_it_at_every_moment(fixture: &Fixture) {
    let (_, digest) = register_with(fixture, "AzureDiamond", "azure@diamond.example").await;
    let shown = async || {
        let (_, text) = fixture.repository.find_rendered_user(&caller(digest), render).await.unwrap();
        String::from_utf8(text.to_vec()).unwrap()
    };
    assert_eq!(shown().await, "azure@diamond.example false");
    let verified = fixture.repository.verify_account_email(&Actor::CommandLine, &name("AzureDiamond"), at(2_000)).await;
    assert_eq!(verified.unwrap(), Some(EmailVerification::Verified));
    assert_eq!(shown().await, "azure@diamond.example true");
    request_change(fixture, digest, "new@diamond.example", 2_000).await;
    assert_eq!(shown().await, "azure@diamond.example true");
    let mails = claim(fixture, 2_000).await;
    let (token, _) = send(fixture, &mails[0], 2_000).await;
    assert_eq!(shown().await, "azure@diamond.example true");
    assert!(matches!(
        fixture.repository.confirm_email_by_link(token, None, at(2_000)).await.unwrap(),
        Confirmed::Done(_)
    ));
    assert_eq!(shown().await, "new@diamond.example true");
}

pub async fn an_address_is_counted_as_verified_by_who_may_manage_the_account(fixture: &Fixture) {
    register_with(fixture, "alice", "alice@diamond.example").await;
    register(fixture, "bob").await;
    let verify = |actor, username: &str| {
        let username = name(username);
        async move { fixture.repository.verify_account_email(&actor, &username, at(2_000)).await }
    };
    let (staff, nobody) = (create(fixture, "staff", true, false).await, create(fixture, "nobody", false, false).await);
    assert!(matches!(verify(nobody, "alice").await, Err(RepositoryError::Forbidden)));
    assert!(matches!(verify(staff, "staff").await, Err(RepositoryError::Forbidden)), "not their own");
    assert_eq!(verify(staff, "alice").await.unwrap(), Some(EmailVerification::Verified));
    assert_eq!(verify(staff, "bob").await.unwrap(), Some(EmailVerification::NoAddress));
    assert_eq!(verify(staff, "carol").await.unwrap(), None);
    register_with(fixture, "eve", "ALICE@diamond.example").await;
    assert_eq!(verify(staff, "eve").await.unwrap(), Some(EmailVerification::Taken));
    assert!(events(fixture).await.contains(&"email_verified alice staff ".to_owned()));
}

pub async fn a_registration_with_a_confirmation_waits_for_it_and_one_without_does_not(fixture: &Fixture) {
    let (mut user, session) = (new_user("AzureDiamond"), new_session());
    user.profile.set(text(ProfileField::Email, "azure@diamond.example"));
    let digest = session.digest;
    let (change, request) = change_to("azure@diamond.example");
    let user = fixture.repository.register_user(user, session, Some(change), at(1_000)).await.unwrap();
    assert!(!user.is_email_verified);
    let day = at(1_000 + 24 * 60 * MINUTE);
    let expected = EmailState {
        email: "azure@diamond.example".to_owned(),
        is_verified: false,
        pending: Some(("azure@diamond.example".to_owned(), day)),
    };
    assert_eq!(find_email(fixture, digest, 2_000).await, expected);
    let (_, code) = send_only(fixture, MailKind::ConfirmEmail, 2_000).await;
    let confirmed = fixture.repository.confirm_email_by_code(&caller(digest), Some(request), code, at(3_000)).await;
    let Confirmed::Done(user) = confirmed.unwrap() else { panic!("not confirmed") };
    assert!(user.is_email_verified);
    assert_eq!(user.modified, at(1_000), "the profile is as it was");
    assert_eq!(find_email(fixture, digest, 3_000).await, EmailState { is_verified: true, pending: None, ..expected });
    let told = events(fixture).await;
    assert_eq!(told[1..], ["email_verified AzureDiamond AzureDiamond "], "it was no change");
    let (_, other) = register_with(fixture, "bob", "bob@diamond.example").await;
    assert_eq!(find_email(fixture, other, 2_000).await.pending, None);
    assert_eq!(take(fixture, 3_000).await, Vec::<String>::new());
}

pub async fn a_registration_by_an_identity_with_a_confirmation_waits_for_it(fixture: &Fixture) {
    let (mut user, session) = (new_user("AzureDiamond"), new_session());
    user.profile.set(text(ProfileField::Email, "azure@diamond.example"));
    let digest = session.digest;
    let (change, request) = change_to("azure@diamond.example");
    let (identity, repository) = (says("somebody"), &fixture.repository);
    let registered = repository.register_by_identity(user, false, Some(change), identity, session, at(1_000)).await;
    assert!(matches!(registered.unwrap(), IdentityRegistered::Opened(_)));
    let waiting = find_email(fixture, digest, 2_000).await;
    assert_eq!((waiting.is_verified, waiting.pending.unwrap().0.as_str()), (false, "azure@diamond.example"));
    let (_, code) = send_only(fixture, MailKind::ConfirmEmail, 2_000).await;
    let confirmed = repository.confirm_email_by_code(&caller(digest), Some(request), code, at(3_000)).await;
    assert!(matches!(confirmed.unwrap(), Confirmed::Done(_)));
    assert!(find_email(fixture, digest, 3_000).await.is_verified);
}

pub async fn a_change_of_the_address_is_made_when_its_code_is_given_and_ends_every_other_code(fixture: &Fixture) {
    let (user_id, digest) = register_verified(fixture, "AzureDiamond", "old@diamond.example").await;
    let reset = mailed(fixture, Purpose::ResetPassword, user_id, "old@diamond.example").await;
    let request = request_change(fixture, digest, "New@diamond.example", 3_000).await;
    let state = find_email(fixture, digest, 3_000).await;
    assert_eq!((&*state.email, state.is_verified), ("old@diamond.example", true), "until it is confirmed");
    assert_eq!(state.pending.unwrap().0, "New@diamond.example");
    let confirm = |code, millis| {
        let caller = caller(digest);
        async move { fixture.repository.confirm_email_by_code(&caller, Some(request), code, at(millis)).await.unwrap() }
    };
    let code = || Code::parse("123456").unwrap();
    assert_eq!(confirm(code(), 3_000).await, Confirmed::Refused(None), "it was not mailed yet");
    let mails = claim(fixture, 3_000).await;
    let told: Vec<_> = mails.iter().map(|mail| (mail.kind, &*mail.recipient, mail.is_verified)).collect();
    let (confirmation, notice) = (MailKind::ConfirmEmail, MailKind::EmailChangeRequested);
    assert_eq!(told, [(confirmation, "New@diamond.example", false), (notice, "old@diamond.example", true)]);
    send(fixture, &mails[0], 3_000).await;
    assert!(fixture.repository.complete_mail(mails[1].id).await.unwrap());
    let other = PlainToken::generate().digest();
    let of_other = fixture.repository.confirm_email_by_code(&caller(digest), Some(other), code(), at(4_000)).await;
    assert_eq!(of_other.unwrap(), Confirmed::Refused(None), "another request");
    let Confirmed::Done(user) = confirm(code(), 4_000).await else { panic!("not confirmed") };
    assert_eq!((&*user.profile.email, user.is_email_verified, user.modified), ("New@diamond.example", true, at(4_000)));
    assert_eq!(confirm(code(), 4_000).await, Confirmed::Refused(None), "once");
    assert!(!is_link(fixture, Purpose::ResetPassword, &reset, 4_000).await, "it was for the former address");
    assert!(is_found_by(fixture, "new@diamond.example").await && !is_found_by(fixture, "old@diamond.example").await);
    assert_eq!(take(fixture, 4_000).await, ["email_changed old@diamond.example"]);
    let told = events(fixture).await;
    let expected = ["email_change_requested", "email_changed", "email_verified"]
        .map(|kind| format!("{kind} AzureDiamond AzureDiamond "));
    assert_eq!(told[told.len() - 3..], expected);
}

pub async fn a_change_of_the_address_is_made_by_its_link_without_a_session_once(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    request_change(fixture, digest, "new@diamond.example", 3_000).await;
    let (token, _) = send_only(fixture, MailKind::ConfirmEmail, 3_000).await;
    fixture.repository.revoke_own_session(&caller(digest), at(3_000)).await.unwrap();
    let confirm = |token, millis| fixture.repository.confirm_email_by_link(token, None, at(millis));
    assert_eq!(confirm(PlainToken::generate().digest(), 4_000).await.unwrap(), Confirmed::Refused(None));
    assert_eq!(confirm(token, 3_000 + 24 * 60 * MINUTE).await.unwrap(), Confirmed::Refused(None), "expired");
    assert!(matches!(confirm(token, 4_000).await.unwrap(), Confirmed::Done(_)));
    assert_eq!(confirm(token, 4_000).await.unwrap(), Confirmed::Refused(None));
    assert!(is_found_by(fixture, "new@diamond.example").await);
    assert_eq!(take(fixture, 4_000).await, Vec::<String>::new(), "there is no former address to tell");
}

pub async fn a_change_ends_by_a_newer_one_by_its_withdrawal_and_by_a_day_with_its_mail(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let withdraw = async |millis| fixture.repository.withdraw_email_change(&caller(digest), at(millis)).await.unwrap();
    assert!(!withdraw(2_000).await, "there is none");
    request_change(fixture, digest, "first@diamond.example", 3_000).await;
    let (first, _) = send_only(fixture, MailKind::ConfirmEmail, 3_000).await;
    request_change(fixture, digest, "second@diamond.example", 3_000).await;
    let refused = fixture.repository.confirm_email_by_link(first, None, at(4_000)).await.unwrap();
    assert_eq!(refused, Confirmed::Refused(None), "in the place of the first");
    request_change(fixture, digest, "third@diamond.example", 4_000).await;
    assert_eq!(take(fixture, 4_000).await, ["confirm_email third@diamond.example"], "the second has no mail any more");
    request_change(fixture, digest, "fourth@diamond.example", 4_000).await;
    assert!(withdraw(5_000).await);
    assert!(!withdraw(5_000).await);
    assert_eq!(find_email(fixture, digest, 5_000).await.pending, None);
    assert_eq!(take(fixture, 5_000).await, Vec::<String>::new());
    assert_eq!(events(fixture).await.last().unwrap(), "email_change_withdrawn AzureDiamond AzureDiamond ");
    request_change(fixture, digest, "fifth@diamond.example", 5_000).await;
    assert_eq!(find_email(fixture, digest, 5_000 + 24 * 60 * MINUTE).await.pending, None);
    assert_eq!(find_email(fixture, digest, 4_999).await.pending, None, "the clock was ahead");
}

pub async fn a_change_of_the_address_needs_its_proof(fixture: &Fixture) {
    let (_, digest) = register_verified(fixture, "AzureDiamond", "old@diamond.example").await;
    for proof in [by_password("$other"), Proof::FreshSession] {
        let (change, _) = change_to("new@diamond.example");
        assert!(!fixture.repository.request_email_change(&caller(digest), proof, change, at(3_000)).await.unwrap());
    }
    let nobody = caller(PlainToken::generate().digest());
    let asked = fixture
        .repository
        .request_email_change(&nobody, by_password(HASH), change_to("new@diamond.example").0, at(3_000))
        .await;
    assert!(matches!(asked, Err(RepositoryError::NoSession)));
    assert_eq!(find_email(fixture, digest, 3_000).await.pending, None);
    assert_eq!(take(fixture, 3_000).await, Vec::<String>::new());
    assert_eq!(events(fixture).await.len(), 2);
}

pub async fn the_fifth_wrong_code_of_a_change_ends_it_and_each_is_the_accounts(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    request_change(fixture, digest, "new@diamond.example", 3_000).await;
    let (token, code) = send_only(fixture, MailKind::ConfirmEmail, 3_000).await;
    let confirm =
        async |code| fixture.repository.confirm_email_by_code(&caller(digest), None, code, at(4_000)).await.unwrap();
    for _ in 0..MAX_TRIES {
        let refused = confirm(Code::parse("000000").unwrap()).await;
        assert_eq!(refused, Confirmed::Refused(Some(name("AzureDiamond"))));
    }
    assert_eq!(confirm(code).await, Confirmed::Refused(None));
    let by_link = fixture.repository.confirm_email_by_link(token, None, at(4_000)).await.unwrap();
    assert_eq!(by_link, Confirmed::Refused(None));
}

pub async fn an_address_is_verified_by_one_account_whoever_else_has_it(fixture: &Fixture) {
    let (user_id, digest) = register_with(fixture, "bob", "azure@diamond.example").await;
    request_change(fixture, digest, "AZURE@diamond.example", 3_000).await;
    let (token, _) = send_only(fixture, MailKind::ConfirmEmail, 3_000).await;
    register_verified(fixture, "alice", "azure@diamond.example").await;
    let is_taken = |user_id| fixture.repository.is_email_taken(user_id, "azure@diamond.example");
    assert!(is_taken(user_id).await.unwrap() && is_taken(UserId(0)).await.unwrap());
    let alice = fixture.repository.find_credentials(&name("alice")).await.unwrap().unwrap().user_id;
    assert!(!is_taken(alice).await.unwrap(), "it is its own");
    let confirm = || fixture.repository.confirm_email_by_link(token, None, at(4_000));
    assert_eq!(confirm().await.unwrap(), Confirmed::Taken);
    assert_eq!(confirm().await.unwrap(), Confirmed::Refused(None), "once");
    assert_eq!(find_email(fixture, digest, 4_000).await.pending, None);
    // What was mailed to the address lets its holder in, and verifies it no second time.
    let reset = mailed(fixture, Purpose::ResetPassword, user_id, "azure@diamond.example").await;
    assert!(fixture.repository.reset_password(reset.by_link(), hash("$new"), None, at(4_000)).await.unwrap().is_some());
    let sign_in = mailed(fixture, Purpose::SignIn, user_id, "azure@diamond.example").await;
    let session = new_session();
    let opened = session.digest;
    let user = fixture.repository.log_in_by_mail(sign_in.by_link(), session, 100, at(4_000)).await.unwrap();
    assert!(!user.unwrap().is_email_verified);
    assert!(!find_email(fixture, opened, 4_000).await.is_verified);
    let found = fixture.repository.find_credentials_by_email(&email("azure@diamond.example")).await.unwrap().unwrap();
    assert_eq!(found.username, name("alice"));
    assert!(!events(fixture).await.iter().any(|event| event.starts_with("email_verified bob")));
}

pub async fn a_mail_is_for_who_has_verified_the_address_or_else_for_the_oldest_active_account(fixture: &Fixture) {
    let address = || Whom::Email(email("Azure@diamond.example"));
    assert_eq!(recipient(fixture, address(), None).await, None);
    for username in ["first", "second", "third"] {
        register_with(fixture, username, "azure@diamond.example").await;
    }
    let whose = async |whom| recipient(fixture, whom, None).await.unwrap().username.as_str().to_owned();
    assert_eq!(whose(address()).await, "first");
    (fixture.deactivate)("first");
    assert_eq!(whose(address()).await, "second");
    let inactive = recipient(fixture, Whom::Username(name("FIRST")), None).await.unwrap();
    assert!(!inactive.is_active && !inactive.is_verified);
    fixture.repository.verify_account_email(&Actor::CommandLine, &name("third"), at(2_000)).await.unwrap();
    assert_eq!(whose(address()).await, "third");
    (fixture.deactivate)("third");
    assert_eq!(whose(address()).await, "third", "the address is its own all the same");
    let (user_id, digest) = register_verified(fixture, "fourth", "Fourth@diamond.example").await;
    let expected = Recipient {
        user_id,
        username: name("fourth"),
        email: email("Fourth@diamond.example"),
        is_verified: true,
        is_active: true,
        is_familiar: true,
    };
    let by_name = || Whom::Username(name("fourth"));
    assert_eq!(recipient(fixture, by_name(), Some("2001:db8::ffff")).await.unwrap(), expected);
    let elsewhere = Recipient { is_familiar: false, ..expected };
    for ip in [Some("2001:db9::1"), Some("192.0.2.1"), None] {
        assert_eq!(recipient(fixture, by_name(), ip).await.unwrap(), elsewhere, "{ip:?}");
    }
    assert_eq!(fixture.repository.find_own_recipient(&caller(digest)).await.unwrap(), Some(elsewhere));
    // None that mail can be sent to, or that is not verified.
    let (_, digest) = register(fixture, "fifth").await;
    for address in ["", "jürgen@diamond.example", "azure@diamond.example"] {
        fixture
            .repository
            .update_profile(&caller(digest), vec![text(ProfileField::Email, address)], at(3_000))
            .await
            .unwrap();
        assert_eq!(fixture.repository.find_own_recipient(&caller(digest)).await.unwrap(), None);
        let is_there = recipient(fixture, Whom::Username(name("fifth")), None).await.is_some();
        assert_eq!(is_there, EmailAddress::parse(address).is_ok(), "{address}");
    }
    assert_eq!(recipient(fixture, Whom::Username(name("nobody")), None).await, None);
    let nobody = caller(PlainToken::generate().digest());
    assert!(matches!(fixture.repository.find_own_recipient(&nobody).await, Err(RepositoryError::NoSession)));
}

pub async fn what_is_mailed_ends_what_was_mailed_before_for_the_same_and_nothing_else(fixture: &Fixture) {
    let address = "azure@diamond.example";
    let (user_id, _) = register_verified(fixture, "AzureDiamond", address).await;
    let (other_id, _) = register_verified(fixture, "other", "other@diamond.example").await;
    let others = mailed(fixture, Purpose::ResetPassword, other_id, "other@diamond.example").await;
    let sign_in = mailed(fixture, Purpose::SignIn, user_id, address).await;
    let familiar = Mailed::new();
    let offer = familiar.offer(Purpose::ResetPassword, user_id, address, true);
    assert!(fixture.repository.store_offer(offer, Some("2001:db8::1".parse().unwrap()), at(2_000)).await.unwrap());
    let first = mailed(fixture, Purpose::ResetPassword, user_id, address).await;
    let second = mailed(fixture, Purpose::ResetPassword, user_id, address).await;
    assert!(!is_link(fixture, Purpose::ResetPassword, &first, 3_000).await);
    assert_eq!(try_code(fixture, Purpose::ResetPassword, &first, 3_000).await, Tried::Unknown);
    for (purpose, mailed) in [
        (Purpose::ResetPassword, &second),
        (Purpose::ResetPassword, &familiar),
        (Purpose::ResetPassword, &others),
        (Purpose::SignIn, &sign_in),
    ] {
        assert!(is_link(fixture, purpose, mailed, 3_000).await);
        assert!(matches!(try_code(fixture, purpose, mailed, 3_000).await, Tried::Right(_)));
        // It is for that alone.
        for other in Purpose::ALL.into_iter().filter(|other| *other != purpose) {
            assert!(!is_link(fixture, other, mailed, 3_000).await);
            assert_eq!(try_code(fixture, other, mailed, 3_000).await, Tried::Unknown);
        }
    }
    let told = events(fixture).await;
    let requested: Vec<_> = told.iter().filter(|event| event.starts_with("reset_requested")).collect();
    assert_eq!(requested.len(), 4);
    assert_eq!(requested[1], "reset_requested AzureDiamond  ", "nobody has shown who asks");
}

pub async fn what_is_mailed_is_for_the_address_alone_that_the_account_has(fixture: &Fixture) {
    let address = "azure@diamond.example";
    let (user_id, digest) = register_verified(fixture, "AzureDiamond", address).await;
    let store = |user_id, address| {
        let offer = Mailed::new().offer(Purpose::ResetPassword, user_id, address, false);
        fixture.repository.store_offer(offer, None, at(2_000))
    };
    assert!(!store(user_id, "other@diamond.example").await.unwrap());
    assert!(!store(UserId(4_711), address).await.unwrap());
    assert!(!events(fixture).await.iter().any(|event| event.starts_with("reset_requested")));
    let mailed = mailed(fixture, Purpose::ResetPassword, user_id, address).await;
    assert!(is_link(fixture, Purpose::ResetPassword, &mailed, 3_000).await);
    let change = vec![text(ProfileField::Email, "new@diamond.example")];
    fixture.repository.update_profile(&caller(digest), change, at(3_000)).await.unwrap();
    assert!(!is_link(fixture, Purpose::ResetPassword, &mailed, 3_000).await);
    let back = vec![text(ProfileField::Email, address)];
    fixture.repository.update_profile(&caller(digest), back, at(3_000)).await.unwrap();
    assert!(!is_link(fixture, Purpose::ResetPassword, &mailed, 3_000).await, "it has ended");
}

pub async fn a_code_may_be_tried_and_the_fifth_wrong_one_ends_it(fixture: &Fixture) {
    let address = "azure@diamond.example";
    let (user_id, _) = register_verified(fixture, "AzureDiamond", address).await;
    let mailed = mailed(fixture, Purpose::ResetPassword, user_id, address).await;
    let username = name("AzureDiamond");
    let wrong = || {
        let (request, mac) = (mailed.request.digest(), mailed.wrong_mac());
        fixture.repository.try_code(Purpose::ResetPassword, request, mac, at(3_000))
    };
    for _ in 1..MAX_TRIES {
        assert_eq!(wrong().await.unwrap(), Tried::Wrong(username.clone()));
        let right = try_code(fixture, Purpose::ResetPassword, &mailed, 3_000).await;
        assert_eq!(right, Tried::Right(username.clone()), "trying uses nothing up");
    }
    assert_eq!(wrong().await.unwrap(), Tried::Wrong(username));
    assert_eq!(wrong().await.unwrap(), Tried::Unknown);
    assert_eq!(try_code(fixture, Purpose::ResetPassword, &mailed, 3_000).await, Tried::Unknown);
    assert!(!is_link(fixture, Purpose::ResetPassword, &mailed, 3_000).await);
    let reset = fixture.repository.reset_password(mailed.by_code(), hash("$new"), None, at(3_000)).await;
    assert_eq!(reset.unwrap(), None);
}

pub async fn a_wrong_code_of_a_reset_or_a_login_is_counted_too(fixture: &Fixture) {
    let address = "azure@diamond.example";
    let (user_id, _) = register_verified(fixture, "AzureDiamond", address).await;
    let reset = mailed(fixture, Purpose::ResetPassword, user_id, address).await;
    let sign_in = mailed(fixture, Purpose::SignIn, user_id, address).await;
    for _ in 0..MAX_TRIES {
        let wrong = fixture.repository.reset_password(reset.by_wrong_code(), hash("$new"), None, at(3_000)).await;
        assert_eq!(wrong.unwrap(), None);
        let wrong = fixture.repository.log_in_by_mail(sign_in.by_wrong_code(), new_session(), 100, at(3_000));
        assert_eq!(wrong.await.unwrap(), None);
    }
    assert_eq!(try_code(fixture, Purpose::ResetPassword, &reset, 3_000).await, Tried::Unknown);
    assert_eq!(try_code(fixture, Purpose::SignIn, &sign_in, 3_000).await, Tried::Unknown);
    assert_eq!(stored_hash(fixture, "AzureDiamond").await, HASH);
}

pub async fn whoever_has_an_address_that_is_not_verified_hears_nothing_of_what_is_asked_for_there(fixture: &Fixture) {
    for is_verified in [false, true] {
        let (username, address) =
            if is_verified { ("owner", "b@diamond.example") } else { ("squatter", "a@diamond.example") };
        let (user_id, _) = if is_verified {
            register_verified(fixture, username, address).await
        } else {
            register_with(fixture, username, address).await
        };
        let reset = mailed(fixture, Purpose::ResetPassword, user_id, address).await;
        let wrong = async || {
            let (request, mac) = (reset.request.digest(), reset.wrong_mac());
            fixture.repository.try_code(Purpose::ResetPassword, request, mac, at(3_000)).await.unwrap()
        };
        let expected = if is_verified { Tried::Wrong(name(username)) } else { Tried::Unknown };
        for _ in 0..MAX_TRIES {
            assert_eq!(wrong().await, expected);
        }
        assert_eq!(wrong().await, Tried::Unknown);
        assert_eq!(try_code(fixture, Purpose::ResetPassword, &reset, 3_000).await, Tried::Unknown, "the tries count");
        let told = events(fixture).await.iter().any(|event| *event == format!("reset_requested {username}  "));
        assert_eq!(told, is_verified, "{:?}", events(fixture).await);
    }
}

pub async fn a_code_and_a_link_end_by_their_lifetimes_and_are_worth_nothing_before_they_were_made(fixture: &Fixture) {
    let address = "azure@diamond.example";
    let (user_id, _) = register_verified(fixture, "AzureDiamond", address).await;
    for (purpose, minutes) in [(Purpose::ResetPassword, 30), (Purpose::SignIn, 10), (Purpose::Reauthenticate, 10)] {
        let mailed = mailed(fixture, purpose, user_id, address).await;
        for (millis, is_code, is_link_too) in [
            (1_999, false, false),
            (2_000, true, true),
            (2_000 + 10 * MINUTE - 1, true, true),
            (2_000 + 10 * MINUTE, false, minutes > 10),
            (2_000 + minutes * MINUTE - 1, minutes == 10, true),
            (2_000 + minutes * MINUTE, false, false),
        ] {
            let tried = try_code(fixture, purpose, &mailed, millis).await;
            assert_eq!(matches!(tried, Tried::Right(_)), is_code, "{purpose:?} {millis}");
            assert_eq!(is_link(fixture, purpose, &mailed, millis).await, is_link_too, "{purpose:?} {millis}");
        }
    }
}

pub async fn a_reset_sets_the_password_and_ends_all_that_was_before(fixture: &Fixture) {
    let address = "azure@diamond.example";
    let (user_id, digest) = register_with(fixture, "AzureDiamond", address).await;
    let (_, second) = open(fixture, user_id, HASH).await;
    assert!(is_live(fixture, digest).await && is_live(fixture, second).await, "and cached");
    fixture
        .repository
        .record_failed_attempts(vec![refused(EventKind::LoginFailed, "AzureDiamond", 2_500)], at(2_500))
        .await
        .unwrap();
    let request = request_change(fixture, digest, "new@diamond.example", 2_000).await;
    let sign_in = mailed(fixture, Purpose::SignIn, user_id, address).await;
    let familiar = Mailed::new();
    let offer = familiar.offer(Purpose::ResetPassword, user_id, address, true);
    assert!(fixture.repository.store_offer(offer, None, at(2_000)).await.unwrap());
    for by_link in [true, false] {
        let behind = fixture.repository.list_resets(None).await.unwrap().next;
        let reset = mailed(fixture, Purpose::ResetPassword, user_id, address).await;
        let presented = || if by_link { reset.by_link() } else { reset.by_code() };
        let set = |to: &str| fixture.repository.reset_password(presented(), hash(to), None, at(3_000));
        assert_eq!(set("$new").await.unwrap(), Some(name("AzureDiamond")));
        assert_eq!(set("$newer").await.unwrap(), None, "once");
        assert!(!is_link(fixture, Purpose::ResetPassword, &reset, 3_000).await);
        assert_eq!(try_code(fixture, Purpose::ResetPassword, &reset, 3_000).await, Tried::Unknown);
        assert_eq!(stored_hash(fixture, "AzureDiamond").await, "$new");
        assert_eq!(take(fixture, 3_000).await, ["password_reset azure@diamond.example"], "and no confirmation");
        assert_eq!(fixture.repository.list_resets(Some(behind)).await.unwrap().usernames, [name("AzureDiamond")]);
    }
    assert!(!is_live(fixture, digest).await && !is_live(fixture, second).await);
    assert!(!is_link(fixture, Purpose::SignIn, &sign_in, 3_000).await);
    assert!(!is_link(fixture, Purpose::ResetPassword, &familiar, 3_000).await);
    assert!(fixture.repository.list_failures(10).await.unwrap().is_empty());
    assert!(is_found_by(fixture, address).await, "its holder has shown that it is theirs");
    let (_, session) = open(fixture, user_id, "$new").await;
    assert_eq!(find_email(fixture, session, 3_000).await.pending, None);
    let code = Code::parse("123456").unwrap();
    let confirm = fixture.repository.confirm_email_by_code(&caller(session), Some(request), code, at(3_000)).await;
    assert_eq!(confirm.unwrap(), Confirmed::Refused(None));
    let told = events(fixture).await;
    for event in ["email_verified", "password_reset"] {
        assert!(told.contains(&format!("{event} AzureDiamond AzureDiamond ")), "{told:?}");
    }
    assert_eq!(told.iter().filter(|event| event.starts_with("email_verified")).count(), 1);
    // A failure that is stored only now was before the reset.
    let late = vec![refused(EventKind::CodeFailed, "AzureDiamond", 2_900)];
    fixture.repository.record_failed_attempts(late, at(3_500)).await.unwrap();
    assert!(fixture.repository.list_failures(10).await.unwrap().is_empty());
    let wrong = vec![refused(EventKind::CodeFailed, "AzureDiamond", 3_600)];
    fixture.repository.record_failed_attempts(wrong, at(3_600)).await.unwrap();
    assert_eq!(fixture.repository.list_failures(10).await.unwrap().len(), 1, "a wrong code counts");
}

pub async fn a_reset_leaves_an_account_inactive_and_a_mail_opens_no_session_of_one(fixture: &Fixture) {
    let address = "azure@diamond.example";
    let (user_id, _) = register_verified(fixture, "AzureDiamond", address).await;
    (fixture.deactivate)("AzureDiamond");
    let reset = mailed(fixture, Purpose::ResetPassword, user_id, address).await;
    assert!(fixture.repository.reset_password(reset.by_code(), hash("$new"), None, at(3_000)).await.unwrap().is_some());
    assert!(!fixture.repository.find_credentials(&name("AzureDiamond")).await.unwrap().unwrap().is_active);
    let sign_in = mailed(fixture, Purpose::SignIn, user_id, address).await;
    let session = new_session();
    let digest = session.digest;
    let opened = fixture.repository.log_in_by_mail(sign_in.by_code(), session, 100, at(3_000)).await.unwrap();
    assert_eq!(opened, None);
    assert!(!is_live(fixture, digest).await);
    assert!(is_link(fixture, Purpose::SignIn, &sign_in, 3_000).await, "nothing has changed");
}

pub async fn a_mail_opens_a_session_once_as_a_login_does(fixture: &Fixture) {
    let address = "azure@diamond.example";
    let (user_id, first) = register_verified(fixture, "AzureDiamond", address).await;
    for by_link in [true, false] {
        let sign_in = mailed(fixture, Purpose::SignIn, user_id, address).await;
        let open = || {
            let (presented, session) = (if by_link { sign_in.by_link() } else { sign_in.by_code() }, new_session());
            let digest = session.digest;
            async move { (fixture.repository.log_in_by_mail(presented, session, 2, at(3_000)).await.unwrap(), digest) }
        };
        let (user, digest) = open().await;
        assert_eq!(user.unwrap().last_login, at(3_000));
        assert!(is_live(fixture, digest).await);
        assert_eq!(is_live(fixture, first).await, by_link, "two sessions are the most");
        assert!(!is_fresh(fixture, digest, 3_000).await);
        let logged_in = format!("logged_in AzureDiamond AzureDiamond {}", SessionId::of(&digest).as_str());
        assert_eq!(*events(fixture).await.last().unwrap(), logged_in);
        let (none, digest) = open().await;
        assert!(none.is_none() && !is_live(fixture, digest).await, "once");
        assert_eq!(try_code(fixture, Purpose::SignIn, &sign_in, 3_000).await, Tried::Unknown);
        assert!(!is_link(fixture, Purpose::SignIn, &sign_in, 3_000).await);
    }
    assert_eq!(stored_hash(fixture, "AzureDiamond").await, HASH, "the password stays");
}

pub async fn the_first_proof_by_a_login_trusts_nothing_that_was_set_up_before(fixture: &Fixture) {
    let address = "azure@diamond.example";
    let (user_id, mallorys) = register_with(fixture, "Mallory", address).await;
    assert!(is_live(fixture, mallorys).await, "and cached");
    let reset = mailed(fixture, Purpose::ResetPassword, user_id, address).await;
    request_change(fixture, mallorys, "mallory@diamond.example", 2_000).await;
    let sign_in = mailed(fixture, Purpose::SignIn, user_id, address).await;
    let session = new_session();
    let digest = session.digest;
    let user = fixture.repository.log_in_by_mail(sign_in.by_link(), session, 100, at(3_000)).await.unwrap();
    assert!(user.unwrap().is_email_verified);
    assert_eq!(stored_hash(fixture, "Mallory").await, "!");
    assert_eq!(list_session_ids(fixture, "Mallory").await, [SessionId::of(&digest)]);
    assert!(!is_live(fixture, mallorys).await);
    assert!(!is_link(fixture, Purpose::ResetPassword, &reset, 3_000).await);
    assert_eq!(find_email(fixture, digest, 3_000).await.pending, None);
    let refused = fixture.repository.log_in(login(user_id, HASH), new_session(), 100, at(3_000)).await;
    assert!(refused.unwrap().is_none());
    let told = events(fixture).await;
    assert!(told.contains(&"email_verified Mallory Mallory password_removed".to_owned()), "{told:?}");
    assert!(told.contains(&"all_sessions_revoked Mallory Mallory ".to_owned()), "{told:?}");
}

pub async fn a_code_makes_the_session_fresh_of_the_account_alone_that_it_was_mailed_for(fixture: &Fixture) {
    let address = "azure@diamond.example";
    let (user_id, digest) = register_verified(fixture, "AzureDiamond", address).await;
    let (_, others) = register_verified(fixture, "other", "other@diamond.example").await;
    let mailed = mailed(fixture, Purpose::Reauthenticate, user_id, address).await;
    let reauthenticate = |session, mac| {
        let (caller, request) = (caller(session), mailed.request.digest());
        async move { fixture.repository.reauthenticate_by_code(&caller, request, mac, at(3_000)).await }
    };
    for _ in 0..=MAX_TRIES {
        assert_eq!(reauthenticate(others, mailed.wrong_mac()).await.unwrap(), Tried::Unknown, "nothing is counted");
    }
    assert_eq!(reauthenticate(others, mailed.mac()).await.unwrap(), Tried::Unknown);
    let nobody = PlainToken::generate().digest();
    assert!(matches!(reauthenticate(nobody, mailed.mac()).await, Err(RepositoryError::NoSession)));
    assert_eq!(reauthenticate(digest, mailed.wrong_mac()).await.unwrap(), Tried::Wrong(name("AzureDiamond")));
    assert!(!is_fresh(fixture, digest, 3_000).await);
    assert_eq!(reauthenticate(digest, mailed.mac()).await.unwrap(), Tried::Right(name("AzureDiamond")));
    assert!(is_fresh(fixture, digest, 3_000).await && !is_fresh(fixture, others, 3_000).await);
    assert_eq!(reauthenticate(digest, mailed.mac()).await.unwrap(), Tried::Unknown, "once");
    let id = SessionId::of(&digest);
    let expected = format!("reauthenticated AzureDiamond AzureDiamond {}", id.as_str());
    assert_eq!(*events(fixture).await.last().unwrap(), expected);
}

pub async fn a_new_password_and_a_deactivation_end_what_opens_the_account(fixture: &Fixture) {
    let address = "azure@diamond.example";
    let (user_id, digest) = register_verified(fixture, "AzureDiamond", address).await;
    let set = AccountChange { password_hash: Some(hash("$set")), ..AccountChange::default() };
    let deactivate = AccountChange { is_active: Some(false), ..AccountChange::default() };
    let promote = AccountChange { is_staff: Some(true), ..AccountChange::default() };
    for (number, change) in [Some(promote), None, Some(set), Some(deactivate)].into_iter().enumerate() {
        let reset = mailed(fixture, Purpose::ResetPassword, user_id, address).await;
        let sign_in = mailed(fixture, Purpose::SignIn, user_id, address).await;
        match change {
            Some(change) => drop(
                fixture
                    .repository
                    .change_account(&Actor::CommandLine, &name("AzureDiamond"), change, at(3_000))
                    .await
                    .unwrap()
                    .unwrap(),
            ),
            None => assert!(change_password(fixture, digest, HASH, "$new", 3_000).await),
        }
        let is_there = number == 0;
        assert_eq!(is_link(fixture, Purpose::ResetPassword, &reset, 3_000).await, is_there, "{number}");
        assert_eq!(is_link(fixture, Purpose::SignIn, &sign_in, 3_000).await, is_there, "{number}");
    }
}

/// The token of the link in the only mail that waits.
async fn disowner(fixture: &Fixture, kind: MailKind) -> TokenDigest {
    send_only(fixture, kind, 5_000).await.0
}

/// Gives the account its password back, which a notice that was disowned has removed.
async fn set_password(fixture: &Fixture) {
    let change = AccountChange { password_hash: Some(hash(HASH)), ..AccountChange::default() };
    let changed =
        fixture.repository.change_account(&Actor::CommandLine, &name("AzureDiamond"), change, at(4_000)).await;
    assert!(changed.unwrap().is_some());
    take(fixture, 4_000).await;
}

async fn disown(fixture: &Fixture, token: TokenDigest) -> Option<Disowned> {
    fixture.repository.disown(token, None, at(6_000)).await.unwrap()
}

pub async fn who_disowns_a_login_ends_its_session_alone(fixture: &Fixture) {
    let address = "azure@diamond.example";
    let (user_id, digest) = register_verified(fixture, "AzureDiamond", address).await;
    let session = NewSession {
        digest: PlainToken::generate().digest(),
        user_agent: UserAgent::from_header("Thief/1.0"),
        ip: Some("192.0.2.1".parse().unwrap()),
        ..new_session()
    };
    let thiefs = session.digest;
    fixture.repository.log_in(login(user_id, HASH), session, 100, at(4_000)).await.unwrap().unwrap();
    assert!(is_live(fixture, thiefs).await, "and cached");
    let token = disowner(fixture, MailKind::UnfamiliarSignIn).await;
    let reset = mailed(fixture, Purpose::ResetPassword, user_id, address).await;
    assert_eq!(disown(fixture, PlainToken::generate().digest()).await, None);
    assert!(is_live(fixture, thiefs).await);
    let session = Some(SessionId::of(&thiefs));
    let expected = Disowned { username: name("AzureDiamond"), session, email_kept: false };
    assert_eq!(disown(fixture, token).await, Some(expected));
    assert!(!is_live(fixture, thiefs).await && is_live(fixture, digest).await);
    assert!(open(fixture, user_id, HASH).await.0.is_none(), "the thief knows the password");
    assert!(!is_link(fixture, Purpose::ResetPassword, &reset, 5_000).await, "the thief may have asked for it");
    assert_eq!(disown(fixture, token).await, None, "once");
    let expected = format!("disowned AzureDiamond AzureDiamond {}", SessionId::of(&thiefs).as_str());
    assert_eq!(*events(fixture).await.last().unwrap(), expected);
}

pub async fn who_disowns_a_new_password_or_a_change_of_the_address_ends_every_session_and_the_change(
    fixture: &Fixture,
) {
    let (user_id, digest) = register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    request_change(fixture, digest, "thief@diamond.example", 4_000).await;
    let mails = claim(fixture, 5_000).await;
    let (confirmation, _) = send(fixture, &mails[0], 5_000).await;
    let (token, _) = send(fixture, &mails[1], 5_000).await;
    let expected = Disowned { username: name("AzureDiamond"), session: None, email_kept: true };
    assert_eq!(disown(fixture, token).await, Some(expected.clone()));
    assert!(!is_live(fixture, digest).await);
    let confirmed = fixture.repository.confirm_email_by_link(confirmation, None, at(6_000)).await.unwrap();
    assert_eq!(confirmed, Confirmed::Refused(None));
    let told = events(fixture).await;
    let of = |kind| format!("{kind} AzureDiamond AzureDiamond ");
    assert_eq!(told[told.len() - 2..], [of("email_change_withdrawn"), of("disowned")]);
    assert!(open(fixture, user_id, HASH).await.0.is_none(), "whoever it was may know the password");
    set_password(fixture).await;
    let (_, session) = open(fixture, user_id, HASH).await;
    assert!(change_password(fixture, session, HASH, "$new", 4_000).await);
    let token = disowner(fixture, MailKind::PasswordChanged).await;
    assert_eq!(disown(fixture, token).await, Some(Disowned { email_kept: false, ..expected }));
    assert!(!is_live(fixture, session).await);
}

/// Changes an account's address, and tells the former one; the token of the notice's link.
async fn steal_at(fixture: &Fixture, session: TokenDigest, address: &str, millis: i64) -> TokenDigest {
    request_change(fixture, session, address, millis).await;
    let mails = claim(fixture, millis).await;
    let (confirmation, _) = send(fixture, &mails[0], millis).await;
    assert!(fixture.repository.complete_mail(mails[1].id).await.unwrap());
    let confirmed = fixture.repository.confirm_email_by_link(confirmation, None, at(millis)).await.unwrap();
    assert!(matches!(confirmed, Confirmed::Done(_)));
    disowner(fixture, MailKind::EmailChanged).await
}

async fn steal(fixture: &Fixture, session: TokenDigest, address: &str) -> TokenDigest {
    steal_at(fixture, session, address, 4_000).await
}

pub async fn who_disowns_a_change_that_was_made_has_the_former_address_again(fixture: &Fixture) {
    let (user_id, digest) = register_verified(fixture, "AzureDiamond", "Azure@diamond.example").await;
    let token = steal(fixture, digest, "thief@diamond.example").await;
    let reset = mailed(fixture, Purpose::ResetPassword, user_id, "thief@diamond.example").await;
    let expected = Disowned { username: name("AzureDiamond"), session: None, email_kept: true };
    assert_eq!(disown(fixture, token).await, Some(expected.clone()));
    assert!(!is_link(fixture, Purpose::ResetPassword, &reset, 5_000).await);
    assert!(!is_live(fixture, digest).await);
    assert!(
        is_found_by(fixture, "azure@diamond.example").await && !is_found_by(fixture, "thief@diamond.example").await
    );
    let user = fixture.repository.find_account(&Actor::CommandLine, &name("AzureDiamond")).await.unwrap().unwrap();
    assert_eq!((&*user.profile.email, user.modified), ("Azure@diamond.example", at(6_000)));
    let told = events(fixture).await;
    assert!(told.contains(&"email_restored AzureDiamond AzureDiamond ".to_owned()), "{told:?}");
    // Where another account has verified it meanwhile, it is not verified any more.
    set_password(fixture).await;
    let (_, session) = open(fixture, user_id, HASH).await;
    let token = steal(fixture, session, "thief@diamond.example").await;
    register_verified(fixture, "other", "azure@diamond.example").await;
    assert_eq!(disown(fixture, token).await, Some(expected));
    let user = fixture.repository.find_account(&Actor::CommandLine, &name("AzureDiamond")).await.unwrap().unwrap();
    assert_eq!((&*user.profile.email, user.is_email_verified), ("Azure@diamond.example", false));
}

/// Sets a new password by a mail to the account's address.
async fn reset_by(fixture: &Fixture, user_id: UserId, address: &str) {
    let reset = mailed(fixture, Purpose::ResetPassword, user_id, address).await;
    let done = fixture.repository.reset_password(reset.by_link(), hash(HASH), None, at(4_500)).await.unwrap();
    assert_eq!(done, Some(name("AzureDiamond")));
    take(fixture, 4_500).await;
}

pub async fn a_thief_who_has_changed_the_address_cannot_end_what_its_owner_was_mailed(fixture: &Fixture) {
    let (user_id, digest) = register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    let token = steal(fixture, digest, "thief@diamond.example").await;
    reset_by(fixture, user_id, "thief@diamond.example").await;
    let (_, session) = open(fixture, user_id, HASH).await;
    for _ in 0..25 {
        assert!(change_password(fixture, session, HASH, HASH, 4_500).await);
        send_only(fixture, MailKind::PasswordChanged, 5_000).await;
    }
    let of_thief = steal_at(fixture, session, "other@diamond.example", 4_600).await;
    assert!(disown(fixture, of_thief).await.unwrap().email_kept);
    assert!(is_found_by(fixture, "thief@diamond.example").await);
    assert!(disown(fixture, token).await.unwrap().email_kept);
    assert!(is_found_by(fixture, "azure@diamond.example").await);
}

pub async fn once_an_address_is_restored_no_later_change_restores_another_however_late_its_mail_is(fixture: &Fixture) {
    let (user_id, digest) = register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    let token = steal(fixture, digest, "thief@diamond.example").await;
    let (_, session) = open(fixture, user_id, HASH).await;
    let of_thief = steal_at(fixture, session, "other@diamond.example", 4_600).await;
    // One more, whose notice the thief's mail server has not taken yet.
    request_change(fixture, session, "third@diamond.example", 5_000).await;
    let mails = claim(fixture, 5_000).await;
    let (confirmation, _) = send(fixture, &mails[0], 5_000).await;
    assert!(fixture.repository.complete_mail(mails[1].id).await.unwrap());
    fixture.repository.confirm_email_by_link(confirmation, None, at(5_000)).await.unwrap();
    let [late] = &claim(fixture, 5_000).await[..] else { panic!("no notice") };
    assert!(disown(fixture, token).await.unwrap().email_kept);
    assert_eq!(disown(fixture, of_thief).await, None);
    let late_token = PlainToken::generate().digest();
    let stored = fixture.repository.store_outbox_offer(late.id, Purpose::NotMe, None, late_token, at(6_000)).await;
    assert!(!stored.unwrap(), "its mail is gone");
    assert!(is_found_by(fixture, "azure@diamond.example").await);
}

pub async fn a_pending_change_ends_with_what_its_owner_does_against_a_thief(fixture: &Fixture) {
    let (user_id, digest) = register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    let by_owner = async |what: &str| match what {
        "a new password" => assert!(change_password(fixture, digest, HASH, HASH, 4_000).await),
        "a password by the operator" => set_password(fixture).await,
        "the end of all sessions" => {
            let (_, session) = open(fixture, user_id, HASH).await;
            fixture.repository.revoke_all_sessions(&caller(session), at(4_000)).await.unwrap();
        }
        _ => {
            for is_active in [false, true] {
                let change = AccountChange { is_active: Some(is_active), ..AccountChange::default() };
                let username = name("AzureDiamond");
                fixture.repository.change_account(&Actor::CommandLine, &username, change, at(4_000)).await.unwrap();
            }
        }
    };
    for what in ["a new password", "a password by the operator", "the end of all sessions", "a deactivation"] {
        let (_, session) = open(fixture, user_id, HASH).await;
        request_change(fixture, session, "thief@diamond.example", 3_000).await;
        let mails = claim(fixture, 3_000).await;
        let (confirmation, _) = send(fixture, &mails[0], 3_000).await;
        assert!(fixture.repository.complete_mail(mails[1].id).await.unwrap());
        by_owner(what).await;
        let confirmed = fixture.repository.confirm_email_by_link(confirmation, None, at(5_000)).await.unwrap();
        assert_eq!(confirmed, Confirmed::Refused(None), "{what}");
        take(fixture, 5_000).await;
        if !is_live(fixture, digest).await {
            break;
        }
    }
}

pub async fn a_former_address_hears_of_its_change_and_of_nothing_else(fixture: &Fixture) {
    let (_, digest) = register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    assert!(change_password(fixture, digest, HASH, HASH, 4_000).await);
    // It is mailed only after its owner has another address.
    let notice = &claim(fixture, 4_000).await[0];
    request_change(fixture, digest, "new@diamond.example", 4_000).await;
    let mails = claim(fixture, 4_000).await;
    let (confirmation, _) = send(fixture, &mails[0], 4_000).await;
    fixture.repository.confirm_email_by_link(confirmation, None, at(4_000)).await.unwrap();
    let token = PlainToken::generate().digest();
    let stored =
        fixture.repository.store_outbox_offer(notice.id, Purpose::NotMe, None, token, at(5_000)).await.unwrap();
    assert!(!stored, "the former address hears of its change alone");
    assert!(is_found_by(fixture, "new@diamond.example").await);
}

pub async fn every_notice_can_be_disowned_and_of_very_many_the_newest(fixture: &Fixture) {
    let (_, digest) = register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    let mut tokens = Vec::new();
    for number in 0..21 {
        assert!(change_password(fixture, digest, HASH, HASH, 4_000 + number).await);
        let mails = claim(fixture, 4_000 + number).await;
        tokens.push(send(fixture, &mails[0], 4_100).await.0);
    }
    let is_link = |token| fixture.repository.find_link(Purpose::NotMe, token, at(5_000));
    assert_eq!(is_link(tokens[0]).await.unwrap(), None);
    for token in &tokens[1..] {
        assert_eq!(is_link(*token).await.unwrap(), Some(name("AzureDiamond")));
    }
    let late = fixture.repository.find_link(Purpose::NotMe, tokens[20], at(4_020 + 7 * 24 * 60 * MINUTE)).await;
    assert_eq!(late.unwrap(), None);
}

pub async fn what_has_expired_is_pruned_and_nothing_else(fixture: &Fixture) {
    let address = "azure@diamond.example";
    let (user_id, _) = register_verified(fixture, "AzureDiamond", address).await;
    let rows = || (fixture.count_rows_of)(user_id);
    let before = rows();
    let reset = mailed(fixture, Purpose::ResetPassword, user_id, address).await;
    mailed(fixture, Purpose::SignIn, user_id, address).await;
    assert_eq!(fixture.repository.prune_codes(at(2_000 + 10 * MINUTE - 1)).await.unwrap(), 0);
    assert_eq!(rows(), before + 2);
    assert_eq!(fixture.repository.prune_codes(at(2_000 + 10 * MINUTE)).await.unwrap(), 1);
    assert!(is_link(fixture, Purpose::ResetPassword, &reset, 3_000).await);
    assert_eq!(fixture.repository.prune_codes(at(2_000 + 30 * MINUTE)).await.unwrap(), 1);
    assert_eq!(rows(), before);
}

pub async fn a_deleted_account_has_no_codes_and_its_owner_is_told(fixture: &Fixture) {
    let address = "azure@diamond.example";
    for by_owner in [true, false] {
        let (user_id, digest) = register_verified(fixture, "AzureDiamond", address).await;
        let reset = mailed(fixture, Purpose::ResetPassword, user_id, address).await;
        request_change(fixture, digest, "new@diamond.example", 3_000).await;
        if by_owner {
            assert!(fixture.repository.delete_user(&caller(digest), by_password(HASH), at(4_000)).await.unwrap());
        } else {
            let username = name("AzureDiamond");
            assert!(fixture.repository.delete_account(&Actor::CommandLine, &username, at(4_000)).await.unwrap());
        }
        assert_eq!((fixture.count_rows_of)(user_id), 0);
        assert_eq!(try_code(fixture, Purpose::ResetPassword, &reset, 4_000).await, Tried::Unknown);
        let mails = claim(fixture, 4_000).await;
        let kinds: Vec<_> = mails.iter().map(|mail| mail.kind).collect();
        assert_eq!(kinds, [MailKind::EmailChangeRequested, MailKind::AccountDeleted]);
        let token = PlainToken::generate().digest();
        let stored = fixture.repository.store_outbox_offer(mails[0].id, Purpose::NotMe, None, token, at(4_000)).await;
        assert!(!stored.unwrap(), "there is nothing to disown");
        for mail in mails {
            assert_eq!((&*mail.recipient, mail.username), (address, name("AzureDiamond")));
            assert!(fixture.repository.complete_mail(mail.id).await.unwrap());
        }
    }
}
