//! The two lists of an account.

use std::collections::BTreeSet;

use authtokens::domain::item::{ItemId, List};
use authtokens::domain::profile::ProfileField;
use authtokens::repository::RepositoryError;

use crate::at_once::handles;
use crate::fixture::Fixture;
use crate::words::{at, caller, register, text};

pub async fn a_list_holds_each_item_once_ascending_and_modified_moves_with_a_change(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let (_, others) = register(fixture, "other").await;
    let (caller, others) = (caller(digest), caller(others));
    let id = |number| ItemId::new(number).unwrap();
    let repository = &fixture.repository;
    let modified = || async { repository.find_user(&caller).await.unwrap().1.modified };

    repository.add_item(&caller, List::Cellar, id(3), 3, at(2_000)).await.unwrap();
    let list = repository.add_item(&caller, List::Cellar, id(1), 3, at(3_000)).await.unwrap();
    assert_eq!(list, [id(1), id(3)]);
    assert_eq!(repository.add_item(&caller, List::Cellar, id(3), 3, at(4_000)).await.unwrap(), list);
    assert_eq!(modified().await, at(3_000));
    repository.add_item(&caller, List::Cellar, id(2), 3, at(5_000)).await.unwrap();
    let full = repository.add_item(&caller, List::Cellar, id(4), 3, at(6_000)).await;
    assert!(matches!(full, Err(RepositoryError::ListFull)));
    assert_eq!(repository.list_items(&caller, List::Cellar).await.unwrap(), [id(1), id(2), id(3)]);
    assert_eq!(repository.add_item(&caller, List::Cellar, id(2), 3, at(6_000)).await.unwrap().len(), 3);
    assert_eq!(modified().await, at(5_000));
    assert_eq!(repository.remove_item(&caller, List::Cellar, id(9), at(7_000)).await.unwrap().len(), 3);
    assert_eq!(modified().await, at(5_000));
    assert_eq!(repository.remove_item(&caller, List::Cellar, id(2), at(7_000)).await.unwrap(), [id(1), id(3)]);
    assert_eq!(modified().await, at(7_000));

    let items = BTreeSet::from([id(3), id(7), id(5)]);
    let replaced = repository.replace_items(&caller, List::Cellar, items.clone(), at(8_000)).await.unwrap();
    assert_eq!(replaced, [id(3), id(5), id(7)]);
    repository.replace_items(&caller, List::Cellar, items, at(9_000)).await.unwrap();
    assert_eq!(modified().await, at(8_000));
    let export = repository.export_user(&caller).await.unwrap();
    assert_eq!(export.cellar, [(id(3), at(2_000)), (id(5), at(8_000)), (id(7), at(8_000))]);
    assert_eq!((export.wants.len(), export.sessions.len(), export.user.cellar), (0, 1, replaced));
    assert!(repository.list_items(&caller, List::Wants).await.unwrap().is_empty());
    assert!(repository.list_items(&others, List::Cellar).await.unwrap().is_empty());
}

pub async fn of_many_edits_at_once_none_is_lost(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let edits: Vec<_> = (1..=64)
        .map(|number| {
            let [first, second] = handles(fixture, 1);
            let repository = if number % 2 == 0 { first } else { second };
            let field = ProfileField::ALL[usize::try_from(number).unwrap() % 8];
            tokio::spawn(async move {
                let caller = caller(digest);
                let item = ItemId::new(number).unwrap();
                repository.add_item(&caller, List::Cellar, item, 100, at(2_000)).await.unwrap();
                if number % 3 == 0 {
                    repository.remove_item(&caller, List::Cellar, item, at(2_000)).await.unwrap();
                }
                if field != ProfileField::Email {
                    let change = vec![text(field, field.name())];
                    repository.update_profile(&caller, change, at(2_000)).await.unwrap();
                }
            })
        })
        .collect();
    for edit in edits {
        edit.await.unwrap();
    }
    let (_, user) = fixture.repository.find_user(&caller(digest)).await.unwrap();
    let left: Vec<i64> = (1..=64).filter(|number| number % 3 != 0).collect();
    assert_eq!(user.cellar.iter().map(|item| item.get()).collect::<Vec<_>>(), left);
    let profile = user.profile;
    assert_eq!(
        [profile.first_name, profile.last_name, profile.address, profile.address2, profile.city, profile.state],
        ["first_name", "last_name", "address", "address2", "city", "state"]
    );
}
