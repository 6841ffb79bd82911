//! What makes DataFusion's planner answer as PostgreSQL would: one pass over the syntax tree before
//! planning ([`rewrite_ast`]), one type hook, and analyzer rules over the plan.
//! Nothing here reads a table or runs anything.

pub mod literals;
pub mod output_names;
pub mod rewrite_ast;
pub mod spelling;
pub mod type_names;
pub mod unbounded;

pub use rewrite_ast::rewrite_ast;
pub use type_names::PostgresTypes;
