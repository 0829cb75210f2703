//! The addresses of accounts.
