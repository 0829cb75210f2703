//! The connection below HTTP: its deadlines, and the framing of its requests.

pub mod connection;
pub mod framing;
