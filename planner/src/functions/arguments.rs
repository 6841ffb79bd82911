//! Arguments of table functions: by position or by name, tables, DESCRIPTORs and constants.
//! What is not understood is an error in PostgreSQL's words, never ignored.

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Schema},
};
use datafusion::{
    common::{DFSchema, Result as DfResult, ScalarValue},
    execution::context::ExecutionProps,
    logical_expr::{
        ColumnarValue, Expr, LogicalPlan, physical_planning_context::PhysicalPlanningContext,
        planner::RelationPlannerContext, simplify::SimplifyContext,
    },
    optimizer::simplify_expressions::ExprSimplifier,
    physical_expr::create_physical_expr,
    sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, TableFactor},
};

use super::{external, session::bind_search_path};
use crate::Error;

/// The arguments of one call, by the function's parameter names.
pub struct Arguments {
    function: &'static str,
    parameters: &'static [&'static str],
    values: Vec<Option<ast::Expr>>,
}

impl Arguments {
    /// Assigns the arguments of a call to the parameters of `function`.
    pub fn bind(
        function: &'static str,
        parameters: &'static [&'static str],
        arguments: Vec<FunctionArg>,
    ) -> DfResult<Self> {
        let mut values = vec![None; parameters.len()];
        for (position, argument) in arguments.into_iter().enumerate() {
            let (index, value) = match argument {
                FunctionArg::Unnamed(value) => (position, value),
                FunctionArg::Named { name, arg, .. }
                | FunctionArg::ExprNamed { name: ast::Expr::Identifier(name), arg, .. } => {
                    let wanted = name.value.to_lowercase();
                    let index = parameters.iter().position(|parameter| *parameter == wanted);
                    let index = index.ok_or_else(|| {
                        let message = format!("function {function} has no argument \"{wanted}\"");
                        let hint = format!("Its arguments are {}.", parameters.join(", "));
                        external(Error::new("42883", message).with_hint(hint))
                    })?;
                    (index, arg)
                }
                FunctionArg::ExprNamed { .. } => return Err(malformed(function)),
            };
            let FunctionArgExpr::Expr(value) = value else { return Err(malformed(function)) };
            let Some(slot) = values.get_mut(index) else {
                let message = format!("too many arguments for function {function}");
                let hint = format!("Its arguments are {}.", parameters.join(", "));
                return Err(external(Error::new("42883", message).with_hint(hint)));
            };
            if slot.replace(value).is_some() {
                let name = parameters[index];
                let message = format!("argument \"{name}\" of function {function} is given twice");
                return Err(external(Error::new("42601", message)));
            }
        }
        Ok(Self { function, parameters, values })
    }

    /// The table argument, planned.
    pub fn table(
        &mut self,
        index: usize,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<LogicalPlan> {
        let factor = match self.required(index)? {
            ast::Expr::Subquery(query) => {
                TableFactor::Derived { lateral: false, subquery: query, alias: None, sample: None }
            }
            ast::Expr::Identifier(name) => table_factor(vec![name]),
            ast::Expr::CompoundIdentifier(names) => table_factor(names),
            function @ ast::Expr::Function(_) => {
                TableFactor::TableFunction { expr: function, alias: None }
            }
            _ => return Err(self.wrong(index, "a table, as in TABLE t")),
        };
        context.plan(factor)
    }

    /// The column a DESCRIPTOR, or a plain name, names in `input`.
    pub fn column(
        &mut self,
        index: usize,
        input: &LogicalPlan,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<Expr> {
        let mut name = self.required(index)?;
        if let ast::Expr::Function(function) = &name
            && function.name.to_string().eq_ignore_ascii_case("descriptor")
        {
            let ast::FunctionArguments::List(list) = &function.args else {
                return Err(self.wrong(index, "one column, as in DESCRIPTOR(ts)"));
            };
            let [FunctionArg::Unnamed(FunctionArgExpr::Expr(column))] = list.args.as_slice() else {
                return Err(self.wrong(index, "one column, as in DESCRIPTOR(ts)"));
            };
            name = column.clone();
        }
        let expr = context.sql_to_expr(name, input.schema())?.unalias();
        match expr {
            Expr::Column(_) => Ok(expr),
            _ => Err(self.wrong(index, "a column of the table, as in DESCRIPTOR(ts)")),
        }
    }

    /// A constant; `None` if it is left out.
    pub fn constant(
        &mut self,
        index: usize,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<Option<ScalarValue>> {
        let Some(value) = self.values[index].take() else { return Ok(None) };
        let expr = context.sql_to_expr(value, &DFSchema::empty())?;
        // A plan is kept by the search path it was made under, so that may be asked while planning.
        let expr = bind_search_path(expr, context.context_provider().options())?;
        match evaluate(expr) {
            Some(value) => Ok(Some(value)),
            None => Err(self.wrong(index, "a constant")),
        }
    }

    /// A length of time, µs. A plain number is accepted where the time column is one.
    pub fn duration(
        &mut self,
        index: usize,
        is_number_allowed: bool,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<Option<i64>> {
        let Some(value) = self.constant(index, context)? else { return Ok(None) };
        match micros_of(&value) {
            Some(micros) => Ok(Some(micros)),
            None if is_number_allowed && value.data_type().is_integer() => Ok(integer_of(&value)),
            None => {
                Err(self.wrong(index, "an interval of days or less, as in INTERVAL '10' SECOND"))
            }
        }
    }

    /// The error for a missing argument.
    pub fn missing(&self, index: usize) -> datafusion::common::DataFusionError {
        let (function, name) = (self.function, self.parameters[index]);
        external(Error::new("42883", format!("function {function} needs its argument \"{name}\"")))
    }

    /// The error for an argument that is not `wanted`.
    pub fn wrong(&self, index: usize, wanted: &str) -> datafusion::common::DataFusionError {
        let (function, name) = (self.function, self.parameters[index]);
        let message = format!("argument \"{name}\" of function {function} must be {wanted}");
        external(Error::new("42804", message))
    }

    fn required(&mut self, index: usize) -> DfResult<ast::Expr> {
        match self.values[index].take() {
            Some(value) => Ok(value),
            None => Err(self.missing(index)),
        }
    }
}

fn malformed(function: &str) -> datafusion::common::DataFusionError {
    external(Error::new("42601", format!("malformed argument of function {function}")))
}

fn table_factor(names: Vec<ast::Ident>) -> TableFactor {
    TableFactor::Table {
        name: ast::ObjectName::from(names),
        alias: None,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}

/// The value of an expression without columns; `None` if it has none.
fn evaluate(expr: Expr) -> Option<ScalarValue> {
    if let Expr::Literal(value, _) = expr {
        return Some(value);
    }
    let schema = DFSchema::empty();
    let expr = ExprSimplifier::new(SimplifyContext::default()).coerce(expr, &schema).ok()?;
    let (props, planning) = (ExecutionProps::new(), PhysicalPlanningContext::default());
    let expr = create_physical_expr(&expr, &schema, &props, &planning).ok()?;
    let one_row = RecordBatchOptions::new().with_row_count(Some(1));
    let schema = Schema::empty().into();
    let batch = RecordBatch::try_new_with_options(schema, Vec::new(), &one_row).ok()?;
    match expr.evaluate(&batch).ok()? {
        ColumnarValue::Scalar(value) => Some(value),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0).ok(),
    }
}

/// An interval without months as µs; days are 24 hours.
fn micros_of(value: &ScalarValue) -> Option<i64> {
    const DAY: i64 = 86_400_000_000;
    match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            i64::from(interval.days).checked_mul(DAY)?.checked_add(interval.nanoseconds / 1000)
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            let millis = i64::from(interval.milliseconds) * 1000;
            i64::from(interval.days).checked_mul(DAY)?.checked_add(millis)
        }
        _ => None,
    }
}

/// An integer of any width; `None` for NULL and for other types.
pub fn integer_of(value: &ScalarValue) -> Option<i64> {
    if !value.data_type().is_integer() {
        return None;
    }
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(value)) => value,
        _ => None,
    }
}
