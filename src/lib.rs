//! Accounts and revocable tokens for small apps: one binary, one SQLite file, no set-up.
//!
//! A client registers or logs in with a name and a password and is handed a token. Every later request carries it: to
//! see and change the account's profile and its two lists, to see and end its sessions. Logging out ends a token at once
//! and for good.
//!
//! # Layout
//!
//! Folders are layers: each imports only those below it, as `tests/house.rs` checks.
//!
//! | folder | what it is for |
//! |---|---|
//! | [`cli`] | what can be typed |
//! | [`server`] | the running server: put together, served, stopped |
//! | [`http`] | routes, handlers, extractors, views, and the only mapping from an error to a response |
//! | [`transport`] | a connection's deadlines, and where a request ends in its bytes |
//! | [`jobs`] | background work: pruning, activity, backups |
//! | [`import`] | accounts of other systems, a file a source system |
//! | [`mail`] | templates, and the ways out: a mail server or a folder |
//! | [`accounts`] | the use cases, with neither actix nor SQL |
//! | [`providers`] | providers of identities: what they are asked, and whether what they say is believed |
//! | [`outbound`] | HTTP requests that the service makes by itself |
//! | [`passwords`] | the policy, the hashing threads, the schemes |
//! | [`repository`] | what the service asks of a store; [`repository::open`] says which: [`repository::sqlite`] or [`repository::postgres`] |
//! | [`config`] | the configuration |
//! | [`telemetry`] | the log and the metrics |
//! | [`templates`] | the texts of mails and pages, which a folder may override |
//! | [`domain`] | types that cannot hold a bad value |
//! | [`system`] | the clock, memory, priorities, blocking threads |

pub mod accounts;
pub mod cli;
pub mod config;
pub mod domain;
pub mod http;
pub mod import;
pub mod jobs;
pub mod mail;
pub mod outbound;
pub mod passwords;
pub mod providers;
pub mod repository;
pub mod server;
pub mod system;
pub mod telemetry;
pub mod templates;
pub mod transport;
