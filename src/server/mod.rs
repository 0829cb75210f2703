//! The running server: put together, served, stopped.

pub mod application;
pub mod exposition;
pub mod metrics_listener;
pub mod middleware;
pub mod systemd;
