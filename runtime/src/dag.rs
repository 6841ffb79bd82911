//! `Dag`: vertices and edges as data; built by the planner, validated here, run by `execution`.

use std::sync::Arc;

use crate::{Error, Result, processor::ProcessorSupplier};

/// Index of a vertex in its dag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexId(pub usize);

/// How many instances of a vertex run on a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parallelism {
    /// One for each worker.
    Workers,
    /// Exactly so many.
    Exactly(usize),
}

/// A processing step.
#[derive(Clone)]
pub struct Vertex {
    /// Unique in the dag: `window`, `kafka-source(trades)`.
    pub name: String,
    /// Instances.
    pub parallelism: Parallelism,
    /// Makes them.
    pub supplier: Arc<dyn ProcessorSupplier>,
}

/// How an edge picks the target instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// Any instance, whole batches, round robin over those with room.
    Unicast,
    /// Instance i to instance i (equal parallelism): no exchange.
    Isolated,
    /// By the table hash of these columns of the rows.
    Partitioned(Vec<usize>),
    /// Every instance gets everything.
    Broadcast,
    /// All to instance 0.
    ToOne,
}

/// A data path between two vertices.
#[derive(Debug, Clone)]
pub struct Edge {
    /// From.
    pub source: VertexId,
    /// To.
    pub target: VertexId,
    /// Which input of the target.
    pub target_ordinal: usize,
    /// How a target instance is picked.
    pub routing: Routing,
}

/// Vertices and edges.
#[derive(Clone, Default)]
pub struct Dag {
    /// Vertices; [`VertexId`] is the index.
    pub vertices: Vec<Vertex>,
    /// Edges. Several may leave a vertex: each gets everything it emits.
    pub edges: Vec<Edge>,
}

impl Dag {
    /// Adds a vertex; the name gets a number if it is taken.
    pub fn vertex(
        &mut self,
        name: &str,
        parallelism: Parallelism,
        supplier: Arc<dyn ProcessorSupplier>,
    ) -> VertexId {
        let taken = |name: &str| self.vertices.iter().any(|vertex| vertex.name == name);
        let mut unique = name.to_owned();
        let mut number = 2;
        while taken(&unique) {
            unique = format!("{name}-{number}");
            number += 1;
        }
        self.vertices.push(Vertex { name: unique, parallelism, supplier });
        VertexId(self.vertices.len() - 1)
    }

    /// Adds an edge to input `target_ordinal` of `target`.
    pub fn edge(
        &mut self,
        source: VertexId,
        target: VertexId,
        target_ordinal: usize,
        routing: Routing,
    ) {
        self.edges.push(Edge { source, target, target_ordinal, routing });
    }

    /// Checks what can be checked before a start: ids in range, no cycle, ordinals of each vertex
    /// `0..n` without gaps, Isolated only between vertices of equal parallelism.
    pub fn validate(&self) -> Result<()> {
        for edge in &self.edges {
            if edge.source.0 >= self.vertices.len() || edge.target.0 >= self.vertices.len() {
                return Err(Error::Internal("edge to a vertex that is not there".to_owned()));
            }
        }
        unimplemented!("owner: engine helper")
    }
}
