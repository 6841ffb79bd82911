//! Puts the window functions, the generating functions and their planners into a DataFusion
//! session. The one call the planner's front door makes; it knows nothing of statements.

use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;

use super::{relation::StreamRelationPlanner, window_exec::WindowQueryPlanner};
use crate::lower::StreamParts;

/// Adds what FROM may call, and how window nodes run over bounded input.
pub fn install(builder: SessionStateBuilder, parts: &StreamParts) -> SessionStateBuilder {
    builder
        .with_query_planner(Arc::new(WindowQueryPlanner::new(parts.clone())))
        .with_relation_planners(vec![Arc::new(StreamRelationPlanner::new(parts.clone()))])
}
