//! A connection under HTTP: its deadlines, and where a request ends in its bytes.

pub mod connection;
pub mod framing;
