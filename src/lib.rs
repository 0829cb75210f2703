//! Accounts and revocable tokens for small apps: one binary, one SQLite file, no set-up.
//!
//! A client registers or logs in with a name and a password and is handed a token. Every later request carries it: to
//! see and change the account's profile and its two lists, to see and end its sessions. Logging out ends a token at once
//! and for good.
//!
//! # Layout
//!
//! A request passes these rooms from top to bottom, and each knows only those below it:
//!
//! | module | what it is for |
//! |---|---|
//! | [`cli`], [`config`] | what the person who starts the program wants |
//! | [`commands`] | what the operator does beside serving |
//! | [`logging`] | one line an event on standard error |
//! | [`service_manager`] | what it and systemd have to tell each other |
//! | [`startup`] | puts the parts together, serves, stops |
//! | [`chores`] | what the service does by itself |
//! | [`scrape`] | the listener that shows the metrics |
//! | [`backups`] | backups by the clock |
//! | [`connection`] | a socket that keeps deadlines |
//! | [`framing`] | where a request ends in a connection's bytes |
//! | [`exchange`] | what every request and response have in common |
//! | [`routes`] | the route table, and a file of thin handlers a resource |
//! | [`auth`] | the extractor that finds the session behind a token |
//! | [`error`] | errors as a client sees them |
//! | [`error_chain`] | an error with its causes, for the log |
//! | [`json`] | JSON, strict to read and spaced as the source has it |
//! | [`metrics`] | what the service counts |
//! | [`password`], [`hashing`] | the password format, and the bounded threads that do the work |
//! | [`repository`] | what the service asks of a store; [`repository::sqlite`] is the one there is, [`repository::backup`] copies it |
//! | [`blocking`] | the only hop off the async threads for storage |
//! | [`last_used`], [`refusals`] | when sessions were last used and which attempts were refused, on their way to the store |
//! | [`limits`] | how many attempts are let through |
//! | [`proxy`] | where a request comes from, behind proxies or not |
//! | [`staff`] | what staff may do to accounts, and who may do it |
//! | [`user`], [`item`], [`session`], [`token`], [`event`], [`field`] | types that cannot hold a bad value |
//! | [`clock`], [`memory`] | the time of day and a clock for waits, and how much memory there is |
//! | [`visible`] | which characters are seen as they are |
//!
//! `tests/house.rs` holds who may import whom.

pub mod auth;
pub mod backups;
pub mod blocking;
pub mod chores;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod connection;
pub mod error;
pub mod error_chain;
pub mod event;
pub mod exchange;
pub mod field;
pub mod framing;
pub mod hashing;
pub mod item;
pub mod json;
pub mod last_used;
pub mod limits;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod password;
pub mod proxy;
pub mod refusals;
pub mod repository;
pub mod routes;
pub mod scrape;
pub mod service_manager;
pub mod session;
pub mod staff;
pub mod startup;
pub mod token;
pub mod user;
pub mod visible;
