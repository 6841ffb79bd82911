//! VALUES of many rows of literals are data, not expressions: they are read into arrays at once,
//! column by column, and the query reads them as a relation. DataFusion would carry every cell
//! through each of its passes.
//!
//! ```text
//! VALUES (1, 'a'), (20, 'b'), (3000000000, NULL) …
//!   kinds of column 1: INTEGER, BIGINT; of column 2: text, NULL
//!   one cell of each kind ─ DataFusion ─→ types BIGINT, TEXT ─ all cells' texts ─→ arrays
//! ```
//! A column's type is the one DataFusion gives to a VALUES that shows each kind of literal once, so
//! it is the same as that of all rows. What has a cell that is more than a literal stays as it is.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc};

use arrow::{
    array::{ArrayRef, NullArray, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider},
    datasource::memory::MemorySourceConfig,
    error::{DataFusionError, Result},
    execution::SessionState,
    logical_expr::{Expr as DataFusionExpr, TableType},
    physical_plan::ExecutionPlan,
    sql::{
        parser::Statement as DataFusionStatement,
        sqlparser::ast::{
            Expr, Ident, ObjectName, Query, SetExpr, Statement, TableFactor, UnaryOperator, Value,
            Values, VisitMut, VisitorMut,
        },
    },
};

use super::{literals::integer_type, rewrite_ast};
use crate::{
    context::BATCH_ROWS,
    functions::{cast::parse_texts, external},
    parse::{self, widths},
    text::TimeZone,
    types::NUMERIC_PRECISION_MAX,
};

/// Fewest rows that are worth it; plans of shorter lists stay readable.
const ROWS_MIN: usize = 64;

/// The rows of one VALUES.
#[derive(Debug)]
pub struct LiteralRows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl LiteralRows {
    /// All rows.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// Whether a column holds nothing but string literals and NULL, whose type PostgreSQL leaves
    /// open.
    pub fn is_open(&self, column: usize) -> bool {
        matches!(self.schema.field(column).data_type(), DataType::Utf8 | DataType::Null)
    }
}

/// What a literal's type depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    Null,
    Text,
    Bool,
    /// INTEGER, BIGINT or NUMERIC of so many digits.
    Integer(String),
    /// Digits before and after the point.
    Decimal(usize, usize),
}

/// The kinds of literals in a column, with the row of the first of each.
type Kinds = Vec<(Kind, usize)>;

/// Takes the VALUES of literals out of a query that has not been rewritten yet; answers the state
/// that knows the relations which stand there now.
pub async fn take(state: &SessionState, query: &mut Query) -> Result<Option<SessionState>> {
    let mut taken = Taken(Vec::new());
    let _ = query.visit(&mut taken);
    if taken.0.is_empty() {
        return Ok(None);
    }
    let mut with_rows = state.clone();
    for (number, (values, kinds)) in taken.0.into_iter().enumerate() {
        let rows = read(state, &values, &kinds).await?;
        with_rows.register_udtf(&name(number), Arc::new(Rows(Arc::new(rows))));
    }
    Ok(Some(with_rows))
}

/// Name of the function that answers the rows of VALUES number `n`. Nobody can type it.
fn name(number: usize) -> String {
    format!("\u{1}values{number}")
}

/// The VALUES taken out so far, and what is in their columns.
struct Taken(Vec<(Values, Vec<Kinds>)>);

impl VisitorMut for Taken {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Values(values) = query.body.as_ref() else { return ControlFlow::Continue(()) };
        let Some(kinds) = kinds_of(values) else { return ControlFlow::Continue(()) };
        let Some(body) = select_from(&name(self.0.len())) else {
            return ControlFlow::Continue(());
        };
        if let SetExpr::Values(values) = std::mem::replace(query.body.as_mut(), body) {
            self.0.push((values, kinds));
        }
        ControlFlow::Continue(())
    }
}

/// `SELECT * FROM name()`.
fn select_from(name: &str) -> Option<SetExpr> {
    let query = parse::parse_query("SELECT * FROM f()").ok()?;
    let mut body = *query.body;
    let SetExpr::Select(select) = &mut body else { return None };
    match &mut select.from.first_mut()?.relation {
        TableFactor::Table { name: function, .. }
        | TableFactor::Function { name: function, .. } => {
            *function = ObjectName::from(vec![Ident::new(name)]);
        }
        _ => return None,
    }
    Some(body)
}

/// What is in each column; `None` if there is anything but literals, or a column whose literals have
/// no type in common.
fn kinds_of(values: &Values) -> Option<Vec<Kinds>> {
    if values.rows.len() < ROWS_MIN {
        return None;
    }
    let width = values.rows.first()?.content.len();
    let mut kinds: Vec<HashMap<Kind, usize>> = vec![HashMap::new(); width];
    for (row, cells) in values.rows.iter().enumerate() {
        if cells.content.len() != width {
            return None;
        }
        for (cell, kinds) in cells.content.iter().zip(&mut kinds) {
            kinds.entry(kind_of(cell)?).or_insert(row);
        }
    }
    let are_alike = |kinds: &HashMap<Kind, usize>| {
        let classes = kinds.keys().filter(|kind| **kind != Kind::Null).map(|kind| match kind {
            Kind::Text => 0,
            Kind::Bool => 1,
            _ => 2,
        });
        let classes: Vec<u8> = classes.collect();
        classes.windows(2).all(|pair| pair[0] == pair[1])
    };
    if !kinds.iter().all(are_alike) {
        return None;
    }
    let in_order = |kinds: HashMap<Kind, usize>| {
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|(_, row)| *row);
        kinds
    };
    Some(kinds.into_iter().map(in_order).collect())
}

fn kind_of(cell: &Expr) -> Option<Kind> {
    if !widths::is_literal(cell) {
        return None;
    }
    let value = match cell {
        Expr::UnaryOp { expr, .. } => expr.as_ref(),
        cell => cell,
    };
    let Expr::Value(value) = value else { return None };
    match &value.value {
        Value::Null => Some(Kind::Null),
        Value::SingleQuotedString(_) => Some(Kind::Text),
        Value::Boolean(_) => Some(Kind::Bool),
        Value::Number(digits, false) => {
            let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
            if !is_digits(whole)
                || !is_digits(fraction)
                || whole.len() + fraction.len() > usize::from(NUMERIC_PRECISION_MAX)
            {
                return None;
            }
            match digits.contains('.') {
                true => Some(Kind::Decimal(whole.len(), fraction.len())),
                false => {
                    let text = text_of(cell)?;
                    integer_type(&text).map(|data_type| Kind::Integer(data_type.to_string()))
                }
            }
        }
        _ => None,
    }
}

/// The literal in PostgreSQL's input syntax; `None` for NULL.
fn text_of(cell: &Expr) -> Option<String> {
    match cell {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => Some(format!("-{}", text_of(expr)?)),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => Some(text.clone()),
            Value::Boolean(true) => Some("true".to_owned()),
            Value::Boolean(false) => Some("false".to_owned()),
            _ => None,
        },
        _ => None,
    }
}

/// Reads all cells as the types that DataFusion gives the columns.
async fn read(state: &SessionState, values: &Values, kinds: &[Kinds]) -> Result<LiteralRows> {
    let types = types_of(state, values, kinds).await?;
    let mut fields = Vec::with_capacity(types.len());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(types.len());
    for (column, field) in types.iter().enumerate() {
        columns.push(match field.data_type() {
            DataType::Null => Arc::new(NullArray::new(values.rows.len())),
            _ => {
                let cells = values.rows.iter().map(|row| row.content.get(column));
                let texts: StringArray = cells.map(|cell| cell.and_then(text_of)).collect();
                match field.data_type() {
                    DataType::Utf8 => Arc::new(texts),
                    _ => parse_texts(&texts, field, &TimeZone::Utc)?,
                }
            }
        });
        fields.push(Field::clone(field).with_nullable(true));
    }
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let slice = |start| batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start));
    let batches = (0..batch.num_rows()).step_by(BATCH_ROWS).map(slice).collect();
    Ok(LiteralRows { schema, batches })
}

/// The columns of a VALUES that shows each kind of literal once.
async fn types_of(
    state: &SessionState,
    values: &Values,
    kinds: &[Kinds],
) -> Result<Vec<Arc<Field>>> {
    let height = kinds.iter().map(Vec::len).max().unwrap_or(0);
    let mut shown = values.clone_empty();
    for number in 0..height {
        let cell = |(column, kinds): (usize, &Kinds)| {
            let (_, row) = kinds.get(number).or_else(|| kinds.first())?;
            values.rows.get(*row)?.content.get(column).cloned()
        };
        let mut row = values.rows[0].clone();
        row.content = kinds.iter().enumerate().filter_map(cell).collect();
        shown.rows.push(row);
    }
    let mut query = *parse::parse_query("VALUES (1)").map_err(external)?;
    *query.body = SetExpr::Values(shown);
    let mut statement = Statement::Query(Box::new(query));
    rewrite_ast(&mut statement);
    let plan = state.statement_to_plan(DataFusionStatement::Statement(Box::new(statement))).await?;
    let fields: Vec<_> = plan.schema().fields().iter().cloned().collect();
    match fields.len() == kinds.len() {
        true => Ok(fields),
        false => Err(DataFusionError::Internal("VALUES of another width".to_owned())),
    }
}

/// The same VALUES without its rows.
trait CloneEmpty {
    fn clone_empty(&self) -> Self;
}

impl CloneEmpty for Values {
    fn clone_empty(&self) -> Self {
        Self {
            explicit_row: self.explicit_row,
            value_keyword: self.value_keyword,
            rows: Vec::new(),
        }
    }
}

/// The function that answers the rows.
#[derive(Debug)]
struct Rows(Arc<LiteralRows>);

impl TableFunctionImpl for Rows {
    fn call_with_args(&self, _: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let rows: Arc<dyn TableProvider> = Arc::clone(&self.0) as _;
        Ok(rows)
    }
}

#[async_trait]
impl TableProvider for LiteralRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[DataFusionExpr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = std::slice::from_ref(&self.batches);
        let schema = Arc::clone(&self.schema);
        Ok(MemorySourceConfig::try_new_exec(partitions, schema, projection.cloned())?)
    }
}
