//! A LIMIT over a stream inside a bounded query: `SELECT count(*) FROM (SELECT … FROM stream LIMIT
//! 50)`. The limited part runs as a dag and its rows flow into DataFusion's plan; what is above is
//! an ordinary bounded query.

use std::{cmp::Ordering, fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::{
        DFSchemaRef, Result as DfResult,
        tree_node::{Transformed, TreeNodeRecursion},
    },
    execution::SessionState,
    logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore},
};

use super::external;
use crate::{
    lower::{StreamParts, plan_stream},
    rules::unbounded,
    stream_plan::StreamPlan,
};

/// The limited part of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LimitedStream {
    /// The LIMIT and what is below it; no input of this node, because DataFusion cannot run it.
    limited: LogicalPlan,
    schema: DFSchemaRef,
}

impl LimitedStream {
    /// `plan` with each LIMIT over an unbounded relation made a node of its own.
    pub fn detach(plan: LogicalPlan) -> DfResult<LogicalPlan> {
        let detached = plan.transform_down_with_subqueries(|node| match &node {
            LogicalPlan::Limit(limit)
                if limit.fetch.is_some() && unbounded::is_unbounded(&node) =>
            {
                let schema = Arc::clone(node.schema());
                let node = Arc::new(Self { limited: node, schema });
                let plan = LogicalPlan::Extension(Extension { node });
                Ok(Transformed::new(plan, true, TreeNodeRecursion::Jump))
            }
            _ => Ok(Transformed::no(node)),
        })?;
        Ok(detached.data)
    }

    /// The dag of the limited part.
    pub fn stream(&self, state: &SessionState, parts: &StreamParts) -> DfResult<StreamPlan> {
        plan_stream(state, self.limited.clone(), vec![], parts).map_err(external)
    }

    /// Schema of its rows.
    pub fn arrow_schema(&self) -> SchemaRef {
        Arc::new(self.schema.as_arrow().clone())
    }
}

impl UserDefinedLogicalNodeCore for LimitedStream {
    fn name(&self) -> &str {
        "LimitedStream"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "LimitedStream: {}", self.limited.display())
    }

    fn with_exprs_and_inputs(
        &self,
        _exprs: Vec<Expr>,
        _inputs: Vec<LogicalPlan>,
    ) -> DfResult<Self> {
        Ok(self.clone())
    }
}

impl PartialOrd for LimitedStream {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.limited.partial_cmp(&other.limited)
    }
}
