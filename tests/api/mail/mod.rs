//! Mail: a server that takes it, and what reaches it.

mod delivery;
pub mod smtp_server;
mod worker;
