//! The analyzer rule that gives a plan PostgreSQL's meaning: operators over numbers become checked
//! functions, string literals take the type they are compared with, casts read and write
//! PostgreSQL's texts, a correlated scalar subquery may be any query.
//!
//! It runs before DataFusion's own type coercion, and so before anything is folded, bottom-up over
//! the plan and its subqueries. Run twice it changes nothing the second time.

use datafusion::{
    common::{
        DFSchema,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode},
    },
    error::Result,
    logical_expr::{
        Expr, LogicalPlan,
        expr::{Between, BinaryExpr, Cast, InList, Like, ScalarFunction},
        expr_rewriter::NamePreserver,
        utils::merge_schema,
    },
    optimizer::analyzer::AnalyzerRule,
};

use super::{casts, guards, interruption, operators, subqueries};
use crate::functions::declared_text;

/// See the module.
#[derive(Debug, Default)]
pub struct PostgresSemantics;

impl AnalyzerRule for PostgresSemantics {
    fn name(&self) -> &str {
        "postgres_semantics"
    }

    fn analyze(&self, plan: LogicalPlan, options: &ConfigOptions) -> Result<LogicalPlan> {
        interruption::check(options)?;
        Ok(plan.transform_up_with_subqueries(rewrite_node)?.data)
    }
}

fn rewrite_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        schema.merge(&DFSchema::try_from_qualified_schema(
            scan.table_name.clone(),
            &scan.source.schema(),
        )?);
    }
    let names = NamePreserver::new(&plan);
    let is_filter = matches!(plan, LogicalPlan::Filter(_));
    let rewritten = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let rewritten = expr.transform_up(|expr| rewrite_expr(expr, &schema))?;
        if !rewritten.transformed {
            return Ok(rewritten);
        }
        let guarded =
            if is_filter { guards::guard(rewritten.data, &schema) } else { rewritten.data };
        Ok(Transformed::yes(name.restore(guarded)))
    })?;
    if !rewritten.transformed {
        return Ok(rewritten);
    }
    rewritten.map_data(LogicalPlan::recompute_schema)
}

fn rewrite_expr(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(binary) => operators::binary(binary, schema),
        Expr::Negative(inner) => operators::negative(*inner, schema),
        Expr::Between(between) => between_literals(between, schema),
        Expr::InList(list) => in_list_literals(list, schema),
        Expr::Like(like) => text_operands(like, schema),
        Expr::Case(case) => operators::case(case, schema),
        Expr::ScalarFunction(call) => operators::function(call, schema),
        Expr::Cast(Cast { expr, field }) => casts::cast(*expr, &field, schema),
        Expr::ScalarSubquery(subquery) => subqueries::single_row(subquery),
        other => Ok(Transformed::no(other)),
    }
}

/// `x BETWEEN '1' AND '2'`: the literals take the type of `x`.
fn between_literals(between: Between, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Between { expr, negated, low, high } = between;
    let mut operands = [*expr, *low, *high];
    let is_changed = casts::unify_literals(&mut operands, schema)?;
    let [expr, low, high] = operands;
    let between = Between::new(Box::new(expr), negated, Box::new(low), Box::new(high));
    Ok(changed(Expr::Between(between), is_changed))
}

fn in_list_literals(list: InList, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let InList { expr, list, negated } = list;
    let mut operands = vec![*expr];
    operands.extend(list);
    let is_changed = casts::unify_literals(&mut operands, schema)?;
    let expr = operands.remove(0);
    let list = InList::new(Box::new(expr), operands, negated);
    Ok(changed(Expr::InList(list), is_changed))
}

/// LIKE is an operator of texts; DataFusion would cast a number.
fn text_operands(like: Like, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_not_text = |expr: &Expr| {
        expr.get_type_if_known(schema).is_some_and(|data_type| data_type.is_numeric())
    };
    if is_not_text(&like.expr) || is_not_text(&like.pattern) {
        return Err(operators::no_operator("~~", &like.expr, &like.pattern, schema));
    }
    if let Some(sql_type) = casts::char_type(&like.expr, schema) {
        // Here, and to regular expressions, the blanks of CHAR(n) are characters like any other.
        let expr = Box::new(declared_text::padded(*like.expr, &sql_type));
        return Ok(Transformed::yes(Expr::Like(Like { expr, ..like })));
    }
    Ok(Transformed::no(Expr::Like(like)))
}

/// A possibly rewritten expression.
pub(super) fn changed(expr: Expr, is_changed: bool) -> Transformed<Expr> {
    if is_changed { Transformed::yes(expr) } else { Transformed::no(expr) }
}

/// A call of one of our functions.
pub(super) fn call(
    function: std::sync::Arc<datafusion::logical_expr::ScalarUDF>,
    args: Vec<Expr>,
) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(function, args))
}

/// The type of an expression, where the plan already knows it.
pub(super) trait KnownType {
    /// `None` for a parameter without a type, or a column that is not there yet.
    fn get_type_if_known(&self, schema: &DFSchema) -> Option<arrow::datatypes::DataType>;
}

impl KnownType for Expr {
    fn get_type_if_known(&self, schema: &DFSchema) -> Option<arrow::datatypes::DataType> {
        use datafusion::logical_expr::ExprSchemable;
        match self {
            Expr::Placeholder(placeholder) => {
                placeholder.field.as_ref().map(|field| field.data_type().clone())
            }
            Expr::Cast(cast) => Some(cast.field.data_type().clone()),
            // Asked here without the names of all levels below, which DataFusion would make.
            Expr::ScalarFunction(call) if call.func.name() == casts::NAME => {
                call.func.return_type(&[]).ok()
            }
            Expr::ScalarFunction(call) if call.func.name().starts_with("checked_") => {
                let types: Option<Vec<_>> =
                    call.args.iter().map(|arg| arg.get_type_if_known(schema)).collect();
                call.func.return_type(&types?).ok()
            }
            other => other.get_type(schema).ok(),
        }
    }
}

/// Rebuilds a binary expression.
pub(super) fn binary_expr(left: Expr, op: datafusion::logical_expr::Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}
