//! Notices of changes to the ways into an account, and what disowning one takes back.

use authtokens::domain::event::EventKind;
use authtokens::domain::identity::Subject;
use authtokens::domain::mail::MailKind;
use authtokens::domain::passkey::{CredentialId, PasskeyName};
use authtokens::domain::rights::Actor;
use authtokens::domain::token::{PlainToken, TokenDigest};
use authtokens::repository::{
    FactorChange, Linked, NewPasskey, PasskeyAdded, Removal, RepositoryError, SecondFactor, SecurityState, TotpUse,
    VerifiedIdentity,
};

use crate::fixture::Fixture;
use crate::ways::all_ways;
use crate::words::{
    HASH, at, caller, change_password, claim, create, events, name, open, reauthenticate, register, register_verified,
    send, send_only, take, with_password,
};

const ADDRESS: &str = "azure@diamond.example";

/// What looks like a sealed secret.
fn sealed() -> Vec<u8> {
    vec![1; 64]
}

async fn make_fresh(fixture: &Fixture, session: TokenDigest, millis: i64) {
    let caller = caller(session);
    assert!(fixture.repository.reauthenticate(&caller, with_password(HASH), at(millis)).await.unwrap());
}

async fn add_totp(fixture: &Fixture, session: TokenDigest, millis: i64) {
    let (caller, codes) = (caller(session), (0..10).map(|_| PlainToken::generate().digest()).collect());
    let begun = fixture.repository.begin_totp(&caller, sealed(), at(millis)).await.unwrap();
    assert_eq!(begun, FactorChange::Done);
    let code = TotpUse { secret: sealed(), step: 1 };
    let confirmed = fixture.repository.confirm_totp(&caller, code, codes, at(millis)).await.unwrap();
    assert_eq!(confirmed, FactorChange::Done);
}

async fn add_passkey(fixture: &Fixture, session: TokenDigest, credential: &str, millis: i64) {
    let passkey = NewPasskey {
        credential_id: CredentialId::from_bytes(credential.into()),
        user_handle: [7; 16],
        rp_id: "diamond.example".to_owned(),
        name: PasskeyName::parse(credential).unwrap(),
        credential: "{}".to_owned(),
    };
    let added = fixture.repository.add_passkey(&caller(session), passkey, at(millis)).await.unwrap();
    assert!(matches!(added, PasskeyAdded::Done(_)), "{added:?}");
}

async fn link(fixture: &Fixture, session: TokenDigest, subject: &str, millis: i64) {
    let identity = VerifiedIdentity {
        subject: Subject { issuer: "https://id.example".to_owned(), subject: subject.to_owned() },
        provider: "example".to_owned(),
        email: String::new(),
        token: None,
        refresh_token: Some(sealed()),
    };
    let linked = fixture.repository.link_identity(&caller(session), true, identity, at(millis)).await.unwrap();
    assert_eq!(linked, Linked::Done);
}

async fn security(fixture: &Fixture) -> SecurityState {
    let found = fixture.repository.find_account_security(&Actor::CommandLine, &name("AzureDiamond")).await;
    found.unwrap().unwrap()
}

/// How many recovery codes, passkeys and identities there are, and whether an authenticator app.
async fn counts(fixture: &Fixture) -> (bool, u32, u32, u32) {
    let SecurityState { totp, recovery_codes, passkeys, identities, .. } = security(fixture).await;
    (totp.is_some(), recovery_codes, passkeys, identities)
}

pub async fn each_change_to_the_ways_into_an_account_is_told_to_its_owner(fixture: &Fixture) {
    let (_, session) = register_verified(fixture, "AzureDiamond", ADDRESS).await;
    let own = caller(session);
    let totp = |step| SecondFactor::Totp(TotpUse { secret: sealed(), step });
    let told = async |kinds: &[&str]| {
        let expected: Vec<_> = kinds.iter().map(|kind| format!("{kind} {ADDRESS}")).collect();
        assert_eq!(take(fixture, 4_000).await, expected);
    };
    make_fresh(fixture, session, 3_000).await;
    add_totp(fixture, session, 3_000).await;
    told(&["totp_added"]).await;
    let (used, replacement) = (PlainToken::generate().digest(), PlainToken::generate().digest());
    let replaced = fixture.repository.replace_recovery_codes(&own, totp(2), vec![used], at(3_000)).await.unwrap();
    assert_eq!(replaced, FactorChange::Done);
    told(&["recovery_codes_replaced"]).await;
    add_passkey(fixture, session, "key", 3_000).await;
    told(&["passkey_added"]).await;
    link(fixture, session, "azure", 3_000).await;
    let mails = claim(fixture, 3_000).await;
    let [linked] = &mails[..] else { panic!("{mails:?}") };
    assert_eq!((linked.kind, &*linked.detail), (MailKind::IdentityLinked, "example"));
    send(fixture, linked, 3_000).await;
    let passkey = fixture.repository.list_passkeys(&own).await.unwrap().remove(0).id;
    assert_eq!(fixture.repository.remove_passkey(&own, passkey, all_ways(), at(3_000)).await.unwrap(), Removal::Done);
    told(&["passkey_removed"]).await;
    let identity = fixture.repository.list_identities(&own).await.unwrap().remove(0).subject.id();
    assert_eq!(fixture.repository.unlink_identity(&own, identity, all_ways(), at(3_000)).await.unwrap(), Removal::Done);
    told(&["identity_unlinked"]).await;
    let recovery = SecondFactor::RecoveryCode { used, replacement };
    assert_eq!(fixture.repository.remove_totp(&own, recovery, at(3_000)).await.unwrap(), FactorChange::Done);
    told(&["recovery_code_used", "totp_removed"]).await;
    assert!(fixture.repository.reset_factors(&Actor::CommandLine, &name("AzureDiamond"), at(3_000)).await.unwrap());
    told(&["factors_reset"]).await;
}

pub async fn who_disowns_a_notice_takes_back_what_was_added_since_and_nothing_older(fixture: &Fixture) {
    let (_, session) = register_verified(fixture, "AzureDiamond", ADDRESS).await;
    make_fresh(fixture, session, 3_000).await;
    add_totp(fixture, session, 3_000).await;
    add_passkey(fixture, session, "old", 3_000).await;
    link(fixture, session, "old", 3_000).await;
    take(fixture, 3_000).await;
    assert!(change_password(fixture, session, HASH, HASH, 4_000).await);
    make_fresh(fixture, session, 4_000).await;
    // At the very moment, and later.
    add_passkey(fixture, session, "new", 4_000).await;
    add_passkey(fixture, session, "later", 5_000).await;
    link(fixture, session, "new", 4_001).await;
    let codes = (0..3).map(|_| PlainToken::generate().digest()).collect();
    let second = SecondFactor::Totp(TotpUse { secret: sealed(), step: 2 });
    fixture.repository.replace_recovery_codes(&caller(session), second, codes, at(4_500)).await.unwrap();
    assert_eq!(counts(fixture).await, (true, 3, 3, 2));
    // However late its mail is.
    let mails = claim(fixture, 6_000).await;
    assert_eq!(mails[0].kind, MailKind::PasswordChanged);
    let (notice, _) = send(fixture, &mails[0], 6_000).await;
    for mail in &mails[1..] {
        assert!(fixture.repository.complete_mail(mail.id).await.unwrap());
    }
    assert!(fixture.repository.disown(notice, None, at(7_000)).await.unwrap().is_some());
    assert_eq!(counts(fixture).await, (true, 0, 1, 1));
    assert!(!security(fixture).await.has_password);
    assert!(take(fixture, 7_000).await.is_empty(), "its owner knows");
    let of = |kind: EventKind| format!("{} AzureDiamond AzureDiamond disowned", kind.name());
    let told = events(fixture).await;
    let expected = [EventKind::PasskeyRemoved, EventKind::PasskeyRemoved, EventKind::IdentityUnlinked].map(of);
    assert_eq!(told[told.len() - 4..told.len() - 1], expected, "{told:?}");
    let revoked = fixture.repository.claim_revocations(10, at(7_000), at(8_000)).await.unwrap();
    assert_eq!(revoked.len(), 1);
}

pub async fn who_disowns_an_app_that_was_added_has_none_and_none_of_its_recovery_codes(fixture: &Fixture) {
    let (_, session) = register_verified(fixture, "AzureDiamond", ADDRESS).await;
    make_fresh(fixture, session, 3_000).await;
    add_totp(fixture, session, 3_000).await;
    let (notice, _) = send_only(fixture, MailKind::TotpAdded, 5_000).await;
    assert!(fixture.repository.disown(notice, None, at(6_000)).await.unwrap().is_some());
    assert_eq!(counts(fixture).await, (false, 0, 0, 0));
    assert!(events(fixture).await.contains(&"totp_removed AzureDiamond AzureDiamond disowned".to_owned()));
}

pub async fn how_an_account_can_be_got_into_is_told_to_whoever_may_manage_it(fixture: &Fixture) {
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    reauthenticate(fixture, session).await;
    add_passkey(fixture, session, "key", 3_000).await;
    let staff = create(fixture, "Helper", true, false).await;
    let superuser = create(fixture, "Root", false, true).await;
    let find =
        async |actor: &Actor, username: &str| fixture.repository.find_account_security(actor, &name(username)).await;
    let expected = SecurityState { has_password: true, passkeys: 1, ..SecurityState::default() };
    for actor in [Actor::CommandLine, staff, superuser] {
        assert_eq!(find(&actor, "azurediamond").await.unwrap(), Some(expected.clone()));
        assert_eq!(find(&actor, "nobody").await.unwrap(), None);
    }
    let plain = Actor::Session(caller(open(fixture, user_id, HASH).await.1));
    for (actor, username) in
        [(&staff, "Root"), (&staff, "Helper"), (&superuser, "Root"), (&plain, "AzureDiamond"), (&plain, "nobody")]
    {
        assert!(matches!(find(actor, username).await, Err(RepositoryError::Forbidden)), "{username}");
    }
    assert!(find(&superuser, "Helper").await.unwrap().is_some());
}
