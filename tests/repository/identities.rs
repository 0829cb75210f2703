//! Identities: registered by, linked, logged in by, unlinked, and their refresh tokens revoked.

use authtokens::domain::identity::{IdentityId, MAX_IDENTITIES};
use authtokens::domain::profile::ProfileField;
use authtokens::domain::rights::Actor;
use authtokens::domain::token::TokenDigest;
use authtokens::domain::user::{NewUser, PasswordHash};
use authtokens::repository::{
    FirstFactor, IdentityRegistered, IdentityUse, Linked, Proof, Reauthentication, Removal, RepositoryError,
    SecondFactor, UniqueField, VerifiedIdentity,
};

use crate::fixture::Fixture;
use crate::ways::{
    Account, App, FIRST_STEP, all_ways, by_address, by_code, by_identity, link, log_in, register_by, says,
    says_with_token, sealed, security, set_up_totp, subject,
};
use crate::words::{
    HASH, at, by_password, caller, email, events, is_live, name, new_session, new_user, reauthenticate, register,
    register_verified, text,
};

pub async fn an_account_is_registered_by_an_identity_that_is_nobodys_with_a_token_that_was_never_used(
    fixture: &Fixture,
) {
    let repository = &fixture.repository;
    let register = async |username: &str, identity: VerifiedIdentity| {
        let user = NewUser { password_hash: PasswordHash::none(), ..new_user(username) };
        let session = new_session();
        let digest = session.digest;
        (repository.register_by_identity(user, false, None, identity, session, at(1_000)).await, digest)
    };
    let first = says_with_token("somebody");
    let (registered, session) = register("AzureDiamond", first.clone()).await;
    let IdentityRegistered::Opened(user) = registered.unwrap() else { panic!("it is nobody's") };
    assert_eq!((user.username.as_str(), user.created, user.last_login), ("AzureDiamond", at(1_000), at(1_000)));
    assert!(is_live(fixture, session).await);
    let listed = repository.list_identities(&caller(session)).await.unwrap();
    let [identity] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((&identity.subject, &*identity.provider), (&subject("somebody"), "example"));
    assert_eq!((&*identity.email, identity.created, identity.last_used), ("somebody@id.example", at(1_000), at(1_000)));
    let owner = repository.find_identity_owner(&subject("somebody")).await.unwrap().unwrap();
    assert_eq!((owner.username.as_str(), owner.is_active), ("AzureDiamond", true));

    let (again, _) = register("other", says("somebody")).await;
    assert_eq!(again.unwrap(), IdentityRegistered::IdentityTaken);
    let (again, _) = register("other", VerifiedIdentity { token: first.token.clone(), ..says("another") }).await;
    assert_eq!(again.unwrap(), IdentityRegistered::TokenUsed);
    assert!(repository.find_credentials(&name("other")).await.unwrap().is_none(), "nothing happened");
    let other = says("another");
    let (taken, session) = register("azurediamond", other.clone()).await;
    assert!(matches!(taken, Err(RepositoryError::Conflict(UniqueField::Username))), "{taken:?}");
    assert!(!is_live(fixture, session).await);
    assert!(repository.find_identity_owner(&subject("another")).await.unwrap().is_none());
    let (registered, _) = register("other", other).await;
    assert!(matches!(registered.unwrap(), IdentityRegistered::Opened(_)), "its token was not used up");
    let told = events(fixture).await;
    assert_eq!(told.iter().filter(|event| **event == "identity_linked AzureDiamond AzureDiamond example").count(), 1);
    assert_eq!(told.iter().filter(|event| event.starts_with("registered ")).count(), 2, "{told:?}");
}

pub async fn the_address_of_who_registers_by_an_identity_is_verified_where_the_provider_speaks_for_it_and_it_is_free(
    fixture: &Fixture,
) {
    let repository = &fixture.repository;
    let register = async |username: &str, is_email_verified| {
        let mut user = NewUser { password_hash: PasswordHash::none(), ..new_user(username) };
        user.profile.set(text(ProfileField::Email, "azure@diamond.example"));
        let registered = repository
            .register_by_identity(user, is_email_verified, None, says(username), new_session(), at(1_000))
            .await
            .unwrap();
        let IdentityRegistered::Opened(user) = registered else { panic!("{registered:?}") };
        (user.profile.email.clone(), user.is_email_verified)
    };
    let address = "azure@diamond.example".to_owned();
    let owner = async || {
        let owner = repository.find_email_owner(&email("Azure@diamond.example")).await.unwrap();
        owner.map(|owner| (owner.username.as_str().to_owned(), owner.is_active))
    };
    assert_eq!(register("first", false).await, (address.clone(), false));
    assert_eq!(owner().await, None, "nobody has verified it");
    assert_eq!(register("second", true).await, (address.clone(), true));
    assert_eq!(register("third", true).await, (address, false), "it is another account's");
    assert_eq!(owner().await, Some(("second".to_owned(), true)));
    let told = events(fixture).await;
    let verified: Vec<_> = told.iter().filter(|event| event.starts_with("email_verified")).collect();
    assert_eq!(verified, ["email_verified second second "]);
    (fixture.deactivate)("second");
    assert_eq!(owner().await, Some(("second".to_owned(), false)));
}

pub async fn an_identity_is_linked_once_to_one_account(fixture: &Fixture) {
    let repository = &fixture.repository;
    let (_, session) = register(fixture, "AzureDiamond").await;
    let (_, other) = register(fixture, "other").await;
    let link_at = async |session, needs_fresh_session, identity: VerifiedIdentity| {
        repository.link_identity(&caller(session), needs_fresh_session, identity, at(4_000)).await.unwrap()
    };
    let first = says("somebody");
    assert_eq!(link_at(session, true, first.clone()).await, Linked::NotFresh);
    reauthenticate(fixture, session).await;
    assert_eq!(link_at(session, true, first.clone()).await, Linked::Done, "nothing was used up");
    assert_eq!(link_at(session, true, first.clone()).await, Linked::TokenUsed);
    assert_eq!(link_at(session, true, says_with_token("somebody")).await, Linked::Done, "it was before");
    assert_eq!(link_at(other, false, says("somebody")).await, Linked::Taken);
    let of_used_token = VerifiedIdentity { token: first.token, ..says("another") };
    assert_eq!(link_at(other, false, of_used_token).await, Linked::TokenUsed);
    assert!(repository.find_identity_owner(&subject("another")).await.unwrap().is_none());
    let asked_directly = VerifiedIdentity { token: None, ..says("another") };
    for _ in 0..2 {
        assert_eq!(link_at(other, false, asked_directly.clone()).await, Linked::Done);
    }
    for number in 1..MAX_IDENTITIES {
        assert_eq!(link_at(session, false, says(&format!("identity {number}"))).await, Linked::Done);
    }
    assert_eq!(link_at(session, false, says("too many")).await, Linked::Full);
    assert_eq!(link_at(session, false, says("identity 7")).await, Linked::Done, "it was before");
    let listed = repository.list_identities(&caller(session)).await.unwrap();
    assert_eq!(listed.len(), MAX_IDENTITIES as usize);
    let told = events(fixture).await;
    let linked = told.iter().filter(|event| event.starts_with("identity_linked AzureDiamond")).count();
    assert_eq!(linked, MAX_IDENTITIES as usize, "{told:?}");
}

pub async fn an_identity_opens_the_account_that_it_is_linked_to_and_no_other(fixture: &Fixture) {
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    let (other_id, _) = register_verified(fixture, "other", "other@diamond.example").await;
    link(fixture, session, says("somebody")).await;
    let with = async |first| log_in(fixture, first, SecondFactor::NotGiven, 6_000).await;
    assert!(with(by_identity(other_id, says("somebody"))).await.is_refused());
    assert!(with(by_address(other_id, says("somebody"), "other@diamond.example")).await.is_refused());
    assert!(with(by_identity(user_id, says("another"))).await.is_refused(), "it is linked to none");
    let newer = VerifiedIdentity { email: "newer@id.example".to_owned(), ..says("somebody") };
    assert!(with(by_identity(user_id, newer.clone())).await.is_opened());
    assert!(with(by_identity(user_id, newer)).await.is_refused(), "its ID token was used");
    let listed = fixture.repository.list_identities(&caller(session)).await.unwrap();
    assert_eq!((&*listed[0].email, listed[0].created, listed[0].last_used), ("newer@id.example", at(3_000), at(6_000)));
    let asked_directly = VerifiedIdentity { token: None, ..says("somebody") };
    for _ in 0..2 {
        assert!(with(by_identity(user_id, asked_directly.clone())).await.is_opened());
    }
}

pub async fn an_identity_is_found_by_its_address_where_the_account_has_verified_that_and_has_room(fixture: &Fixture) {
    let repository = &fixture.repository;
    let (user_id, session) = register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    let (other_id, other) = crate::words::register_with(fixture, "other", "other@diamond.example").await;
    let with = async |first| log_in(fixture, first, SecondFactor::NotGiven, 6_000).await;
    let key = "azure@diamond.example";
    assert!(with(by_address(other_id, says("one"), key)).await.is_refused(), "it is another account's");
    let unverified = by_address(other_id, says("one"), "other@diamond.example");
    assert!(with(unverified).await.is_refused(), "nobody has verified it");
    assert!(with(by_address(user_id, says("one"), "missing@diamond.example")).await.is_refused());
    assert!(repository.list_identities(&caller(other)).await.unwrap().is_empty());
    assert!(with(by_address(user_id, says("one"), key)).await.is_opened());
    let owner = repository.find_identity_owner(&subject("one")).await.unwrap().unwrap();
    assert_eq!(owner.user_id, user_id);
    assert!(with(by_identity(user_id, says("one"))).await.is_opened(), "it is linked");
    for number in 1..MAX_IDENTITIES {
        link(fixture, session, says(&format!("identity {number}"))).await;
    }
    assert!(with(by_address(user_id, says("too many"), key)).await.is_refused(), "there is no room");
    let identity = listed_id(fixture, session, "identity 1").await;
    reauthenticate(fixture, session).await;
    let unlinked = repository.unlink_identity(&caller(session), identity, all_ways(), at(4_000)).await.unwrap();
    assert_eq!(unlinked, Removal::Done);
    let moved = vec![text(ProfileField::Email, "newer@diamond.example")];
    repository.update_profile(&caller(session), moved, at(7_000)).await.unwrap();
    assert!(with(by_address(user_id, says("late"), key)).await.is_refused(), "the account has another address by now");
}

pub async fn an_identity_that_was_found_by_its_address_is_linked_with_the_second_factor_where_it_still_may_be(
    fixture: &Fixture,
) {
    let repository = &fixture.repository;
    let key = "azure@diamond.example";
    let (user_id, session) = register_verified(fixture, "AzureDiamond", key).await;
    let (other_id, other) = register(fixture, "other").await;
    set_up_totp(fixture, session).await;
    let begin = async |of: &str| {
        let tried = log_in(fixture, by_address(user_id, says(of), key), SecondFactor::NotGiven, 5_000).await;
        assert!(tried.is_due(), "{of}: {:?}", tried.outcome);
        tried.challenge
    };
    let finish_by = async |challenge, of: &str, key: &str, step| {
        let identity = VerifiedIdentity { token: None, ..says_with_token(of) };
        let used = IdentityUse { user_id, identity, by_email: Some(key.to_owned()) };
        log_in(fixture, FirstFactor::Challenge(challenge, Some(Box::new(used))), by_code(step), 6_000).await
    };
    let finish = async |challenge, of: &str, step| finish_by(challenge, of, key, step).await;
    let owner = async |of: &str| {
        let owner = repository.find_identity_owner(&subject(of)).await.unwrap();
        owner.map(|owner| owner.user_id)
    };
    let first = begin("one").await;
    let pending = fixture.second.begin_factor_try(first, at(5_000)).await.unwrap().unwrap();
    assert_eq!(pending.state, "{}", "as the challenge was stored");
    assert!(finish(first, "one", FIRST_STEP).await.is_second_refused());
    assert_eq!(owner("one").await, None);
    assert!(finish(first, "one", 200).await.is_opened());
    assert_eq!(owner("one").await, Some(user_id));
    let again = log_in(fixture, by_identity(user_id, says("one")), by_code(201), 6_000).await;
    assert!(again.is_opened(), "{:?}", again.outcome);

    let second = begin("two").await;
    link(fixture, other, says("two")).await;
    assert!(finish(second, "two", 202).await.is_opened());
    assert_eq!(owner("two").await, Some(other_id), "another account was faster");

    let third = begin("three").await;
    assert!(finish_by(third, "three", "missing@diamond.example", 203).await.is_opened());
    assert_eq!(owner("three").await, None, "it is not the account's address");

    let third = begin("three").await;
    let moved = vec![text(ProfileField::Email, "newer@diamond.example")];
    repository.update_profile(&caller(session), moved, at(5_500)).await.unwrap();
    assert!(finish(third, "three", 204).await.is_refused(), "another address ends what was begun");
    assert_eq!(owner("three").await, None);

    let told = events(fixture).await;
    assert_eq!(told.iter().filter(|event| event.starts_with("identity_linked AzureDiamond")).count(), 1, "{told:?}");
    assert!(repository.delete_user(&caller(session), by_password(HASH), at(7_000)).await.unwrap());
    let due = repository.claim_revocations(10, at(7_000), at(8_000)).await.unwrap();
    assert_eq!(due.into_iter().map(|due| due.binding).collect::<Vec<_>>(), [subject("one").binding()]);
}

pub async fn an_id_token_that_was_used_makes_no_second_factor_count(fixture: &Fixture) {
    let account = Account::register(fixture, "AzureDiamond", App::Confirmed).await;
    let with =
        async |second| log_in(fixture, by_identity(account.user_id, account.identity.clone()), second, 6_000).await;
    assert!(with(by_code(200)).await.is_opened());
    let (second, replacement) = crate::ways::by_recovery_code(account.codes[0]);
    assert!(with(second).await.is_refused());
    let tried = |code| {
        let second = crate::ways::by_recovery_code(code).0;
        log_in(fixture, crate::ways::with_password(account.user_id), second, 6_000)
    };
    assert!(tried(replacement).await.is_second_refused(), "nobody was handed it out");
    assert!(tried(account.codes[0]).await.is_opened(), "the code was not used up");
}

async fn listed_id(fixture: &Fixture, session: TokenDigest, of: &str) -> IdentityId {
    let listed = fixture.repository.list_identities(&caller(session)).await.unwrap();
    listed.into_iter().find(|identity| identity.subject == subject(of)).unwrap().subject.id()
}

pub async fn an_identity_is_unlinked_in_a_fresh_session_by_its_owner(fixture: &Fixture) {
    let repository = &fixture.repository;
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    let (_, other) = register(fixture, "other").await;
    link(fixture, session, says("somebody")).await;
    reauthenticate(fixture, other).await;
    let id = subject("somebody").id();
    let unlink =
        async |session| repository.unlink_identity(&caller(session), id.clone(), all_ways(), at(4_000)).await.unwrap();
    assert_eq!(unlink(session).await, Removal::NotFresh);
    assert_eq!(unlink(other).await, Removal::NotFound);
    reauthenticate(fixture, session).await;
    assert_eq!(unlink(session).await, Removal::Done, "the password is left");
    assert_eq!(unlink(session).await, Removal::NotFound);
    let tried = log_in(fixture, by_identity(user_id, says("somebody")), SecondFactor::NotGiven, 6_000).await;
    assert!(tried.is_refused());
    assert!(
        repository.claim_revocations(10, at(9_000), at(9_000)).await.unwrap().is_empty(),
        "it had no refresh token"
    );
    let told = events(fixture).await;
    assert_eq!(told.iter().filter(|event| **event == "identity_unlinked AzureDiamond AzureDiamond example").count(), 1);
    link(fixture, other, says("somebody")).await;
}

pub async fn an_identity_that_its_provider_withdraws_ends_the_sessions_and_is_unlinked_where_another_way_is_left(
    fixture: &Fixture,
) {
    let repository = &fixture.repository;
    let withdraw =
        async |of: &str| repository.withdraw_identity(&subject(of), at(5_000), all_ways(), at(5_000)).await.unwrap();
    assert!(!withdraw("nobody").await);
    let (_, session) = register(fixture, "AzureDiamond").await;
    link(fixture, session, says_with_token("somebody")).await;
    let (other_id, other) = register_by(fixture, "other", says_with_token("another")).await;
    for (of, session) in [("somebody", session), ("another", other)] {
        assert!(withdraw(of).await);
        assert!(!is_live(fixture, session).await, "{of}");
    }
    assert!(repository.find_identity_owner(&subject("somebody")).await.unwrap().is_none());
    assert!(!withdraw("somebody").await);
    assert!(repository.find_identity_owner(&subject("another")).await.unwrap().is_some(), "it is the last way in");
    let tried = log_in(fixture, by_identity(other_id, says("another")), SecondFactor::NotGiven, 6_000).await;
    assert!(tried.is_opened());
    let told = events(fixture).await;
    for (expected, count) in [
        ("all_sessions_revoked AzureDiamond  ", 1),
        ("identity_unlinked AzureDiamond  withdrawn", 1),
        ("all_sessions_revoked other  ", 1),
        ("identity_unlinked other  withdrawn", 0),
    ] {
        assert_eq!(told.iter().filter(|event| **event == expected).count(), count, "{expected}: {told:?}");
    }
    assert_eq!(repository.claim_revocations(10, at(6_000), at(6_000)).await.unwrap().len(), 1);
}

pub async fn a_withdrawal_from_before_an_identity_was_last_used_ends_nothing(fixture: &Fixture) {
    let repository = &fixture.repository;
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    let linked = repository.link_identity(&caller(session), false, says("somebody"), at(5_000)).await.unwrap();
    assert_eq!(linked, Linked::Done);
    assert!(!repository.withdraw_identity(&subject("somebody"), at(4_999), all_ways(), at(9_000)).await.unwrap());
    assert!(is_live(fixture, session).await);
    assert!(repository.find_identity_owner(&subject("somebody")).await.unwrap().is_some());
    let again = by_identity(user_id, VerifiedIdentity { token: None, ..says("somebody") });
    assert!(log_in(fixture, again, SecondFactor::NotGiven, 7_000).await.is_opened());
    assert!(!repository.withdraw_identity(&subject("somebody"), at(6_999), all_ways(), at(9_000)).await.unwrap());
    assert!(is_live(fixture, session).await);
    assert!(repository.withdraw_identity(&subject("somebody"), at(7_000), all_ways(), at(9_000)).await.unwrap());
    assert!(!is_live(fixture, session).await);
    assert!(repository.find_identity_owner(&subject("somebody")).await.unwrap().is_none());
}

pub async fn a_refresh_token_is_revoked_whenever_its_identity_goes(fixture: &Fixture) {
    let repository = &fixture.repository;
    let mut expected = Vec::new();
    for (number, how) in ["unlink", "owner", "fresh", "staff"].into_iter().enumerate() {
        let username = format!("user{number}");
        let (_, session) = register(fixture, &username).await;
        let caller = caller(session);
        link(fixture, session, says_with_token(&username)).await;
        link(fixture, session, says(&format!("none of {username}"))).await;
        reauthenticate(fixture, session).await;
        match how {
            "unlink" => {
                for of in [username.clone(), format!("none of {username}")] {
                    let unlinked =
                        repository.unlink_identity(&caller, subject(&of).id(), all_ways(), at(4_000)).await.unwrap();
                    assert_eq!(unlinked, Removal::Done);
                }
            }
            "owner" => assert!(repository.delete_user(&caller, by_password(HASH), at(4_000)).await.unwrap()),
            "fresh" => assert!(repository.delete_user(&caller, Proof::FreshSession, at(4_000)).await.unwrap()),
            _ => assert!(repository.delete_account(&Actor::CommandLine, &name(&username), at(4_000)).await.unwrap()),
        }
        expected.push((
            "example".to_owned(),
            subject(&username).binding(),
            sealed("refresh"),
            0,
            at(4_000 + 172_800_000),
        ));
        assert!(repository.find_identity_owner(&subject(&username)).await.unwrap().is_none(), "{how}");
    }
    assert!(repository.claim_revocations(100, at(3_999), at(9_000)).await.unwrap().is_empty());
    let due = repository.claim_revocations(100, at(4_000), at(9_000)).await.unwrap();
    let told: Vec<_> =
        due.into_iter().map(|due| (due.provider, due.binding, due.token, due.attempts, due.expires)).collect();
    assert!(told == expected, "in the order in which they became due");
}

pub async fn a_refresh_token_that_a_login_brings_takes_the_place_of_the_one_before(fixture: &Fixture) {
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    link(fixture, session, says_with_token("somebody")).await;
    let newer = VerifiedIdentity { refresh_token: Some(sealed("newer")), ..says("somebody") };
    for identity in [newer, says("somebody")] {
        assert!(log_in(fixture, by_identity(user_id, identity), SecondFactor::NotGiven, 6_000).await.is_opened());
    }
    let deleted = fixture.repository.delete_user(&caller(session), by_password(HASH), at(7_000)).await.unwrap();
    assert!(deleted);
    let due = fixture.repository.claim_revocations(10, at(7_000), at(8_000)).await.unwrap();
    assert_eq!(due.into_iter().map(|due| due.token).collect::<Vec<_>>(), [sealed("newer")], "none takes it away");
}

/// Makes a revocation that is due at `millis`.
async fn revoke(fixture: &Fixture, of: &str, millis: i64) {
    let (_, session) = register(fixture, of).await;
    link(fixture, session, says_with_token(of)).await;
    assert!(fixture.repository.delete_user(&caller(session), by_password(HASH), at(millis)).await.unwrap());
}

pub async fn a_claimed_revocation_is_nobody_elses_until_its_claim_ends_and_then_the_claim_is_worth_nothing(
    fixture: &Fixture,
) {
    revoke(fixture, "one", 4_000).await;
    let claim = |now, until| fixture.repository.claim_revocations(10, at(now), at(until));
    let settle = |id, retry: Option<i64>| fixture.repository.settle_revocation(id, retry.map(at));
    let first = claim(4_000, 10_000).await.unwrap().remove(0);
    assert!(fixture.second.claim_revocations(10, at(9_999), at(20_000)).await.unwrap().is_empty());
    let second = fixture.second.claim_revocations(10, at(10_000), at(20_000)).await.unwrap().remove(0);
    assert_eq!(second.attempts, 0, "what was never settled was no attempt");
    for retry in [None, Some(11_000)] {
        assert!(!settle(first.id, retry).await.unwrap(), "the claim is over");
    }
    assert!(settle(second.id, Some(30_000)).await.unwrap());
    for retry in [None, Some(11_000)] {
        assert!(!settle(second.id, retry).await.unwrap(), "it is settled");
    }
    assert!(claim(29_999, 40_000).await.unwrap().is_empty());
    let third = claim(30_000, 40_000).await.unwrap().remove(0);
    assert_eq!((third.attempts, third.expires), (1, at(4_000 + 172_800_000)));
    assert!(settle(third.id, None).await.unwrap());
    assert!(!settle(third.id, None).await.unwrap());
    assert!(claim(1_000_000, 1_000_001).await.unwrap().is_empty());
}

pub async fn revocations_are_claimed_longest_due_first_and_given_up_after_two_days(fixture: &Fixture) {
    const END: i64 = 4_000 + 172_800_000;
    for (of, millis) in [("late", 5_000), ("one", 4_000), ("two", 4_000)] {
        revoke(fixture, of, millis).await;
    }
    let claim = async |limit, now: i64| {
        let claimed = fixture.repository.claim_revocations(limit, at(now), at(now + 1)).await.unwrap();
        claimed.into_iter().map(|revocation| revocation.binding).collect::<Vec<_>>()
    };
    let binding = |of: &str| subject(of).binding();
    assert_eq!(claim(2, 6_000).await, [binding("one"), binding("two")]);
    assert_eq!(claim(2, 6_000).await, [binding("late")]);
    assert_eq!(claim(10, END - 1).await.len(), 3);
    assert_eq!(claim(10, END).await, [binding("late")], "the others are no longer worth trying");
    assert!(claim(10, END + 1_000).await.is_empty());
}

pub async fn an_id_token_counts_once_whatever_it_is_for(fixture: &Fixture) {
    let repository = &fixture.repository;
    let account = Account::register(fixture, "AzureDiamond", App::None).await;
    let used = says("AzureDiamond");
    let first = log_in(fixture, by_identity(account.user_id, used.clone()), SecondFactor::NotGiven, 6_000).await;
    assert!(first.is_opened());
    let again = |of: &str| VerifiedIdentity { token: used.token.clone(), ..says(of) };
    let shown = Reauthentication::Identity(IdentityUse {
        user_id: account.user_id,
        identity: again("AzureDiamond"),
        by_email: None,
    });
    assert!(!repository.reauthenticate(&caller(account.session), shown, at(6_000)).await.unwrap());
    let by_email = by_address(account.user_id, again("another"), &account.email);
    assert!(log_in(fixture, by_email, SecondFactor::NotGiven, 6_000).await.is_refused());
    let linked = repository.link_identity(&caller(account.session), false, again("another"), at(6_000)).await.unwrap();
    assert_eq!(linked, Linked::TokenUsed);
    let registered = repository
        .register_by_identity(new_user("other"), false, None, again("another"), new_session(), at(6_000))
        .await;
    assert_eq!(registered.unwrap(), IdentityRegistered::TokenUsed);
    assert_eq!(security(fixture, account.session).await.identities, 1);
    set_up_totp(fixture, account.session).await;
    let due = says("AzureDiamond");
    for expected in [true, false] {
        let first = by_identity(account.user_id, due.clone());
        let tried = log_in(fixture, first, SecondFactor::NotGiven, 6_000).await;
        assert_eq!(tried.is_due(), expected, "also where the second factor is due");
    }
}
