//! What is begun in one request and finished in another: once, soon, and by whoever began it.

use std::time::Duration;

use authtokens::domain::challenge::{ChallengePurpose, MAX_FACTOR_TRIES};
use authtokens::domain::one_time::Purpose;
use authtokens::domain::passkey::PasskeyId;
use authtokens::domain::profile::ProfileField;
use authtokens::domain::rights::{AccountChange, Actor};
use authtokens::domain::session::{Caller, SessionId};
use authtokens::domain::token::TokenDigest;
use authtokens::repository::{FirstFactor, Removal, RepositoryError, SecondFactor};

use crate::fixture::Fixture;
use crate::ways::{
    Account, App, all_ways, begin_login, by_code, by_identity, challenge_until, credential, log_in, says, sealed,
    set_up_totp, subject,
};
use crate::words::{
    EVER, HASH, at, caller, change_password, hash, mailed, name, open, reauthenticate, register, register_verified,
    send_only, text,
};

/// Stores a challenge at 2,000 ms, which ends at 60,000 ms.
async fn store(fixture: &Fixture, caller: Option<&Caller>, purpose: ChallengePurpose) -> TokenDigest {
    let (challenge, token) = challenge_until(purpose, 60_000);
    fixture.repository.store_challenge(caller, challenge, at(2_000)).await.unwrap();
    token
}

async fn takes(
    fixture: &Fixture,
    caller: Option<&Caller>,
    purpose: ChallengePurpose,
    token: TokenDigest,
    millis: i64,
) -> bool {
    fixture.repository.take_challenge(caller, purpose, token, at(millis)).await.unwrap().is_some()
}

pub async fn a_challenge_is_taken_once_for_its_purpose_by_whoever_began_it(fixture: &Fixture) {
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    let (_, other) = register(fixture, "other").await;
    let (own, other) = (caller(session), caller(other));
    let token = store(fixture, Some(&own), ChallengePurpose::AddPasskey).await;
    for (caller, purpose) in [
        (None, ChallengePurpose::AddPasskey),
        (Some(&other), ChallengePurpose::AddPasskey),
        (Some(&own), ChallengePurpose::ReauthenticateByPasskey),
    ] {
        assert!(!takes(fixture, caller, purpose, token, 3_000).await, "{purpose:?}");
    }
    // From any of its sessions, and on any node.
    let (_, second) = open(fixture, user_id, HASH).await;
    let second = caller(second);
    let found = fixture.second.take_challenge(Some(&second), ChallengePurpose::AddPasskey, token, at(3_000)).await;
    let found = found.unwrap().unwrap();
    assert_eq!((found.user_id, &*found.state), (Some(user_id), "{\"is\":\"state\"}"));
    assert!(!takes(fixture, Some(&own), ChallengePurpose::AddPasskey, token, 3_000).await);

    let token = store(fixture, None, ChallengePurpose::UsePasskey).await;
    assert!(!takes(fixture, Some(&own), ChallengePurpose::UsePasskey, token, 3_000).await, "it is no account's");
    let found = fixture.repository.take_challenge(None, ChallengePurpose::UsePasskey, token, at(3_000)).await.unwrap();
    assert_eq!(found.unwrap().user_id, None);
    assert!(!takes(fixture, None, ChallengePurpose::UsePasskey, token, 3_000).await);
}

pub async fn a_challenge_ends_at_its_time(fixture: &Fixture) {
    let (_, session) = register(fixture, "AzureDiamond").await;
    let own = caller(session);
    for (caller, purpose) in [(Some(&own), ChallengePurpose::AddPasskey), (None, ChallengePurpose::UsePasskey)] {
        for (millis, expected) in [(60_000, false), (59_999, true)] {
            let token = store(fixture, caller, purpose).await;
            assert_eq!(takes(fixture, caller, purpose, token, millis).await, expected, "{purpose:?} {millis}");
        }
    }
    let (user_id, session) = register(fixture, "other").await;
    set_up_totp(fixture, session).await;
    let login = begin_login(fixture, user_id).await;
    assert!(fixture.repository.begin_factor_try(login, at(65_000)).await.unwrap().is_none());
    assert!(log_in(fixture, FirstFactor::Challenge(login, None), by_code(200), 65_000).await.is_refused());
    assert!(fixture.repository.begin_factor_try(login, at(64_999)).await.unwrap().is_some());
    assert!(log_in(fixture, FirstFactor::Challenge(login, None), by_code(200), 64_999).await.is_opened());
}

pub async fn a_challenge_is_nothing_for_a_session_that_is_over(fixture: &Fixture) {
    let (_, session) = register(fixture, "AzureDiamond").await;
    let own = caller(session);
    let token = store(fixture, Some(&own), ChallengePurpose::AddPasskey).await;
    fixture.repository.revoke_own_session(&own, at(3_000)).await.unwrap();
    let (challenge, _) = challenge_until(ChallengePurpose::AddPasskey, 60_000);
    let stored = fixture.repository.store_challenge(Some(&own), challenge, at(3_000)).await;
    assert!(matches!(stored, Err(RepositoryError::NoSession)), "{stored:?}");
    let found = fixture.repository.take_challenge(Some(&own), ChallengePurpose::AddPasskey, token, at(3_000)).await;
    assert!(matches!(found, Err(RepositoryError::NoSession)), "{found:?}");
}

pub async fn of_the_challenges_of_one_purpose_an_account_keeps_the_newest(fixture: &Fixture) {
    let (_, session) = register(fixture, "AzureDiamond").await;
    let (_, other) = register(fixture, "other").await;
    let (own, other) = (caller(session), caller(other));
    let others = store(fixture, Some(&other), ChallengePurpose::AddPasskey).await;
    let another = store(fixture, Some(&own), ChallengePurpose::ReauthenticateByPasskey).await;
    let nobodys = store(fixture, None, ChallengePurpose::UsePasskey).await;
    let mut tokens = Vec::new();
    for number in 0..=i64::from(ChallengePurpose::AddPasskey.most_of_an_account()) {
        let (challenge, token) = challenge_until(ChallengePurpose::AddPasskey, 60_000);
        fixture.repository.store_challenge(Some(&own), challenge, at(3_000 + number)).await.unwrap();
        let (challenge, _) = challenge_until(ChallengePurpose::UsePasskey, 60_000);
        fixture.repository.store_challenge(None, challenge, at(3_000 + number)).await.unwrap();
        tokens.push(token);
    }
    for (number, token) in tokens.into_iter().enumerate() {
        let is_there = takes(fixture, Some(&own), ChallengePurpose::AddPasskey, token, 4_000).await;
        assert_eq!(is_there, number > 0, "{number}");
    }
    assert!(takes(fixture, Some(&other), ChallengePurpose::AddPasskey, others, 4_000).await);
    assert!(takes(fixture, Some(&own), ChallengePurpose::ReauthenticateByPasskey, another, 4_000).await);
    assert!(takes(fixture, None, ChallengePurpose::UsePasskey, nobodys, 4_000).await, "nobody can push it out");
}

pub async fn a_login_is_tried_five_times_at_most_and_the_fifth_may_finish_it(fixture: &Fixture) {
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    set_up_totp(fixture, session).await;
    let begin = |login| fixture.repository.begin_factor_try(login, at(6_000));
    let find = |login| fixture.repository.find_factor_owner(login, at(6_000));
    let [finished, over] = [begin_login(fixture, user_id).await, begin_login(fixture, user_id).await];
    for login in [finished, over] {
        for number in 0..MAX_FACTOR_TRIES {
            assert_eq!(find(login).await.unwrap(), Some(name("AzureDiamond")), "to be asked for is no try");
            let pending = begin(login).await.unwrap().unwrap();
            assert_eq!((pending.user_id, pending.username.as_str()), (user_id, "AzureDiamond"), "{number}");
            assert_eq!(pending.totp_secret, Some(sealed("totp")));
        }
    }
    assert!(log_in(fixture, FirstFactor::Challenge(finished, None), by_code(200), 6_000).await.is_opened());
    let token = store(fixture, Some(&caller(session)), ChallengePurpose::AddPasskey).await;
    for (login, why) in [(finished, "it is finished"), (over, "it was tried five times"), (token, "it is no login")] {
        assert_eq!(find(login).await.unwrap(), None, "{why}");
        assert!(begin(login).await.unwrap().is_none(), "{why}");
    }
    // Nor is there a second challenge, with tries of its own, for who has one.
    let login = begin_login(fixture, user_id).await;
    let again = log_in(fixture, FirstFactor::Challenge(login, None), SecondFactor::NotGiven, 6_000).await;
    assert!(again.is_second_refused(), "{:?}", again.outcome);
    assert!(begin(again.challenge).await.unwrap().is_none());
    assert!(begin(login).await.unwrap().is_some(), "it stays");
    (fixture.deactivate)("AzureDiamond");
    assert!(begin(login).await.unwrap().is_none(), "nobody may log in");
}

#[expect(clippy::too_many_lines, reason = "a table of what each does")]
pub async fn what_an_owner_or_staff_does_against_a_thief_ends_what_the_account_has_begun(fixture: &Fixture) {
    let repository = &fixture.repository;
    for number in 0..18 {
        let username = format!("user{number}");
        let of = Account::register(fixture, &username, App::Confirmed).await;
        let (own, user_id) = (caller(of.session), of.user_id);
        let reset = mailed(fixture, Purpose::ResetPassword, user_id, &of.email).await;
        let begun = store(fixture, Some(&own), ChallengePurpose::AddPasskey).await;
        let others =
            log_in(fixture, FirstFactor::Challenge(begin_login(fixture, user_id).await, None), by_code(150), 6_000)
                .await;
        assert!(others.is_opened());
        let login = begin_login(fixture, user_id).await;
        let known = name(&username);
        let change = |change| repository.change_account(&Actor::CommandLine, &known, change, at(7_000));
        let what = match number {
            0 => {
                assert!(change_password(fixture, of.session, HASH, "$new", 7_000).await);
                "a new password"
            }
            1 => {
                let set = AccountChange { password_hash: Some(hash("$new")), ..AccountChange::default() };
                change(set).await.unwrap().unwrap();
                "a password that was set"
            }
            2 => {
                let off = AccountChange { is_active: Some(false), ..AccountChange::default() };
                change(off).await.unwrap().unwrap();
                let on = AccountChange { is_active: Some(true), ..AccountChange::default() };
                change(on).await.unwrap().unwrap();
                "a deactivation"
            }
            3 => {
                repository.reset_password(reset.by_code(), hash("$new"), None, at(7_000)).await.unwrap().unwrap();
                "a reset"
            }
            4 => {
                repository.revoke_all_sessions(&own, at(7_000)).await.unwrap();
                "the end of all sessions"
            }
            5 => {
                let id = SessionId::of(&others.session);
                assert!(repository.revoke_session(&own, id, at(7_000)).await.unwrap());
                "the end of another session"
            }
            6 | 7 => {
                if number == 7 {
                    repository.revoke_own_session(&own, at(7_000)).await.unwrap();
                    repository.revoke_own_session(&caller(others.session), at(7_000)).await.unwrap();
                }
                let ended = repository
                    .revoke_account_sessions(&Actor::CommandLine, &name(&username), None, EVER, at(7_000))
                    .await
                    .unwrap();
                assert_eq!(ended, Some(if number == 6 { 2 } else { 0 }));
                "the end of all sessions by staff, also where there is none"
            }
            8 => {
                drop(crate::words::take(fixture, 7_000).await);
                let set = AccountChange { password_hash: Some(hash("$new")), ..AccountChange::default() };
                change(set).await.unwrap().unwrap();
                let (token, _) = send_only(fixture, authtokens::domain::mail::MailKind::PasswordSet, 7_000).await;
                // The password that was set has ended what there was.
                let begun = begin_another_login(fixture, &of).await;
                repository.disown(token, None, at(8_000)).await.unwrap().unwrap();
                assert!(repository.begin_factor_try(begun, at(8_000)).await.unwrap().is_none());
                "who disowns"
            }
            9 => {
                let city = vec![text(ProfileField::Email, "other@diamond.example")];
                repository.update_profile(&own, city, at(7_000)).await.unwrap();
                "another address"
            }
            10 => {
                assert!(repository.reset_factors(&Actor::CommandLine, &name(&username), at(7_000)).await.unwrap());
                "a reset of the factors"
            }
            11 => {
                reauthenticate(fixture, of.session).await;
                let removed = repository.remove_totp(&own, by_code(300), at(7_000)).await.unwrap();
                assert_eq!(removed, authtokens::repository::FactorChange::Done);
                "the end of the app"
            }
            12 => {
                assert!(
                    repository.withdraw_identity(&subject(&username), at(7_000), all_ways(), at(7_000)).await.unwrap()
                );
                "an identity that its provider withdraws"
            }
            13 => {
                assert!(repository.delete_account(&Actor::CommandLine, &name(&username), at(7_000)).await.unwrap());
                "the end of the account"
            }
            14 => {
                assert!(repository.forget_sealed(b"key-id-9".to_vec(), at(7_000)).await.unwrap().totp > 0);
                "a lost key"
            }
            15 | 16 => {
                reauthenticate(fixture, of.session).await;
                let removed = if number == 15 {
                    repository.unlink_identity(&own, subject(&username).id(), all_ways(), at(7_000)).await.unwrap()
                } else {
                    repository
                        .remove_passkey(&own, PasskeyId::of(&credential(&of.passkey)), all_ways(), at(7_000))
                        .await
                        .unwrap()
                };
                assert_eq!(removed, Removal::Done);
                "an identity that is unlinked, and a passkey that is removed"
            }
            _ => {
                let kept = AccountChange { is_staff: Some(true), ..AccountChange::default() };
                change(kept).await.unwrap().unwrap();
                assert!(repository.begin_factor_try(login, at(8_000)).await.unwrap().is_some(), "a right ends nothing");
                assert!(takes(fixture, Some(&own), ChallengePurpose::AddPasskey, begun, 8_000).await);
                continue;
            }
        };
        assert!(repository.begin_factor_try(login, at(8_000)).await.unwrap().is_none(), "{what}: a login");
        let finished = log_in(fixture, FirstFactor::Challenge(login, None), by_code(400), 8_000).await;
        assert!(finished.is_refused(), "{what}: {:?}", finished.outcome);
        if let Ok(taken) = repository.take_challenge(Some(&own), ChallengePurpose::AddPasskey, begun, at(8_000)).await {
            assert_eq!(taken, None, "{what}: a ceremony");
        }
    }
}

/// Begins a login of an account by its identity, and checks that it could be finished.
async fn begin_another_login(fixture: &Fixture, account: &Account) -> TokenDigest {
    let identity = by_identity(account.user_id, account.identity.clone());
    let begun = log_in(fixture, identity, SecondFactor::NotGiven, 8_000).await;
    assert!(begun.is_due(), "{:?}", begun.outcome);
    assert!(fixture.repository.begin_factor_try(begun.challenge, at(8_000)).await.unwrap().is_some());
    begun.challenge
}

pub async fn what_has_expired_is_pruned_and_a_used_id_token_when_it_is_worth_nothing(fixture: &Fixture) {
    let (_, session) = register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    let own = caller(session);
    let (first, _) = challenge_until(ChallengePurpose::AddPasskey, 10_000);
    fixture.repository.store_challenge(Some(&own), first, at(2_000)).await.unwrap();
    let later = store(fixture, None, ChallengePurpose::UsePasskey).await;
    let identity = says("somebody");
    crate::ways::link(fixture, session, identity.clone()).await;
    let prune = |millis| fixture.repository.prune_challenges(at(millis));
    assert_eq!(prune(9_999).await.unwrap(), 0);
    assert_eq!(prune(10_000).await.unwrap(), 1);
    assert_eq!(prune(59_999).await.unwrap(), 0);
    assert!(takes(fixture, None, ChallengePurpose::UsePasskey, later, 59_999).await);
    assert_eq!(prune(599_999).await.unwrap(), 0);
    let user_id = fixture.repository.find_session(&own).await.unwrap().unwrap().user_id;
    let used = log_in(fixture, by_identity(user_id, identity.clone()), SecondFactor::NotGiven, 599_999).await;
    assert!(used.is_refused(), "its ID token was used");
    assert_eq!(prune(600_000).await.unwrap(), 1);
}

pub async fn what_was_begun_while_the_clock_was_ahead_is_over_and_a_used_id_token_is_not_forgotten(fixture: &Fixture) {
    const DAY: i64 = 24 * 60 * 60_000;
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    let own = caller(session);
    let (ahead, now) = (30 * DAY, 10_000);
    let later = |millis: i64| at(millis).plus(Duration::from_secs(60));
    let (mut challenge, future) = challenge_until(ChallengePurpose::AddPasskey, 0);
    challenge.expires = later(ahead);
    fixture.repository.store_challenge(Some(&own), challenge, at(ahead)).await.unwrap();
    let present = store(fixture, Some(&own), ChallengePurpose::AddPasskey).await;
    // Its refresh token was to be revoked at once then.
    let identity = crate::ways::says_with_token("somebody");
    let linked = fixture.repository.link_identity(&own, false, identity.clone(), at(ahead)).await.unwrap();
    assert_eq!(linked, authtokens::repository::Linked::Done);
    reauthenticate(fixture, session).await;
    let withdrawn =
        fixture.repository.withdraw_identity(&subject("somebody"), at(ahead), all_ways(), at(ahead)).await.unwrap();
    assert!(withdrawn);
    let (_, session) = open(fixture, user_id, HASH).await;
    let own = caller(session);
    // What the account had begun has ended with its sessions, so once more.
    let (mut challenge, again) = challenge_until(ChallengePurpose::AddPasskey, 0);
    challenge.expires = later(ahead);
    fixture.repository.store_challenge(Some(&own), challenge, at(ahead)).await.unwrap();
    assert!(fixture.repository.claim_revocations(10, at(now), at(now)).await.unwrap().is_empty(), "it waits");
    assert_eq!(fixture.repository.clamp_times(at(now)).await.unwrap(), 2);
    assert_eq!(fixture.repository.clamp_times(at(now)).await.unwrap(), 0);
    for token in [future, present, again] {
        assert!(!takes(fixture, Some(&own), ChallengePurpose::AddPasskey, token, now).await);
    }
    let due = fixture.repository.claim_revocations(10, at(now), at(now)).await.unwrap();
    assert_eq!(due.iter().map(|due| due.expires).collect::<Vec<_>>(), [at(now + 2 * DAY)]);
    let linked = fixture.repository.link_identity(&own, false, identity, at(now)).await.unwrap();
    assert_eq!(linked, authtokens::repository::Linked::TokenUsed);
}
