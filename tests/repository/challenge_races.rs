//! Challenges that are stored, tried or finished by several at once.

use std::sync::Arc;

use authtokens::domain::challenge::{ChallengePurpose, MAX_FACTOR_TRIES};
use authtokens::repository::FirstFactor;

use crate::at_once::{ROUNDS, all, both, handles};
use crate::fixture::Fixture;
use crate::ways::{begin_login, by_code, challenge_until, log_in_on, set_up_totp};
use crate::words::{at, caller, list_session_ids, register};

pub async fn of_many_who_take_one_challenge_at_once_one_has_it(fixture: &Fixture) {
    let (_, session) = register(fixture, "AzureDiamond").await;
    for round in 0..ROUNDS {
        let handles = handles(fixture, round);
        let owner = (round % 4 < 2).then(|| caller(session));
        let (challenge, token) = challenge_until(ChallengePurpose::ReauthenticateByPasskey, 60_000);
        fixture.repository.store_challenge(owner.as_ref(), challenge, at(2_000)).await.unwrap();
        let contenders = (0..4).map(|number| {
            let repository = Arc::clone(&handles[number % 2]);
            async move {
                let purpose = ChallengePurpose::ReauthenticateByPasskey;
                repository.take_challenge(owner.as_ref(), purpose, token, at(3_000)).await.unwrap().is_some()
            }
        });
        let won = all(contenders.collect()).await;
        assert_eq!(won.into_iter().filter(|won| *won).count(), 1, "{round}");
    }
}

pub async fn of_many_tries_at_one_login_at_once_five_are_begun(fixture: &Fixture) {
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    set_up_totp(fixture, session).await;
    for round in 0..ROUNDS / 4 {
        let handles = handles(fixture, round);
        let login = begin_login(fixture, user_id).await;
        let contenders = (0..12).map(|number| {
            let repository = Arc::clone(&handles[number % 2]);
            async move { repository.begin_factor_try(login, at(6_000)).await.unwrap().is_some() }
        });
        let begun = all(contenders.collect()).await;
        assert_eq!(begun.into_iter().filter(|begun| *begun).count(), MAX_FACTOR_TRIES as usize, "{round}");
    }
}

pub async fn of_two_who_finish_one_login_at_once_one_opens_a_session(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (user_id, session) = register(fixture, &username).await;
        set_up_totp(fixture, session).await;
        let login = begin_login(fixture, user_id).await;
        let [one, other] = handles(fixture, round);
        let finish = |repository: Arc<dyn authtokens::repository::Repository>, step| async move {
            log_in_on(repository.as_ref(), FirstFactor::Challenge(login, None), by_code(step), 6_000).await
        };
        let (one, other) = both(finish(one, 200), finish(other, 201)).await;
        assert!(one.is_opened() != other.is_opened(), "{round}: {:?} {:?}", one.outcome, other.outcome);
        assert_eq!(list_session_ids(fixture, &username).await.len(), 2, "{round}");
    }
}

pub async fn however_many_are_begun_at_once_an_account_keeps_ten_of_a_purpose(fixture: &Fixture) {
    let (_, session) = register(fixture, "AzureDiamond").await;
    for round in 0..ROUNDS / 10 {
        let handles = handles(fixture, round);
        let owner = caller(session);
        let mut tokens = Vec::new();
        let contenders = (0..16).map(|number| {
            let repository = Arc::clone(&handles[number % 2]);
            let (challenge, token) = challenge_until(ChallengePurpose::AddPasskey, 60_000);
            tokens.push(token);
            async move { repository.store_challenge(Some(&owner), challenge, at(2_000)).await.unwrap() }
        });
        all(contenders.collect()).await;
        let mut kept = 0;
        for token in tokens {
            let purpose = ChallengePurpose::AddPasskey;
            let taken = fixture.repository.take_challenge(Some(&owner), purpose, token, at(3_000)).await.unwrap();
            kept += u32::from(taken.is_some());
        }
        assert_eq!(kept, ChallengePurpose::AddPasskey.most_of_an_account(), "{round}");
    }
}
