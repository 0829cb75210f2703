//! What the service reports of itself: its log and its metrics.

pub mod log;
pub mod metrics;
