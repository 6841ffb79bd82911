//! What psql's `\d` family and the drivers ask for: `pg_catalog` and `information_schema`, computed
//! from the control state at each scan. Column lists are PostgreSQL 15's own (`columns.txt`); a
//! table of which we have nothing to say is there and empty.

pub mod columns;

pub use columns::has_table;
