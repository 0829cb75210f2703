//! Second factors that are given, set up or removed by several at once.

use std::sync::Arc;

use authtokens::repository::{FactorChange, FirstFactor, SecondFactor};

use crate::at_once::{ROUNDS, all, both, handles};
use crate::fixture::Fixture;
use crate::ways::{
    begin_login, begin_totp, by_code, by_recovery_code, code, log_in, log_in_on, new_codes, security, set_up_totp,
    with_password,
};
use crate::words::{HASH, at, by_password, caller, hash, is_live, list_session_ids, register};

pub async fn of_two_logins_with_one_step_at_once_one_opens_a_session(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (user_id, session) = register(fixture, &username).await;
        set_up_totp(fixture, session).await;
        let [one, other] = handles(fixture, round);
        let try_on = |repository: Arc<dyn authtokens::repository::Repository>| async move {
            log_in_on(repository.as_ref(), with_password(user_id), by_code(200), 6_000).await
        };
        let (one, other) = both(try_on(one), try_on(other)).await;
        assert!(one.is_opened() != other.is_opened(), "{round}: {:?} {:?}", one.outcome, other.outcome);
        assert!(one.is_second_refused() != other.is_second_refused(), "{round}");
        assert_eq!(list_session_ids(fixture, &username).await.len(), 2, "{round}");
    }
}

pub async fn of_thirty_uses_of_one_recovery_code_at_once_one_opens_a_session(fixture: &Fixture) {
    for round in 0..ROUNDS / 10 {
        let username = format!("user{round}");
        let (user_id, session) = register(fixture, &username).await;
        let codes = set_up_totp(fixture, session).await;
        let handles = handles(fixture, 1);
        let mut replacements = Vec::new();
        let contenders = (0..30).map(|number| {
            let (second, replacement) = by_recovery_code(codes[0]);
            replacements.push(replacement);
            let repository = Arc::clone(&handles[number % 2]);
            async move { log_in_on(repository.as_ref(), with_password(user_id), second, 6_000).await.is_opened() }
        });
        let opened = all(contenders.collect()).await;
        assert_eq!(opened.iter().filter(|opened| **opened).count(), 1, "{round}");
        assert_eq!(security(fixture, session).await.recovery_codes, 10, "{round}");
        for (opened, replacement) in opened.into_iter().zip(replacements) {
            let tried = log_in(fixture, with_password(user_id), by_recovery_code(replacement).0, 7_000).await;
            assert_eq!(tried.is_opened(), opened, "{round}: the replacement is that of the use that counted");
        }
    }
}

pub async fn of_two_confirmations_of_one_app_at_once_one_is_made_with_its_codes(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let (user_id, session) = register(fixture, &format!("user{round}")).await;
        begin_totp(fixture, session).await;
        let [one, other] = handles(fixture, round);
        let codes = [new_codes(), new_codes()];
        let confirm = |repository: Arc<dyn authtokens::repository::Repository>, codes: &[_]| {
            let (caller, codes) = (caller(session), codes.to_vec());
            async move { repository.confirm_totp(&caller, code(100), codes, at(4_000)).await.unwrap() }
        };
        let (one, other) = both(confirm(one, &codes[0]), confirm(other, &codes[1])).await;
        let is_first = one == FactorChange::Done;
        assert_eq!(other, if is_first { FactorChange::Refused } else { FactorChange::Done }, "{round}");
        assert_eq!(security(fixture, session).await.recovery_codes, 10, "{round}");
        for (codes, expected) in codes.into_iter().zip([is_first, !is_first]) {
            let tried = log_in(fixture, with_password(user_id), by_recovery_code(codes[0]).0, 6_000).await;
            assert_eq!(tried.is_opened(), expected, "{round}");
        }
    }
}

pub async fn no_session_that_a_password_alone_opened_outlives_the_confirmation_of_an_app(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let (user_id, session) = register(fixture, &format!("user{round}")).await;
        begin_totp(fixture, session).await;
        let [one, other] = handles(fixture, round);
        let owner = caller(session);
        let (confirmed, login) = both(
            async move { one.confirm_totp(&owner, code(100), new_codes(), at(4_000)).await.unwrap() },
            async move { log_in_on(other.as_ref(), with_password(user_id), SecondFactor::NotGiven, 6_000).await },
        )
        .await;
        assert_eq!(confirmed, FactorChange::Done, "{round}");
        assert!(login.is_opened() || login.is_due(), "{round}: {:?}", login.outcome);
        assert!(!is_live(fixture, login.session).await, "{round}: {:?}", login.outcome);
    }
}

pub async fn an_app_is_removed_by_a_code_that_opens_a_session_beside_it_or_the_session_is_not_opened(
    fixture: &Fixture,
) {
    for round in 0..ROUNDS {
        let (user_id, session) = register(fixture, &format!("user{round}")).await;
        set_up_totp(fixture, session).await;
        let login = begin_login(fixture, user_id).await;
        let [one, other] = handles(fixture, round);
        let owner = caller(session);
        let (removed, finished) =
            both(async move { one.remove_totp(&owner, by_code(200), at(4_000)).await.unwrap() }, async move {
                log_in_on(other.as_ref(), FirstFactor::Challenge(login, None), by_code(200), 6_000).await
            })
            .await;
        let is_removed = removed == FactorChange::Done;
        assert!(is_removed != finished.is_opened(), "{round}: {removed:?} {:?}", finished.outcome);
        assert_eq!(security(fixture, session).await.totp.is_none(), is_removed, "{round}");
    }
}

pub async fn no_login_that_an_old_password_began_is_finished_behind_the_new_one(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let (user_id, session) = register(fixture, &username).await;
        set_up_totp(fixture, session).await;
        let [one, other] = handles(fixture, round);
        let owner = caller(session);
        let (changed, finished) = if round % 4 < 2 {
            let login = begin_login(fixture, user_id).await;
            both(
                async move { one.change_password(&owner, by_password(HASH), hash("$new"), at(6_000)).await.unwrap() },
                async move { log_in_on(other.as_ref(), FirstFactor::Challenge(login, None), by_code(200), 6_000).await },
            )
            .await
        } else {
            both(
                async move { one.change_password(&owner, by_password(HASH), hash("$new"), at(6_000)).await.unwrap() },
                async move { log_in_on(other.as_ref(), with_password(user_id), SecondFactor::NotGiven, 6_000).await },
            )
            .await
        };
        assert!(changed, "{round}");
        assert!(finished.is_opened() || finished.is_due() || finished.is_refused(), "{round}: {:?}", finished.outcome);
        assert_eq!(list_session_ids(fixture, &username).await.len(), 1, "{round}: {:?}", finished.outcome);
        let begun = fixture.repository.begin_factor_try(finished.challenge, at(7_000)).await.unwrap();
        assert!(begun.is_none(), "{round}: {:?}", finished.outcome);
    }
}
