//! The use cases: what the service does for whoever asks, with neither actix nor SQL.

pub mod activity;
pub mod throttle;
