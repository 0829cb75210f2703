//! Opens the database: connects, checks it, brings the schema up to date, starts the looks.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use super::address::Address;
use super::error::{OpenError, told};
use super::pool::{Connection, Connector, POOL_TIMEOUT, Pool};
use super::pooler;
use super::reach::why_not;
use super::schema::{self, Found};
use super::watcher::{LONGEST_LEASE, Watcher};
use super::writer::{self, Writer};
use super::{PostgresRepository, PostgresSettings, UNITS};
use crate::repository::Upgrade;
use crate::repository::lease::Lease;
use crate::repository::session_cache::SessionCache;
use crate::system::watched::WatchedThreads;

/// PostgreSQL 13: the first with `pg_current_snapshot`.
const OLDEST: i32 = 130_000;

impl PostgresRepository {
    /// Whether the database has a schema.
    ///
    /// # Errors
    /// [`OpenError`] where that cannot be found out.
    pub fn exists(settings: &PostgresSettings) -> Result<bool, OpenError> {
        let connector = connector(settings)?;
        let shown = connector.shown().to_owned();
        outside(&shown, async move {
            let connection = reach(&connector).await?;
            let found = schema::find(&connection).await.map_err(|error| failed(connector.shown(), &error))?;
            Ok(matches!(found, Found::Version { .. }))
        })
    }

    /// Opens the database for the server, and creates or upgrades the schema. It blocks.
    ///
    /// # Errors
    /// [`OpenError`]. A database that is refused is not changed.
    pub fn open(settings: &PostgresSettings) -> Result<Self, OpenError> {
        Self::start(settings, true, true)
    }

    /// Opens it for a command. Creates the schema only where `make` says so.
    ///
    /// # Errors
    /// [`OpenError`]. A database that is refused is not changed.
    pub fn open_shared(settings: &PostgresSettings, make: bool) -> Result<Self, OpenError> {
        Self::start(settings, false, make)
    }

    fn start(settings: &PostgresSettings, is_server: bool, make: bool) -> Result<Self, OpenError> {
        let connector = connector(settings)?;
        let shown = connector.shown().to_owned();
        let runtime = runtime(&shown)?;
        let handle = runtime.handle().clone();
        let prepared = outside(&shown, async move {
            // On the store's own runtime, where connections are served.
            let prepared = handle.spawn(async move {
                let upgrade = prepare(&connector, make).await?;
                Ok::<_, OpenError>((upgrade, connector))
            });
            prepared
                .await
                .unwrap_or_else(|error| Err(OpenError::Failed { shown: String::new(), why: error.to_string() }))
        });
        let (upgrade, connector) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                // This may be an async thread, which must not wait for the threads' end.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let pool = Arc::new(Pool::new(connector, settings.connections));
        let scans = Arc::new(Semaphore::new((settings.connections / 2).max(1)));
        let lease = Arc::new(Lease::new(settings.max_staleness.min(LONGEST_LEASE)));
        let size = if is_server { settings.cache } else { 0 };
        let cache = Arc::new(SessionCache::new(size, Arc::clone(&lease)));
        let watcher = Arc::new(Watcher::new(Arc::clone(&pool), Arc::clone(&cache), lease, is_server));
        let threads = WatchedThreads::default();
        let writer = Arc::new(Writer {
            pool: Arc::clone(&pool),
            watcher: Arc::clone(&watcher),
            cache: Arc::clone(&cache),
            notices: settings.notices,
            tally: writer::Tally::default(),
        });
        let repository = Self {
            runtime: Some(runtime),
            pool,
            scans,
            cache,
            watcher,
            writer,
            proving: Arc::default(),
            units: Arc::new(Semaphore::new(UNITS as usize)),
            background: Mutex::default(),
            threads,
            upgrade,
            horizon: Mutex::default(),
        };
        if is_server {
            repository.start_watching();
        }
        Ok(repository)
    }

    /// What was upgraded when the database was opened, where something was.
    #[must_use]
    pub fn upgrade(&self) -> Option<&Upgrade> {
        self.upgrade.as_ref()
    }
}

pub(super) fn connector(settings: &PostgresSettings) -> Result<Connector, OpenError> {
    Connector::new(Address::parse(settings.url.expose(), settings.ca_file.clone())?)
}

/// The store's own threads: they serve the connections, run the units of work, and look at the feed.
pub(super) fn runtime(shown: &str) -> Result<Runtime, OpenError> {
    let threads = (thread::available_parallelism().map_or(1, NonZeroUsize::get) / 2).max(1);
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads).max_blocking_threads(4).thread_name("authtokens postgres").enable_all();
    builder.build().map_err(|source| OpenError::Start { shown: shown.to_owned(), source })
}

/// Runs `work` to its end on a thread of its own: the caller may be an async thread, which must not wait.
pub(super) fn outside<T: Send + 'static>(
    shown: &str,
    work: impl Future<Output = Result<T, OpenError>> + Send + 'static,
) -> Result<T, OpenError> {
    let start = |source| OpenError::Start { shown: shown.to_owned(), source };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(start)?;
    let working = thread::Builder::new().spawn(move || runtime.block_on(work)).map_err(start)?;
    working.join().unwrap_or_else(|_| Err(OpenError::Failed { shown: shown.to_owned(), why: "a panic".to_owned() }))
}

/// Connects, and checks what cannot be worked with.
pub(super) async fn reach(connector: &Connector) -> Result<Connection, OpenError> {
    let shown = connector.shown().to_owned();
    let connected = tokio::time::timeout(POOL_TIMEOUT * 3, connector.connect()).await;
    let connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(OpenError::Unreachable { shown, why: why_not(&error) }),
        Err(_) => return Err(OpenError::Unreachable { shown, why: "it does not answer".to_owned() }),
    };
    pooler::check(connector, &connection).await?;
    let settings = "SELECT current_setting('server_version_num')::integer, current_setting('server_version'), \
         current_setting('server_encoding'), \
         coalesce(has_schema_privilege(current_schema(), 'CREATE'), FALSE), current_user::text";
    let row = connection.query_one(settings, &[]).await.map_err(|failure| OpenError::Failed {
        shown: shown.clone(),
        why: crate::system::error_chain::Chain(&failure.mapped()).to_string(),
    })?;
    if row.get::<_, i32>(0) < OLDEST {
        return Err(OpenError::TooOld { shown, version: row.get(1) });
    }
    let encoding: String = row.get(2);
    if encoding != "UTF8" {
        return Err(OpenError::NotUtf8 { shown, encoding });
    }
    if !row.get::<_, bool>(3) {
        return Err(OpenError::NoRight { shown, role: row.get(4) });
    }
    Ok(connection)
}

async fn prepare(connector: &Connector, make: bool) -> Result<Option<Upgrade>, OpenError> {
    let mut connection = reach(connector).await?;
    if !make {
        let found = schema::find(&connection).await.map_err(|error| failed(connector.shown(), &error))?;
        if found == Found::Empty {
            return Err(OpenError::Missing { shown: connector.shown().to_owned() });
        }
    }
    schema::migrate(connection.client_mut(), connector.shown()).await
}

fn failed(shown: &str, error: &tokio_postgres::Error) -> OpenError {
    OpenError::Failed { shown: shown.to_owned(), why: told(error) }
}
