//! The running server: puts the parts together, serves, and stops in good order.

pub mod application;
pub mod exposition;
pub mod metrics_listener;
pub mod middleware;
pub mod systemd;
