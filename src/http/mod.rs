//! The API over HTTP: routes, extractors, handlers, and the shapes of the answers.
//!
//! [`routes`] is the table of contents. A handler of [`api`] is thin: it extracts, calls a use case, and shows a view.

pub mod api;
pub mod body_limits;
mod document;
pub mod error;
pub mod extract;
pub mod json;
pub mod openapi;
pub mod pages;
pub mod readiness;
pub mod routes;
pub mod state;
pub mod views;
pub mod well_known;
