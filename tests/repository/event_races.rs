//! Events that several write at once, beside somebody who polls behind a cursor.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use authtokens::domain::rights::{AccountChange, Actor};

use crate::at_once::{ROUNDS, all, handles};
use crate::fixture::Fixture;
use crate::words::{at, hash, name, register};

pub async fn no_password_that_is_set_beside_others_is_missed_by_who_asks_again_and_again(fixture: &Fixture) {
    const SETTERS: usize = 6;
    // Numbers are given in one order and may be committed in another.
    let mut usernames = BTreeSet::new();
    for number in 0..SETTERS * 2 {
        let username = format!("user{number}");
        register(fixture, &username).await;
        usernames.insert(username);
    }
    for round in 0..ROUNDS / 8 {
        let handles = handles(fixture, 1);
        let reader = Arc::clone(&fixture.repository);
        let mut known = reader.list_resets(None).await.unwrap().next;
        let finished = Arc::new(AtomicUsize::new(0));
        let mut contenders: Vec<Pin<Box<dyn Future<Output = BTreeSet<String>> + Send>>> = Vec::new();
        for setter in 0..SETTERS {
            let (repository, finished) = (Arc::clone(&handles[setter % 2]), Arc::clone(&finished));
            contenders.push(Box::pin(async move {
                for number in [setter, setter + SETTERS] {
                    let reset = AccountChange { password_hash: Some(hash("$new")), ..AccountChange::default() };
                    let username = name(&format!("user{number}"));
                    let set = repository.change_account(&Actor::CommandLine, &username, reset, at(3_000)).await;
                    assert!(set.unwrap().is_some());
                }
                finished.fetch_add(1, Ordering::SeqCst);
                BTreeSet::new()
            }));
        }
        contenders.push(Box::pin(async move {
            let mut found = BTreeSet::new();
            loop {
                let is_last = finished.load(Ordering::SeqCst) == SETTERS;
                let news = reader.list_resets(Some(known)).await.unwrap();
                known = news.next;
                found.extend(news.usernames.iter().map(|username| username.as_str().to_owned()));
                if is_last {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        }));
        assert_eq!(all(contenders).await.pop().unwrap(), usernames, "{round}");
    }
}
