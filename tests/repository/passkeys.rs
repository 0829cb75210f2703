//! Passkeys: added, used, renamed, removed.

use authtokens::domain::passkey::{MAX_PASSKEYS, PasskeyId, PasskeyName};
use authtokens::repository::{FirstFactor, NewPasskey, OfferedWays, PasskeyAdded, PasskeyUse, Removal, SecondFactor};

use crate::fixture::Fixture;
use crate::ways::{
    CREDENTIAL, HANDLE, add_passkey, all_ways, credential, log_in, new_passkey, reauthenticate_by, register_by, says,
    signed,
};
use crate::words::{at, caller, events, name, reauthenticate, register};

fn id_of(id: &str) -> PasskeyId {
    PasskeyId::of(&credential(id))
}

pub async fn a_passkey_is_added_in_a_fresh_session_and_found_by_its_credential(fixture: &Fixture) {
    let repository = &fixture.repository;
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    let own = caller(session);
    let added = repository.add_passkey(&own, new_passkey("one"), at(3_000)).await.unwrap();
    assert_eq!(added, PasskeyAdded::NotFresh);
    assert!(repository.find_passkey(&credential("one")).await.unwrap().is_none());
    let owner = repository.find_passkey_owner(&own).await.unwrap();
    assert_eq!((owner.user_id, owner.username.as_str()), (user_id, "AzureDiamond"));
    assert_eq!((owner.user_handle, owner.credentials), (None, vec![]));

    reauthenticate(fixture, session).await;
    let mut listed = Vec::new();
    for (number, id) in (0..).zip(["two", "one"]) {
        let added = repository.add_passkey(&own, new_passkey(id), at(3_000 + number)).await.unwrap();
        let PasskeyAdded::Done(details) = added else { panic!("{added:?}") };
        assert_eq!((&details.id, details.name.as_str()), (&id_of(id), "Laptop"));
        assert_eq!((details.created, details.last_used), (at(3_000 + number), None));
        listed.push(details);
    }
    assert_eq!(repository.list_passkeys(&own).await.unwrap(), listed, "the oldest first");
    let owner = repository.find_passkey_owner(&own).await.unwrap();
    assert_eq!((owner.user_handle, owner.credentials), (Some(HANDLE), vec![credential("two"), credential("one")]));
    let found = repository.find_passkey(&credential("one")).await.unwrap().unwrap();
    assert_eq!((found.user_id, found.username.as_str()), (user_id, "AzureDiamond"));
    assert_eq!((found.credential_id, found.user_handle, &*found.credential), (credential("one"), HANDLE, CREDENTIAL));
    let all = repository.list_credentials(user_id).await.unwrap();
    let all: Vec<_> = all.into_iter().map(|passkey| passkey.credential_id).collect();
    assert_eq!(all, [credential("two"), credential("one")]);
    let told = events(fixture).await;
    for id in ["one", "two"] {
        let expected = format!("passkey_added AzureDiamond AzureDiamond {}", id_of(id).as_str());
        assert_eq!(told.iter().filter(|event| **event == expected).count(), 1, "{told:?}");
    }
    (fixture.deactivate)("AzureDiamond");
    assert!(repository.find_passkey(&credential("one")).await.unwrap().is_none(), "its account may not be used");
}

pub async fn a_credential_is_one_accounts_and_an_account_has_so_many_passkeys_at_most(fixture: &Fixture) {
    let repository = &fixture.repository;
    let (_, session) = register(fixture, "AzureDiamond").await;
    let (_, other) = register(fixture, "other").await;
    add_passkey(fixture, session, "passkey 0").await;
    reauthenticate(fixture, other).await;
    for session in [session, other] {
        let added = repository.add_passkey(&caller(session), new_passkey("passkey 0"), at(4_000)).await.unwrap();
        assert_eq!(added, PasskeyAdded::Taken);
    }
    let of_another_handle = |id| NewPasskey { user_handle: [8; 16], ..new_passkey(id) };
    for (session, id) in [(session, "begun early"), (other, "another")] {
        let added = repository.add_passkey(&caller(session), of_another_handle(id), at(4_000)).await.unwrap();
        assert!(matches!(added, PasskeyAdded::Done(_)), "{added:?}");
    }
    let owner = repository.find_passkey_owner(&caller(session)).await.unwrap();
    assert_eq!(owner.user_handle, Some(HANDLE), "that of the oldest");
    for number in 2..MAX_PASSKEYS {
        add_passkey(fixture, session, &format!("passkey {number}")).await;
    }
    let added = repository.add_passkey(&caller(session), new_passkey("too many"), at(4_000)).await.unwrap();
    assert_eq!(added, PasskeyAdded::Full);
    assert!(repository.find_passkey(&credential("too many")).await.unwrap().is_none());
    assert_eq!(repository.list_passkeys(&caller(session)).await.unwrap().len(), MAX_PASSKEYS as usize);
    let counts = repository.count_passkeys_by_domain().await.unwrap();
    assert_eq!(counts, [("cellar.example".to_owned(), u64::from(MAX_PASSKEYS) + 1)]);
}

pub async fn passkeys_are_counted_by_their_domains(fixture: &Fixture) {
    let (_, session) = register(fixture, "AzureDiamond").await;
    assert_eq!(fixture.repository.count_passkeys_by_domain().await.unwrap(), []);
    add_passkey(fixture, session, "one").await;
    let elsewhere = NewPasskey { rp_id: "b.example".to_owned(), ..new_passkey("two") };
    let added = fixture.repository.add_passkey(&caller(session), elsewhere, at(3_000)).await.unwrap();
    assert!(matches!(added, PasskeyAdded::Done(_)), "{added:?}");
    let counts = fixture.repository.count_passkeys_by_domain().await.unwrap();
    assert_eq!(counts, [("b.example".to_owned(), 1), ("cellar.example".to_owned(), 1)]);
}

pub async fn a_signature_counts_where_the_passkey_is_as_it_was_read(fixture: &Fixture) {
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    let (other_id, _) = register(fixture, "other").await;
    add_passkey(fixture, session, "one").await;
    let with = async |used| log_in(fixture, FirstFactor::Passkey(used), SecondFactor::NotGiven, 6_000).await;
    let newer = "{\"counter\":1}".to_owned();
    assert!(with(signed(user_id, "missing")).await.is_refused());
    assert!(with(PasskeyUse { user_id: other_id, ..signed(user_id, "one") }).await.is_refused());
    assert!(with(PasskeyUse { before: newer.clone(), ..signed(user_id, "one") }).await.is_refused());
    let last_used = async || fixture.repository.list_passkeys(&caller(session)).await.unwrap()[0].last_used;
    assert_eq!(last_used().await, None, "nothing of it counted");
    assert!(with(signed(user_id, "one")).await.is_opened(), "a passkey without a counter stays as it is");
    assert_eq!(last_used().await, Some(at(6_000)));
    assert!(with(PasskeyUse { after: Some(newer.clone()), ..signed(user_id, "one") }).await.is_opened());
    assert!(with(signed(user_id, "one")).await.is_refused(), "it has changed since");
    let found = fixture.repository.find_passkey(&credential("one")).await.unwrap().unwrap();
    assert_eq!(found.credential, newer);
    assert!(with(PasskeyUse { before: newer, ..signed(user_id, "one") }).await.is_opened());
}

pub async fn a_passkey_is_renamed_by_its_owner(fixture: &Fixture) {
    let (_, session) = register(fixture, "AzureDiamond").await;
    let (_, other) = register(fixture, "other").await;
    add_passkey(fixture, session, "one").await;
    add_passkey(fixture, session, "two").await;
    let phone = || PasskeyName::parse("Phone").unwrap();
    let rename = async |session, id| fixture.repository.rename_passkey(&caller(session), id, phone()).await.unwrap();
    assert!(rename(other, id_of("one")).await.is_none());
    assert!(rename(session, id_of("three")).await.is_none());
    let renamed = rename(session, id_of("one")).await.unwrap();
    assert_eq!((&renamed.id, renamed.name.as_str(), renamed.created), (&id_of("one"), "Phone", at(3_000)));
    let mut names: Vec<_> = fixture.repository.list_passkeys(&caller(session)).await.unwrap();
    names.sort_by_key(|passkey| passkey.name.as_str().to_owned());
    assert_eq!(names.iter().map(|passkey| passkey.name.as_str()).collect::<Vec<_>>(), ["Laptop", "Phone"]);
}

pub async fn a_passkey_is_removed_in_a_fresh_session_by_its_owner(fixture: &Fixture) {
    let (user_id, session) = register(fixture, "AzureDiamond").await;
    let (_, other) = register(fixture, "other").await;
    add_passkey(fixture, session, "one").await;
    reauthenticate(fixture, other).await;
    let remove = async |session, id, millis| {
        fixture.repository.remove_passkey(&caller(session), id_of(id), all_ways(), at(millis)).await.unwrap()
    };
    assert_eq!(remove(session, "one", 603_000).await, Removal::NotFresh);
    assert_eq!(remove(other, "one", 4_000).await, Removal::NotFound);
    assert_eq!(remove(session, "two", 4_000).await, Removal::NotFound);
    assert_eq!(remove(session, "one", 4_000).await, Removal::Done, "the password is left");
    assert_eq!(remove(session, "one", 4_000).await, Removal::NotFound);
    let tried = log_in(fixture, FirstFactor::Passkey(signed(user_id, "one")), SecondFactor::NotGiven, 6_000).await;
    assert!(tried.is_refused());
    let expected = format!("passkey_removed AzureDiamond AzureDiamond {}", id_of("one").as_str());
    let told = events(fixture).await;
    assert_eq!(told.iter().filter(|event| **event == expected).count(), 1, "{told:?}");
}

pub async fn the_last_way_into_an_account_stays(fixture: &Fixture) {
    let repository = &fixture.repository;
    let (user_id, session) = register_by(fixture, "AzureDiamond", says("somebody")).await;
    let own = caller(session);
    reauthenticate_by(fixture, user_id, session, says("somebody")).await;
    let identity = crate::ways::subject("somebody").id();
    let unlink = || repository.unlink_identity(&own, identity.clone(), all_ways(), at(4_000));
    assert_eq!(unlink().await.unwrap(), Removal::LastWayIn);
    let added = repository.add_passkey(&own, new_passkey("one"), at(4_000)).await.unwrap();
    assert!(matches!(added, PasskeyAdded::Done(_)), "{added:?}");
    // What this service does not offer is no way in.
    let identities = OfferedWays { passkeys: false, ..all_ways() };
    let passkeys = OfferedWays { issuers: vec!["https://other.example".to_owned()], ..all_ways() };
    let unlinked = repository.unlink_identity(&own, identity.clone(), identities, at(4_000)).await.unwrap();
    assert_eq!(unlinked, Removal::LastWayIn);
    let removed = repository.remove_passkey(&own, id_of("one"), passkeys.clone(), at(4_000)).await.unwrap();
    assert_eq!(removed, Removal::LastWayIn);
    let unlinked = repository.unlink_identity(&own, identity.clone(), passkeys, at(4_000)).await.unwrap();
    assert_eq!(unlinked, Removal::Done);
    let remove = || repository.remove_passkey(&own, id_of("one"), all_ways(), at(4_000));
    assert_eq!(remove().await.unwrap(), Removal::LastWayIn);
    assert!(repository.find_credentials(&name("AzureDiamond")).await.unwrap().unwrap().password_hash.is_none());
    let added = repository.add_passkey(&own, new_passkey("two"), at(4_000)).await.unwrap();
    assert!(matches!(added, PasskeyAdded::Done(_)), "{added:?}");
    assert_eq!(remove().await.unwrap(), Removal::Done);
    let first = authtokens::repository::Proof::FreshSession;
    assert!(repository.change_password(&own, first, crate::words::hash("$new"), at(4_000)).await.unwrap());
    let again = crate::words::with_password("$new");
    assert!(repository.reauthenticate(&own, again, at(4_000)).await.unwrap());
    let removed = repository.remove_passkey(&own, id_of("two"), all_ways(), at(4_000)).await.unwrap();
    assert_eq!(removed, Removal::Done, "there is a password by now");
}
