//! `Lowering`: the dag under construction, and `Stage`: a relation in it. Decides the routing of
//! every edge from the parallelism of its ends, so that no operator does.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{
    execution::{SessionState, context::ExecutionProps},
    logical_expr::physical_planning_context::PhysicalPlanningContext,
};
use runtime::{
    dag::{Dag, Parallelism, Routing, VertexId},
    processor::ProcessorSupplier,
    processors::NamedExpr,
};

use super::{StreamParts, fields::ScanFields, filter::Conditions};
use crate::Result;

/// A relation in the dag: the vertex its rows come out of.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The vertex.
    pub vertex: VertexId,
    /// Its instances.
    pub parallelism: Parallelism,
    /// The rows it emits; position by position the logical plan's columns.
    pub schema: SchemaRef,
    /// The column that its watermarks speak of.
    pub event_time: Option<usize>,
    /// Whether it never ends.
    pub is_unbounded: bool,
    /// Whether it never takes a row back.
    pub is_append_only: bool,
}

/// The dag under construction.
pub struct Lowering<'a> {
    /// Where sources and tables are.
    pub(super) parts: &'a StreamParts,
    /// Whether it is a job's, which starts again where it was lost.
    pub(super) is_of_job: bool,
    /// Whether sources are to emit watermarks.
    pub(super) wants_event_time: bool,
    /// Children of STRUCT columns the query reads, by scan.
    pub(super) scan_fields: ScanFields,
    pub(super) props: ExecutionProps,
    pub(super) planning: PhysicalPlanningContext,
    /// Projections by vertex, with the stage below: two in a row become one.
    pub(super) projections: HashMap<VertexId, (Stage, Vec<NamedExpr>)>,
    /// Filters by vertex, with the stage below: two in a row become one.
    pub(super) filters: HashMap<VertexId, (Stage, Conditions)>,
    dag: Dag,
}

impl<'a> Lowering<'a> {
    /// An empty dag.
    pub fn new(state: &'a SessionState, parts: &'a StreamParts) -> Self {
        let mut props = state.execution_props().clone();
        // A continuous query has no one time at which it is executed.
        props.query_execution_start_time = None;
        props.config_options = Some(Arc::clone(state.config_options()));
        Self {
            parts,
            is_of_job: false,
            wants_event_time: false,
            scan_fields: ScanFields::default(),
            props,
            planning: PhysicalPlanningContext::default(),
            projections: HashMap::new(),
            filters: HashMap::new(),
            dag: Dag::default(),
        }
    }

    /// The finished dag.
    pub fn into_dag(self) -> Result<Dag> {
        self.dag.validate()?;
        Ok(self.dag)
    }

    /// Adds a vertex without inputs.
    pub(super) fn source(
        &mut self,
        name: &str,
        parallelism: Parallelism,
        supplier: Arc<dyn ProcessorSupplier>,
    ) -> Stage {
        let schema = supplier.schema();
        let vertex = self.dag.vertex(name, parallelism, supplier);
        let (is_unbounded, is_append_only) = (false, true);
        Stage { vertex, parallelism, schema, event_time: None, is_unbounded, is_append_only }
    }

    /// Adds a vertex that works on the rows of `input` where they are.
    pub(super) fn local(
        &mut self,
        name: &str,
        input: &Stage,
        supplier: Arc<dyn ProcessorSupplier>,
    ) -> Stage {
        self.routed(name, input, input.parallelism, Routing::Isolated, supplier)
    }

    /// Adds a vertex fed by `input` over an edge with the given routing.
    pub(super) fn routed(
        &mut self,
        name: &str,
        input: &Stage,
        parallelism: Parallelism,
        routing: Routing,
        supplier: Arc<dyn ProcessorSupplier>,
    ) -> Stage {
        let schema = supplier.schema();
        let vertex = self.dag.vertex(name, parallelism, supplier);
        self.dag.edge(input.vertex, vertex, 0, routing);
        Stage { vertex, parallelism, schema, ..input.clone() }
    }

    /// Adds a vertex with several inputs, each where it is if the parallelism allows.
    pub(super) fn merged(
        &mut self,
        name: &str,
        inputs: &[Stage],
        parallelism: Parallelism,
        supplier: Arc<dyn ProcessorSupplier>,
    ) -> VertexId {
        let vertex = self.dag.vertex(name, parallelism, supplier);
        for (ordinal, input) in inputs.iter().enumerate() {
            let routing = spread(input.parallelism, parallelism);
            self.dag.edge(input.vertex, vertex, ordinal, routing);
        }
        vertex
    }

    /// Takes the newest vertex out again, if that is `vertex` and nothing reads it.
    pub(super) fn remove_newest(&mut self, vertex: VertexId) -> bool {
        let is_newest = vertex.0 + 1 == self.dag.vertices.len();
        let is_read = self.dag.edges.iter().any(|edge| edge.source == vertex);
        if !is_newest || is_read {
            return false;
        }
        self.dag.vertices.pop();
        self.dag.edges.retain(|edge| edge.target != vertex);
        true
    }
}

/// Routing that moves no more rows than it must.
pub fn spread(source: Parallelism, target: Parallelism) -> Routing {
    match target {
        Parallelism::Exactly(1) if source != target => Routing::ToOne,
        _ if source == target => Routing::Isolated,
        _ => Routing::Unicast,
    }
}
