//! The API over HTTP: what a request is taken apart into, the handlers, and what an answer is made of.
//!
//! [`routes`] is the contents page. A handler of [`api`] is thin: it extracts, calls a use case, and shows a view.

pub mod api;
pub mod body_limits;
pub mod error;
pub mod extract;
pub mod json;
pub mod openapi;
pub mod pages;
pub mod readiness;
pub mod routes;
pub mod state;
pub mod views;
