//! Which children of STRUCT columns a query reads, found top down before lowering, so that a
//! source decodes or generates no others: `bid.price` of a wide record costs one BIGINT.
//!
//! A column whose every use is `column.child` is narrowed to those children; any other use (the
//! whole struct, a comparison, an unknown operator) wants it whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::datatypes::DataType;
use datafusion::{
    common::{
        DFSchema, JoinType,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Expr, LogicalPlan, TableScan},
};

use super::expression::literal;
use crate::functions::window::{ImposeOrderNode, WindowNode};

/// Children wanted of each narrowed STRUCT column, by its position among a scan's columns.
pub type StructFields = BTreeMap<usize, Vec<usize>>;

/// [`StructFields`] of the scans of a plan, by the address of the scan in it.
#[derive(Debug, Default)]
pub struct ScanFields(HashMap<usize, StructFields>);

/// What is read of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Need {
    Nothing,
    Children(BTreeSet<usize>),
    Whole,
}

impl ScanFields {
    /// The children that `plan` reads, all of its own columns being wanted.
    pub fn of(plan: &LogicalPlan) -> Self {
        let mut this = Self::default();
        this.visit(plan, whole(plan));
        this
    }

    /// What is wanted of a scan of that plan.
    pub fn wanted(&self, scan: &TableScan) -> StructFields {
        self.0.get(&address(scan)).cloned().unwrap_or_default()
    }

    fn visit(&mut self, plan: &LogicalPlan, needs: Vec<Need>) {
        match plan {
            LogicalPlan::TableScan(scan) => self.record(scan, needs),
            LogicalPlan::Projection(projection) => {
                let schema = projection.input.schema();
                let mut below = nothing(schema);
                for (expr, need) in projection.expr.iter().zip(needs) {
                    add_column(expr, need, schema, &mut below);
                }
                self.visit(&projection.input, below);
            }
            LogicalPlan::Filter(filter) => {
                let mut below = needs;
                add(&filter.predicate, filter.input.schema(), &mut below);
                self.visit(&filter.input, below);
            }
            LogicalPlan::SubqueryAlias(alias) => self.visit(&alias.input, needs),
            LogicalPlan::Limit(limit) => self.visit(&limit.input, needs),
            LogicalPlan::Union(union) => {
                for input in &union.inputs {
                    self.visit(input, needs.clone());
                }
            }
            LogicalPlan::Aggregate(aggregate) => {
                let schema = aggregate.input.schema();
                let mut below = nothing(schema);
                for expr in aggregate.group_expr.iter().chain(&aggregate.aggr_expr) {
                    add(expr, schema, &mut below);
                }
                self.visit(&aggregate.input, below);
            }
            LogicalPlan::Join(join) if is_concatenation(join.join_type) => {
                let mut below = needs;
                let schema = &join.schema;
                for (left, right) in &join.on {
                    add(left, schema, &mut below);
                    add(right, schema, &mut below);
                }
                if let Some(filter) = &join.filter {
                    add(filter, schema, &mut below);
                }
                let right = below.split_off(join.left.schema().fields().len());
                self.visit(&join.left, below);
                self.visit(&join.right, right);
            }
            LogicalPlan::Extension(_) => self.visit_window(plan, needs),
            other => {
                for input in other.inputs() {
                    self.visit(input, whole(input));
                }
            }
        }
    }

    fn visit_window(&mut self, plan: &LogicalPlan, mut needs: Vec<Need>) {
        let (input, time) = match (WindowNode::of(plan), ImposeOrderNode::of(plan)) {
            (Some(window), _) => (&window.input, &window.time),
            (_, Some(order)) => (&order.input, &order.time),
            _ => {
                return plan.inputs().into_iter().for_each(|input| self.visit(input, whole(input)));
            }
        };
        needs.truncate(input.schema().fields().len());
        add(time, input.schema(), &mut needs);
        self.visit(input, needs);
    }

    fn record(&mut self, scan: &TableScan, mut needs: Vec<Need>) {
        for filter in &scan.filters {
            add(filter, &scan.projected_schema, &mut needs);
        }
        let children = needs.into_iter().enumerate().filter_map(|(column, need)| match need {
            Need::Children(children) => Some((column, children.into_iter().collect())),
            Need::Nothing | Need::Whole => None,
        });
        self.0.insert(address(scan), children.collect());
    }
}

fn address(scan: &TableScan) -> usize {
    std::ptr::from_ref(scan).addr()
}

fn whole(plan: &LogicalPlan) -> Vec<Need> {
    vec![Need::Whole; plan.schema().fields().len()]
}

fn nothing(schema: &DFSchema) -> Vec<Need> {
    vec![Need::Nothing; schema.fields().len()]
}

fn is_concatenation(join_type: JoinType) -> bool {
    matches!(join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full)
}

/// Adds what a projected expression reads when `need` of it is read above.
fn add_column(expr: &Expr, need: Need, schema: &DFSchema, needs: &mut [Need]) {
    match (expr, need) {
        (_, Need::Nothing) => {}
        (Expr::Alias(alias), need) => add_column(&alias.expr, need, schema, needs),
        (Expr::Column(column), need) => match schema.index_of_column(column) {
            Ok(index) => needs[index].add(need),
            Err(_not_found) => needs.fill(Need::Whole),
        },
        (expr, _) => add(expr, schema, needs),
    }
}

/// Adds what `expr` reads.
fn add(expr: &Expr, schema: &DFSchema, needs: &mut [Need]) {
    let visited = expr.apply(|node| {
        if let Some((index, child)) = child_access(node, schema) {
            needs[index].add(Need::Children(BTreeSet::from([child])));
            return Ok(TreeNodeRecursion::Jump);
        }
        if let Expr::Column(column) = node {
            // A filter inside a scan may read a column the scan does not emit.
            if let Ok(index) = schema.index_of_column(column) {
                needs[index].add(Need::Whole);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if visited.is_err() {
        needs.fill(Need::Whole);
    }
}

/// `column.child` as positions of both.
fn child_access(expr: &Expr, schema: &DFSchema) -> Option<(usize, usize)> {
    let Expr::ScalarFunction(function) = expr else { return None };
    if function.func.name() != "get_field" {
        return None;
    }
    let [Expr::Column(column), name, ..] = function.args.as_slice() else { return None };
    let name = literal(name)?.try_as_str()??;
    let index = schema.index_of_column(column).ok()?;
    let DataType::Struct(children) = schema.field(index).data_type() else { return None };
    let child = children.iter().position(|child| child.name() == name)?;
    Some((index, child))
}

impl Need {
    fn add(&mut self, other: Need) {
        match (&mut *self, other) {
            (_, Need::Nothing) | (Need::Whole, _) => {}
            (Need::Children(children), Need::Children(more)) => children.extend(more),
            (_, more) => *self = more,
        }
    }
}
