//! The API over HTTP: what a request is taken apart into, the handlers, and what an answer is made of.
//!
//! [`routes`] is the contents page. A handler of [`api`] is thin: it extracts, calls, and shows a view.

pub mod api;
pub mod error;
pub mod extract;
pub mod json;
pub mod login_throttle;
pub mod openapi;
pub mod routes;
pub mod views;
