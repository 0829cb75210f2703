//! Codes and links, where two present one at once, or something ends it meanwhile.

use std::sync::Arc;

use authtokens::domain::one_time::{Code, MAX_TRIES, Presented, Purpose};
use authtokens::domain::rights::Actor;
use authtokens::domain::session::SessionId;
use authtokens::repository::{Confirmed, RepositoryError, Tried};

use crate::at_once::{ROUNDS, all, both, handles};
use crate::fixture::Fixture;
use crate::words::{
    HASH, Mailed, OpensSessions as _, at, by_password, caller, claim, hash, is_live, list_session_ids, login, mailed,
    name, new_session, register, register_verified, register_with, request_change, send,
};

const ADDRESS: &str = "azure@diamond.example";

/// The code in the one round, the link in the other; of two, one each in the third.
fn presented(mailed: &Mailed, round: usize, number: usize) -> Presented {
    match (round % 3, number) {
        (0, _) | (2, 0) => mailed.by_code(),
        _ => mailed.by_link(),
    }
}

pub async fn of_two_resets_by_one_mail_at_once_one_is_made(fixture: &Fixture) {
    let (user_id, _) = register_verified(fixture, "AzureDiamond", ADDRESS).await;
    for round in 0..ROUNDS {
        let mailed = mailed(fixture, Purpose::ResetPassword, user_id, ADDRESS).await;
        let handles = handles(fixture, round);
        let [first, second] = [0, 1].map(|number| {
            let (repository, presented) = (Arc::clone(&handles[number]), presented(&mailed, round, number));
            let new_hash = hash(&format!("$new{number}"));
            async move { repository.reset_password(presented, new_hash, None, at(3_000)).await.unwrap().is_some() }
        });
        let outcomes = both(first, second).await;
        let winner = match outcomes {
            (true, false) => 0,
            (false, true) => 1,
            outcomes => panic!("{round}: {outcomes:?}"),
        };
        let credentials = fixture.repository.find_credentials(&name("AzureDiamond")).await.unwrap().unwrap();
        assert_eq!(credentials.password_hash.as_stored(), format!("$new{winner}"), "{round}");
        let mails = claim(fixture, 3_000).await;
        assert_eq!(mails.len(), 1, "{round}");
        assert!(fixture.repository.complete_mail(mails[0].id).await.unwrap());
    }
}

pub async fn of_two_resets_by_two_mails_at_once_one_is_made(fixture: &Fixture) {
    let (user_id, _) = register_verified(fixture, "AzureDiamond", ADDRESS).await;
    for round in 0..ROUNDS {
        let strangers = mailed(fixture, Purpose::ResetPassword, user_id, ADDRESS).await;
        let owners = Mailed::new();
        let offer = owners.offer(Purpose::ResetPassword, user_id, ADDRESS, true);
        assert!(fixture.repository.store_offer(offer, None, at(2_000)).await.unwrap());
        let [first, second] = handles(fixture, round);
        let presented = [presented(&strangers, round, 0), presented(&owners, round, 1)];
        let [one, other] = presented;
        let made = both(
            async move { first.reset_password(one, hash("$one"), None, at(3_000)).await.unwrap().is_some() },
            async move { second.reset_password(other, hash("$other"), None, at(3_000)).await.unwrap().is_some() },
        )
        .await;
        assert!(made.0 != made.1, "{round}: a reset ends every other mail: {made:?}");
    }
}

pub async fn of_two_logins_by_one_mail_at_once_one_opens_a_session(fixture: &Fixture) {
    let (user_id, _) = register_verified(fixture, "AzureDiamond", ADDRESS).await;
    for round in 0..ROUNDS {
        let mailed = mailed(fixture, Purpose::SignIn, user_id, ADDRESS).await;
        let handles = handles(fixture, round);
        let before = list_session_ids(fixture, "AzureDiamond").await.len();
        let [first, second] = [0, 1].map(|number| {
            let (repository, presented) = (Arc::clone(&handles[number]), presented(&mailed, round, number));
            let session = new_session();
            let digest = session.digest;
            async move {
                let opened = repository.log_in_by_mail(presented, session, 1_000, at(3_000)).await.unwrap();
                (opened.is_some(), digest)
            }
        });
        let (first, second) = both(first, second).await;
        assert!(first.0 != second.0, "{round}");
        for (is_opened, digest) in [first, second] {
            assert_eq!(is_live(fixture, digest).await, is_opened, "{round}");
        }
        assert_eq!(list_session_ids(fixture, "AzureDiamond").await.len(), before + 1, "{round}");
    }
}

pub async fn of_two_sessions_that_one_code_makes_fresh_at_once_one_is(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let (username, address) = (format!("user{round}"), format!("user{round}@diamond.example"));
        let (user_id, digest) = register_verified(fixture, &username, &address).await;
        let (_, second_digest) = crate::words::open(fixture, user_id, HASH).await;
        let mailed = mailed(fixture, Purpose::Reauthenticate, user_id, &address).await;
        let [first, second] = handles(fixture, round);
        let (request, mac) = (mailed.request.digest(), mailed.mac());
        let outcomes = both(
            async move { first.reauthenticate_by_code(&caller(digest), request, mac, at(3_000)).await.unwrap() },
            async move {
                second.reauthenticate_by_code(&caller(second_digest), request, mac, at(3_000)).await.unwrap()
            },
        )
        .await;
        let right = Tried::Right(name(&username));
        assert!(
            outcomes == (right.clone(), Tried::Unknown) || outcomes == (Tried::Unknown, right),
            "{round}: {outcomes:?}"
        );
        let fresh = [digest, second_digest].map(|digest| crate::words::is_fresh(fixture, digest, 3_000));
        let [first, second] = fresh;
        assert!(first.await != second.await, "{round}");
    }
}

pub async fn of_many_wrong_codes_at_once_five_are_counted_and_then_the_right_one_is_worth_nothing(fixture: &Fixture) {
    let (user_id, _) = register_verified(fixture, "AzureDiamond", ADDRESS).await;
    for round in 0..ROUNDS / 4 {
        let mailed = mailed(fixture, Purpose::ResetPassword, user_id, ADDRESS).await;
        let handles = handles(fixture, round);
        let guesses = (0..12).map(|number| {
            let repository = Arc::clone(&handles[number % 2]);
            let (request, mac) = (mailed.request.digest(), mailed.wrong_mac());
            async move {
                match number % 3 {
                    0 => {
                        let presented = Presented::Code(request, mac);
                        let reset = repository.reset_password(presented, hash("$new"), None, at(3_000)).await.unwrap();
                        assert_eq!(reset, None);
                        None
                    }
                    _ => Some(
                        repository.try_code(Purpose::ResetPassword, request, mac, at(3_000)).await.unwrap()
                            != Tried::Unknown,
                    ),
                }
            }
        });
        let counted = all(guesses.collect()).await;
        let tried = counted.iter().filter(|counted| **counted == Some(true)).count();
        // Four of the twelve do not say whether they were counted.
        assert!((MAX_TRIES as usize - 4..=MAX_TRIES as usize).contains(&tried), "{round}: {tried}");
        let right = fixture
            .repository
            .try_code(Purpose::ResetPassword, mailed.request.digest(), mailed.mac(), at(3_000))
            .await
            .unwrap();
        assert_eq!(right, Tried::Unknown, "{round}");
    }
    for round in 0..ROUNDS / 4 {
        let mailed = mailed(fixture, Purpose::ResetPassword, user_id, ADDRESS).await;
        let handles = handles(fixture, round);
        let guesses = (0..12).map(|number| {
            let repository = Arc::clone(&handles[number % 2]);
            let (request, mac) = (mailed.request.digest(), mailed.wrong_mac());
            async move { repository.try_code(Purpose::ResetPassword, request, mac, at(3_000)).await.unwrap() }
        });
        let outcomes = all(guesses.collect()).await;
        let wrong = outcomes.iter().filter(|outcome| matches!(outcome, Tried::Wrong(_))).count();
        assert_eq!(wrong, MAX_TRIES as usize, "{round}");
    }
}

pub async fn no_session_that_an_old_password_opened_outlives_a_reset(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let (username, address) = (format!("user{round}"), format!("user{round}@diamond.example"));
        let (user_id, digest) = register_verified(fixture, &username, &address).await;
        let (reset, sign_in) = (
            mailed(fixture, Purpose::ResetPassword, user_id, &address).await,
            mailed(fixture, Purpose::SignIn, user_id, &address).await,
        );
        let [first, second] = handles(fixture, round);
        let by_mail = round % 4 < 2;
        let presented = sign_in.by_link();
        let by_link = reset.by_link();
        let reset = async move { first.reset_password(by_link, hash("$new"), None, at(3_000)).await.unwrap().unwrap() };
        let login = async move {
            if by_mail {
                second.log_in_by_mail(presented, new_session(), 100, at(3_000)).await.unwrap();
            } else {
                second.log_in(login(user_id, HASH), new_session(), 100, at(3_000)).await.unwrap();
            }
        };
        both(reset, login).await;
        assert!(list_session_ids(fixture, &username).await.is_empty(), "{round}");
        assert!(!is_live(fixture, digest).await, "{round}");
    }
}

pub async fn a_reset_beside_a_new_password_comes_before_it_or_is_not_made(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let (username, address) = (format!("user{round}"), format!("user{round}@diamond.example"));
        let (user_id, digest) = register_verified(fixture, &username, &address).await;
        let mailed = mailed(fixture, Purpose::ResetPassword, user_id, &address).await;
        let [first, second] = handles(fixture, round);
        let presented = mailed.by_code();
        let (reset, change) = both(
            async move { first.reset_password(presented, hash("$reset"), None, at(3_000)).await.unwrap().is_some() },
            async move { second.change_password(&caller(digest), by_password(HASH), hash("$new"), at(3_000)).await },
        )
        .await;
        let stored = fixture.repository.find_credentials(&name(&username)).await.unwrap().unwrap().password_hash;
        match (reset, change) {
            (true, Err(RepositoryError::NoSession)) => assert_eq!(stored.as_stored(), "$reset", "{round}"),
            (false, Ok(true)) => {
                assert_eq!(stored.as_stored(), "$new", "{round}");
                assert_eq!(list_session_ids(fixture, &username).await, [SessionId::of(&digest)], "{round}");
            }
            outcomes => panic!("{round}: {outcomes:?}"),
        }
    }
}

pub async fn of_two_accounts_that_confirm_one_address_at_once_one_gets_it(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let address = format!("shared{round}@diamond.example");
        let (mut sessions, mut tokens) = (Vec::new(), Vec::new());
        for number in 0..2 {
            let (_, digest) = register(fixture, &format!("user{round}x{number}")).await;
            request_change(fixture, digest, &address, 2_000).await;
            let mails = claim(fixture, 2_000).await;
            tokens.push(send(fixture, &mails[0], 2_000).await.0);
            sessions.push(digest);
        }
        let handles = handles(fixture, round);
        let contenders = [0, 1].map(|number| {
            let repository = Arc::clone(&handles[number]);
            let (token, digest) = (tokens[number], sessions[number]);
            async move {
                if (round + number).is_multiple_of(2) {
                    repository.confirm_email_by_link(token, None, at(3_000)).await.unwrap()
                } else {
                    let code = Code::parse("123456").unwrap();
                    repository.confirm_email_by_code(&caller(digest), None, code, at(3_000)).await.unwrap()
                }
            }
        });
        let [first, second] = contenders;
        match both(first, second).await {
            (Confirmed::Done(user), Confirmed::Taken) | (Confirmed::Taken, Confirmed::Done(user)) => {
                let found = fixture.repository.find_credentials_by_email(&crate::words::email(&address)).await;
                assert_eq!(found.unwrap().unwrap().username, user.username, "{round}");
            }
            outcomes => panic!("{round}: {outcomes:?}"),
        }
    }
}

pub async fn an_address_that_staff_and_its_holder_verify_at_once_is_one_accounts(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let address = format!("shared{round}@diamond.example");
        let (user_id, _) = register_with(fixture, &format!("one{round}"), &address).await;
        register_with(fixture, &format!("other{round}"), &address).await;
        let mailed = mailed(fixture, Purpose::ResetPassword, user_id, &address).await;
        let [first, second] = handles(fixture, round);
        let (presented, other) = (mailed.by_link(), name(&format!("other{round}")));
        both(
            async move { first.reset_password(presented, hash("$new"), None, at(3_000)).await.unwrap().unwrap() },
            async move { second.verify_account_email(&Actor::CommandLine, &other, at(3_000)).await.unwrap() },
        )
        .await;
        let mut verified = 0;
        for username in [format!("one{round}"), format!("other{round}")] {
            let credentials = fixture.repository.find_credentials(&name(&username)).await.unwrap().unwrap();
            verified += usize::from(credentials.is_email_verified);
        }
        assert_eq!(verified, 1, "{round}");
    }
}

pub async fn nothing_is_left_of_an_account_that_is_deleted_beside_a_reset_or_a_mail(fixture: &Fixture) {
    for round in 0..ROUNDS {
        let (username, address) = (format!("user{round}"), format!("user{round}@diamond.example"));
        let (user_id, digest) = register_verified(fixture, &username, &address).await;
        let reset = mailed(fixture, Purpose::ResetPassword, user_id, &address).await;
        let [first, second] = handles(fixture, round);
        let target = name(&username);
        let (presented, offer) = (reset.by_code(), Mailed::new().offer(Purpose::SignIn, user_id, &address, true));
        let deletion = async move { first.delete_account(&Actor::CommandLine, &target, at(3_000)).await.unwrap() };
        let other = async move {
            if round % 4 < 2 {
                second.reset_password(presented, hash("$new"), None, at(3_000)).await.map(drop)
            } else {
                second.store_offer(offer, None, at(3_000)).await.map(drop)
            }
        };
        let (is_deleted, other) = both(deletion, other).await;
        assert!(is_deleted, "{round}");
        other.unwrap();
        assert_eq!((fixture.count_rows_of)(user_id), 0, "{round}");
        assert!(!is_live(fixture, digest).await, "{round}");
    }
}
