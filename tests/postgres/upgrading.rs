//! Upgrades of the schema: they make of each version what a new database has.

use std::time::Duration;

use authtokens::domain::identity::Subject;
use authtokens::domain::passkey::{CredentialId, PasskeyName};
use authtokens::domain::token::TokenDigest;
use authtokens::repository::postgres::PostgresRepository;
use authtokens::repository::{
    FactorChange, Factors as _, Identities as _, Linked, Maintenance as _, NewPasskey, PasskeyAdded, Passkeys as _,
    Sessions as _, TotpUse, VerifiedIdentity,
};
use futures_util::future::BoxFuture;

use crate::cluster;
use crate::nodes::{LEASE, at, by_hand, caller, count, database, open, register};

/// The oldest version whose releases may serve.
const OLDEST_SERVING: &str = "SELECT oldest_serving::bigint FROM schema_version";

/// The schemas of older releases that were for PostgreSQL, the first of version 5.
const OLDER: &[&str] = &[
    include_str!("../fixtures/postgres_v5.sql"),
    include_str!("../fixtures/postgres_v6.sql"),
    include_str!("../fixtures/postgres_v7.sql"),
];

/// Every column, index and constraint, a line each.
fn objects_in(url: &str) -> Vec<String> {
    let list = "SELECT concat_ws(' ', table_name, column_name, data_type, collation_name, is_nullable, column_default) \
         FROM information_schema.columns WHERE table_schema = current_schema() \
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() \
         UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint \
         WHERE connamespace = current_schema()::regnamespace \
         UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1";
    let rows = cluster::on(url, async |client| client.query(list, &[]).await).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn the_upgrades_make_of_each_version_what_a_new_database_has_and_keep_its_rows() {
    let (Some(new), Some(_)) = (database(), database()) else { return };
    drop(open(&new));
    for (version, schema) in (5..).zip(OLDER) {
        let old = database().unwrap();
        by_hand(&old, schema);
        by_hand(&old, &format!("INSERT INTO schema_version VALUES ({version}, {version})"));
        by_hand(
            &old,
            "INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, last_login) \
             VALUES ('Ana', 'ana', '!', 0, 0, 0, 0)",
        );
        drop(open(&old));
        assert_eq!(objects_in(&old), objects_in(&new), "{version}");
        assert_eq!(count(&old, "SELECT count(*) FROM users WHERE imported_hash_work IS NULL"), 1, "{version}");
    }
}

#[test]
fn an_upgrade_serves_no_older_release_than_what_is_stored_allows() {
    let Some(url) = database() else { return };
    by_hand(&url, OLDER[1]);
    by_hand(&url, "INSERT INTO schema_version VALUES (6, 7)");
    drop(open(&url));
    assert_eq!(count(&url, OLDEST_SERVING), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_first_second_factor_passkey_or_identity_ends_the_releases_that_know_none() {
    for add in [add_totp, add_passkey, add_identity] as [Add; 3] {
        let Some(url) = database() else { return };
        let node = open(&url);
        let digest = register(&node, "ana").await;
        by_hand(&url, "UPDATE tokens SET reauthenticated = 0");
        assert_eq!(count(&url, OLDEST_SERVING), 5);
        add(&node, digest).await;
        assert_eq!(count(&url, OLDEST_SERVING), 7);
        // This release goes on.
        assert!(node.find_session(&caller(digest)).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_older_release_opens_no_session_past_a_second_factor() {
    let Some(url) = database() else { return };
    let node = open(&url);
    let digest = register(&node, "ana").await;
    by_hand(&url, "UPDATE tokens SET reauthenticated = 0");
    // As version 6 did it.
    let insert = "INSERT INTO tokens (digest, user_id, created, last_used, user_agent, ip) \
         SELECT sha256(uuid_send(gen_random_uuid())), id, 3, 3, '', '' FROM users";
    by_hand(&url, insert);
    add_totp(&node, digest).await;
    let refused = cluster::execute(&url, insert).unwrap_err();
    assert!(refused.contains("second factor"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_whose_release_may_not_serve_any_more_ends_itself() {
    let Some(url) = database() else { return };
    let node = open(&url);
    let digest = register(&node, "ana").await;
    assert!(node.find_session(&caller(digest)).await.unwrap().is_some());
    by_hand(&url, "UPDATE schema_version SET oldest_serving = 9");
    tokio::time::timeout(Duration::from_secs(30), node.wait_for_failure()).await.unwrap();
    // No lease: nothing confirms what it reads.
    tokio::time::sleep(LEASE).await;
    assert!(node.find_session(&caller(digest)).await.is_err());
}

/// Adds one of them to the account of a session.
type Add = for<'a> fn(&'a PostgresRepository, TokenDigest) -> BoxFuture<'a, ()>;

fn add_totp(node: &PostgresRepository, digest: TokenDigest) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        let (caller, secret) = (caller(digest), vec![1; 40]);
        assert_eq!(node.begin_totp(&caller, secret.clone(), at(1)).await.unwrap(), FactorChange::Done);
        let code = TotpUse { secret, step: 1 };
        assert_eq!(node.confirm_totp(&caller, code, Vec::new(), at(2)).await.unwrap(), FactorChange::Done);
    })
}

fn add_passkey(node: &PostgresRepository, digest: TokenDigest) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        let passkey = NewPasskey {
            credential_id: CredentialId::from_bytes(vec![1]),
            user_handle: [1; 16],
            rp_id: "diamond.example".to_owned(),
            name: PasskeyName::parse("Phone").unwrap(),
            credential: "{}".to_owned(),
        };
        let added = node.add_passkey(&caller(digest), passkey, at(1)).await.unwrap();
        assert!(matches!(added, PasskeyAdded::Done(_)), "{added:?}");
    })
}

fn add_identity(node: &PostgresRepository, digest: TokenDigest) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        let identity = VerifiedIdentity {
            subject: Subject { issuer: "https://id.example".to_owned(), subject: "1".to_owned() },
            provider: "id".to_owned(),
            email: String::new(),
            token: None,
            refresh_token: None,
        };
        assert_eq!(node.link_identity(&caller(digest), true, identity, at(1)).await.unwrap(), Linked::Done);
    })
}
