//! `AggregateSpec`: one aggregate as the planner asks for it.
//! Result types are PostgreSQL's; what is not listed here is refused by the planner.

use std::{fmt, sync::Arc};

use arrow::datatypes::DataType;
use datafusion_physical_expr_common::physical_expr::PhysicalExpr;

use crate::processors::expression::text;

/// The aggregates whose accumulators are our own columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateFunction {
    /// `count(*)`: BIGINT.
    CountStar,
    /// `count(x)`: BIGINT.
    Count,
    /// `sum(x)`: BIGINT of smaller integers, NUMERIC(38,0) of BIGINT, NUMERIC of NUMERIC, DOUBLE.
    Sum,
    /// `avg(x)`: NUMERIC(38,16) of integers and NUMERIC, DOUBLE of floats.
    Avg,
    /// `min(x)`: the type of x.
    Min,
    /// `max(x)`.
    Max,
    /// `var_samp`, `variance`: DOUBLE here.
    VarSamp,
    /// `var_pop`.
    VarPop,
    /// `stddev_samp`, `stddev`.
    StddevSamp,
    /// `stddev_pop`.
    StddevPop,
}

/// One aggregate of a window or group.
#[derive(Debug, Clone)]
pub struct AggregateSpec {
    /// Which.
    pub function: AggregateFunction,
    /// Its argument; `None` for `count(*)`.
    pub argument: Option<Arc<dyn PhysicalExpr>>,
    /// `FILTER (WHERE …)`.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// `DISTINCT`.
    pub is_distinct: bool,
    /// Type of the result.
    pub result_type: DataType,
    /// Output column name.
    pub name: String,
}

impl AggregateFunction {
    /// Its SQL name.
    pub fn name(self) -> &'static str {
        match self {
            AggregateFunction::CountStar | AggregateFunction::Count => "count",
            AggregateFunction::Sum => "sum",
            AggregateFunction::Avg => "avg",
            AggregateFunction::Min => "min",
            AggregateFunction::Max => "max",
            AggregateFunction::VarSamp => "var_samp",
            AggregateFunction::VarPop => "var_pop",
            AggregateFunction::StddevSamp => "stddev_samp",
            AggregateFunction::StddevPop => "stddev_pop",
        }
    }
}

impl fmt::Display for AggregateSpec {
    /// As EXPLAIN shows it: `sum(distinct price@2) filter (where price@2 > 0)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let argument = self.argument.as_ref().map_or_else(|| "*".to_owned(), text);
        let distinct = if self.is_distinct { "distinct " } else { "" };
        write!(f, "{}({distinct}{argument})", self.function.name())?;
        match &self.filter {
            Some(filter) => write!(f, " filter (where {})", text(filter)),
            None => Ok(()),
        }
    }
}
