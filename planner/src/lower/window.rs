//! Window functions: finds the window below an aggregation and what each expression above it means
//! in terms of the window's input. TUMBLE and HOP without an aggregation only add their columns.

use std::sync::Arc;

use datafusion::{
    common::{
        Column, DFSchema,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{Expr, LogicalPlan, utils::split_conjunction_owned},
};
use runtime::{
    processors::{self, WindowRowsSpec},
    time::{EventTimePolicy, IDLE_TIMEOUT_DEFAULT},
};

use super::{Lowering, Stage, refusal};
use crate::{
    Error, Result,
    functions::window::{ImposeOrderNode, WindowNode},
};

/// Expressions carried down to the window they stand above.
pub struct Descent<'a> {
    /// The window.
    pub window: &'a WindowNode,
    /// The expressions, over the window's own schema.
    pub exprs: Vec<Expr>,
    /// Predicates between the expressions and the window, over the window's own schema.
    pub predicates: Vec<Expr>,
}

/// What a column of a window's schema is.
pub enum WindowColumn {
    /// A column of its input.
    Input,
    /// `window_start`.
    Start,
    /// `window_end`.
    End,
}

impl Lowering<'_> {
    pub(super) fn window_function(&mut self, plan: &LogicalPlan) -> Result<Stage> {
        if let Some(window) = WindowNode::of(plan) {
            return self.window_rows(window);
        }
        match ImposeOrderNode::of(plan) {
            Some(order) => self.impose_order(order),
            None => Err(refusal(plan)),
        }
    }

    /// The rows with their windows' bounds, for queries that do not aggregate over them.
    fn window_rows(&mut self, window: &WindowNode) -> Result<Stage> {
        let input = self.relation(&window.input)?;
        let spec = WindowRowsSpec {
            input: Arc::clone(&input.schema),
            time_column: window.time_index()?,
            size: window.shape.size,
            slide: window.shape.slide,
            offset: window.shape.offset,
        };
        Ok(self.local("window-rows", &input, processors::window_rows(spec)))
    }

    fn impose_order(&mut self, order: &ImposeOrderNode) -> Result<Stage> {
        let input = self.relation(&order.input)?;
        let time_column = order.time_index()?;
        let policy = EventTimePolicy {
            time_column,
            lag: order.lag,
            idle_timeout: IDLE_TIMEOUT_DEFAULT,
            max_future: None,
        };
        let supplier = processors::impose_order(policy, Arc::clone(&input.schema));
        let stage = self.local("impose-order", &input, supplier);
        Ok(Stage { event_time: Some(time_column), ..stage })
    }
}

/// What `carry_down` has reached.
pub struct Carried<'a> {
    /// The relation at the end.
    pub plan: &'a LogicalPlan,
    /// The expressions, over that relation.
    pub exprs: Vec<Expr>,
    /// Predicates on the way, over that relation.
    pub predicates: Vec<Expr>,
}

/// Carries `exprs` over `plan` down to the first relation that `is_end`, through projections,
/// filters and names; `None` if something else is in the way.
pub fn carry_down(
    mut plan: &LogicalPlan,
    mut exprs: Vec<Expr>,
    is_end: impl Fn(&LogicalPlan) -> bool,
) -> Result<Option<Carried<'_>>> {
    let mut predicates = Vec::new();
    loop {
        if is_end(plan) {
            return Ok(Some(Carried { plan, exprs, predicates }));
        }
        let (below, replacements): (_, Vec<Expr>) = match plan {
            LogicalPlan::Filter(filter) => {
                predicates.extend(split_conjunction_owned(filter.predicate.clone()));
                plan = &filter.input;
                continue;
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let columns = alias.input.schema().columns();
                (&alias.input, columns.into_iter().map(Expr::Column).collect())
            }
            LogicalPlan::Projection(projection) => {
                let exprs = projection.expr.iter().map(|expr| expr.clone().unalias()).collect();
                (&projection.input, exprs)
            }
            _ => return Ok(None),
        };
        for expr in exprs.iter_mut().chain(&mut predicates) {
            *expr = replace_columns(expr, plan.schema(), &replacements)?;
        }
        plan = below;
    }
}

impl<'a> Descent<'a> {
    /// Carries `exprs` over `plan` down to a window; `None` if there is no window below.
    pub fn to_window(plan: &'a LogicalPlan, exprs: Vec<Expr>) -> Result<Option<Self>> {
        let carried = carry_down(plan, exprs, |plan| WindowNode::of(plan).is_some())?;
        Ok(carried.and_then(|Carried { plan, exprs, predicates }| {
            Some(Self { window: WindowNode::of(plan)?, exprs, predicates })
        }))
    }

    /// What `column` is in the window's schema.
    pub fn kind_of(&self, column: &Column) -> Result<WindowColumn> {
        use datafusion::logical_expr::UserDefinedLogicalNodeCore;
        let index = self.window.schema().index_of_column(column)?;
        let input_count = self.window.input.schema().fields().len();
        Ok(match index {
            _ if index < input_count => WindowColumn::Input,
            _ if index == input_count => WindowColumn::Start,
            _ => WindowColumn::End,
        })
    }

    /// Whether `expr` reads a bound of the window.
    pub fn reads_bounds(&self, expr: &Expr) -> Result<bool> {
        for column in expr.column_refs() {
            if !matches!(self.kind_of(column)?, WindowColumn::Input) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// `expr` over `schema` with each column replaced by the expression at its position.
fn replace_columns(expr: &Expr, schema: &DFSchema, replacements: &[Expr]) -> Result<Expr> {
    let replaced = expr.clone().transform_up(|node| match &node {
        Expr::Column(column) => {
            let index = schema.index_of_column(column)?;
            Ok(Transformed::yes(replacements[index].clone()))
        }
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(replaced.data)
}

/// The error for an aggregation over a stream that no watermark bounds.
pub fn missing_watermark(time: &str) -> Error {
    let message = format!("no watermark says when a window over \"{time}\" is complete");
    let hint = format!(
        "Declare WATERMARK FOR {time} AS {time} - INTERVAL '…' in the mapping, \
         or use IMPOSE_ORDER(TABLE …, DESCRIPTOR({time}), INTERVAL '…')."
    );
    Error::unsupported(message).with_hint(hint)
}
