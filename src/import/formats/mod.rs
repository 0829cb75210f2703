//! The files of source systems, as tables: a SQLite file, a plain dump of PostgreSQL, a CSV file.

pub(super) mod csv;
pub(super) mod dumpdata;
pub(super) mod json;
pub(super) mod pg_dump;
mod sql;
pub(super) mod sqlite;
pub(super) mod tables;
