//! Mail: a server that takes it, and what reaches it.

pub mod smtp_server;
mod worker;
