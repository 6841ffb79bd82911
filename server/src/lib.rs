//! Speaks PostgreSQL, owns the process. The only crate that knows PostgreSQL's wire, clap and
//! signals. The server is a library too: embedding it in a Rust program is a supported use.
