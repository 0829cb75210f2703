//! What staff and the operator do to accounts.

use authtokens::domain::event::{EventCursor, EventQuery};
use authtokens::domain::item::{ItemId, List};
use authtokens::domain::profile::ProfileField;
use authtokens::domain::rights::{AccountChange, AccountCursor, Actor, Permission, SearchText, UserQuery};
use authtokens::repository::RepositoryError;

use crate::fixture::Fixture;
use crate::words::{EVER, HASH, at, by_password, caller, create, events, hash, is_live, name, register, text};

pub async fn a_right_is_looked_up_in_the_transaction_that_uses_it(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let staff = create(fixture, "staff", true, false).await;
    register(fixture, "AzureDiamond").await;
    let target = name("azurediamond");
    assert!(repository.find_account(&staff, &target).await.unwrap().is_some());
    let demotion = AccountChange { is_staff: Some(false), ..AccountChange::default() };
    repository.change_account(&Actor::CommandLine, &name("staff"), demotion, at(3_000)).await.unwrap().unwrap();
    let before = events(fixture).await;
    for target in [&target, &name("staff"), &name("nobody")] {
        let change = AccountChange { is_active: Some(false), ..AccountChange::default() };
        let query = EventQuery { username: None, kind: None, before: None, limit: 1 };
        let failed_attempts = [
            repository.list_accounts(&staff, UserQuery { limit: 1, ..UserQuery::default() }).await.err(),
            repository.find_account(&staff, target).await.err(),
            repository.change_account(&staff, target, change, at(4_000)).await.err(),
            repository.delete_account(&staff, target, at(4_000)).await.err(),
            repository.list_account_sessions(&staff, target, EVER).await.err(),
            repository.revoke_account_sessions(&staff, target, None, EVER, at(4_000)).await.err(),
            repository.list_events(&staff, query).await.err(),
        ];
        for refusal in failed_attempts {
            assert!(matches!(refusal, Some(RepositoryError::Forbidden)), "{refusal:?}");
        }
    }
    assert_eq!(events(fixture).await, before);
}

pub async fn the_last_active_superuser_stays_whoever_asks(fixture: &Fixture) {
    let repository = fixture.repository.as_ref();
    let Actor::Session(last) = create(fixture, "last", true, true).await else { unreachable!() };
    create(fixture, "inactive", false, true).await;
    (fixture.deactivate)("inactive");
    let before = events(fixture).await;
    for change in [
        AccountChange { is_superuser: Some(false), ..AccountChange::default() },
        AccountChange { is_active: Some(false), password_hash: Some(hash("$newer")), ..AccountChange::default() },
    ] {
        let kept = repository.change_account(&Actor::CommandLine, &name("last"), change, at(3_000)).await;
        assert!(matches!(kept, Err(RepositoryError::LastSuperuser)));
    }
    let kept = repository.delete_account(&Actor::CommandLine, &name("last"), at(3_000)).await;
    assert!(matches!(kept, Err(RepositoryError::LastSuperuser)));
    let kept = repository.delete_user(&last, by_password(HASH), at(3_000)).await;
    assert!(matches!(kept, Err(RepositoryError::LastSuperuser)));
    assert_eq!(events(fixture).await, before);
    assert!(is_live(fixture, last.digest).await);

    let activation = AccountChange { is_active: Some(true), ..AccountChange::default() };
    repository.change_account(&Actor::CommandLine, &name("inactive"), activation, at(4_000)).await.unwrap().unwrap();
    assert!(repository.delete_user(&last, by_password(HASH), at(5_000)).await.unwrap());
}

pub async fn accounts_are_listed_in_the_order_of_their_folded_names(fixture: &Fixture) {
    for username in ["b", "C", "a", "B2", "_"] {
        register(fixture, username).await;
    }
    let list = async |after: Option<&str>, limit| {
        let query =
            UserQuery { after: after.map(|text| AccountCursor::parse(text).unwrap()), limit, ..UserQuery::default() };
        let users = fixture.repository.list_accounts(&Actor::CommandLine, query).await.unwrap().rows;
        users.iter().map(|user| user.username.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 10).await, ["_", "a", "b", "B2", "C"]);
    assert_eq!(list(Some("B"), 2).await, ["B2", "C"]);
    assert_eq!(list(Some("c"), 2).await, [""; 0]);
}

pub async fn accounts_are_in_the_order_of_their_bytes_whatever_a_collation_makes_of_punctuation(fixture: &Fixture) {
    let usernames = ["a.b", "ab", "a_b", "A-B", "a@b", "a+b", "aBa", "AB-", "a", "1", "-1", "Z", "z1", "_"];
    for username in usernames {
        register(fixture, username).await;
    }
    let mut expected = usernames;
    expected.sort_unstable_by_key(|username| username.to_ascii_lowercase());
    let query = UserQuery { limit: 100, ..UserQuery::default() };
    let listed = fixture.repository.list_accounts(&Actor::CommandLine, query).await.unwrap().rows;
    assert_eq!(listed.iter().map(|user| user.username.as_str()).collect::<Vec<_>>(), expected);
    for (index, username) in expected.iter().enumerate() {
        let query = UserQuery { after: AccountCursor::parse(username), limit: 1, ..UserQuery::default() };
        let behind = fixture.repository.list_accounts(&Actor::CommandLine, query).await.unwrap().rows;
        let behind: Vec<_> = behind.iter().map(|user| user.username.as_str()).collect();
        assert_eq!(behind, expected.get(index + 1).into_iter().copied().collect::<Vec<_>>(), "{username}");
    }
}

pub async fn accounts_are_searched_in_names_and_addresses_without_regard_to_case_and_filtered_by_their_state(
    fixture: &Fixture,
) {
    let repository = fixture.repository.as_ref();
    let profile = |field, content: &str| vec![text(field, content)];
    let (_, first) = register(fixture, "AzureDiamond").await;
    repository.update_profile(&caller(first), profile(ProfileField::FirstName, "Élodie"), at(2_000)).await.unwrap();
    repository.update_profile(&caller(first), profile(ProfileField::LastName, "STRAẞE_%"), at(2_000)).await.unwrap();
    let (_, second) = register(fixture, "Cthon98").await;
    repository.update_profile(&caller(second), profile(ProfileField::Email, "D@Example.org"), at(2_000)).await.unwrap();
    create(fixture, "staff", true, false).await;
    create(fixture, "root", false, true).await;
    register(fixture, "inactive").await;
    (fixture.deactivate)("inactive");
    let list = async |query: UserQuery| {
        let found =
            repository.list_accounts(&Actor::CommandLine, UserQuery { limit: 100, ..query }).await.unwrap().rows;
        found.iter().map(|user| user.username.as_str().to_owned()).collect::<Vec<_>>()
    };
    let all = ["AzureDiamond", "Cthon98", "inactive", "root", "staff"];
    for (search, expected) in [
        ("zured", &all[..1]),
        ("éLODIE straße", &all[..1]),
        ("e\u{301}lodie", &all[..1]),
        ("strasse", &all[..1]),
        ("_%", &all[..1]),
        ("d@EXAMPLE", &all[1..2]),
        ("Chicago", &[]),
        ("bcrypt", &[]),
        ("", &all),
    ] {
        let query = UserQuery { search: Some(SearchText::new(search)), ..UserQuery::default() };
        assert_eq!(list(query).await, expected, "{search}");
    }
    for (is_active, is_staff, is_superuser, expected) in [
        (Some(false), None, None, &all[2..3]),
        (Some(true), Some(false), Some(false), &all[..2]),
        (None, Some(true), None, &all[4..]),
        (None, None, Some(true), &all[3..4]),
        (Some(false), Some(true), None, &[]),
    ] {
        assert_eq!(list(UserQuery { is_active, is_staff, is_superuser, ..UserQuery::default() }).await, expected);
    }
}

pub async fn a_list_of_accounts_ends_where_their_lists_come_to_enough_items(fixture: &Fixture) {
    for username in ["a", "b", "c", "d"] {
        let (_, digest) = register(fixture, username).await;
        let items = (1..=10).map(|id| ItemId::new(id).unwrap()).collect();
        fixture.repository.replace_items(&caller(digest), List::Wants, items, at(2_000)).await.unwrap();
    }
    for (enough_items, found, is_full) in
        [(Some(1), 1, true), (Some(10), 1, true), (Some(11), 2, true), (Some(41), 4, false), (None, 4, false)]
    {
        let query = UserQuery { limit: 5, enough_items, ..UserQuery::default() };
        let page = fixture.repository.list_accounts(&Actor::CommandLine, query).await.unwrap();
        assert_eq!((page.rows.len(), page.next.is_some()), (found, is_full), "{enough_items:?}");
    }
}

pub async fn a_permission_is_checked_for_each_actor_and_each_account(fixture: &Fixture) {
    use Permission::{AdministerAccount, ManageAccount};
    // What is answered of accounts in this order, and then of any account at all: `y` that it may, `.` that it is
    // forbidden, `-` that there is none of this name.
    const NAMES: [&str; 8] = ["user", "other", "staff", "STAFF2", "root", "root2", "inactive", "nobody"];
    let repository = fixture.repository.as_ref();
    let user = create(fixture, "user", false, false).await;
    create(fixture, "other", false, false).await;
    let staff = create(fixture, "staff", true, false).await;
    create(fixture, "staff2", true, false).await;
    let root = create(fixture, "root", false, true).await;
    let both = create(fixture, "root2", true, true).await;
    register(fixture, "inactive").await;
    (fixture.deactivate)("inactive");
    for (actor, permission, expected) in [
        (Actor::CommandLine, ManageAccount, "yyyyyyy-y"),
        (Actor::CommandLine, AdministerAccount, "yyyyyyy-y"),
        (root, ManageAccount, "yyyy.yy-y"),
        (root, AdministerAccount, "yyyy.yy-y"),
        (both, ManageAccount, "yyyyy.y-y"),
        (both, AdministerAccount, "yyyyy.y-y"),
        (staff, ManageAccount, "yy....y-y"),
        (staff, AdministerAccount, "........."),
        (user, ManageAccount, "........."),
        (user, AdministerAccount, "........."),
    ] {
        let mut found = String::new();
        for target in NAMES.map(|text| Some(name(text))).into_iter().chain([None]) {
            found.push(match repository.check_rights(&actor, permission, target.as_ref()).await {
                Ok(true) => 'y',
                Ok(false) => '-',
                Err(RepositoryError::Forbidden) => '.',
                Err(other) => panic!("{permission:?}: {other:?}"),
            });
        }
        assert_eq!(found, expected, "{permission:?}");
    }
    let Actor::Session(over) = root else { unreachable!() };
    repository.revoke_own_session(&over, at(5_000)).await.unwrap();
    for target in [Some(name("user")), Some(name("nobody")), None] {
        let refused = repository.check_rights(&root, ManageAccount, target.as_ref()).await;
        assert!(matches!(refused, Err(RepositoryError::NoSession)), "{refused:?}");
    }
}

pub async fn a_list_goes_on_where_its_page_ended_until_nothing_is_left(fixture: &Fixture) {
    let (repository, actor) = (fixture.repository.as_ref(), Actor::CommandLine);
    for username in ["a", "B", "c", "D"] {
        register(fixture, username).await;
    }
    let mut query = UserQuery { limit: 2, ..UserQuery::default() };
    let mut pages = Vec::new();
    loop {
        let page = repository.list_accounts(&actor, query.clone()).await.unwrap();
        pages.push(page.rows.iter().map(|user| user.username.as_str().to_owned()).collect::<Vec<_>>());
        let Some(next) = page.next else { break };
        assert_eq!(AccountCursor::parse(&next.to_string()), Some(next.clone()), "as a client gives it back");
        query.after = Some(next);
    }
    assert_eq!(pages, [vec!["a", "B"], vec!["c", "D"], vec![]], "a full page may be the last one");
    let mut query = EventQuery { username: None, kind: None, before: None, limit: 3 };
    let mut pages = Vec::new();
    loop {
        let page = repository.list_events(&actor, query.clone()).await.unwrap();
        pages.push(page.rows.iter().map(|event| event.username.clone()).collect::<Vec<_>>());
        let Some(next) = page.next else { break };
        assert_eq!(EventCursor::parse(&next.to_string()), Some(next), "as a client gives it back");
        query.before = Some(next);
    }
    assert_eq!(pages, [vec!["D", "c", "B"], vec!["a"]]);
}
