//! Mails that wait, where two take one at once.

use std::collections::HashSet;
use std::sync::Arc;

use authtokens::domain::mail::MailKind;
use authtokens::domain::one_time::{Code, Purpose};
use authtokens::domain::rights::{AccountChange, Actor};
use authtokens::domain::token::PlainToken;
use authtokens::repository::Confirmed;

use crate::at_once::{ROUNDS, all, both, handles};
use crate::fixture::Fixture;
use crate::words::{HASH, at, caller, claim, hash, name, register, register_verified, request_change};

pub async fn of_many_who_claim_at_once_no_two_hold_one_mail_and_all_together_hold_each(fixture: &Fixture) {
    register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    for round in 0..ROUNDS / 4 {
        for _ in 0..12 {
            let set = AccountChange { password_hash: Some(hash(HASH)), ..AccountChange::default() };
            let username = name("AzureDiamond");
            fixture.repository.change_account(&Actor::CommandLine, &username, set, at(2_000)).await.unwrap();
        }
        let handles = handles(fixture, round);
        let claimers = (0..6).map(|number| {
            let repository = Arc::clone(&handles[number % 2]);
            async move { repository.claim_mails(3, at(2_000), at(9_000)).await.unwrap() }
        });
        let claimed: Vec<_> = all(claimers.collect()).await.into_iter().flatten().map(|mail| mail.id).collect();
        assert_eq!(claimed.len(), 12, "{round}");
        assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), 12, "{round}");
        for mail in claimed {
            assert!(fixture.repository.complete_mail(mail).await.unwrap(), "{round}");
        }
    }
}

pub async fn a_mail_whose_claim_ends_while_it_is_settled_is_settled_by_one(fixture: &Fixture) {
    register_verified(fixture, "AzureDiamond", "azure@diamond.example").await;
    for round in 0..ROUNDS {
        let set = AccountChange { password_hash: Some(hash(HASH)), ..AccountChange::default() };
        fixture.repository.change_account(&Actor::CommandLine, &name("AzureDiamond"), set, at(2_000)).await.unwrap();
        let held = fixture.repository.claim_mails(1, at(2_000), at(3_000)).await.unwrap()[0].id;
        let [first, second] = handles(fixture, round);
        let (is_complete, taken_over) = both(async move { first.complete_mail(held).await.unwrap() }, async move {
            second.claim_mails(1, at(3_000), at(9_000)).await.unwrap()
        })
        .await;
        assert_eq!(is_complete, taken_over.is_empty(), "{round}");
        for mail in taken_over {
            assert!(fixture.repository.complete_mail(mail.id).await.unwrap(), "{round}");
        }
    }
}

pub async fn a_mail_is_not_sent_for_a_change_that_is_withdrawn_beside_it_or_its_link_is_worth_nothing(
    fixture: &Fixture,
) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    for round in 0..ROUNDS {
        request_change(fixture, digest, "new@diamond.example", 2_000).await;
        let mail = claim(fixture, 2_000).await.remove(0);
        assert_eq!(mail.kind, MailKind::ConfirmEmail);
        let [first, second] = handles(fixture, round);
        let (code, token) = (Code::parse("123456").unwrap(), PlainToken::generate().digest());
        let (_, is_withdrawn) = both(
            async move {
                first.store_outbox_offer(mail.id, Purpose::ConfirmEmail, Some(code), token, at(2_000)).await.unwrap()
            },
            async move { second.withdraw_email_change(&caller(digest), at(2_000)).await.unwrap() },
        )
        .await;
        assert!(is_withdrawn, "{round}");
        let confirmed = fixture.repository.confirm_email_by_link(token, None, at(2_000)).await.unwrap();
        assert_eq!(confirmed, Confirmed::Refused(None), "{round}");
        assert_eq!(fixture.repository.outbox_statistics().await.unwrap().waiting, 0, "{round}");
    }
}
