//! A dag as text, for EXPLAIN: sinks first, what feeds them indented below, one line a vertex:
//! name, instances, what it does, and above each input the routing of its edge. Numbers that
//! depend on the machine are left out, so that the text can be compared. EXPLAIN ANALYZE JOB adds a
//! line of numbers to each vertex.

use runtime::dag::{Dag, Edge, Parallelism, Routing, VertexId};

/// Where a vertex stands.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// Nothing flows into it.
    pub is_source: bool,
    /// Nothing flows out of it.
    pub is_sink: bool,
}

/// What is added below a vertex of that name.
type Note<'a> = &'a dyn Fn(&str, Ends) -> Option<String>;

/// The lines of `QUERY PLAN`.
pub fn dag_text(dag: &Dag) -> Vec<String> {
    annotated(dag, |_, _| None)
}

/// The same, with a line below each vertex that `note` has one for.
pub fn annotated(dag: &Dag, note: impl Fn(&str, Ends) -> Option<String>) -> Vec<String> {
    let mut lines = Vec::new();
    for index in 0..dag.vertices.len() {
        let is_sink = dag.edges.iter().all(|edge| edge.source.0 != index);
        if is_sink {
            describe(dag, VertexId(index), None, (0, &note), &mut lines);
        }
    }
    lines
}

/// One vertex, then what feeds it. Only trees and diamonds occur; a vertex read twice is shown twice.
fn describe(
    dag: &Dag,
    id: VertexId,
    edge: Option<&Edge>,
    (depth, note): (usize, Note<'_>),
    lines: &mut Vec<String>,
) {
    let vertex = &dag.vertices[id.0];
    let instances = match vertex.parallelism {
        Parallelism::Workers => "one per worker".to_owned(),
        Parallelism::Exactly(1) => "one".to_owned(),
        Parallelism::Exactly(count) => count.to_string(),
    };
    let arrow = match edge {
        None => String::new(),
        Some(edge) => {
            let indent = "      ".repeat(depth - 1);
            format!("{indent}  ->  [{}] ", routing(dag, edge))
        }
    };
    let description = vertex.supplier.describe();
    lines.push(format!("{arrow}{} ({instances}): {description}", vertex.name));
    let ends = Ends {
        is_source: dag.edges.iter().all(|edge| edge.target != id),
        is_sink: dag.edges.iter().all(|edge| edge.source != id),
    };
    if let Some(note) = note(&vertex.name, ends) {
        lines.push(format!("{}      {note}", "      ".repeat(depth)));
    }
    let mut inputs: Vec<&Edge> = dag.edges.iter().filter(|edge| edge.target == id).collect();
    inputs.sort_by_key(|edge| edge.target_ordinal);
    for input in inputs {
        describe(dag, input.source, Some(input), (depth + 1, note), lines);
    }
}

/// The routing with the names of its columns.
fn routing(dag: &Dag, edge: &Edge) -> String {
    match &edge.routing {
        Routing::Unicast => "unicast".to_owned(),
        Routing::Isolated => "isolated".to_owned(),
        Routing::Broadcast => "broadcast".to_owned(),
        Routing::ToOne => "to-one".to_owned(),
        Routing::Partitioned(columns) => {
            let schema = dag.vertices[edge.source.0].supplier.schema();
            let names: Vec<&str> =
                columns.iter().map(|column| schema.field(*column).name().as_str()).collect();
            format!("partitioned by {}", names.join(", "))
        }
    }
}
