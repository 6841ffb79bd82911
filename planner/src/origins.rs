//! Which column of which relation a column of a query's result is, for the clients that ask: JDBC's
//! updatable results, report tools. Only plain columns have an origin: what is computed, cast, merged
//! or united has none, as in PostgreSQL.
//!
//! ```text
//! SELECT a AS x, a + 1, b FROM t JOIN (SELECT b FROM u ORDER BY c) AS s …
//!        t.a     none   u.b
//! ```
//! The plan is walked before it is analysed: later a plain column may stand in a cast.

use std::any::Any;

use datafusion::{
    common::{DFSchema, TableReference},
    datasource::DefaultTableSource,
    logical_expr::{
        Aggregate, Distinct, Expr, Join, JoinType, LogicalPlan, SubqueryAlias, TableScan,
        expr::Alias,
    },
};
use storage::cluster::control::ObjectId;

use crate::{
    catalog::{
        mapping::MappingProvider,
        pg::objects::{oid_of, system_oid},
        provider::{GridTable, ReturnedRows},
    },
    types::Origin,
};

/// Stands as schema before the id of a view whose query was put in its place: no client types it.
const VIEW_SCHEMA: &str = "\u{1}view";

/// The name to give to a view's query, so that its columns are known for the view's.
pub fn view_mark(id: ObjectId) -> TableReference {
    TableReference::partial(VIEW_SCHEMA, id.0.to_string())
}

/// The origin of each column of a plan.
pub fn origins(plan: &LogicalPlan) -> Vec<Option<Origin>> {
    let count = plan.schema().fields().len();
    let found = match plan {
        LogicalPlan::Projection(node) => of_exprs(&node.expr, &node.input),
        LogicalPlan::Filter(node) => origins(&node.input),
        LogicalPlan::Sort(node) => origins(&node.input),
        LogicalPlan::Limit(node) => origins(&node.input),
        LogicalPlan::Distinct(Distinct::All(input)) => origins(input),
        LogicalPlan::Distinct(Distinct::On(node)) => of_exprs(&node.select_expr, &node.input),
        LogicalPlan::SubqueryAlias(node) => of_alias(node, count),
        LogicalPlan::Join(node) => of_join(node),
        LogicalPlan::Aggregate(node) => of_aggregate(node),
        LogicalPlan::Window(node) => origins(&node.input),
        LogicalPlan::TableScan(node) => of_scan(node),
        _ => Vec::new(),
    };
    // Whatever a node adds behind its input's columns is computed.
    let mut origins = found;
    origins.resize(count, None);
    origins
}

fn of_exprs(exprs: &[Expr], input: &LogicalPlan) -> Vec<Option<Origin>> {
    let known = origins(input);
    exprs.iter().map(|expr| of_expr(expr, &known, input.schema())).collect()
}

fn of_expr(expr: &Expr, known: &[Option<Origin>], schema: &DFSchema) -> Option<Origin> {
    match expr {
        Expr::Alias(Alias { expr, .. }) => of_expr(expr, known, schema),
        Expr::Column(column) => *known.get(schema.maybe_index_of_column(column)?)?,
        _ => None,
    }
}

fn of_alias(node: &SubqueryAlias, count: usize) -> Vec<Option<Origin>> {
    let view = match node.alias.schema() {
        Some(VIEW_SCHEMA) => node.alias.table().parse().ok(),
        _ => None,
    };
    match view {
        Some(id) => numbered(oid_of(ObjectId(id)), 0..count),
        None => origins(&node.input),
    }
}

fn of_join(node: &Join) -> Vec<Option<Origin>> {
    match node.join_type {
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => origins(&node.left),
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => origins(&node.right),
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
            [origins(&node.left), origins(&node.right)].concat()
        }
    }
}

fn of_aggregate(node: &Aggregate) -> Vec<Option<Origin>> {
    // A grouping set makes NULLs of its own.
    match node.group_expr.as_slice() {
        [Expr::GroupingSet(_)] => Vec::new(),
        exprs => of_exprs(exprs, &node.input),
    }
}

fn of_scan(node: &TableScan) -> Vec<Option<Origin>> {
    let source: &dyn Any = node.source.as_ref();
    let Some(source) = source.downcast_ref::<DefaultTableSource>() else { return Vec::new() };
    let provider: &dyn Any = source.table_provider.as_ref();
    let id = if let Some(table) = provider.downcast_ref::<GridTable>() {
        Some(table.table().record().id)
    } else if let Some(rows) = provider.downcast_ref::<ReturnedRows>() {
        Some(rows.table())
    } else {
        provider.downcast_ref::<MappingProvider>().and_then(MappingProvider::mapping)
    };
    let system = || match node.table_name.schema() {
        Some("sys") => system_oid(node.table_name.table()),
        _ => None,
    };
    let Some(oid) = id.map(oid_of).or_else(system) else { return Vec::new() };
    match &node.projection {
        Some(positions) => numbered(oid, positions.iter().copied()),
        None => numbered(oid, 0..node.source.schema().fields().len()),
    }
}

fn numbered(oid: i64, positions: impl Iterator<Item = usize>) -> Vec<Option<Origin>> {
    positions.map(|position| Origin::new(oid, position)).collect()
}
