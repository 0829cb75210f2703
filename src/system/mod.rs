//! What the service needs of the machine, and knows nothing about accounts.

pub mod address;
pub mod blocking;
pub mod clock;
pub mod error_chain;
pub mod memory;
pub mod priority;
pub mod visible;
pub mod watched;
