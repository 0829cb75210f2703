//! Accounts: registration, what a login is checked against, the profile, the password, deletion.

use authtokens::domain::item::{ItemId, List};
use authtokens::domain::profile::{Profile, ProfileField};
use authtokens::domain::token::PlainToken;
use authtokens::domain::user::{User, UserId};
use authtokens::repository::{Proof, Repository, RepositoryError, UniqueField, VerifiedLogin};

use crate::fixture::Fixture;
use crate::words::{
    HASH, OpensSessions as _, at, by_password, caller, hash, is_fresh, is_live, login, name, new_session, new_user,
    open, reauthenticate, register, text, with_password,
};

pub async fn a_registered_user_is_found_by_any_case_of_its_name(fixture: &Fixture) {
    register(fixture, "AzureDiamond").await;
    for username in ["AzureDiamond", "azurediamond", "AZUREDIAMOND"] {
        let credentials = fixture.repository.find_credentials(&name(username)).await.unwrap().unwrap();
        assert!(credentials.is_active);
        assert!(credentials.password_hash.as_stored() == HASH);
    }
}

pub async fn a_registration_answers_the_user_with_its_defaults_and_its_times(fixture: &Fixture) {
    let user =
        fixture.repository.register_user(new_user("AzureDiamond"), new_session(), None, at(1_000)).await.unwrap();
    let profile = Profile { city: "Chicago".to_owned(), ..Profile::default() };
    let expected = User {
        username: name("AzureDiamond"),
        profile,
        is_active: true,
        is_superuser: false,
        is_staff: false,
        last_login: at(1_000),
        cellar: Vec::new(),
        wants: Vec::new(),
        created: at(1_000),
        modified: at(1_000),
        date_joined: at(1_000),
        is_email_verified: false,
    };
    assert_eq!(user, expected);
}

pub async fn a_taken_name_is_a_conflict_and_leaves_nothing_behind(fixture: &Fixture) {
    register(fixture, "AzureDiamond").await;
    let session = new_session();
    let digest = session.digest;
    let refused = fixture.repository.register_user(new_user("azureDIAMOND"), session, None, at(2_000)).await;
    assert!(matches!(refused, Err(RepositoryError::Conflict(UniqueField::Username))));
    assert!(!is_live(fixture, digest).await);
}

pub async fn a_login_may_bring_a_new_hash(fixture: &Fixture) {
    let (user_id, _) = register(fixture, "AzureDiamond").await;
    let login = VerifiedLogin { rehashed: Some(hash("$newer")), ..login(user_id, HASH) };
    assert!(fixture.repository.log_in(login, new_session(), 100, at(2_000)).await.unwrap().is_some());
    let credentials = fixture.repository.find_credentials(&name("AzureDiamond")).await.unwrap().unwrap();
    assert!(credentials.password_hash.as_stored() == "$newer");
    assert!(open(fixture, user_id, HASH).await.0.is_none());
    assert!(open(fixture, user_id, "$newer").await.0.is_some());
}

pub async fn what_was_never_there_is_none_and_not_an_error(fixture: &Fixture) {
    let repository: &dyn Repository = fixture.repository.as_ref();
    let digest = PlainToken::generate().digest();
    assert!(repository.find_credentials(&name("nobody")).await.unwrap().is_none());
    assert!(!is_live(fixture, digest).await);
    assert!(matches!(repository.revoke_own_session(&caller(digest), at(5_000)).await, Err(RepositoryError::NoSession)));
    assert!(open(fixture, UserId(4_711), HASH).await.0.is_none());
}

pub async fn a_profile_changes_field_by_field_and_modified_moves_with_a_change(fixture: &Fixture) {
    let (_, digest) = register(fixture, "AzureDiamond").await;
    let caller = caller(digest);
    let change = |field, to: &str, when| fixture.repository.update_profile(&caller, vec![text(field, to)], at(when));
    let user = change(ProfileField::City, "Chicago", 2_000).await.unwrap();
    assert_eq!(user.modified, at(1_000), "nothing was different");
    change(ProfileField::State, "IL", 3_000).await.unwrap();
    let user = change(ProfileField::City, "Springfield", 4_000).await.unwrap();
    assert_eq!((user.profile.city.as_str(), user.profile.state.as_str()), ("Springfield", "IL"));
    assert_eq!((user.created, user.modified), (at(1_000), at(4_000)));
    assert_eq!(fixture.repository.find_user(&caller).await.unwrap().1, user);
}

pub async fn a_new_password_ends_every_other_session(fixture: &Fixture) {
    let (user_id, first) = register(fixture, "AzureDiamond").await;
    let (_, second) = open(fixture, user_id, HASH).await;
    let stale = fixture
        .repository
        .change_password(&caller(second), by_password("$other"), hash("$new"), at(5_000))
        .await
        .unwrap();
    assert!(!stale && is_live(fixture, first).await);
    assert!(
        fixture.repository.change_password(&caller(second), by_password(HASH), hash("$new"), at(5_000)).await.unwrap()
    );
    assert!(!is_live(fixture, first).await);
    assert!(is_live(fixture, second).await);
    assert!(open(fixture, user_id, HASH).await.0.is_none());
    assert!(open(fixture, user_id, "$new").await.0.is_some());
}

pub async fn a_deleted_account_is_gone_with_all_that_was_its_own(fixture: &Fixture) {
    let (user_id, digest) = register(fixture, "AzureDiamond").await;
    let item = ItemId::new(1).unwrap();
    fixture.repository.add_item(&caller(digest), List::Wants, item, 10, at(2_000)).await.unwrap();
    assert!(!fixture.repository.delete_user(&caller(digest), by_password("$other"), at(5_000)).await.unwrap());
    assert!(fixture.repository.delete_user(&caller(digest), by_password(HASH), at(5_000)).await.unwrap());
    assert!(!is_live(fixture, digest).await);
    assert!(fixture.repository.find_credentials(&name("AzureDiamond")).await.unwrap().is_none());
    let (successor, digest) = register(fixture, "AzureDiamond").await;
    assert_ne!(successor, user_id, "an id is never given twice");
    let (_, user) = fixture.repository.find_user(&caller(digest)).await.unwrap();
    assert!(user.wants.is_empty());
}

pub async fn a_fresh_session_stands_for_the_password_until_the_password_changes(fixture: &Fixture) {
    let (user_id, digest) = register(fixture, "AzureDiamond").await;
    let (_, other) = open(fixture, user_id, HASH).await;
    let change = async |digest, proof, new, millis| {
        fixture.repository.change_password(&caller(digest), proof, hash(new), at(millis)).await.unwrap()
    };
    assert!(!change(digest, Proof::FreshSession, "$new", 3_000).await, "it is not fresh");
    reauthenticate(fixture, digest).await;
    assert!(!change(other, Proof::FreshSession, "$new", 4_000).await, "another session is");
    assert!(!change(digest, Proof::FreshSession, "$new", 603_000).await, "it was");
    assert!(is_live(fixture, other).await && open(fixture, user_id, HASH).await.0.is_some(), "nothing is changed");

    assert!(change(digest, Proof::FreshSession, "$new", 602_999).await);
    assert!(is_live(fixture, digest).await && !is_live(fixture, other).await);
    assert!(!is_fresh(fixture, digest, 602_999).await, "it ends with the password that was given");
    assert!(open(fixture, user_id, "$new").await.0.is_some());

    let again = fixture.repository.reauthenticate(&caller(digest), with_password("$new"), at(700_000)).await;
    assert!(again.unwrap() && is_fresh(fixture, digest, 700_000).await);
    assert!(change(digest, by_password("$new"), "$newest", 700_001).await);
    assert!(!is_fresh(fixture, digest, 700_001).await, "also where the password was given");
}

pub async fn an_account_is_deleted_by_a_fresh_session_and_by_no_other(fixture: &Fixture) {
    let (user_id, digest) = register(fixture, "AzureDiamond").await;
    let (_, other) = open(fixture, user_id, HASH).await;
    reauthenticate(fixture, digest).await;
    for (digest, millis) in [(other, 3_000), (digest, 2_999), (digest, 603_000)] {
        let is_deleted = fixture.repository.delete_user(&caller(digest), Proof::FreshSession, at(millis)).await;
        assert!(!is_deleted.unwrap(), "{millis}");
    }
    assert!(fixture.repository.delete_user(&caller(digest), Proof::FreshSession, at(602_999)).await.unwrap());
    assert_eq!((fixture.count_rows_of)(user_id), 0);
}
