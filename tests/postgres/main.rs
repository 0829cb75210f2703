//! What only PostgreSQL's store can fail at: connections that are lost or hang, units that must be tried again, and nodes
//! that must not believe what they have read. What every store must keep is in tests/repository.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/cluster.rs"]
mod cluster;
mod leases;
mod nodes;
mod proxy;
mod units;
mod upgrading;
