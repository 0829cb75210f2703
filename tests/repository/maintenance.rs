//! What keeps a store in order, and what it tells of itself.

use authtokens::domain::event::EventKind;
use authtokens::domain::one_time::Purpose;
use authtokens::domain::rights::{AccountChange, Actor};
use authtokens::domain::session::{Caller, SessionCutoffs};
use authtokens::repository::{FigureValue, RepositoryError, StoreCounts, VerifiedLogin};

use crate::fixture::Fixture;
use crate::ways::{all_ways, link, says_with_token, subject};
use crate::words::{
    HASH, Mailed, OpensSessions as _, at, caller, hash, is_fresh, name, new_session, new_user, refused, register,
    register_verified, with_password,
};

pub async fn a_store_that_can_work_says_so(fixture: &Fixture) {
    fixture.repository.check_ready().await.unwrap();
}

pub async fn a_store_tells_how_much_it_did_and_holds(fixture: &Fixture) {
    let before = fixture.repository.statistics().await;
    assert_eq!(fixture.repository.count().await.unwrap(), StoreCounts { users: 0, sessions: 0, revocations: 0 });
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    register(fixture, "other").await;
    let login = VerifiedLogin { user_id, verified_against: hash(HASH), rehashed: None };
    fixture.repository.log_in(login, new_session(), 100, at(2_000)).await.unwrap().unwrap();
    assert_eq!(fixture.repository.count().await.unwrap(), StoreCounts { users: 2, sessions: 3, revocations: 0 });
    let after = fixture.repository.statistics().await;
    let names: Vec<_> = after.figures.iter().map(|figure| figure.name).collect();
    assert_eq!(
        names,
        before.figures.iter().map(|figure| figure.name).collect::<Vec<_>>(),
        "the same in the same order"
    );
    assert!(names.iter().all(|name| name.starts_with("authtokens_store_")), "{names:?}");
    let mut steps =
        before.figures.iter().zip(&after.figures).filter_map(|(before, after)| match (before.value, after.value) {
            (FigureValue::Counter(before), FigureValue::Counter(after)) => Some(after.checked_sub(before).unwrap()),
            _ => None,
        });
    assert!(steps.any(|step| step >= 3), "three writes are told: {after:?}");
    assert!(after.refused.iter().all(|(_, count)| *count == 0), "{after:?}");
    link(fixture, session, says_with_token("somebody")).await;
    assert!(
        fixture.repository.withdraw_identity(&subject("somebody"), at(5_000), all_ways(), at(5_000)).await.unwrap()
    );
    assert_eq!(fixture.repository.count().await.unwrap().revocations, 1);
}

pub async fn a_closed_store_takes_no_more_writes(fixture: &Fixture) {
    register(fixture, "AzureDiamond").await;
    fixture.repository.close().await.unwrap();
    let refused = fixture.repository.register_user(new_user("late"), new_session(), None, at(2_000)).await;
    assert!(matches!(refused, Err(RepositoryError::Unavailable(_))), "{refused:?}");
}

pub async fn what_is_stored_from_the_future_is_set_to_now_and_nothing_else_is(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    // Made at 1,000, and one of them used later.
    let (_, used) = register(fixture, "AzureDiamond").await;
    let (_, other) = register(fixture, "other").await;
    repository.record_use(vec![(used, at(900_000))]).await.unwrap();
    repository
        .record_failed_attempts(vec![refused(EventKind::LoginFailed, "other", 900_000)], at(900_000))
        .await
        .unwrap();
    let used_after = async |digest, millis| {
        let cutoffs = SessionCutoffs { used_after: at(millis), ..SessionCutoffs::EVER };
        repository.find_session(&Caller { digest, cutoffs, ip: None }).await.unwrap().is_some()
    };
    for _ in 0..50 {
        assert!(used_after(used, 899_999).await, "remembered as well as it ever is");
    }
    assert_eq!(repository.clamp_times(at(840_000)).await.unwrap(), 0, "a minute is nothing");
    assert_eq!(repository.clamp_times(at(500_000)).await.unwrap(), 2);
    assert_eq!(repository.clamp_times(at(500_000)).await.unwrap(), 0);
    assert!(used_after(used, 499_999).await && !used_after(used, 500_000).await);
    assert!(used_after(other, 999).await && !used_after(other, 1_000).await);
    assert_eq!(repository.list_failures(1).await.unwrap()[0].last, at(500_000));
    let sessions = repository.list_sessions(&caller(used)).await.unwrap();
    assert_eq!((sessions[0].created, sessions[0].last_used), (at(1_000), at(500_000)));
}

pub async fn a_reauthentication_from_the_future_is_forgotten_and_makes_nothing_fresh(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let reauthenticated = fixture.repository.reauthenticate(&caller(digest), with_password(HASH), at(900_000)).await;
    assert!(reauthenticated.unwrap());
    assert_eq!(fixture.repository.clamp_times(at(840_000)).await.unwrap(), 0, "a minute is nothing");
    assert!(is_fresh(fixture, digest, 900_000).await);
    assert_eq!(fixture.repository.clamp_times(at(500_000)).await.unwrap(), 1);
    assert_eq!(fixture.repository.clamp_times(at(500_000)).await.unwrap(), 0);
    for millis in [499_999, 500_000, 899_999, 900_000] {
        assert!(!is_fresh(fixture, digest, millis).await, "{millis}");
    }
}

pub async fn a_code_from_the_future_is_over_and_a_mail_from_the_future_waits_no_longer(fixture: &Fixture) {
    const DAY: i64 = 24 * 60 * 60_000;
    let (user_id, _) = register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    let (ahead, now) = (30 * DAY, 10_000);
    let set = || AccountChange { password_hash: Some(hash(HASH)), ..AccountChange::default() };
    let notify = |millis| {
        let username = name("AzureDiamond");
        async move {
            fixture.repository.change_account(&Actor::CommandLine, &username, set(), at(millis)).await.unwrap();
        }
    };
    // One was written while the clock was ahead; the other was claimed then.
    notify(ahead).await;
    notify(now).await;
    let mails = fixture.repository.claim_mails(1, at(now), at(ahead)).await.unwrap();
    let [future, present] = [Mailed::new(), Mailed::new()];
    for (mailed, purpose, millis) in [(&future, Purpose::ResetPassword, ahead), (&present, Purpose::SignIn, now)] {
        let offer = mailed.offer(purpose, user_id, "azure@diamond.example", false);
        assert!(fixture.repository.store_offer(offer, None, at(millis)).await.unwrap());
    }
    assert_eq!(fixture.repository.clamp_times(at(now)).await.unwrap(), 3);
    assert_eq!(fixture.repository.clamp_times(at(now)).await.unwrap(), 0);
    let is_link =
        |purpose, mailed: &Mailed, millis| fixture.repository.find_link(purpose, mailed.token.digest(), at(millis));
    assert!(is_link(Purpose::ResetPassword, &future, ahead).await.unwrap().is_none(), "it never comes into force");
    assert!(is_link(Purpose::SignIn, &present, now).await.unwrap().is_some());
    let due = fixture.repository.claim_mails(100, at(now), at(now + 1_000)).await.unwrap();
    let told: Vec<_> = due.iter().map(|mail| (mail.at, mail.expires)).collect();
    assert_eq!(told, [(at(now), at(now + DAY)); 2]);
    assert!(!fixture.repository.complete_mail(mails[0].id).await.unwrap(), "the claim is over");
}
