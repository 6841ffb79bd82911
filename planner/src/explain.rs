//! A dag as text, for EXPLAIN: sinks first, what feeds them indented below, one line a vertex:
//! name, instances, what it does, and above each input the routing of its edge. Numbers that
//! depend on the machine are left out, so that the text can be compared.

use runtime::dag::{Dag, Edge, Parallelism, Routing, VertexId};

/// The lines of `QUERY PLAN`.
pub fn dag_text(dag: &Dag) -> Vec<String> {
    let mut lines = Vec::new();
    for index in 0..dag.vertices.len() {
        let is_sink = dag.edges.iter().all(|edge| edge.source.0 != index);
        if is_sink {
            describe(dag, VertexId(index), None, 0, &mut lines);
        }
    }
    lines
}

/// One vertex, then what feeds it. Only trees and diamonds occur; a vertex read twice is shown twice.
fn describe(dag: &Dag, id: VertexId, edge: Option<&Edge>, depth: usize, lines: &mut Vec<String>) {
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
    let mut inputs: Vec<&Edge> = dag.edges.iter().filter(|edge| edge.target == id).collect();
    inputs.sort_by_key(|edge| edge.target_ordinal);
    for input in inputs {
        describe(dag, input.source, Some(input), depth + 1, lines);
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
