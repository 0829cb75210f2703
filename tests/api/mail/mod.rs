//! Mail: a server that takes it, and what reaches it.

mod pages;
pub mod smtp_server;
mod worker;
