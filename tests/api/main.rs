//! The API as its clients meet it: HTTP to a real server over a real file. Each test's name is a sentence of the
//! contract.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod connections;
mod documentation;
mod every_exchange;
mod helpers;
mod lists;
mod login;
mod logout;
mod malformed;
mod overload;
mod process;
mod register;
mod roles;
mod seed;
mod sessions;
mod user;
