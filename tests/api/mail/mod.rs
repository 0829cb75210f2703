//! Mail: a server that takes it, and what reaches it.

mod address;
mod delivery;
mod documented;
mod imported_names;
mod login_by_address;
pub mod mailbox;
mod off;
mod oracles;
mod pages;
mod reauthenticate;
mod reset;
mod sign_in;
pub mod smtp_server;
mod staff;
mod worker;
