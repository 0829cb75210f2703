//! Mails that are kept until they are delivered: what puts one there, and who has it when.

use authtokens::domain::mail::MailKind;
use authtokens::domain::one_time::{Code, Purpose};
use authtokens::domain::rights::{AccountChange, Actor};
use authtokens::domain::session::{NewSession, SessionId, UserAgent};
use authtokens::domain::token::PlainToken;
use authtokens::domain::user::UserId;
use authtokens::repository::{Confirmed, OutboxMail, OutboxStatistics, Undelivered};

use crate::fixture::Fixture;
use crate::words::{
    HASH, OpensSessions as _, at, by_password, caller, change_password, change_to, claim, events, hash, is_live, login,
    mailed, name, new_session, register, register_verified, register_with, request_change, send, take,
};

const DAY: i64 = 24 * 60 * 60_000;

/// Puts a notice in the outbox at `millis`, for an account that has its address verified.
async fn notify(fixture: &Fixture, username: &str, millis: i64) {
    let set = AccountChange { password_hash: Some(hash(HASH)), ..AccountChange::default() };
    fixture.repository.change_account(&Actor::CommandLine, &name(username), set, at(millis)).await.unwrap().unwrap();
}

async fn statistics(fixture: &Fixture) -> OutboxStatistics {
    fixture.repository.outbox_statistics().await.unwrap()
}

pub async fn a_claimed_mail_is_nobody_elses_until_its_claim_ends_and_then_the_claim_is_worth_nothing(
    fixture: &Fixture,
) {
    register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    notify(fixture, "AzureDiamond", 2_000).await;
    assert!(claim(fixture, 1_999).await.is_empty(), "it is not due yet");
    let first = fixture.repository.claim_mails(100, at(2_000), at(5_000)).await.unwrap()[0].clone();
    assert!(fixture.second.claim_mails(100, at(4_999), at(9_000)).await.unwrap().is_empty());
    let token = || PlainToken::generate().digest();
    let store = |mail: &OutboxMail, millis| {
        fixture.repository.store_outbox_offer(mail.id, Purpose::NotMe, None, token(), at(millis))
    };
    assert!(store(&first, 4_999).await.unwrap());
    assert!(!store(&first, 5_000).await.unwrap(), "the claim is over");
    let second = fixture.second.claim_mails(100, at(5_000), at(9_000)).await.unwrap()[0].clone();
    assert_ne!(first.id, second.id);
    assert_eq!(OutboxMail { id: first.id, ..second.clone() }, first, "it is the same mail, not tried meanwhile");
    assert!(!store(&first, 6_000).await.unwrap());
    assert!(!fixture.repository.complete_mail(first.id).await.unwrap());
    for undelivered in [Undelivered::Retry(at(7_000)), Undelivered::Later(at(7_000)), Undelivered::GiveUp] {
        assert!(!fixture.repository.return_mail(first.id, undelivered, at(6_000)).await.unwrap());
    }
    assert_eq!(statistics(fixture).await.waiting, 1);
    assert!(store(&second, 6_000).await.unwrap());
    assert!(fixture.repository.complete_mail(second.id).await.unwrap());
    assert!(!fixture.repository.complete_mail(second.id).await.unwrap());
    assert_eq!(statistics(fixture).await, OutboxStatistics::default());
    assert!(!events(fixture).await.iter().any(|event| event.starts_with("mail_failed")));
}

pub async fn mails_are_claimed_longest_due_first_and_no_more_than_were_asked_for(fixture: &Fixture) {
    for username in ["first", "second", "third"] {
        register_verified(fixture, username, &format!("{username}@diamond.example")).await;
    }
    for (username, millis) in [("third", 4_000), ("first", 2_000), ("second", 3_000)] {
        notify(fixture, username, millis).await;
    }
    assert_eq!(statistics(fixture).await, OutboxStatistics { waiting: 3, oldest: Some(at(2_000)) });
    let claim = |limit| fixture.repository.claim_mails(limit, at(4_000), at(9_000));
    let names = |mails: Vec<OutboxMail>| mails.into_iter().map(|mail| mail.username).collect::<Vec<_>>();
    assert_eq!(names(claim(2).await.unwrap()), [name("first"), name("second")]);
    assert_eq!(names(claim(2).await.unwrap()), [name("third")]);
    assert_eq!(statistics(fixture).await.waiting, 3, "claimed is not delivered");
}

pub async fn an_undelivered_mail_is_tried_again_at_its_time_or_given_up_which_is_an_event(fixture: &Fixture) {
    register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    notify(fixture, "AzureDiamond", 2_000).await;
    for attempts in 0..3 {
        let mails = claim(fixture, 2_000 + i64::from(attempts) * 1_000).await;
        assert_eq!(mails[0].attempts, attempts);
        let now = at(2_500 + i64::from(attempts) * 1_000);
        let retry = Undelivered::Retry(at(3_000 + i64::from(attempts) * 1_000));
        assert!(fixture.repository.return_mail(mails[0].id, retry, now).await.unwrap());
        assert!(!fixture.repository.return_mail(mails[0].id, retry, now).await.unwrap(), "once");
        assert!(!fixture.repository.complete_mail(mails[0].id).await.unwrap(), "the claim is over");
        assert!(claim(fixture, 2_999 + i64::from(attempts) * 1_000).await.is_empty());
    }
    let mails = claim(fixture, 6_000).await;
    assert!(fixture.repository.return_mail(mails[0].id, Undelivered::Later(at(8_000)), at(6_500)).await.unwrap());
    assert!(claim(fixture, 7_999).await.is_empty());
    let mails = claim(fixture, 9_000).await;
    assert_eq!(mails[0].attempts, 3, "put off is not tried");
    assert!(fixture.repository.return_mail(mails[0].id, Undelivered::GiveUp, at(9_000)).await.unwrap());
    assert_eq!(statistics(fixture).await.waiting, 0);
    assert_eq!(*events(fixture).await.last().unwrap(), "mail_failed AzureDiamond  password_set");
}

pub async fn a_mail_that_is_worth_nothing_any_more_is_dropped_which_is_an_event(fixture: &Fixture) {
    let (_, digest) = register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    assert!(fixture.repository.delete_user(&caller(digest), by_password(HASH), at(2_000)).await.unwrap());
    let mails = fixture.repository.claim_mails(100, at(2_000 + DAY - 1), at(2_000 + DAY + 5_000)).await.unwrap();
    assert_eq!(mails[0].expires, at(2_000 + DAY));
    assert!(claim(fixture, 2_000 + DAY).await.is_empty());
    assert_eq!(statistics(fixture).await.waiting, 1, "it may be on its way");
    assert!(claim(fixture, 2_000 + DAY + 5_000).await.is_empty());
    assert_eq!(statistics(fixture).await.waiting, 0);
    assert_eq!(*events(fixture).await.last().unwrap(), "mail_failed AzureDiamond  account_deleted");
    assert!(!fixture.repository.complete_mail(mails[0].id).await.unwrap());
}

pub async fn the_owner_of_a_verified_address_is_told_of_each_change_and_nobody_else_is(fixture: &Fixture) {
    register_with(fixture, "unverified", "unverified@diamond.example").await;
    notify(fixture, "unverified", 2_000).await;
    let (_, digest) = register(fixture, "nobody").await;
    request_change(fixture, digest, "new@diamond.example", 2_000).await;
    assert_eq!(take(fixture, 2_000).await, ["confirm_email new@diamond.example"]);
    let (_, digest) = register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    assert!(change_password(fixture, digest, HASH, HASH, 2_000).await);
    assert!(!change_password(fixture, digest, "$other", "$", 2_000).await);
    notify(fixture, "AzureDiamond", 3_000).await;
    let mails = claim(fixture, 3_000).await;
    let shown = |mail: &OutboxMail| (mail.kind, mail.at, mail.ip, mail.is_verified, mail.attempts, mail.expires);
    let told: Vec<_> = mails.iter().map(shown).collect();
    let expected = |kind, millis| (kind, at(millis), None, true, 0, at(millis + DAY));
    assert_eq!(told, [expected(MailKind::PasswordChanged, 2_000), expected(MailKind::PasswordSet, 3_000)]);
    assert!(
        mails.iter().all(|mail| mail.username == name("AzureDiamond") && mail.recipient == "azure@diamond.example")
    );
}

pub async fn an_owner_is_told_where_its_own_changes_come_from_and_not_where_staff_work(fixture: &Fixture) {
    let (_, digest) = register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    let ip = Some("198.51.100.1".parse().unwrap());
    let of = |digest| authtokens::domain::session::Caller { ip, ..caller(digest) };
    let owner = of(digest);
    assert!(fixture.repository.change_password(&owner, by_password(HASH), hash(HASH), at(2_000)).await.unwrap());
    let Actor::Session(staff) = crate::words::create(fixture, "staff", true, false).await else { unreachable!() };
    let staff = Actor::Session(of(staff.digest));
    let set = AccountChange { password_hash: Some(hash(HASH)), ..AccountChange::default() };
    fixture.repository.change_account(&staff, &name("AzureDiamond"), set, at(3_000)).await.unwrap().unwrap();
    let told: Vec<_> = claim(fixture, 3_000).await.into_iter().map(|mail| (mail.kind, mail.ip)).collect();
    assert_eq!(told, [(MailKind::PasswordChanged, ip), (MailKind::PasswordSet, None)]);
}

/// Logs in from an address by a program.
async fn log_in(fixture: &Fixture, user_id: UserId, ip: Option<&str>, program: &str, millis: i64) -> SessionId {
    let session = NewSession {
        digest: PlainToken::generate().digest(),
        user_agent: UserAgent::from_header(program),
        ip: ip.map(|ip| ip.parse().unwrap()),
        ..new_session()
    };
    let id = SessionId::of(&session.digest);
    fixture.repository.log_in(login(user_id, HASH), session, 100, at(millis)).await.unwrap().unwrap();
    id
}

pub async fn an_owner_is_told_of_a_login_from_a_new_network_by_a_new_program_once_a_day(fixture: &Fixture) {
    let (user_id, digest) = register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    let log_in = |ip, program, millis| log_in(fixture, user_id, ip, program, millis);
    log_in(Some("2001:db8::2"), "Thief/1.0", 2_000).await;
    log_in(Some("192.0.2.1"), "Cellar/1.0", 2_000).await;
    log_in(Some("192.0.2.99"), "Other/1.0", 2_000).await;
    log_in(None, "Other/2.0", 2_000).await;
    assert_eq!(take(fixture, 2_000).await, Vec::<String>::new(), "the network or the program is known");
    let id = log_in(Some("198.51.100.1"), "Thief/2.0", 3_000).await;
    log_in(Some("203.0.113.1"), "Thief/3.0", 3_000 + DAY - 1).await;
    let mails = claim(fixture, 3_000).await;
    let [mail] = &mails[..] else { panic!("{mails:?}") };
    assert_eq!((mail.kind, mail.ip), (MailKind::UnfamiliarSignIn, Some("198.51.100.1".parse().unwrap())));
    assert_eq!(mail.user_agent.as_str(), "Thief/2.0");
    let told = events(fixture).await;
    let unfamiliar: Vec<_> = told.iter().filter(|event| event.starts_with("unfamiliar_login")).collect();
    assert_eq!(unfamiliar, [&format!("unfamiliar_login AzureDiamond AzureDiamond {}", id.as_str())]);
    let (token, _) = send(fixture, mail, 3_000).await;
    log_in(Some("10.0.0.1"), "Thief/4.0", 3_000 + DAY).await;
    assert_eq!(take(fixture, 3_000 + DAY).await, ["unfamiliar_sign_in azure@diamond.example"]);
    log_in(Some("10.1.0.1"), "Thief/5.0", 3_000).await;
    assert_eq!(take(fixture, 3_000).await.len(), 1, "the clock was ahead");
    // By means of a mail it is a login like any other.
    let sign_in = mailed(fixture, Purpose::SignIn, user_id, "azure@diamond.example").await;
    let session =
        NewSession { ip: Some("10.2.0.1".parse().unwrap()), user_agent: UserAgent::default(), ..new_session() };
    fixture.repository.log_in_by_mail(sign_in.by_link(), session, 100, at(4_000)).await.unwrap().unwrap();
    assert_eq!(take(fixture, 4_000).await.len(), 0, "told within a day");
    // Nobody is told at an address that is not verified, and nothing says so.
    let (other, _) = register_with(fixture, "other", "other@diamond.example").await;
    let session = NewSession {
        ip: Some("10.3.0.1".parse().unwrap()),
        user_agent: UserAgent::from_header("Thief/6.0"),
        ..new_session()
    };
    fixture.repository.log_in(login(other, HASH), session, 100, at(5_000)).await.unwrap().unwrap();
    assert_eq!(take(fixture, 5_000).await.len(), 0);
    assert!(!events(fixture).await.iter().any(|event| event.starts_with("unfamiliar_login other")));
    let disowned = fixture.repository.disown(token, None, at(5_000)).await.unwrap().unwrap();
    assert_eq!(disowned.session, Some(id));
    assert!(is_live(fixture, digest).await);
}

pub async fn a_confirmation_that_is_mailed_again_takes_the_place_of_the_one_before(fixture: &Fixture) {
    let (user_id, digest) = register(fixture, "AzureDiamond").await;
    let request = request_change(fixture, digest, "new@diamond.example", 2_000).await;
    let (first_code, second_code) = (Code::parse("111111").unwrap(), Code::parse("222222").unwrap());
    let (first, second) = (PlainToken::generate().digest(), PlainToken::generate().digest());
    let mail = &claim(fixture, 2_000).await[0];
    assert_eq!(mail.user_id, user_id);
    let store = |mail: &OutboxMail, code: &Code, token, millis| {
        let purpose = Purpose::ConfirmEmail;
        fixture.repository.store_outbox_offer(mail.id, purpose, Some(code.clone()), token, at(millis))
    };
    assert!(store(mail, &first_code, first, 2_000).await.unwrap());
    let refused = fixture
        .repository
        .confirm_email_by_code(&caller(digest), Some(request), second_code.clone(), at(2_500))
        .await
        .unwrap();
    assert_eq!(refused, Confirmed::Refused(Some(name("AzureDiamond"))), "one try is gone");
    let retry = Undelivered::Retry(at(3_000));
    assert!(fixture.repository.return_mail(mail.id, retry, at(2_600)).await.unwrap());
    let mail = &claim(fixture, 3_000).await[0];
    assert!(store(mail, &second_code, second, 3_000).await.unwrap());
    assert!(fixture.repository.complete_mail(mail.id).await.unwrap());
    let by_link = fixture.repository.confirm_email_by_link(first, None, at(4_000)).await.unwrap();
    assert_eq!(by_link, Confirmed::Refused(None));
    let confirm = async |code: &Code| {
        let caller = caller(digest);
        fixture.repository.confirm_email_by_code(&caller, Some(request), code.clone(), at(4_000)).await.unwrap()
    };
    for _ in 0..4 {
        assert!(matches!(confirm(&first_code).await, Confirmed::Refused(Some(_))));
    }
    assert!(matches!(confirm(&second_code).await, Confirmed::Done(_)), "the tries were counted anew");
}

pub async fn nothing_is_stored_for_a_mail_that_is_not_to_be_sent_any_more(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    request_change(fixture, digest, "new@diamond.example", 2_000).await;
    let mail = &claim(fixture, 2_000).await[0];
    let store = |millis| {
        let (code, token) = (Code::parse("123456").unwrap(), PlainToken::generate().digest());
        fixture.repository.store_outbox_offer(mail.id, Purpose::ConfirmEmail, Some(code), token, at(millis))
    };
    assert!(store(2_000).await.unwrap());
    assert!(fixture.repository.withdraw_email_change(&caller(digest), at(2_000)).await.unwrap());
    assert!(!store(2_000).await.unwrap());
    assert!(!fixture.repository.complete_mail(mail.id).await.unwrap());
    register_verified(fixture, "other", "other@diamond.example").await;
    notify(fixture, "other", 2_000).await;
    let mail = &claim(fixture, 2_000).await[0];
    assert!(fixture.repository.delete_account(&Actor::CommandLine, &name("other"), at(2_000)).await.unwrap());
    let token = PlainToken::generate().digest();
    let stored = fixture.repository.store_outbox_offer(mail.id, Purpose::NotMe, None, token, at(2_000)).await;
    assert!(!stored.unwrap(), "the account is gone");
}

pub async fn nothing_is_put_in_the_outbox_while_no_mail_is_sent(fixture: &Fixture) {
    let (user_id, digest) = register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    let silent = (fixture.without_mail)();
    let (change, _) = change_to("new@diamond.example");
    let caller = caller(digest);
    assert!(silent.request_email_change(&caller, by_password(HASH), change, at(2_000)).await.unwrap());
    let session = NewSession {
        ip: Some("192.0.2.1".parse().unwrap()),
        user_agent: UserAgent::from_header("Thief/1.0"),
        ..new_session()
    };
    assert!(silent.log_in(login(user_id, HASH), session, 100, at(2_000)).await.unwrap().is_some());
    assert!(silent.change_password(&caller, by_password(HASH), hash("$new"), at(2_000)).await.unwrap());
    assert!(silent.delete_user(&caller, by_password("$new"), at(2_000)).await.unwrap());
    assert_eq!(statistics(fixture).await.waiting, 0);
    assert!(!events(fixture).await.iter().any(|event| event.starts_with("unfamiliar_login")));
}
