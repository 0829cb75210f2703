//! A database with nodes on it, and short names for what they do.

use std::sync::Arc;
use std::time::Duration;

use authtokens::config::secret::Secret;
use authtokens::domain::authentication_methods::AuthenticationMethods;
use authtokens::domain::profile::Profile;
use authtokens::domain::session::{Caller, NewSession, SessionCutoffs, UserAgent};
use authtokens::domain::token::{PlainToken, TokenDigest};
use authtokens::domain::user::{NewUser, PasswordHash, User, Username};
use authtokens::repository::postgres::{PostgresRepository, PostgresSettings};
use authtokens::repository::{Accounts as _, Notices, RepositoryError, Sessions as _};
use authtokens::system::clock::Timestamp;

use crate::cluster;
use crate::proxy::Proxy;

/// The lease of every node.
pub const LEASE: Duration = Duration::from_millis(250);

/// The URL of an empty database; `None` where PostgreSQL is not installed.
pub fn database() -> Option<String> {
    let cluster = cluster::cluster();
    if cluster.is_none() {
        cluster::left_out("a test of PostgreSQL's store");
    }
    cluster.map(cluster::Cluster::new_database)
}

/// A node on the database of this URL.
pub fn open(url: &str) -> Arc<PostgresRepository> {
    let settings = PostgresSettings {
        url: Secret::from(url.to_owned()),
        ca_file: None,
        connections: 8,
        cache: 1 << 20,
        max_staleness: LEASE,
        notices: Notices::default(),
    };
    Arc::new(PostgresRepository::open(&settings).unwrap())
}

/// A node whose connections all go through a proxy.
pub async fn open_behind_proxy(url: &str) -> (Arc<PostgresRepository>, Arc<Proxy>) {
    let proxy = Proxy::start(url).await;
    (open(&proxy.url), proxy)
}

/// Runs statements by hand.
pub fn by_hand(url: &str, sql: &str) {
    cluster::execute(url, sql).unwrap();
}

/// A figure, by hand.
pub fn count(url: &str, sql: &str) -> i64 {
    cluster::on(url, async |client| client.query_one(sql, &[]).await).unwrap().get(0)
}

pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

/// A caller whose session is live whatever its age and last use.
pub fn caller(digest: TokenDigest) -> Caller {
    let cutoffs = SessionCutoffs::EVER;
    Caller { digest, cutoffs, ip: None }
}

/// Registers a user; the digest of its session.
pub async fn register(node: &PostgresRepository, username: &str) -> TokenDigest {
    let (digest, registered) = try_to_register(node, username).await;
    registered.unwrap();
    digest
}

pub async fn try_to_register(
    node: &PostgresRepository,
    username: &str,
) -> (TokenDigest, Result<User, RepositoryError>) {
    let user = NewUser {
        username: Username::parse(username).unwrap(),
        password_hash: PasswordHash::from_stored("$bcrypt-sha256$v=2,t=2b,r=4$first".to_owned()),
        profile: Profile::default(),
    };
    let digest = PlainToken::generate().digest();
    let session = NewSession {
        digest,
        user_agent: UserAgent::from_header("Cellar/1.0"),
        ip: None,
        methods: AuthenticationMethods::PASSWORD,
    };
    (digest, node.register_user(user, session, None, at(1_000)).await)
}

pub async fn is_live(node: &PostgresRepository, digest: TokenDigest) -> Result<bool, RepositoryError> {
    Ok(node.find_session(&caller(digest)).await?.is_some())
}
