//! Benchmarks of the parts of a request, without a socket: parsing a token and taking its digest, finding a session and
//! a user, writing the user object, opening a session, hashing at each cost.
//!
//! `just inside` runs all of it, `just inside find_session` one.

#![expect(clippy::unwrap_used, reason = "a measurement may panic")]

use std::future::pending;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Duration;

use authtokens::domain::authentication_methods::AuthenticationMethods;
use authtokens::domain::challenge::{ChallengePurpose, NewChallenge};
use authtokens::domain::item::{ItemId, List};
use authtokens::domain::profile::Profile;
use authtokens::domain::session::{Caller, NewSession, SessionPolicy, UserAgent};
use authtokens::domain::token::{PlainToken, TokenDigest};
use authtokens::domain::user::{Credentials, NewUser, PasswordHash, User, Username};
use authtokens::http::json;
use authtokens::http::views::user::UserResponse;
use authtokens::passwords::{Passwords, PlainPassword};
use authtokens::repository::sqlite::{SqliteRepository, SqliteSettings};
use authtokens::repository::{
    Accounts as _, FirstFactor, Lists as _, SecondFactor, SessionRequest, Sessions as _, VerifiedLogin,
};
use authtokens::system::clock::{Clock, Timestamp};
use authtokens::system::watched::WatchedThreads;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// How many users there are in the file.
const USERS: usize = 1_000;

const POLICY: SessionPolicy =
    SessionPolicy { lifetime: None, idle_timeout: Some(Duration::from_secs(30 * 24 * 3600)), max_per_user: 100 };

/// A store in a temporary file, with users of five items and one session each.
struct Store {
    runtime: Runtime,
    repository: SqliteRepository,
    callers: Vec<Caller>,
    credentials: Credentials,
    _folder: TempDir,
}

impl Store {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let path = folder.path().join("authtokens.db");
        let settings = SqliteSettings {
            path,
            readers: 1,
            busy_timeout: Duration::from_secs(1),
            cache: 64 << 20,
            keep_before_upgrade: None,
            notices: authtokens::repository::Notices::default(),
        };
        let repository = SqliteRepository::open(&settings).unwrap();
        let (callers, credentials) = runtime.block_on(async {
            let now = Clock::system().now();
            let mut callers = Vec::new();
            for number in 0..USERS {
                let digest = PlainToken::generate().digest();
                repository.register_user(new_user(number), new_session(&digest), None, now).await.unwrap();
                let caller = Caller { digest, cutoffs: POLICY.cutoffs_at(now), ip: None };
                for item in 1..=5 {
                    let item = ItemId::new(item).unwrap();
                    repository.add_item(&caller, List::Cellar, item, 100, now).await.unwrap();
                }
                callers.push(caller);
            }
            let first = Username::parse("user0").unwrap();
            (callers, repository.find_credentials(&first).await.unwrap().unwrap())
        });
        Self { runtime, repository, callers, credentials, _folder: folder }
    }

    /// Callers without end, each in turn.
    fn callers(&self) -> impl Iterator<Item = &Caller> {
        self.callers.iter().cycle()
    }
}

fn new_user(number: usize) -> NewUser {
    NewUser {
        username: Username::parse(&format!("user{number}")).unwrap(),
        password_hash: PasswordHash::from_stored("not a hash".to_owned()),
        profile: Profile::default(),
    }
}

fn new_session(digest: &TokenDigest) -> NewSession {
    NewSession {
        digest: *digest,
        user_agent: UserAgent::from_header("bench"),
        ip: None,
        methods: AuthenticationMethods::default(),
    }
}

fn tokens(criterion: &mut Criterion) {
    let text = PlainToken::generate().reveal().to_owned();
    criterion.bench_function("token: read and digest", |bencher| {
        bencher.iter(|| PlainToken::parse(black_box(&text)).unwrap().digest());
    });
    criterion.bench_function("token: generate", |bencher| bencher.iter(PlainToken::generate));
}

fn user_object(criterion: &mut Criterion) {
    let time = Timestamp::from_millis(1_420_411_895_144).unwrap();
    let user = User {
        username: Username::parse("user12345").unwrap(),
        profile: Profile::default(),
        is_active: true,
        is_superuser: false,
        is_staff: false,
        last_login: time,
        cellar: (1..=5).map(|number| ItemId::new(number).unwrap()).collect(),
        wants: Vec::new(),
        created: time,
        modified: time,
        date_joined: time,
        is_email_verified: false,
    };
    criterion.bench_function("user object: write", |bencher| {
        let write = |user: User| json::to_vec(&UserResponse::from(user)).unwrap();
        bencher.iter_batched(|| user.clone(), write, BatchSize::SmallInput);
    });
}

fn reads(criterion: &mut Criterion) {
    let store = Store::new();
    let mut callers = store.callers();
    criterion.bench_function("repository: find_session", |bencher| {
        bencher.iter(|| {
            let found = store.repository.find_session(callers.next().unwrap());
            store.runtime.block_on(found).unwrap().unwrap()
        });
    });
    criterion.bench_function("repository: find_user", |bencher| {
        bencher.iter(|| {
            let found = store.repository.find_user(callers.next().unwrap());
            store.runtime.block_on(found).unwrap()
        });
    });
}

fn writes(criterion: &mut Criterion) {
    let store = Store::new();
    let now = Clock::system().now();
    criterion.bench_function("repository: open_session, durable", |bencher| {
        bencher.iter(|| {
            let login = VerifiedLogin {
                user_id: store.credentials.user_id,
                verified_against: store.credentials.password_hash.clone(),
                rehashed: None,
            };
            let session = new_session(&PlainToken::generate().digest());
            let purpose = ChallengePurpose::SecondFactor;
            let digest = PlainToken::generate().digest();
            let request = SessionRequest {
                first: FirstFactor::Password(login),
                second: SecondFactor::NotGiven,
                session,
                challenge: NewChallenge { digest, purpose, state: String::new(), expires: now },
                max_sessions: POLICY.max_per_user,
                needs_verified_email: false,
            };
            store.runtime.block_on(store.repository.open_session(request, now)).unwrap()
        });
    });
}

fn hashes(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let password = PlainPassword::parse("password", "hunter2hunter2".to_owned()).unwrap();
    let mut group = criterion.benchmark_group("password: hash at cost");
    group.sample_size(10);
    for cost in 4..=12 {
        let passwords = Passwords::start(cost, NonZeroUsize::MIN, 1, &WatchedThreads::default()).unwrap();
        group.bench_function(cost.to_string(), |bencher| {
            bencher.iter(|| runtime.block_on(passwords.hash(password.clone(), pending())).unwrap());
        });
    }
}

criterion_group!(inside, tokens, user_object, reads, writes, hashes);
criterion_main!(inside);
