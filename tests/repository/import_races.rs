//! Imports beside imports and registrations, and tokens of other systems that are presented by several at once.

use std::sync::Arc;

use authtokens::domain::rights::Actor;
use authtokens::repository::{EmailVerification, ImportOutcome};

use crate::at_once::{ROUNDS, all, both, handles};
use crate::fixture::Fixture;
use crate::imports::{NOW, account, adopt, count_sessions, foreign, import, known, presented, with_address};
use crate::words::{at, caller, is_live, name, new_session, new_user, register_with};

const DONE: ImportOutcome = ImportOutcome::Imported { tokens: 0 };

pub async fn of_two_imports_of_the_same_at_once_each_account_is_made_by_one(fixture: &Fixture) {
    for round in 0..ROUNDS / 8 {
        let batch = move |is_backwards: bool| {
            let id = |number: usize| format!("{round}.{number}");
            let mut batch: Vec<_> =
                (0..20).map(|number| account(&id(number), &format!("user{round}.{number}"))).collect();
            for (number, account) in batch.iter_mut().enumerate() {
                account.tokens = vec![foreign(&presented(round * 20 + number), 0)];
            }
            if is_backwards {
                batch.reverse();
            }
            batch
        };
        let [first, second] = handles(fixture, round);
        let (first, mut second) =
            both(
                async move { import(&*first, batch(false)).await },
                async move { import(&*second, batch(true)).await },
            )
            .await;
        second.reverse();
        for outcomes in first.into_iter().zip(second) {
            let done = ImportOutcome::Imported { tokens: 1 };
            let is_by_one = [(done, ImportOutcome::Already), (ImportOutcome::Already, done)].contains(&outcomes);
            assert!(is_by_one, "{round}: {outcomes:?}");
        }
        for number in 0..20 {
            assert_eq!(count_sessions(fixture, &format!("user{round}.{number}")).await, 1);
        }
    }
}

pub async fn of_an_import_and_a_registration_of_one_name_at_once_one_is_made(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let username = format!("user{round}");
        let [first, second] = handles(fixture, round);
        let imported = account(&round.to_string(), &username.to_uppercase());
        let (outcome, registered) = both(async move { import(&*first, vec![imported]).await }, async move {
            second.register_user(new_user(&username), new_session(), None, at(NOW)).await
        })
        .await;
        let expected = if registered.is_ok() { ImportOutcome::NameTaken } else { DONE };
        assert_eq!(outcome, [expected], "{round}");
        let known = fixture.repository.find_imported("django", vec![round.to_string()]).await.unwrap();
        assert_eq!(known[0].is_some(), registered.is_err(), "{round}");
    }
}

pub async fn of_an_import_and_another_who_verify_one_address_at_once_one_does(fixture: &Fixture) {
    for round in 0..ROUNDS / 2 {
        let (username, address) = (format!("user{round}"), format!("user{round}@example.org"));
        register_with(fixture, &username, &address).await;
        let [first, second] = handles(fixture, round);
        let imported = with_address(&round.to_string(), &format!("ana{round}"), &address);
        let verifying = name(&username);
        let (outcome, verified) = both(async move { import(&*first, vec![imported]).await }, async move {
            second.verify_account_email(&Actor::CommandLine, &verifying, at(NOW)).await.unwrap().unwrap()
        })
        .await;
        assert_eq!(outcome, [DONE], "{round}");
        let credentials = fixture.repository.find_credentials(&name(&format!("ana{round}"))).await.unwrap().unwrap();
        assert_eq!(credentials.is_email_verified, verified != EmailVerification::Verified, "{round}");
    }
}

pub async fn all_who_present_a_token_at_once_are_let_in_and_it_is_one_session(fixture: &Fixture) {
    for round in 0..ROUNDS / 4 {
        let (username, token) = (format!("user{round}"), presented(round));
        let mut imported = account(&round.to_string(), &username);
        imported.tokens = vec![foreign(&token, round % 2)];
        import(&*fixture.repository, vec![imported]).await;
        let handles = handles(fixture, round);
        let contenders = (0..8).map(|number| {
            let (repository, token) = (Arc::clone(&handles[number % 2]), token.clone());
            async move {
                let is_adopted = adopt(&*repository, &token).await;
                is_adopted && repository.find_session(&caller(token.digest())).await.unwrap().is_some()
            }
        });
        assert_eq!(all(contenders.collect()).await, [true; 8], "{round}");
        assert_eq!(count_sessions(fixture, &username).await, 1, "{round}");
    }
}

pub async fn a_token_that_is_adopted_beside_its_end_is_worth_nothing_after_it(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let (username, token) = (format!("user{round}"), presented(round));
        let own = presented(1_000 + round);
        let mut imported = account(&round.to_string(), &username);
        imported.tokens = vec![foreign(&token, 0), known(&own)];
        import(&*fixture.repository, vec![imported]).await;
        let [first, second] = handles(fixture, round);
        let by_itself = round % 4 < 2;
        let (of_first, of_second) = (token.clone(), token.clone());
        both(async move { adopt(&*first, &of_first).await }, async move {
            if by_itself {
                assert!(adopt(&*second, &of_second).await, "{round}");
                second.revoke_own_session(&caller(of_second.digest()), at(NOW)).await.unwrap();
            } else {
                second.revoke_all_sessions(&caller(own.digest()), at(NOW)).await.unwrap();
            }
        })
        .await;
        assert!(!is_live(fixture, token.digest()).await, "{round}");
        assert!(!adopt(&*fixture.second, &token).await, "{round}");
        assert_eq!(count_sessions(fixture, &username).await, usize::from(by_itself), "{round}");
    }
}
