//! The machine beneath the service: time, threads, memory, text. Nothing here knows about accounts.

pub mod address;
pub(crate) mod authorities;
pub mod blocking;
pub mod clock;
pub mod error_chain;
pub mod memory;
pub mod priority;
pub mod sealing;
pub(crate) mod small_file;
pub mod visible;
pub mod watched;
