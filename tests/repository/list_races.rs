//! A list, where several change it at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use authtokens::domain::item::{ItemId, List};
use authtokens::repository::RepositoryError;

use crate::at_once::{ROUNDS, all, both, handles};
use crate::fixture::Fixture;
use crate::words::{at, caller, register};

fn item(id: i64) -> ItemId {
    ItemId::new(id).unwrap()
}

fn items(ids: impl IntoIterator<Item = i64>) -> BTreeSet<ItemId> {
    ids.into_iter().map(item).collect()
}

pub async fn of_many_additions_at_once_to_a_list_with_room_for_one_item_one_is_added(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let caller = caller(digest);
    for (round, list) in (0..ROUNDS / 2).zip([List::Cellar, List::Wants].into_iter().cycle()) {
        let handles = handles(fixture, round);
        let [first, _] = &handles;
        first.replace_items(&caller, list, items([1, 2]), at(2_000)).await.unwrap();
        let contenders = if round % 4 < 2 { 2 } else { 10 };
        let additions = (0..contenders).map(|number| {
            let repository = Arc::clone(&handles[number % 2]);
            let item = item(100 + i64::try_from(number).unwrap());
            async move { repository.add_item(&caller, list, item, 3, at(3_000)).await.map(|list| (item, list)) }
        });
        let (added, refused): (Vec<_>, Vec<_>) = all(additions.collect()).await.into_iter().partition(Result::is_ok);
        assert_eq!(added.len(), 1, "{round}: {added:?}");
        for refusal in refused {
            assert!(matches!(refusal, Err(RepositoryError::ListFull)), "{round}: {refusal:?}");
        }
        let (item_added, answered) = added.into_iter().next().unwrap().unwrap();
        assert_eq!(answered, [item(1), item(2), item_added], "{round}");
        assert_eq!(first.list_items(&caller, list).await.unwrap(), answered, "{round}");
    }
}

pub async fn of_two_replacements_at_once_one_is_left_whole(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let caller = caller(digest);
    for round in 0..ROUNDS {
        let handles = handles(fixture, round);
        // They share some items, and each has some of its own, which the list has held or not before.
        let wanted = [items((0..20).map(|id| id * 2 + 1)), items((0..20).map(|id| id * 3 + 1))];
        let [first, second] = [0, 1].map(|number| {
            let (repository, wanted) = (Arc::clone(&handles[number]), wanted[number].clone());
            async move { repository.replace_items(&caller, List::Cellar, wanted, at(3_000)).await.unwrap() }
        });
        let answered = both(first, second).await;
        let wanted = wanted.map(|wanted| wanted.into_iter().collect::<Vec<_>>());
        assert_eq!([&answered.0, &answered.1], [&wanted[0], &wanted[1]], "{round}");
        let left = handles[0].list_items(&caller, List::Cellar).await.unwrap();
        assert!(wanted.contains(&left), "{round}: {left:?}");
        handles[0].replace_items(&caller, List::Cellar, items([2, 3]), at(3_000)).await.unwrap();
    }
}

pub async fn an_addition_beside_a_replacement_comes_before_it_or_behind_it(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let caller = caller(digest);
    for round in 0..ROUNDS {
        let [first, second] = handles(fixture, round);
        first.replace_items(&caller, List::Wants, items([1, 2]), at(2_000)).await.unwrap();
        let reader = Arc::clone(&first);
        let (replaced, added) = both(
            async move { first.replace_items(&caller, List::Wants, items([5, 6]), at(3_000)).await.unwrap() },
            async move { second.add_item(&caller, List::Wants, item(9), 10, at(3_000)).await.unwrap() },
        )
        .await;
        assert_eq!(replaced, [item(5), item(6)], "{round}");
        let left = reader.list_items(&caller, List::Wants).await.unwrap();
        if added == [item(1), item(2), item(9)] {
            assert_eq!(left, replaced, "{round}: it was added before");
        } else {
            assert_eq!((&added, &left), (&vec![item(5), item(6), item(9)], &added), "{round}: it was added behind");
        }
    }
}
