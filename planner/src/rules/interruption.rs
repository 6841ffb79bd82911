//! Planning stops when its statement is cancelled: a rule that changes nothing and asks, put between
//! DataFusion's own, none of which takes long by itself.

use std::sync::Arc;

use datafusion::{
    common::{config::ConfigOptions, tree_node::Transformed},
    error::Result,
    logical_expr::LogicalPlan,
    optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule},
};

use crate::functions::{SessionFacts, external};

/// See the module.
#[derive(Debug)]
struct Interruption;

/// DataFusion's optimizer rules, each asked about only after the one before was not too late.
pub fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let rules = Optimizer::new().rules;
    rules
        .into_iter()
        .flat_map(|rule| [Arc::new(Interruption) as Arc<dyn OptimizerRule + Send + Sync>, rule])
        .collect()
}

/// 57014 if the statement that these options belong to was cancelled.
pub fn check(options: &ConfigOptions) -> Result<()> {
    match options.extensions.get::<SessionFacts>() {
        Some(facts) => facts.interrupt.check().map_err(external),
        None => Ok(()),
    }
}

impl OptimizerRule for Interruption {
    fn name(&self) -> &str {
        "interruption"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        None
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        check(&config.options())?;
        Ok(Transformed::no(plan))
    }
}
