//! `Dag`: vertices and edges as data; built by the planner, validated here, run by `execution`.

use std::{fmt, sync::Arc};

use storage::cluster::control::OperatorState;

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

    /// What the states of its vertices mean, of those that have one.
    pub fn operator_states(&self) -> Vec<OperatorState> {
        let state = |vertex: &Vertex| {
            let layout = vertex.supplier.state()?;
            Some(OperatorState { vertex: vertex.name.clone(), layout })
        };
        self.vertices.iter().filter_map(state).collect()
    }

    /// Checks what can be checked before a start: ids in range, no cycle, ordinals of each vertex
    /// `0..n` without gaps, Isolated only between vertices of equal parallelism.
    pub fn validate(&self) -> Result<()> {
        let broken = |text: String| Err(Error::Internal(text));
        let vertex_count = self.vertices.len();
        for edge in &self.edges {
            if edge.source.0 >= vertex_count || edge.target.0 >= vertex_count {
                return broken("an edge to a vertex that is not there".to_owned());
            }
            let (source, target) = (&self.vertices[edge.source.0], &self.vertices[edge.target.0]);
            if edge.routing == Routing::Isolated && source.parallelism != target.parallelism {
                let (from, to) = (&source.name, &target.name);
                return broken(format!("an isolated edge between unequal \"{from}\" and \"{to}\""));
            }
        }
        for (id, vertex) in self.vertices.iter().enumerate() {
            let into = self.edges.iter().filter(|edge| edge.target.0 == id);
            let mut ordinals: Vec<_> = into.map(|edge| edge.target_ordinal).collect();
            ordinals.sort_unstable();
            if ordinals.iter().enumerate().any(|(wanted, ordinal)| wanted != *ordinal) {
                return broken(format!("inputs of \"{}\" are {ordinals:?}", vertex.name));
            }
            if vertex.parallelism == Parallelism::Exactly(0) {
                return broken(format!("\"{}\" has no instance", vertex.name));
            }
        }
        self.validate_acyclic()
    }

    /// Takes away vertices without inputs until none is left; what cannot be taken is a cycle.
    fn validate_acyclic(&self) -> Result<()> {
        let mut inputs: Vec<_> = (0..self.vertices.len()).map(|id| self.input_count(id)).collect();
        let mut free: Vec<_> = (0..inputs.len()).filter(|id| inputs[*id] == 0).collect();
        let mut taken = 0;
        while let Some(id) = free.pop() {
            taken += 1;
            for edge in self.edges.iter().filter(|edge| edge.source.0 == id) {
                inputs[edge.target.0] -= 1;
                if inputs[edge.target.0] == 0 {
                    free.push(edge.target.0);
                }
            }
        }
        if taken < self.vertices.len() {
            return Err(Error::Internal("the dag has a cycle".to_owned()));
        }
        Ok(())
    }

    /// Number of edges into the vertex at that index.
    pub(crate) fn input_count(&self, vertex: usize) -> usize {
        self.edges.iter().filter(|edge| edge.target.0 == vertex).count()
    }
}

impl Parallelism {
    /// Instances on a member with so many workers.
    pub fn instances(self, worker_count: usize) -> usize {
        match self {
            Parallelism::Workers => worker_count,
            Parallelism::Exactly(count) => count,
        }
    }
}

impl fmt::Display for Routing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Routing::Unicast => formatter.write_str("unicast"),
            Routing::Isolated => formatter.write_str("isolated"),
            Routing::Partitioned(columns) => {
                let columns: Vec<_> = columns.iter().map(usize::to_string).collect();
                write!(formatter, "partitioned({})", columns.join(", "))
            }
            Routing::Broadcast => formatter.write_str("broadcast"),
            Routing::ToOne => formatter.write_str("to-one"),
        }
    }
}
