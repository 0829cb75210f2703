//! End-to-end tests: HTTP to a real server over a real store. Each test's name is a sentence of the contract.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod background;
mod check;
#[path = "../support/cluster.rs"]
mod cluster;
mod commands;
mod configuration;
mod connections;
mod documentation;
mod doors;
mod events;
mod every_request;
mod faults;
mod helpers;
mod identities;
mod imported_names;
mod imported_tokens;
mod imports;
mod introspection;
mod limits;
mod lists;
mod login;
mod logout;
mod mail;
mod malformed;
mod metrics;
mod moving;
mod overload;
mod passkeys;
mod postgres;
mod process;
#[path = "../support/provider.rs"]
mod provider;
mod reauthentication;
#[path = "../support/receiver.rs"]
mod receiver;
mod register;
mod revocation;
mod roles;
mod second_factor;
mod seed;
mod sessions;
mod sqlite;
mod staff;
mod store;
mod user;
mod webhooks;
