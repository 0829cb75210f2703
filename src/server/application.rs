//! The application: puts the parts of the service together, serves, and stops.
//!
//! [`Application::build`] takes everything that can fail: the port, the file, the threads. Once it has returned, the
//! server can be reached. [`Application::run_until_stopped`] serves until it is told to stop, finishes what was
//! accepted, and closes the file with its WAL checkpointed.

use std::cell::Cell;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_cors::Cors;
use actix_http::{HttpService, KeepAlive, Request};
use actix_rt::net::TcpStream;
use actix_rt::task::JoinHandle;
use actix_server::Server;
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, apply_fn_factory, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::{App, web};
use futures_util::FutureExt as _;
use thiserror::Error;

use crate::accounts::identities::Exchanged;
use crate::accounts::identities::policy::IdentityPolicy;
use crate::accounts::passkeys::domain::{PasskeyDomainError, find_relying_party};
use crate::accounts::passkeys::relying_party::RelyingParty;
use crate::accounts::sealing::{SealingKeyError, find_key};
use crate::accounts::throttle::guesses::Guesses;
use crate::accounts::throttle::limits::{Limits, Together};
use crate::accounts::throttle::mail_limits::MailLimits;
use crate::accounts::throttle::service_limits::ServiceLimits;
use crate::accounts::throttle::{BEGUN_BY_STRANGERS, LoginThrottle};
use crate::accounts::{Accounts, MailPolicy};
use crate::config::mail::{Encryption, Transport};
use crate::config::{Config, CorsConfig, MailConfig, ServerConfig};
use crate::http::body_limits::{BodyBudget, BodyLimits};
use crate::http::extract::proxy::TrustedProxies;
use crate::http::pages::templates::Pages;
use crate::http::readiness::Readiness;
use crate::http::routes;
use crate::http::state::{AppState, State};
use crate::http::well_known::WellKnown;
use crate::jobs::activity::{NoticeResets, StoreFailedAttempts, StoreLastUsed, StoreServiceUses};
use crate::jobs::backups::{BackupSettings, Backups};
use crate::jobs::mail::SendMail;
use crate::jobs::pruning::{PruneChallenges, Pruning};
use crate::jobs::revocations::RevokeTokens;
use crate::jobs::webhooks::DeliverWebhooks;
use crate::jobs::{JobRegistry, Jobs};
use crate::mail::{MailError, Postman};
use crate::outbound;
use crate::passwords::{PasswordPolicy, Passwords};
use crate::providers::Providers;
use crate::repository::open::{blocking_threads, open, shown};
use crate::repository::{Cause, OpenError, Repository};
use crate::server::exposition::Exposition;
use crate::server::metrics_listener;
use crate::server::middleware::RequestLayer;
use crate::system::clock::Clock;
use crate::system::error_chain::Chain;
use crate::system::sealing::SealingKey;
use crate::system::watched::{ThreadEnded, WatchedThreads};
use crate::telemetry::metrics::Metrics;
use crate::templates::TemplateError;
use crate::transport::connection::{Connection, ConnectionSettings};

/// How long a browser may remember the answer to a preflight.
const PREFLIGHT_MAX_AGE: usize = 86_400;

/// How long a client may take to close its side of a connection that is being closed.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The least time that closing the file has, however little is left of the shutdown timeout.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Files that are open besides the connections: the database's, standard error, the runtime's own.
const OTHER_FILES: u64 = 128;

/// Why the server did not start, or did not stop as it should. Each is one sentence for a person.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address is in use, not this machine's, or not allowed.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be used.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The key that secrets are sealed with cannot be used.
    #[error(transparent)]
    SealingKey(#[from] SealingKeyError),
    /// A provider cannot be asked as it is configured.
    #[error("cannot ask a provider of identities: {0}")]
    Provider(String),
    /// The passkeys that are stored cannot be used as it is configured.
    #[error(transparent)]
    Passkeys(#[from] PasskeyDomainError),
    /// Mail cannot be sent as it is configured.
    #[error("cannot send mail: {0}")]
    Mail(#[source] MailError),
    /// The system gives no threads.
    #[error("cannot start the server's threads: {0}")]
    Threads(#[source] io::Error),
    /// The server ended by itself.
    #[error("the server failed: {0}")]
    Server(#[source] io::Error),
    /// A thread that the service cannot do without ended by itself.
    #[error(transparent)]
    ThreadEnded(#[from] ThreadEnded),
    /// A template of the pages cannot be used.
    #[error(transparent)]
    Templates(#[from] TemplateError),
    /// The store cannot go on.
    #[error("the store failed: {0}")]
    Store(#[source] Cause),
}

/// A server that listens already.
pub struct Application {
    address: SocketAddr,
    server: Server,
    state: State,
    metrics: Option<(SocketAddr, Server)>,
    repository: Arc<dyn Repository>,
    jobs: Jobs,
    backups: Option<Backups>,
    threads: WatchedThreads,
    drain: Duration,
    shutdown_timeout: Duration,
}

impl Application {
    /// Takes the port, opens the file, starts the threads.
    ///
    /// # Errors
    /// [`ServeError`], each a sentence for the person who starts the server.
    pub async fn build(config: &Config, clock: Clock) -> Result<Self, ServeError> {
        Self::build_on(None, config, clock, WatchedThreads::default()).await
    }

    /// The same, on `listener` instead of the configured address where there is one. Its threads are watched together
    /// with those of `threads`.
    ///
    /// # Errors
    /// [`ServeError`], as above.
    pub async fn build_on(
        listener: Option<TcpListener>,
        config: &Config,
        clock: Clock,
        threads: WatchedThreads,
    ) -> Result<Self, ServeError> {
        let listener = listener.map_or_else(|| listen(config.server.listen), Ok)?;
        let address = listener.local_addr().map_err(ServeError::Threads)?;
        listener.set_nonblocking(true).map_err(|source| ServeError::Listen { address, source })?;
        let metrics_listener = config.metrics.listen.map(listen).transpose()?;
        let repository = open(config, clock.now())?;
        // Before anything answers: a service without its key would turn away everybody who has an authenticator app.
        let sealing = find_key(config, repository.as_ref()).await?.map(Arc::new);
        let passkeys = find_relying_party(config, repository.as_ref()).await?;
        let password = &config.password;
        let passwords = Passwords::start(password.bcrypt_cost, password.hash_threads, password.hash_queue, &threads)
            .map_err(ServeError::Threads)?;
        let identities = identities(config)?;
        let registry = JobRegistry::default();
        let backups = start_backups(config, &clock, &registry, &threads).map_err(ServeError::Threads)?;
        let metrics = metrics_listener.is_some().then(|| Arc::new(Metrics::new(routes::PATHS.map(|(path, _)| path))));
        allow_open_files(config.server.max_connections);
        let accounts =
            Arc::new(accounts(config, &repository, passwords, (passkeys, sealing, identities), metrics.clone(), clock));
        let mail = send_mail(config, &accounts, metrics.clone())?;
        let mail_status = mail.as_ref().map(SendMail::status);
        let exposition = metrics.clone().map(|metrics| {
            Arc::new(Exposition::new(
                metrics,
                Arc::clone(&accounts),
                backups.as_ref().map(Backups::status),
                mail_status.clone(),
                registry.clone(),
            ))
        });
        let mut jobs = jobs(config, &accounts, registry);
        jobs.add(RevokeTokens::new(Arc::clone(&accounts)));
        jobs.add(DeliverWebhooks::new(Arc::clone(&accounts), config.outbound.timeout, metrics.clone()));
        if let Some(mail) = mail {
            jobs.add(mail);
        }
        let state = web::Data::new(AppState {
            accounts,
            max_items: config.lists.max_items,
            proxies: Arc::new(TrustedProxies::new(config.server.trusted_proxies.clone())),
            body_limits: BodyLimits {
                size: config.server.body_limit,
                size_with_password: config.server.password_body_limit,
                time: config.server.body_timeout,
                budget: Arc::new(BodyBudget::new(
                    config.server.body_budget.max(config.server.body_limit * 2_u64),
                    metrics.clone(),
                )),
            },
            readiness: Readiness::default(),
            backups: backups.as_ref().map(Backups::status),
            pages: Pages::new(config, address.ip())?,
            mail: mail_status,
            well_known: WellKnown::new(&config.passkeys),
        });
        let server = serve(listener, config, state.clone(), metrics)?;
        let metrics = metrics_listener.zip(exposition).map(|(listener, exposition)| {
            let address = listener.local_addr()?;
            Ok((address, metrics_listener::serve(listener, &exposition)?))
        });
        let metrics = metrics.transpose().map_err(ServeError::Threads)?;
        let (version, cache) = (env!("CARGO_PKG_VERSION"), config.database.cache);
        log::info!("started: version {version}, listening on {address}, session cache of up to {cache}");
        if let Some((address, _)) = &metrics {
            log::info!("metrics at http://{address}/metrics");
        }
        if let Some(way) = way_of_mail(config) {
            log::info!("mail leaves {way}");
        }
        let ServerConfig { drain, shutdown_timeout, .. } = config.server;
        Ok(Self { address, server, state, metrics, repository, jobs, backups, threads, drain, shutdown_timeout })
    }

    /// The address it listens on, with the port that the system chose where it was asked to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address at which it shows its metrics, where it does.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|(address, _)| *address)
    }

    /// What the person who started the server wants to know: where it is and how to try it.
    #[must_use]
    pub fn greeting(&self, config: &Config) -> String {
        format!(
            "authtokens {version} listens on http://{address} and keeps its data in {store}\n\
             Try it:  curl -H 'Content-Type: application/json' \
             -d '{{\"username\": \"AzureDiamond\", \"password\": \"hunter2\"}}' http://{address}/api/register\n\
             All calls, to read and to try:  http://{address}/docs",
            version = env!("CARGO_PKG_VERSION"),
            address = self.address,
            store = shown(&config.database),
        )
    }

    /// Serves until `stop` resolves, or a part that the service needs has ended; then finishes what was accepted and
    /// closes the file.
    ///
    /// # Errors
    /// [`ServeError`] when the server ends by itself, or a part that it needs.
    pub async fn run_until_stopped(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let handle = self.server.handle();
        // The metrics are shown until the stop is complete.
        let metrics = self.metrics.map(|(_, server)| (server.handle(), actix_rt::spawn(server)));
        let (metrics, serving_metrics) = metrics.unzip();
        let (told_at, failure) = (Cell::new(None), Cell::new(None));
        // Before the first request: the failures that were stored must count before a password can be tried.
        self.jobs.start().await;
        let running_jobs = self.jobs.run();
        tokio::pin!(running_jobs);
        let stopping = async {
            // Each part that may end by itself, and must not do so unnoticed, has a line here.
            let ended = tokio::select! {
                () = stop => None,
                ended = self.threads.failure() => Some(ServeError::from(ended)),
                cause = self.repository.wait_for_failure() => Some(ServeError::Store(cause)),
                ended = end_of(serving_metrics) => Some(ServeError::from(ended)),
            };
            if ended.is_none() && !self.drain.is_zero() {
                log::info!("draining for {} s: not ready any more", self.drain.as_secs());
                self.state.readiness.drain();
                tokio::time::sleep(self.drain).await;
            }
            told_at.set(Some(Instant::now()));
            match &ended {
                None => log::info!("stopping: no new connections are taken"),
                Some(ended) => log::error!("stopping, no new connections are taken: {}", Chain(ended)),
            }
            failure.set(ended);
            if let Some(backups) = &self.backups {
                backups.tell_to_stop();
            }
            handle.stop(true).await;
        };
        tokio::pin!(stopping);
        // Where its accepting thread has panicked, the framework's server panics with it at the stop.
        let mut serving = AssertUnwindSafe(self.server).catch_unwind().map(|outcome| {
            outcome.unwrap_or_else(|_| Err(io::Error::other("the thread that accepts connections has panicked")))
        });
        let outcome = tokio::select! {
            outcome = &mut serving => outcome,
            () = &mut stopping => serving.await,
            () = &mut running_jobs => unreachable!("jobs end only when they are told to"),
        };
        if let Some(handle) = metrics {
            handle.stop(false).await;
        }
        let left = told_at.get().map_or(CLOSE_WITHIN, |at| self.shutdown_timeout.saturating_sub(at.elapsed()));
        self.jobs.stop();
        let closing = async {
            running_jobs.await;
            // A running backup keeps the WAL from being checkpointed.
            if let Some(backups) = &self.backups {
                backups.stop().await;
            }
            self.repository.close().await
        };
        match tokio::time::timeout(left.max(CLOSE_WITHIN), closing).await {
            Ok(Ok(())) => log::info!("stopped"),
            // What was acknowledged is durable, and the next start reads it.
            Ok(Err(error)) => log::warn!("stopped, but the store was not closed in good order: {}", Chain(&error)),
            Err(_) => log::warn!("stopped, but the store was not closed in good order: something holds it"),
        }
        outcome.map_err(ServeError::Server)?;
        failure.take().map_or(Ok(()), Err)
    }
}

/// Resolves when the metrics listener has ended by itself; never where there is none.
async fn end_of(server: Option<JoinHandle<io::Result<()>>>) -> ThreadEnded {
    match server {
        Some(server) => {
            let _ = server.await;
            ThreadEnded("authtokens metrics".to_owned())
        }
        None => std::future::pending().await,
    }
}

fn accounts(
    config: &Config,
    repository: &Arc<dyn Repository>,
    passwords: Passwords,
    (passkeys, sealing, identities): (Option<RelyingParty>, Option<Arc<SealingKey>>, IdentityPolicy),
    metrics: Option<Arc<Metrics>>,
    clock: Clock,
) -> Accounts {
    Accounts {
        repository: Arc::clone(repository),
        passwords,
        password_policy: PasswordPolicy {
            min_length: config.password.min_length,
            reject_common: config.password.reject_common,
        },
        session_policy: config.tokens,
        throttle: LoginThrottle {
            guesses: Guesses::default(),
            limits: Arc::new(Limits::new(config.rate_limit, repository.is_shared())),
            services: ServiceLimits::new(config.rate_limit),
            begun: Together::new(BEGUN_BY_STRANGERS, config.rate_limit.enabled),
            failed_attempts: Arc::default(),
            repository: Arc::clone(repository),
            metrics,
            clock: clock.clone(),
        },
        mail: config.sends_mail().then(|| MailPolicy {
            requests: Arc::default(),
            require_verified_email: config.accounts.require_verified_email,
            login_by_mail: config.accounts.login_by_mail,
            staff_set_passwords: config.accounts.staff_set_passwords,
            app_links: config.mail.app_links.clone(),
            limits: MailLimits::new(config.rate_limit.enabled, config.mail.limit),
        }),
        identities,
        service_name: config.server.name.clone(),
        passkeys,
        sealing,
        last_used: Arc::default(),
        service_uses: Arc::default(),
        clock,
    }
}

/// What logins by providers of identities may do, by the configuration.
fn identities(config: &Config) -> Result<IdentityPolicy, ServeError> {
    let client = outbound::Client::new(config.outbound.allow.clone(), config.outbound.timeout);
    let providers = Providers::new(&config.provider, Arc::new(client)).map_err(ServeError::Provider)?;
    Ok(IdentityPolicy {
        providers: Arc::new(providers),
        registers: config.identities.register,
        return_to: config.identities.return_to.clone(),
        public_url: config.server.public_url.clone(),
        exchanged: Exchanged::default(),
    })
}

/// The background jobs, over what the use cases note.
fn jobs(config: &Config, accounts: &Accounts, registry: JobRegistry) -> Jobs {
    let repository = || Arc::clone(&accounts.repository);
    let clock = || accounts.clock.clone();
    let LoginThrottle { limits, failed_attempts, .. } = &accounts.throttle;
    let mut jobs = Jobs::new(registry, clock());
    jobs.add(StoreLastUsed { repository: repository(), last_used: Arc::clone(&accounts.last_used) });
    jobs.add(StoreServiceUses { repository: repository(), uses: Arc::clone(&accounts.service_uses) });
    jobs.add(StoreFailedAttempts {
        repository: repository(),
        failed_attempts: Arc::clone(failed_attempts),
        limits: Arc::clone(limits),
        clock: clock(),
    });
    jobs.add(NoticeResets::new(repository(), Arc::clone(limits), clock()));
    jobs.add(Pruning::new(repository(), config.tokens, config.events, clock()));
    jobs.add(PruneChallenges::new(repository(), clock()));
    jobs
}

/// The job that sends mail, where any is sent.
fn send_mail(
    config: &Config,
    accounts: &Arc<Accounts>,
    metrics: Option<Arc<Metrics>>,
) -> Result<Option<SendMail>, ServeError> {
    let Some(policy) = &accounts.mail else { return Ok(None) };
    let postman = Postman::new(config, accounts.clock.clone()).map_err(ServeError::Mail)?;
    let (requests, longest) = (Arc::clone(&policy.requests), config.mail.smtp.timeout);
    Ok(Some(SendMail::new(Arc::clone(accounts), requests, postman, longest, metrics)))
}

/// How mail leaves, in words; `None` where it does not.
fn way_of_mail(config: &Config) -> Option<String> {
    let MailConfig { transport, folder, smtp, .. } = &config.mail;
    match transport {
        Transport::Off => None,
        Transport::Folder => Some(format!("as files in {}", folder.display())),
        Transport::Smtp => {
            let encryption = match smtp.tls {
                Encryption::Tls => "over TLS",
                Encryption::StartTls => "over TLS, after STARTTLS",
                Encryption::None => "in clear",
            };
            Some(format!("by {}:{}, {encryption}", smtp.host.as_deref().unwrap_or_default(), smtp.port()))
        }
    }
}

fn start_backups(
    config: &Config,
    clock: &Clock,
    registry: &JobRegistry,
    threads: &WatchedThreads,
) -> io::Result<Option<Backups>> {
    let settings = |every| BackupSettings {
        database: config.database.clone(),
        folder: config.backup.folder.clone(),
        every,
        keep: config.backup.keep,
    };
    config.backup.every.map(|every| Backups::start(settings(every), clock.clone(), registry, threads)).transpose()
}

fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let listen_error = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(listen_error)?;
    listener.set_nonblocking(true).map_err(listen_error)?;
    Ok(listener)
}

/// Builds the framework's server from its parts, so that it serves [`Connection`]s, which have deadlines
/// (`connection.rs`), and so that each request passes through the middleware first (`middleware.rs`).
fn serve(
    listener: TcpListener,
    config: &Config,
    state: State,
    metrics: Option<Arc<Metrics>>,
) -> Result<Server, ServeError> {
    let ServerConfig { header_timeout, body_timeout, keep_alive, shutdown_timeout, max_connections, .. } =
        config.server;
    // Each worker has its share of the connections, rounded down, and at least one.
    let workers = config.server.workers.get().min(max_connections);
    let any_origin = config.cors.any_origin();
    let cors = config.cors.clone();
    let builder = Server::build()
        .workers(workers)
        .worker_max_blocking_threads(blocking_threads(&config.database))
        .max_concurrent_connections(max_connections / workers)
        .shutdown_timeout(shutdown_timeout.as_secs())
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    builder
        .listen("authtokens", listener, move || {
            let state = state.clone();
            let proxies = Arc::clone(&state.proxies);
            let layer = Rc::new(RequestLayer { any_origin, proxies, metrics: metrics.clone() });
            let app = App::new().app_data(state).wrap(cross_origin(&cors)).configure(routes::table);
            let handler = apply_fn_factory(map_config(app.into_factory(), |()| AppConfig::default()), {
                let layer = Rc::clone(&layer);
                move |request: Request, application| Rc::clone(&layer).handle(request, application)
            });
            let stopping = stopping.clone();
            let http = HttpService::build()
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                // The connection itself has the deadlines for heads and for idling.
                .keep_alive(KeepAlive::Os)
                .client_request_timeout(Duration::ZERO)
                .client_disconnect_timeout(DISCONNECT_TIMEOUT)
                .on_connect_ext(|connection: &Connection, extensions| {
                    extensions.insert(connection.state());
                })
                .h1(handler);
            let settings = Rc::new(ConnectionSettings {
                header_timeout,
                keep_alive,
                write_timeout: body_timeout,
                refuse: Box::new(move |refused| layer.refuse(&refused)),
            });
            fn_service(move |stream: TcpStream| {
                let connection = Connection::new(stream, Rc::clone(&settings));
                async move {
                    let peer = connection.peer();
                    Ok((connection, peer))
                }
            })
            .and_then(http)
        })
        .map(actix_server::ServerBuilder::run)
        .map_err(ServeError::Threads)
}

/// CORS: which origins' pages may read the answers. What they may send and ask for is the same on every response; see
/// `middleware.rs`.
fn cross_origin(config: &CorsConfig) -> Cors {
    let cors = Cors::default().allow_any_method().allow_any_header().max_age(PREFLIGHT_MAX_AGE);
    if config.any_origin() {
        cors.allow_any_origin().send_wildcard().disable_vary_header()
    } else {
        config.origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
    }
}

/// Raises the limit of open files. A login shell allows 1,024; the system usually allows many more to a process that
/// asks.
fn allow_open_files(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let allowed = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), ..limit });
    if raised.is_err() || allowed < wanted {
        log::warn!("{connections} connections want {wanted} open files, and the system does not allow as many");
    }
}

/// Has the process outlive signals that would end it without a reason. One is SIGXFSZ: a write beyond the largest
/// allowed file fails by itself, and is handled like one on a full disk. The others are those that other services take
/// for a request, such as to reopen their log.
pub fn outlive_signals() {
    use rustix::process::Signal;
    use tokio::signal::unix::{SignalKind, signal};
    // A signal that was handled once stays handled. Where the system refuses, the signal keeps its default.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
    let _inside = runtime.enter();
    for outlived in [Signal::XFSZ, Signal::USR1, Signal::USR2, Signal::ALARM] {
        let _ = signal(SignalKind::from_raw(outlived.as_raw()));
    }
}

/// Resolves when the process is told to stop: by SIGTERM, by SIGINT from a terminal, or by SIGHUP when the terminal
/// closes.
///
/// # Errors
/// When the system does not let us listen to them.
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A process that nohup started outlives its terminal.
    let mut hang_up = if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) };
    Ok(async move {
        let hang_up = async {
            match &mut hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up => {}
        }
    })
}

/// Whether this process was started with SIGHUP ignored, as far as the system tells.
fn ignores_hang_up() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
