//! The second factor: an authenticator app and its recovery codes, and where a session needs them.

use std::sync::Arc;
use std::time::Duration;

use authtokens::domain::challenge::ChallengePurpose;
use authtokens::domain::event::EventKind;
use authtokens::domain::factor::Method;
use authtokens::domain::one_time::Purpose;
use authtokens::domain::rights::Actor;
use authtokens::domain::user::UserId;
use authtokens::jobs::Job as _;
use authtokens::jobs::pruning::PruneChallenges;
use authtokens::repository::{
    FactorChange, FirstFactor, IdentityUse, PasskeyUse, Reauthentication, RepositoryError, SealedSecrets, SecondFactor,
    SecurityState, SessionOutcome, TotpUse,
};
use authtokens::system::clock::Clock;

use crate::fixture::Fixture;
use crate::ways::{
    Account, App, FIRST_STEP, KEY_ID, add_passkey, all_ways, begin_login, begin_totp, by_address, by_code, by_identity,
    by_recovery_code, challenge_until, code, link, log_in, new_codes, says, says_with_token, sealed, sealed_with,
    security, set_up_totp, signed, with_password,
};
use crate::words::{
    HASH, at, caller, claim, create, events, hash, is_fresh, is_live, mailed, name, open, reauthenticate, refused,
    register, register_verified, register_with,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Password,
    Mail,
    Passkey,
    Identity,
    Address,
    Challenge,
}

impl First {
    const ALL: [Self; 6] = [Self::Password, Self::Mail, Self::Passkey, Self::Identity, Self::Address, Self::Challenge];

    fn of(self, account: &Account) -> FirstFactor {
        match self {
            Self::Password => with_password(account.user_id),
            Self::Mail => FirstFactor::Mail(account.mailed.by_code()),
            Self::Passkey => FirstFactor::Passkey(signed(account.user_id, &account.passkey)),
            Self::Identity => by_identity(account.user_id, account.identity.clone()),
            Self::Address => by_address(account.user_id, account.stranger.clone(), &account.email),
            Self::Challenge => FirstFactor::Challenge(account.challenge, None),
        }
    }

    /// Whether it opens one session, or gets one challenge, and no other.
    fn counts_once(self) -> bool {
        !matches!(self, Self::Password | Self::Passkey)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    NotGiven,
    Code,
    RecoveryCode,
    Passkey,
    UsedCode,
    CodeOfAnotherSecret,
    UnknownRecoveryCode,
    RecoveryCodeOfAnother,
    ChangedPasskey,
    PasskeyOfAnother,
}

impl Second {
    const ALL: [Self; 10] = [
        Self::NotGiven,
        Self::Code,
        Self::RecoveryCode,
        Self::Passkey,
        Self::UsedCode,
        Self::CodeOfAnotherSecret,
        Self::UnknownRecoveryCode,
        Self::RecoveryCodeOfAnother,
        Self::ChangedPasskey,
        Self::PasskeyOfAnother,
    ];

    fn of(self, account: &Account, other: &Account) -> SecondFactor {
        match self {
            Self::NotGiven => SecondFactor::NotGiven,
            Self::Code => by_code(200),
            Self::RecoveryCode => by_recovery_code(account.codes.first().copied().unwrap_or_else(|| new_codes()[0])).0,
            Self::Passkey => SecondFactor::Passkey(signed(account.user_id, &account.passkey)),
            Self::UsedCode => by_code(FIRST_STEP),
            Self::CodeOfAnotherSecret => SecondFactor::Totp(TotpUse { secret: sealed("another"), step: 200 }),
            Self::UnknownRecoveryCode => by_recovery_code(new_codes()[0]).0,
            Self::RecoveryCodeOfAnother => by_recovery_code(other.codes[0]).0,
            Self::ChangedPasskey => {
                let before = "{\"counter\":1}".to_owned();
                SecondFactor::Passkey(PasskeyUse { before, ..signed(account.user_id, &account.passkey) })
            }
            Self::PasskeyOfAnother => SecondFactor::Passkey(signed(other.user_id, &other.passkey)),
        }
    }

    fn is_right(self) -> bool {
        matches!(self, Self::Code | Self::RecoveryCode | Self::Passkey)
    }
}

pub async fn a_session_is_opened_by_each_first_factor_and_with_an_app_by_the_second_alone(fixture: &Fixture) {
    let other = Account::register(fixture, "other", App::Confirmed).await;
    let mut number = 0;
    for app in [App::None, App::Waiting, App::Confirmed] {
        for first in First::ALL {
            for second in Second::ALL {
                number += 1;
                let account = Account::register(fixture, &format!("user{number}"), app).await;
                let case = format!("{app:?} {first:?} {second:?}");
                let before = security(fixture, account.session).await;
                let tried = log_in(fixture, first.of(&account), second.of(&account, &other), 6_000).await;
                let is_due = app == App::Confirmed && first != First::Passkey;
                if !is_due || second.is_right() {
                    assert!(tried.is_opened(), "{case}: {:?}", tried.outcome);
                    assert!(is_live(fixture, tried.session).await, "{case}");
                } else {
                    assert!(!is_live(fixture, tried.session).await, "{case}");
                    if second == Second::NotGiven && first != First::Challenge {
                        let methods = vec![Method::Totp, Method::RecoveryCode, Method::Passkey];
                        let due = SessionOutcome::SecondFactorDue(name(&account.username), methods);
                        assert_eq!(tried.outcome, due, "{case}");
                        let finished = FirstFactor::Challenge(tried.challenge, None);
                        assert!(log_in(fixture, finished, by_code(150), 6_000).await.is_opened(), "{case}");
                    } else {
                        let refused = SessionOutcome::SecondFactorRefused(name(&account.username));
                        assert_eq!(tried.outcome, refused, "{case}");
                        assert_eq!(security(fixture, account.session).await, before, "{case}: nothing was used up");
                        let again = log_in(fixture, first.of(&account), by_code(150), 6_000).await;
                        assert!(again.is_opened(), "{case}: {:?}", again.outcome);
                    }
                }
                // An identity that was found by its address is linked with the session, and not before.
                let is_linked = first == First::Address && !(is_due && second == Second::NotGiven);
                let after = security(fixture, account.session).await;
                let expected = SecurityState { identities: if is_linked { 2 } else { 1 }, ..before };
                assert_eq!(after, expected, "{case}");
                // What counts once has counted, and a second factor that was not due has not.
                let again = log_in(fixture, first.of(&account), by_code(300), 6_000).await;
                assert_eq!(again.is_refused(), first.counts_once(), "{case}: {:?}", again.outcome);
                assert_eq!(again.is_opened(), !first.counts_once(), "{case}: {:?}", again.outcome);
            }
        }
    }
}

pub async fn nobody_who_is_inactive_or_gone_gets_a_session_or_a_challenge(fixture: &Fixture) {
    let other = Account::register(fixture, "other", App::Confirmed).await;
    let mut number = 0;
    for app in [App::None, App::Confirmed] {
        for first in First::ALL {
            for is_gone in [false, true] {
                number += 1;
                let username = format!("user{number}");
                let account = Account::register(fixture, &username, app).await;
                if is_gone {
                    let gone =
                        fixture.repository.delete_account(&Actor::CommandLine, &name(&username), at(6_000)).await;
                    assert!(gone.unwrap());
                } else {
                    (fixture.deactivate)(&username);
                }
                for second in [Second::NotGiven, Second::Code] {
                    let case = format!("{app:?} {first:?} {second:?} {is_gone}");
                    let tried = log_in(fixture, first.of(&account), second.of(&account, &other), 6_000).await;
                    assert!(tried.is_refused(), "{case}: {:?}", tried.outcome);
                    let finished = fixture.repository.begin_factor_try(tried.challenge, at(6_000)).await.unwrap();
                    assert!(finished.is_none(), "{case}");
                }
            }
        }
    }
}

pub async fn a_login_by_a_password_that_is_no_longer_the_accounts_is_no_first_factor(fixture: &Fixture) {
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    set_up_totp(fixture, session).await;
    let older = || FirstFactor::Password(crate::words::login(user_id, "$older"));
    for second in [SecondFactor::NotGiven, by_code(200)] {
        assert!(log_in(fixture, older(), second, 6_000).await.is_refused());
    }
    assert!(log_in(fixture, with_password(user_id), by_code(200), 6_000).await.is_opened(), "the code was not used up");
}

pub async fn a_new_hash_is_stored_with_the_first_factor_though_the_second_is_due(fixture: &Fixture) {
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    set_up_totp(fixture, session).await;
    let with = |rehashed: &str| {
        FirstFactor::Password(authtokens::repository::VerifiedLogin {
            rehashed: Some(hash(rehashed)),
            ..crate::words::login(user_id, HASH)
        })
    };
    let stored = async || {
        let credentials = fixture.repository.find_credentials(&name("AzureDiamond")).await.unwrap().unwrap();
        credentials.password_hash.as_stored().to_owned()
    };
    assert!(log_in(fixture, with("$never"), by_code(FIRST_STEP), 6_000).await.is_second_refused());
    assert_eq!(stored().await, HASH);
    let tried = log_in(fixture, with("$newer"), SecondFactor::NotGiven, 6_000).await;
    assert!(tried.is_due());
    assert_eq!(stored().await, "$newer");
    let finished = log_in(fixture, FirstFactor::Challenge(tried.challenge, None), by_code(200), 6_000).await;
    assert!(finished.is_opened(), "a new hash of the same password ends no login");
}

pub async fn an_app_waits_for_its_first_code_and_then_it_is_the_accounts(fixture: &Fixture) {
    let repository = &fixture.repository;
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    let caller = caller(session);
    let begun = repository.begin_totp(&caller, sealed("totp"), at(3_000)).await.unwrap();
    assert_eq!(begun, FactorChange::NotFresh);
    assert!(repository.find_own_totp(&caller).await.unwrap().is_none());
    let confirm = async |secret: &str, step| {
        let used = TotpUse { secret: sealed(secret), step };
        repository.confirm_totp(&caller, used, new_codes(), at(4_000)).await.unwrap()
    };
    assert_eq!(confirm("totp", 100).await, FactorChange::Refused, "none waits");
    begin_totp(fixture, session).await;
    let begun = repository.begin_totp(&caller, sealed("newer"), at(3_500)).await.unwrap();
    assert_eq!(begun, FactorChange::Done, "it takes the place of the one that waits");
    let waiting = repository.find_own_totp(&caller).await.unwrap().unwrap();
    assert_eq!((waiting.user_id, waiting.username.as_str()), (user_id, "AzureDiamond"));
    assert_eq!((waiting.secret, waiting.created, waiting.is_confirmed), (sealed("newer"), at(3_500), false));
    assert!(repository.find_totp_secret(user_id).await.unwrap().is_none(), "it waits");
    assert_eq!(security(fixture, session).await.totp, None);
    assert_eq!(confirm("totp", 100).await, FactorChange::Refused, "another waits");

    let (_, other) = open(fixture, user_id, HASH).await;
    let (begun, token) = challenge_until(ChallengePurpose::AddPasskey, 60_000);
    repository.store_challenge(Some(&caller), begun, at(4_000)).await.unwrap();
    assert_eq!(confirm("newer", 100).await, FactorChange::Done);
    assert!(is_live(fixture, session).await && !is_live(fixture, other).await, "other sessions end");
    let found = repository.take_challenge(Some(&caller), ChallengePurpose::AddPasskey, token, at(4_000)).await;
    assert_eq!(found.unwrap(), None, "so do challenges");
    let state = security(fixture, session).await;
    assert_eq!((state.totp, state.recovery_codes), (Some(at(4_000)), 10));
    assert_eq!(repository.find_totp_secret(user_id).await.unwrap(), Some(sealed("newer")));
    assert!(repository.find_own_totp(&caller).await.unwrap().unwrap().is_confirmed);
    assert_eq!(confirm("newer", 101).await, FactorChange::Refused, "it waits no longer");
    let begun = repository.begin_totp(&caller, sealed("totp"), at(4_000)).await.unwrap();
    assert_eq!(begun, FactorChange::NoSuchState);
    let told = events(fixture).await;
    assert_eq!(told.iter().filter(|event| event.starts_with("totp_added AzureDiamond AzureDiamond")).count(), 1);
}

pub async fn a_first_factor_that_was_right_is_told_where_the_second_lacks_and_no_other_attempt_is(fixture: &Fixture) {
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    let asked = async || {
        let told = events(fixture).await;
        told.iter().filter(|event| **event == "second_factor_asked AzureDiamond  ").count()
    };
    assert!(log_in(fixture, with_password(user_id), SecondFactor::NotGiven, 2_000).await.is_opened());
    set_up_totp(fixture, session).await;
    assert_eq!(asked().await, 0);
    let waiting = begin_login(fixture, user_id).await;
    assert_eq!(asked().await, 1);
    assert!(
        log_in(fixture, FirstFactor::Challenge(waiting, None), SecondFactor::NotGiven, 6_000).await.is_second_refused()
    );
    assert!(log_in(fixture, with_password(user_id), by_code(FIRST_STEP), 6_000).await.is_second_refused());
    assert!(log_in(fixture, FirstFactor::Challenge(waiting, None), by_code(200), 6_000).await.is_opened());
    assert_eq!(asked().await, 1);
}

pub async fn an_app_that_was_not_confirmed_in_time_is_pruned_and_no_other(fixture: &Fixture) {
    let (_, waiting) = register(fixture, "AzureDiamond").await;
    let (_, owner) = register(fixture, "owner").await;
    begin_totp(fixture, waiting).await;
    set_up_totp(fixture, owner).await;
    let prune = |millis| fixture.repository.prune_waiting_totp(at(millis));
    assert_eq!(prune(2_999).await.unwrap(), 0);
    assert_eq!(prune(3_000).await.unwrap(), 1);
    assert_eq!(prune(1_000_000).await.unwrap(), 0);
    assert!(fixture.repository.find_own_totp(&caller(waiting)).await.unwrap().is_none());
    assert!(security(fixture, owner).await.totp.is_some());
    let confirmed = fixture.repository.confirm_totp(&caller(waiting), code(FIRST_STEP), new_codes(), at(3_000)).await;
    assert_eq!(confirmed.unwrap(), FactorChange::Refused);
    // The job knows how long that is.
    begin_totp(fixture, waiting).await;
    let clock = Clock::held_at(at(902_999));
    let job = PruneChallenges::new(Arc::clone(&fixture.repository), clock.clone());
    job.run().await.unwrap();
    assert!(fixture.repository.find_own_totp(&caller(waiting)).await.unwrap().is_some());
    clock.advance(Duration::from_millis(1));
    job.run().await.unwrap();
    assert!(fixture.repository.find_own_totp(&caller(waiting)).await.unwrap().is_none());
    assert!(security(fixture, owner).await.totp.is_some());
}

pub async fn a_step_of_the_app_counts_once_and_none_before_it_counts_then(fixture: &Fixture) {
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    set_up_totp(fixture, session).await;
    let steps = [(99, false), (100, false), (101, true), (101, false), (100, false), (103, true), (102, false)];
    for (number, (step, expected)) in steps.into_iter().enumerate() {
        let tried = log_in(fixture, with_password(user_id), by_code(step), 6_000).await;
        assert_eq!(tried.is_opened(), expected, "{number}: {step}: {:?}", tried.outcome);
    }
    assert!(log_in(fixture, with_password(user_id), by_code(u64::MAX), 6_000).await.is_opened());
    assert!(log_in(fixture, with_password(user_id), by_code(u64::MAX), 6_000).await.is_second_refused());
}

pub async fn a_recovery_code_counts_once_for_its_account_and_another_takes_its_place(fixture: &Fixture) {
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    let codes = set_up_totp(fixture, session).await;
    let (other_id, other) = register(fixture, "other").await;
    set_up_totp(fixture, other).await;
    let (stolen, _) = by_recovery_code(codes[0]);
    assert!(log_in(fixture, with_password(other_id), stolen, 6_000).await.is_second_refused());
    let (second, replacement) = by_recovery_code(codes[0]);
    assert!(log_in(fixture, with_password(user_id), second, 6_000).await.is_opened());
    let (again, _) = by_recovery_code(codes[0]);
    assert!(log_in(fixture, with_password(user_id), again, 6_000).await.is_second_refused());
    assert_eq!(security(fixture, session).await.recovery_codes, 10);
    let (second, _) = by_recovery_code(replacement);
    assert!(log_in(fixture, with_password(user_id), second, 6_000).await.is_opened());
    assert_eq!(security(fixture, session).await.recovery_codes, 10);
    let told = events(fixture).await;
    assert_eq!(told.iter().filter(|event| event.starts_with("recovery_code_used AzureDiamond")).count(), 2, "{told:?}");
    assert!(!told.iter().any(|event| event.starts_with("recovery_code_used other")), "{told:?}");
}

pub async fn the_app_is_removed_in_a_fresh_session_with_the_second_factor_alone(fixture: &Fixture) {
    let repository = &fixture.repository;
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    let remove = async |second, millis| repository.remove_totp(&caller(session), second, at(millis)).await.unwrap();
    begin_totp(fixture, session).await;
    assert_eq!(remove(by_code(200), 4_000).await, FactorChange::NoSuchState, "it waits");
    let codes = set_up_totp(fixture, session).await;
    let login = begin_login(fixture, user_id).await;
    assert_eq!(remove(by_code(200), 603_000).await, FactorChange::NotFresh);
    assert_eq!(remove(SecondFactor::NotGiven, 4_000).await, FactorChange::Refused);
    assert_eq!(remove(by_code(FIRST_STEP), 4_000).await, FactorChange::Refused);
    assert_eq!(security(fixture, session).await.recovery_codes, 10);
    assert_eq!(remove(by_recovery_code(codes[3]).0, 4_000).await, FactorChange::Done);
    let state = security(fixture, session).await;
    assert_eq!((state.totp, state.recovery_codes, state.fresh_until), (None, 0, None), "the session is fresh no more");
    assert!(repository.begin_factor_try(login, at(6_000)).await.unwrap().is_none(), "what was begun has ended");
    assert!(log_in(fixture, with_password(user_id), SecondFactor::NotGiven, 6_000).await.is_opened());
    reauthenticate(fixture, session).await;
    assert_eq!(remove(by_code(300), 4_000).await, FactorChange::NoSuchState);
    let told = events(fixture).await;
    assert_eq!(told.iter().filter(|event| event.starts_with("totp_removed AzureDiamond AzureDiamond")).count(), 1);
}

pub async fn recovery_codes_are_replaced_in_a_fresh_session_with_the_second_factor_alone(fixture: &Fixture) {
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    let newer = new_codes();
    let replace = async |second, millis| {
        let caller = caller(session);
        fixture.repository.replace_recovery_codes(&caller, second, newer.clone(), at(millis)).await.unwrap()
    };
    reauthenticate(fixture, session).await;
    assert_eq!(replace(by_code(200), 4_000).await, FactorChange::NoSuchState);
    let older = set_up_totp(fixture, session).await;
    assert_eq!(replace(by_code(200), 603_000).await, FactorChange::NotFresh);
    assert_eq!(replace(SecondFactor::NotGiven, 4_000).await, FactorChange::Refused);
    assert_eq!(replace(by_code(FIRST_STEP), 4_000).await, FactorChange::Refused);
    let (second, replacement) = by_recovery_code(older[0]);
    assert_eq!(replace(second, 4_000).await, FactorChange::Done);
    assert_eq!(security(fixture, session).await.recovery_codes, 10);
    for gone in [older[0], older[1], replacement] {
        let tried = log_in(fixture, with_password(user_id), by_recovery_code(gone).0, 6_000).await;
        assert!(tried.is_second_refused());
    }
    assert!(log_in(fixture, with_password(user_id), by_recovery_code(newer[9]).0, 6_000).await.is_opened());
    assert_eq!(replace(by_code(200), 4_000).await, FactorChange::Done);
    assert_eq!(replace(by_code(200), 4_000).await, FactorChange::Refused, "the code was used");
}

pub async fn a_passkey_is_begun_in_a_fresh_session_and_with_the_second_factor_where_there_is_an_app(fixture: &Fixture) {
    let (_, session) = register(fixture, "AzureDiamond").await;
    let own = caller(session);
    let begin = async |second, millis| {
        let (challenge, digest) = challenge_until(ChallengePurpose::AddPasskey, 60_000);
        let begun = fixture.repository.begin_passkey(&own, second, challenge, at(millis)).await.unwrap();
        let purpose = ChallengePurpose::AddPasskey;
        let taken = fixture.second.take_challenge(Some(&own), purpose, digest, at(millis)).await.unwrap();
        assert_eq!(taken.is_some(), begun == FactorChange::Done, "{begun:?}");
        begun
    };
    assert_eq!(begin(SecondFactor::NotGiven, 2_000).await, FactorChange::NotFresh);
    begin_totp(fixture, session).await;
    assert_eq!(begin(SecondFactor::NotGiven, 3_000).await, FactorChange::Done, "the app still waits");
    let codes = set_up_totp(fixture, session).await;
    assert_eq!(begin(SecondFactor::NotGiven, 4_000).await, FactorChange::Refused);
    assert_eq!(begin(by_code(FIRST_STEP), 4_000).await, FactorChange::Refused, "its step was used");
    assert_eq!(begin(by_code(200), 603_000).await, FactorChange::NotFresh);
    assert_eq!(begin(by_code(200), 4_000).await, FactorChange::Done);
    assert_eq!(begin(by_code(200), 4_000).await, FactorChange::Refused, "it was used up");
    let (second, replacement) = by_recovery_code(codes[0]);
    assert_eq!(begin(second, 4_000).await, FactorChange::Done);
    assert_eq!(begin(by_recovery_code(codes[0]).0, 4_000).await, FactorChange::Refused);
    assert_eq!(begin(by_recovery_code(replacement).0, 4_000).await, FactorChange::Done);
    assert_eq!(security(fixture, session).await.recovery_codes, 10);
}

pub async fn staff_resets_the_factors_of_an_account_and_never_those_of_a_superuser(fixture: &Fixture) {
    let repository = &fixture.repository;
    let account = Account::register(fixture, "AzureDiamond", App::Confirmed).await;
    let staff = create(fixture, "staff", true, false).await;
    let superuser = create(fixture, "superuser", false, true).await;
    let (_, nobody) = register(fixture, "nobody").await;
    let reset = async |actor: &Actor, username: &str| repository.reset_factors(actor, &name(username), at(6_000)).await;
    let nobody = Actor::Session(caller(nobody));
    for (actor, username) in
        [(&nobody, "AzureDiamond"), (&nobody, "missing"), (&staff, "superuser"), (&superuser, "superuser")]
    {
        let answer = reset(actor, username).await;
        assert!(matches!(answer, Err(RepositoryError::Forbidden)), "{username}: {answer:?}");
    }
    assert!(!reset(&staff, "missing").await.unwrap());
    assert!(security(fixture, account.session).await.totp.is_some());
    assert!(reset(&staff, "AzureDiamond").await.unwrap());
    let state = security(fixture, account.session).await;
    assert_eq!((state.totp, state.recovery_codes, state.passkeys), (None, 0, 0));
    assert_eq!((state.has_password, state.identities), (true, 1), "they are no second factors");
    assert!(repository.begin_factor_try(account.challenge, at(6_000)).await.unwrap().is_none());
    assert!(repository.find_passkey(&crate::ways::credential(&account.passkey)).await.unwrap().is_none());
    let told = events(fixture).await;
    assert_eq!(told.iter().filter(|event| **event == "factors_reset AzureDiamond staff ").count(), 1, "{told:?}");
    assert!(reset(&superuser, "staff").await.unwrap());
    assert!(reset(&Actor::CommandLine, "superuser").await.unwrap());
}

pub async fn secrets_are_counted_by_the_key_that_sealed_them_and_forgotten_with_it(fixture: &Fixture) {
    let repository = &fixture.repository;
    let count = async |key: &[u8]| repository.count_sealed(key.to_vec()).await.unwrap();
    let of = |totp, refresh_tokens| SealedSecrets { totp, refresh_tokens, webhooks: 0 };
    assert_eq!(count(KEY_ID).await, (of(0, 0), of(0, 0)));
    let kept = Account::register(fixture, "kept", App::Confirmed).await;
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    reauthenticate(fixture, session).await;
    let other = sealed_with(b"key-id-2", "totp");
    let begun = repository.begin_totp(&caller(session), other.clone(), at(3_000)).await.unwrap();
    assert_eq!(begun, FactorChange::Done);
    assert_eq!(count(KEY_ID).await, (of(1, 1), of(1, 0)), "one that waits counts too");
    let used = TotpUse { secret: other, step: 100 };
    let confirmed = repository.confirm_totp(&caller(session), used, new_codes(), at(3_000)).await.unwrap();
    assert_eq!(confirmed, FactorChange::Done);
    // One of each key is linked, and one of each waits for its revocation.
    let with_key = |of: &str, key: &[u8]| {
        let refresh_token = Some(sealed_with(key, "refresh"));
        authtokens::repository::VerifiedIdentity { refresh_token, ..says(of) }
    };
    link(fixture, session, with_key("one", b"key-id-2")).await;
    for (subject, key) in [("two", b"key-id-2"), ("three", b"key-id-1")] {
        link(fixture, session, with_key(subject, key)).await;
        let id = crate::ways::subject(subject).id();
        let gone = repository.unlink_identity(&caller(session), id, all_ways(), at(4_000)).await.unwrap();
        assert_eq!(gone, authtokens::repository::Removal::Done);
    }
    let login = begin_login(fixture, user_id).await;
    let (offer, offered) = challenge_until(ChallengePurpose::LinkIdentity, 9_000);
    repository.store_challenge(None, offer, at(4_000)).await.unwrap();
    let (ceremony, begun) = challenge_until(ChallengePurpose::UsePasskey, 9_000);
    repository.store_challenge(None, ceremony, at(4_000)).await.unwrap();
    assert_eq!(count(KEY_ID).await, (of(1, 2), of(1, 2)));
    assert_eq!(count(b"key-id-2").await, (of(1, 2), of(1, 2)));
    assert_eq!(count(b"key-id-3").await, (of(0, 0), of(2, 4)));
    assert_eq!(repository.forget_sealed(KEY_ID.to_vec(), at(5_000)).await.unwrap(), of(1, 2));
    assert_eq!(repository.forget_sealed(KEY_ID.to_vec(), at(5_000)).await.unwrap(), of(0, 0));
    assert_eq!(count(KEY_ID).await, (of(1, 2), of(0, 0)));
    let state = security(fixture, session).await;
    assert_eq!((state.totp, state.recovery_codes, state.identities), (None, 0, 1));
    assert!(security(fixture, kept.session).await.totp.is_some());
    assert!(repository.begin_factor_try(login, at(6_000)).await.unwrap().is_none());
    let take = async |purpose, token| repository.take_challenge(None, purpose, token, at(6_000)).await.unwrap();
    assert!(take(ChallengePurpose::LinkIdentity, offered).await.is_none(), "it may hold a refresh token");
    assert!(take(ChallengePurpose::UsePasskey, begun).await.is_some());
    let told = events(fixture).await;
    let expected = "totp_removed AzureDiamond command line key_lost";
    assert_eq!(told.iter().filter(|event| *event == expected).count(), 1, "{told:?}");
}

pub async fn a_reset_leaves_factors_and_the_first_proof_of_a_mailbox_trusts_nothing_that_was_set_up_before(
    fixture: &Fixture,
) {
    let repository = &fixture.repository;
    for (number, (purpose, is_verified)) in [
        (Purpose::ResetPassword, true),
        (Purpose::ResetPassword, false),
        (Purpose::SignIn, true),
        (Purpose::SignIn, false),
    ]
    .into_iter()
    .enumerate()
    {
        let (username, address) = (format!("user{number}"), format!("user{number}@diamond.example"));
        let (user_id, session) = if is_verified {
            register_verified(fixture, &username, &address).await
        } else {
            register_with(fixture, &username, &address).await
        };
        set_up_totp(fixture, session).await;
        add_passkey(fixture, session, &username).await;
        add_passkey(fixture, session, &format!("another of {username}")).await;
        link(fixture, session, says_with_token(&username)).await;
        let login = begin_login(fixture, user_id).await;
        let mailed = mailed(fixture, purpose, user_id, &address).await;
        let session = if purpose == Purpose::ResetPassword {
            let behind = repository.list_resets(None).await.unwrap().next;
            let reset = repository.reset_password(mailed.by_code(), hash(HASH), None, at(6_000)).await.unwrap();
            assert!(reset.is_some());
            let resets = repository.list_resets(Some(behind)).await.unwrap().usernames;
            // Wrong codes of an app that stays count on, in every process.
            let told = if is_verified { vec![] } else { vec![name(&username)] };
            assert_eq!(resets, told);
            let finished = repository.begin_factor_try(login, at(6_000)).await.unwrap();
            assert!(finished.is_none(), "what was begun with the old password has ended");
            let second = if is_verified { by_code(200) } else { SecondFactor::NotGiven };
            log_in(fixture, with_password(user_id), second, 7_000).await
        } else {
            let second = if is_verified { by_code(200) } else { SecondFactor::NotGiven };
            log_in(fixture, FirstFactor::Mail(mailed.by_code()), second, 7_000).await
        };
        assert!(session.is_opened(), "{purpose:?} {is_verified}: {:?}", session.outcome);
        let state = security(fixture, session.session).await;
        let counts = (state.totp.is_some(), state.recovery_codes, state.passkeys, state.identities);
        let expected = if is_verified { (true, 10, 2, 1) } else { (false, 0, 0, 0) };
        assert_eq!(counts, expected, "{purpose:?} {is_verified}");
        // The owner hears of what went, of many passkeys and identities by one notice each.
        let told = events(fixture).await;
        let is_of = |event: &&String, kind: &str| event.starts_with(&format!("{kind} {username} {username} "));
        let removed = ["totp_removed", "passkey_removed", "identity_unlinked"]
            .map(|kind| told.iter().filter(|event| is_of(event, kind)).count());
        assert_eq!(removed, if is_verified { [0, 0, 0] } else { [1, 2, 1] }, "{told:?}");
        let notices = claim(fixture, 8_000).await;
        let mut notices: Vec<_> =
            notices.iter().filter(|mail| mail.recipient == address).map(|mail| mail.kind.name()).collect();
        notices.retain(|kind| kind.ends_with("_removed") || kind.ends_with("_unlinked"));
        notices.sort_unstable();
        let expected: &[&str] =
            if is_verified { &[] } else { &["identity_unlinked", "passkey_removed", "totp_removed"] };
        assert_eq!(notices, expected, "{purpose:?}");
        let waiting = repository.claim_revocations(100, at(8_000), at(9_000)).await.unwrap();
        assert_eq!(waiting.len(), usize::from(!is_verified), "{purpose:?} {is_verified}: its refresh token");
        for revocation in waiting {
            assert!(repository.settle_revocation(revocation.id, None).await.unwrap());
        }
    }
}

pub async fn a_session_becomes_fresh_by_its_own_accounts_factors_once_each(fixture: &Fixture) {
    let account = Account::register(fixture, "AzureDiamond", App::Confirmed).await;
    let other = Account::register(fixture, "other", App::Confirmed).await;
    let is_made = async |of: UserId, shown: Reauthentication, millis: i64| {
        let session = if of == account.user_id { account.session } else { other.session };
        let made = fixture.repository.reauthenticate(&caller(session), shown, at(millis)).await.unwrap();
        assert_eq!(is_fresh(fixture, session, millis).await, made, "{millis}");
        made
    };
    // Each at a time at which nothing before makes the session fresh.
    let mut now = 1_000_000;
    let mut later = || {
        now += 1_000_000;
        now
    };
    let by_identity = |user_id, identity| Reauthentication::Identity(IdentityUse { user_id, identity, by_email: None });
    let (user_id, other_id) = (account.user_id, other.user_id);
    let failed = vec![refused(EventKind::LoginFailed, "AzureDiamond", 6_000)];
    fixture.repository.record_failed_attempts(failed, at(6_000)).await.unwrap();

    assert!(!is_made(user_id, Reauthentication::Totp(code(FIRST_STEP)), later()).await, "its step was used");
    let of_another_secret = TotpUse { secret: sealed("another"), step: 200 };
    assert!(!is_made(user_id, Reauthentication::Totp(of_another_secret), later()).await);
    assert_eq!(fixture.repository.list_failures(10).await.unwrap().len(), 1);
    assert!(is_made(user_id, Reauthentication::Totp(code(200)), later()).await);
    assert_eq!(fixture.repository.list_failures(10).await.unwrap().len(), 0, "it resets the failures");
    assert!(!is_made(user_id, Reauthentication::Totp(code(200)), later()).await);
    assert!(log_in(fixture, with_password(user_id), by_code(200), 6_000).await.is_second_refused());

    let passkey = || signed(user_id, &account.passkey);
    assert!(!is_made(other_id, Reauthentication::Passkey(passkey()), later()).await, "another's");
    let of_other = PasskeyUse { user_id: other_id, ..passkey() };
    assert!(!is_made(other_id, Reauthentication::Passkey(of_other), later()).await);
    let changed = PasskeyUse { before: "{}".to_owned(), ..passkey() };
    assert!(!is_made(user_id, Reauthentication::Passkey(changed), later()).await);
    assert!(is_made(user_id, Reauthentication::Passkey(passkey()), later()).await);

    assert!(!is_made(other_id, by_identity(other_id, account.identity.clone()), later()).await, "another's");
    assert!(!is_made(user_id, by_identity(user_id, account.stranger.clone()), later()).await, "nobody's");
    let by_address = Reauthentication::Identity(IdentityUse {
        user_id,
        identity: account.stranger.clone(),
        by_email: Some(account.email.clone()),
    });
    assert!(!is_made(user_id, by_address, later()).await, "an address alone is none of it");
    assert!(is_made(user_id, by_identity(user_id, account.identity.clone()), later()).await);
    assert!(!is_made(user_id, by_identity(user_id, account.identity.clone()), later()).await, "its token was used");
    assert_eq!(security(fixture, account.session).await.identities, 1);
    let told = events(fixture).await;
    let made = told.iter().filter(|event| event.starts_with("reauthenticated AzureDiamond")).count();
    // Two while it was set up.
    assert_eq!(made, 2 + 3, "{told:?}");
}

pub async fn what_opens_an_account_is_told_to_its_owner_as_facts(fixture: &Fixture) {
    let (_, session) = register(fixture, "AzureDiamond").await;
    let plain = SecurityState { has_password: true, ..SecurityState::default() };
    assert_eq!(security(fixture, session).await, plain);
    set_up_totp(fixture, session).await;
    add_passkey(fixture, session, "one").await;
    add_passkey(fixture, session, "two").await;
    link(fixture, session, says("somebody")).await;
    let expected = SecurityState {
        has_password: true,
        totp: Some(at(3_000)),
        recovery_codes: 10,
        passkeys: 2,
        identities: 1,
        fresh_until: Some(at(603_000)),
    };
    assert_eq!(security(fixture, session).await, expected);
    let over = fixture.repository.find_security(&caller(session), at(603_000)).await.unwrap();
    assert_eq!(over.fresh_until, None);
    let (_, other) = crate::ways::register_by(fixture, "other", says("another")).await;
    let expected = SecurityState { identities: 1, ..SecurityState::default() };
    assert_eq!(security(fixture, other).await, expected);
}
