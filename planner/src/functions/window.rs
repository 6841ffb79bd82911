//! `WindowNode` and `ImposeOrderNode`: what TUMBLE, HOP and IMPOSE_ORDER become in a logical plan.
//! They say which columns they need and which predicates may pass, so that DataFusion's optimizer
//! prunes and filters below them; how they run is decided by the two ways of planning.

use std::{cmp::Ordering, collections::HashSet, fmt, sync::Arc};

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::{
    common::{DFSchema, DFSchemaRef, Result as DfResult, TableReference, plan_err},
    logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore},
};

/// Name of the column that holds a window's start.
pub const WINDOW_START: &str = "window_start";
/// Name of the column that holds a window's end.
pub const WINDOW_END: &str = "window_end";

/// Length, distance and alignment of windows, µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Hash)]
pub struct WindowShape {
    /// Length, > 0.
    pub size: i64,
    /// Distance of starts, > 0; equal to `size` for TUMBLE.
    pub slide: i64,
    /// Added to the alignment at the epoch.
    pub offset: i64,
}

/// TUMBLE or HOP over an input: its columns, then `window_start` and `window_end`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WindowNode {
    /// The input.
    pub input: LogicalPlan,
    /// The time column.
    pub time: Expr,
    /// The windows.
    pub shape: WindowShape,
    schema: DFSchemaRef,
}

/// IMPOSE_ORDER over an input: the same rows, and a watermark `lag` behind the newest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImposeOrderNode {
    /// The input.
    pub input: LogicalPlan,
    /// The time column.
    pub time: Expr,
    /// How far the watermark stays behind, µs, ≥ 0.
    pub lag: i64,
}

/// Whether windows can be laid over a column of this type: µs timestamps, and BIGINT in µs.
pub fn is_time_type(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Int64)
}

impl WindowNode {
    /// A window over `input`; `time` must be one of its columns.
    pub fn try_new(input: LogicalPlan, time: Expr, shape: WindowShape) -> DfResult<Self> {
        let (_, time_field) = column_of(&input, &time)?;
        let bounds = [WINDOW_START, WINDOW_END]
            .map(|name| Arc::new(Field::new(name, time_field.data_type().clone(), false)));
        let fields: Vec<(Option<TableReference>, FieldRef)> = input
            .schema()
            .iter()
            .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
            .chain(bounds.into_iter().map(|field| (None, field)))
            .collect();
        let metadata = input.schema().metadata().clone();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, metadata)?);
        Ok(Self { input, time, shape, schema })
    }

    /// Position of the time column in the input.
    pub fn time_index(&self) -> DfResult<usize> {
        Ok(column_of(&self.input, &self.time)?.0)
    }

    /// As a logical plan.
    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The window node that `plan` is.
    pub fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }
}

impl ImposeOrderNode {
    /// An order over `input`; `time` must be one of its columns.
    pub fn try_new(input: LogicalPlan, time: Expr, lag: i64) -> DfResult<Self> {
        column_of(&input, &time)?;
        Ok(Self { input, time, lag })
    }

    /// Position of the time column in the input.
    pub fn time_index(&self) -> DfResult<usize> {
        Ok(column_of(&self.input, &self.time)?.0)
    }

    /// As a logical plan.
    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The order node that `plan` is.
    pub fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }
}

/// Position and field of the column that `expr` names in `input`.
fn column_of<'a>(input: &'a LogicalPlan, expr: &Expr) -> DfResult<(usize, &'a FieldRef)> {
    let Expr::Column(column) = expr.clone().unalias() else {
        return plan_err!("the time of a window must be a column");
    };
    let index = input.schema().index_of_column(&column)?;
    Ok((index, input.schema().field(index)))
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &str {
        "Window"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.time.clone()]
    }

    /// A predicate on a row's own columns gives the same rows before its windows are added.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::from([WINDOW_START.to_owned(), WINDOW_END.to_owned()])
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let WindowShape { size, slide, offset } = self.shape;
        write!(f, "Window: {} size={size}µs slide={slide}µs offset={offset}µs", self.time)
    }

    fn with_exprs_and_inputs(
        &self,
        mut exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> DfResult<Self> {
        match (exprs.pop(), inputs.pop()) {
            (Some(time), Some(input)) => Self::try_new(input, time, self.shape),
            _ => plan_err!("a window has one input and one expression"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let time = self.time_index().ok()?;
        Some(vec![with_column(output_columns, time, self.input.schema().fields().len())])
    }
}

impl UserDefinedLogicalNodeCore for ImposeOrderNode {
    fn name(&self) -> &str {
        "ImposeOrder"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.time.clone()]
    }

    // No predicate passes: rows that a filter removes still advance time.

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ImposeOrder: {} lag={}µs", self.time, self.lag)
    }

    fn with_exprs_and_inputs(
        &self,
        mut exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> DfResult<Self> {
        match (exprs.pop(), inputs.pop()) {
            (Some(time), Some(input)) => Self::try_new(input, time, self.lag),
            _ => plan_err!("an order has one input and one expression"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let time = self.time_index().ok()?;
        Some(vec![with_column(output_columns, time, self.input.schema().fields().len())])
    }
}

/// `columns` below `count`, and `extra`: ascending, once each.
fn with_column(columns: &[usize], extra: usize, count: usize) -> Vec<usize> {
    let mut needed: Vec<usize> =
        columns.iter().copied().filter(|column| *column < count).chain([extra]).collect();
    needed.sort_unstable();
    needed.dedup();
    needed
}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.shape.partial_cmp(&other.shape) {
            Some(Ordering::Equal) => match self.time.partial_cmp(&other.time) {
                Some(Ordering::Equal) => self.input.partial_cmp(&other.input),
                order => order,
            },
            order => order,
        }
    }
}

impl PartialOrd for ImposeOrderNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.lag.partial_cmp(&other.lag) {
            Some(Ordering::Equal) => match self.time.partial_cmp(&other.time) {
                Some(Ordering::Equal) => self.input.partial_cmp(&other.input),
                order => order,
            },
            order => order,
        }
    }
}
