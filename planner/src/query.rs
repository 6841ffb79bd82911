//! Bounded queries: names and types at prepare, values at bind, DataFusion's physical plan at
//! execution. Output columns always have the Arrow type that their SQL type says.
//!
//! ```text
//! ast ─ rewrite ─ plan ─ infer $n ─→ PreparedQuery ─ values ─ analyse, optimise ─→ QueryPlan
//! ```

use std::{ops::ControlFlow, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    datatypes::{Field, Schema, SchemaRef},
};
use datafusion::{
    common::ParamValues,
    execution::{SessionState, TaskContext},
    logical_expr::LogicalPlan,
    physical_plan::{ExecutionPlan, displayable, execute_stream},
    scalar::ScalarValue,
    sql::sqlparser::ast::{self, VisitMut, visit_expressions, visit_expressions_mut},
};
use futures::StreamExt;
use storage::{Datum, Grid};

use crate::{
    Error, OutputColumn, Result, Session, SqlType,
    catalog::provider::StatementView,
    context::Context,
    dml::placeholder,
    functions,
    origins::origins,
    parse::{TidewaterDialect, parameter_count},
    plan::RowStream,
    rules::output_names::wire_name,
    values::{cast_array, scalar_of},
};

/// A query whose names and types are known.
#[derive(Debug)]
pub struct PreparedQuery {
    /// The plan as written: placeholders in it, not yet analysed.
    pub plan: LogicalPlan,
    /// Types of `$1 …`.
    pub parameters: Vec<SqlType>,
    /// Result columns.
    pub columns: Vec<OutputColumn>,
}

/// A physical plan and what it runs under.
pub struct BoundQuery {
    /// The plan.
    pub physical: Arc<dyn ExecutionPlan>,
    /// Result columns.
    pub columns: Vec<OutputColumn>,
    state: SessionState,
    grid: Arc<Grid>,
}

/// Most parameters of a statement: the wire counts them in 16 bits.
const PARAMETERS_MAX: usize = u16::MAX as usize;

impl PreparedQuery {
    /// Resolves a query.
    pub fn new(
        context: &Context,
        session: &Session,
        query: &ast::Query,
        hints: &[Option<SqlType>],
    ) -> Result<Self> {
        Self::with_step(context, session, query, hints, |_, plan| Ok(plan))
    }

    /// Resolves a query whose plan gets one more step on top.
    pub fn with_step(
        context: &Context,
        session: &Session,
        query: &ast::Query,
        hints: &[Option<SqlType>],
        step: impl FnOnce(&SessionState, LogicalPlan) -> Result<LogicalPlan>,
    ) -> Result<Self> {
        let state = context.state(session);
        let count = parameter_count(query).max(hints.len());
        if count > PARAMETERS_MAX {
            return Err(Error::new("54023", "too many parameters"));
        }
        let mut types: Vec<Option<SqlType>> = hints.to_vec();
        types.resize(count, None);
        types.iter_mut().for_each(|hint| {
            *hint = hint.take().filter(|hint| *hint != SqlType::Unknown);
        });
        types_of_casts(query, &mut types);
        let plan = plan_typed(context, &state, query, &types)
            .and_then(|plan| infer(&plan, &mut types).map(|()| plan));
        // What is still unknown is text, as in PostgreSQL; the plan has to know it, too.
        let plan = match types.iter().all(Option::is_some) {
            true => plan?,
            false => {
                types.iter_mut().for_each(|known| {
                    known.get_or_insert(SqlType::Text);
                });
                plan_typed(context, &state, query, &types)?
            }
        };
        let plan = step(&state, plan)?;
        let parameters: Vec<SqlType> = types.into_iter().flatten().collect();
        let mut columns = output_columns(&analyse(&state, nulls_for(plan.clone(), &parameters)?)?);
        for (column, origin) in columns.iter_mut().zip(origins(&plan)) {
            column.origin = origin;
        }
        Ok(Self { plan, parameters, columns })
    }

    /// The plan with values in place of its placeholders.
    pub fn with_values(&self, values: &[Datum]) -> Result<LogicalPlan> {
        with_values(self.plan.clone(), &self.parameters, values)
    }

    /// Ready to run.
    pub fn bind(
        &self,
        context: &Context,
        session: &Session,
        values: &[Datum],
    ) -> Result<BoundQuery> {
        let plan = self.with_values(values)?;
        BoundQuery::new(context, context.state(session), plan, self.columns.clone())
    }
}

impl BoundQuery {
    /// Optimises a plan that has no placeholders.
    pub fn new(
        context: &Context,
        state: SessionState,
        plan: LogicalPlan,
        columns: Vec<OutputColumn>,
    ) -> Result<Self> {
        let plan = functions::bind_session(plan, &context.facts_of(&state)?)?;
        let plan = state.optimize(&plan)?;
        let planner = state.query_planner();
        let physical = futures::executor::block_on(planner.create_physical_plan(&plan, &state))?;
        Ok(Self { physical, columns, state, grid: Arc::clone(&context.parts.grid) })
    }

    /// Starts it under the session's present view.
    pub fn execute(self, session: &Session) -> Result<RowStream> {
        let view = session.read_view(&self.grid);
        self.execute_with(StatementView { view, returned: Vec::new() })
    }

    /// Starts it under a view.
    pub fn execute_with(mut self, view: StatementView) -> Result<RowStream> {
        self.state.config_mut().set_extension(Arc::new(view));
        let task = Arc::new(TaskContext::from(&self.state));
        let stream = execute_stream(self.physical, task)?;
        let schema = arrow_schema(&self.columns);
        Ok(Box::pin(stream.map(move |batch| conform(&batch?, &schema))))
    }

    /// The plan as text, one line each.
    pub fn explain(&self, is_verbose: bool) -> Vec<String> {
        let text = displayable(self.physical.as_ref()).indent(is_verbose).to_string();
        text.lines().map(str::to_owned).collect()
    }
}

/// Analyses a plan: types are coerced and functions of ours put in; it can still not run.
pub fn analyse(state: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?)
}

/// The columns a client sees of an analysed plan.
pub fn output_columns(plan: &LogicalPlan) -> Vec<OutputColumn> {
    let fields = plan.schema().fields();
    fields
        .iter()
        .map(|field| OutputColumn::computed(wire_name(field.name()), SqlType::of_field(field)))
        .collect()
}

/// Arrow schema of result columns.
pub fn arrow_schema(columns: &[OutputColumn]) -> SchemaRef {
    let fields: Vec<Field> =
        columns.iter().map(|column| column.sql_type.field(&column.name, true)).collect();
    Arc::new(Schema::new(fields))
}

/// A batch with each column cast to the type the schema says, by position.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| cast_array(column, field.data_type()))
        .collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// A plan with values in place of its placeholders.
pub fn with_values(
    plan: LogicalPlan,
    parameters: &[SqlType],
    values: &[Datum],
) -> Result<LogicalPlan> {
    if values.len() != parameters.len() {
        return Err(Error::new(
            "08P01",
            format!("{} parameters are needed, {} were given", parameters.len(), values.len()),
        ));
    }
    if parameters.is_empty() {
        return Ok(plan);
    }
    let scalars = values
        .iter()
        .zip(parameters)
        .map(|(value, sql_type)| scalar_of(value, sql_type))
        .collect::<Result<Vec<_>>>()?;
    Ok(plan.replace_params_with_values(&ParamValues::from(scalars))?)
}

fn nulls_for(plan: LogicalPlan, parameters: &[SqlType]) -> Result<LogicalPlan> {
    if parameters.is_empty() {
        return Ok(plan);
    }
    let scalars = parameters
        .iter()
        .map(|sql_type| Ok(ScalarValue::try_from(&sql_type.arrow())?))
        .collect::<Result<Vec<_>>>()?;
    Ok(plan.replace_params_with_values(&ParamValues::from(scalars))?)
}

/// Plans a query in which each placeholder of a known type is cast to it.
fn plan_typed(
    context: &Context,
    state: &SessionState,
    query: &ast::Query,
    types: &[Option<SqlType>],
) -> Result<LogicalPlan> {
    if types.iter().all(Option::is_none) {
        return context.plan_query(state, query);
    }
    let mut query = query.clone();
    cast_placeholders(&mut query, types)?;
    context.plan_query(state, &query)
}

/// Writes `$n` as `CAST($n AS type)` where the type is known.
pub fn cast_placeholders(node: &mut impl VisitMut, types: &[Option<SqlType>]) -> Result<()> {
    let types: Vec<Option<ast::DataType>> = types
        .iter()
        .map(|known| known.as_ref().map(ast_type).transpose())
        .collect::<Result<_>>()?;
    let _ = visit_expressions_mut(node, |expression: &mut ast::Expr| {
        if let ast::Expr::Value(value) = expression
            && let ast::Value::Placeholder(name) = &value.value
            && let Some(number) = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok())
            && let Some(Some(data_type)) = number.checked_sub(1).and_then(|n| types.get(n))
        {
            *expression = ast::Expr::Cast {
                kind: ast::CastKind::Cast,
                expr: Box::new(expression.clone()),
                data_type: data_type.clone(),
                array: false,
                format: None,
            };
        }
        ControlFlow::<()>::Continue(())
    });
    Ok(())
}

/// `$1::int` says what `$1` is, where nobody else does.
fn types_of_casts(query: &ast::Query, types: &mut [Option<SqlType>]) {
    let _ = visit_expressions(query, |expression: &ast::Expr| {
        if let ast::Expr::Cast { expr, data_type, .. } = expression
            && let Some(number) = placeholder(expr)
            && let Some(known @ None) = types.get_mut(number - 1)
        {
            // What is no type of ours is for the planner to refuse.
            *known = SqlType::of_ast(data_type).ok().and_then(parameter_type);
        }
        ControlFlow::<()>::Continue(())
    });
}

/// The type of a parameter that is cast to this one: lengths and digits are the cast's to apply, and
/// what is cast to an oid may be a name.
fn parameter_type(sql_type: SqlType) -> Option<SqlType> {
    match sql_type {
        SqlType::Varchar(_) => Some(SqlType::Varchar(None)),
        SqlType::Bpchar(_) => Some(SqlType::Bpchar(None)),
        SqlType::Numeric(..) => Some(SqlType::NumericAny),
        SqlType::Oid => None,
        known => Some(known),
    }
}

/// The syntax of a type.
pub fn ast_type(sql_type: &SqlType) -> Result<ast::DataType> {
    let name = sql_type.name();
    let mut parser = ast_parser(&name)?;
    parser
        .parse_data_type()
        .map_err(|_error| Error::unsupported(format!("a value of type {name} is not supported")))
}

fn ast_parser(text: &str) -> Result<datafusion::sql::sqlparser::parser::Parser<'static>> {
    datafusion::sql::sqlparser::parser::Parser::new(&TidewaterDialect)
        .try_with_sql(text)
        .map_err(|error| Error::new("42601", error.to_string()))
}

/// Fills in the parameter types that the plan shows.
fn infer(plan: &LogicalPlan, types: &mut [Option<SqlType>]) -> Result<()> {
    for (name, data_type) in plan.get_parameter_types()? {
        let number = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        let Some(known) = number.and_then(|number| types.get_mut(number.checked_sub(1)?)) else {
            continue;
        };
        if known.is_none() {
            *known = data_type
                .map(|data_type| SqlType::of_arrow(&data_type))
                .filter(|sql_type| *sql_type != SqlType::Unknown);
        }
    }
    Ok(())
}
