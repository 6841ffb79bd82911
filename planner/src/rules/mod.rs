//! What makes DataFusion's planner answer as PostgreSQL would: one pass over the syntax tree before
//! planning ([`rewrite_ast`]), one type hook, and analyzer rules over the plan.
//! Nothing here reads a table or runs anything.

pub mod casts;
pub mod guards;
pub mod interruption;
pub mod literal_rows;
pub mod literals;
pub mod numeric;
pub mod operators;
pub mod output_names;
pub mod rewrite_ast;
pub mod semantics;
pub mod spelling;
pub mod subqueries;
pub mod sugar;
pub mod times;
pub mod type_names;
pub mod unbounded;
pub mod wildcards;

pub use interruption::optimizer_rules;
pub use operators::PostgresOperators;
pub use rewrite_ast::rewrite_ast;
pub use type_names::PostgresTypes;

use std::sync::Arc;

use datafusion::optimizer::{Analyzer, analyzer::AnalyzerRule};

/// All analyzer rules, in order: ours, then DataFusion's.
pub fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules = Analyzer::new().rules;
    rules.insert(0, Arc::new(semantics::PostgresSemantics));
    rules
}

#[cfg(test)]
mod tests;
