//! Stream ⋈ table by the table's full key → a lookup join: each row finds the table's row of that
//! moment. INNER, and LEFT with the stream on the side that is kept.
//!
//! ```text
//! Join(s.k = t.k, t.b > s.a)          project: s.*, t.*
//!   s …                        ──→      lookup(t): key = k, residual = b > a
//!   Filter(c = 1)                         s …
//!     TableScan t
//! ```
//! Conditions on the table's side become part of the residual: they decide what matches. Of the
//! table only the columns that the plan or a condition reads are fetched, and none that the stream
//! already has: a matched key equals the stream's.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::{
    catalog::default_table_source::source_as_provider,
    common::{DFSchema, JoinType},
    logical_expr::{self as df, Expr, LogicalPlan, Operator},
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, CastExpr, Column, TryCastExpr},
        utils::collect_columns,
    },
};
use runtime::processors::{self, LookupJoinSpec, NamedExpr};
use storage::Table;

use super::{
    Lowering, Stage,
    expression::{column_index, named_by, substitute},
    window::carry_down,
};
use crate::{Error, Result, catalog::provider::GridTable};

type Physical = Arc<dyn PhysicalExpr>;
/// Two expressions that must be equal: over the stream, and over the table's columns.
type Compared = (Physical, Physical);

/// The side of a join that is a table.
struct TableSide<'a> {
    plan: &'a LogicalPlan,
    table: Arc<Table>,
    /// Table column behind each column of the side's plan.
    columns: Vec<usize>,
    /// Conditions over the table's columns.
    predicates: Vec<Physical>,
}

/// What a lookup brings out of the table, and where each column of it is found in the output.
struct Fetched {
    /// Columns of the stream.
    stream_count: usize,
    /// Table columns that are fetched, in order.
    columns: Vec<usize>,
    /// Table columns that the stream has: table column, stream column.
    known: Vec<(usize, usize)>,
}

impl Lowering<'_> {
    pub(super) fn join(&mut self, join: &df::Join) -> Result<Stage> {
        let (stream_plan, table_plan, is_swapped) = match join.join_type {
            JoinType::Inner if is_table(&join.right) => (&join.left, &join.right, false),
            JoinType::Inner if is_table(&join.left) => (&join.right, &join.left, true),
            JoinType::Left => (&join.left, &join.right, false),
            JoinType::Right => (&join.right, &join.left, true),
            _ => return Err(no_lookup()),
        };
        let Some(side) = self.table_side(table_plan)? else { return Err(no_lookup()) };
        let stream = self.relation(stream_plan)?;
        let is_left = join.join_type != JoinType::Inner;
        let (keys, compared) = self.keys_and_residual(join, &side, stream_plan, is_swapped)?;
        let fetched = side.fetched(&stream.schema, &keys, &compared, is_left);
        let mut residual = Vec::new();
        for (of_stream, of_table) in compared {
            residual.push(binary(of_stream, Operator::Eq, fetched.over_output(&of_table)?));
        }
        for predicate in &side.predicates {
            residual.push(fetched.over_output(predicate)?);
        }
        if let Some(filter) = &join.filter {
            residual.push(self.join_filter(filter, join, &side, is_swapped, &fetched)?);
        }
        let output = fetched.output(&stream.schema, &side, is_left);
        let residual = residual.into_iter().reduce(|a, b| binary(a, Operator::And, b));
        let spec = LookupJoinSpec {
            input: Arc::clone(&stream.schema),
            table: Arc::clone(&side.table),
            keys,
            table_columns: fetched.columns.clone(),
            residual: residual.map(|condition| named_by(&condition, &output)),
            output,
            is_left,
        };
        let name = format!("lookup({})", side.table.record().name.name);
        let supplier = processors::lookup_join(spec);
        let stage = self.local(&name, &stream, supplier);
        self.join_output(stage, &side, &fetched, is_swapped)
    }

    /// The table a side of a join reads; `None` if it is something else.
    fn table_side<'a>(&self, plan: &'a LogicalPlan) -> Result<Option<TableSide<'a>>> {
        let columns = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let is_scan = |plan: &LogicalPlan| matches!(plan, LogicalPlan::TableScan(_));
        let Some(carried) = carry_down(plan, columns, is_scan)? else { return Ok(None) };
        let LogicalPlan::TableScan(scan) = carried.plan else { return Ok(None) };
        let provider = source_as_provider(&scan.source)?;
        let Some(table) = provider.downcast_ref::<GridTable>() else { return Ok(None) };
        let schema = scan.source.schema();
        let schema = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &schema)?;
        let mut columns = Vec::with_capacity(carried.exprs.len());
        for expr in &carried.exprs {
            let Expr::Column(column) = expr else {
                let message = "an expression over the table's columns below a stream–table join";
                return Err(Error::unsupported(message));
            };
            columns.push(schema.index_of_column(column)?);
        }
        let mut predicates = Vec::new();
        for predicate in carried.predicates.iter().chain(&scan.filters) {
            predicates.push(self.physical(predicate, &schema)?);
        }
        Ok(Some(TableSide { plan, table: Arc::clone(table.table()), columns, predicates }))
    }

    /// For each key column the stream's expression it equals; and the other equalities: the
    /// stream's expression and that over the table's columns.
    fn keys_and_residual(
        &self,
        join: &df::Join,
        side: &TableSide,
        stream_plan: &LogicalPlan,
        is_swapped: bool,
    ) -> Result<(Vec<Physical>, Vec<Compared>)> {
        let record = side.table.record();
        let mut keys: Vec<Option<Physical>> = vec![None; record.key.len()];
        let mut residual = Vec::new();
        for (left, right) in &join.on {
            let (of_stream, of_table) = if is_swapped { (right, left) } else { (left, right) };
            let stream = self.physical(of_stream, stream_plan.schema())?;
            let table = side.over_table(&self.physical(of_table, side.plan.schema())?)?;
            match key_match(&stream, &table, side) {
                Some((position, key)) if keys[position].is_none() => keys[position] = Some(key),
                _ => residual.push((stream, table)),
            }
        }
        match keys.into_iter().collect() {
            Some(keys) => Ok((keys, residual)),
            None => Err(partial_key(side)),
        }
    }

    /// The ON condition that is no equality, over the lookup's output.
    fn join_filter(
        &self,
        filter: &Expr,
        join: &df::Join,
        side: &TableSide,
        is_swapped: bool,
        fetched: &Fetched,
    ) -> Result<Physical> {
        let schema = join.left.schema().join(join.right.schema())?;
        let predicate = self.physical(filter, &schema)?;
        let stream = (0..fetched.stream_count).map(column);
        let table = side.columns.iter().map(|index| column(fetched.position(*index)));
        let columns: Vec<Physical> =
            if is_swapped { table.chain(stream).collect() } else { stream.chain(table).collect() };
        substitute(&predicate, &columns)
    }

    /// The join's columns, in its order, out of the lookup's.
    fn join_output(
        &mut self,
        stage: Stage,
        side: &TableSide,
        fetched: &Fetched,
        is_swapped: bool,
    ) -> Result<Stage> {
        let stream = 0..fetched.stream_count;
        let table = side.columns.iter().map(|index| fetched.position(*index));
        let positions: Vec<usize> =
            if is_swapped { table.chain(stream).collect() } else { stream.chain(table).collect() };
        let exprs = positions
            .into_iter()
            .map(|index| {
                let name = stage.schema.field(index).name().clone();
                NamedExpr { expr: Arc::new(Column::new(&name, index)), name }
            })
            .collect();
        self.project(stage, exprs)
    }
}

impl TableSide<'_> {
    /// An expression over the side's plan, over the table's own columns.
    fn over_table(&self, expr: &Physical) -> Result<Physical> {
        let columns: Vec<Physical> = self.columns.iter().map(|index| column(*index)).collect();
        substitute(expr, &columns)
    }

    /// What must be fetched. Without a match a LEFT join has NULL where the stream has a key, so it
    /// fetches keys, too.
    fn fetched(
        &self,
        stream: &SchemaRef,
        keys: &[Physical],
        compared: &[Compared],
        is_left: bool,
    ) -> Fetched {
        let record = self.table.record();
        let mut known = Vec::new();
        for (key, of_stream) in record.key.iter().zip(keys) {
            let Some(index) = column_index(of_stream).filter(|_| !is_left) else { continue };
            let key_type = record.schema.field(*key).data_type();
            // Equal floats need not be the same: -0.0 finds 0.0.
            if stream.field(index).data_type() == key_type && !key_type.is_floating() {
                known.push((*key, index));
            }
        }
        let conditions = self.predicates.iter().chain(compared.iter().map(|(_, table)| table));
        let read = conditions.flat_map(collect_columns);
        let mut columns: Vec<usize> = read.map(|column| column.index()).collect();
        columns.extend(&self.columns);
        columns.sort_unstable();
        columns.dedup();
        columns.retain(|column| known.iter().all(|(key, _)| key != column));
        Fetched { stream_count: stream.fields().len(), columns, known }
    }
}

impl Fetched {
    /// Where a table column stands in the lookup's output.
    fn position(&self, table_column: usize) -> usize {
        if let Some((_, stream_column)) = self.known.iter().find(|(key, _)| *key == table_column) {
            return *stream_column;
        }
        let index = self.columns.iter().position(|column| *column == table_column);
        // Every column that is asked for was counted in `fetched`.
        self.stream_count + index.unwrap_or(self.columns.len())
    }

    /// An expression over the table's columns, over the lookup's output.
    fn over_output(&self, expr: &Physical) -> Result<Physical> {
        let end = collect_columns(expr).iter().map(|column| column.index() + 1).max().unwrap_or(0);
        let columns: Vec<Physical> = (0..end).map(|index| column(self.position(index))).collect();
        substitute(expr, &columns)
    }

    /// The stream's columns, then the fetched ones; null without a match if `is_left`.
    fn output(&self, stream: &SchemaRef, side: &TableSide, is_left: bool) -> SchemaRef {
        let schema = &side.table.record().schema;
        let table = self.columns.iter().map(|index| {
            let field = schema.field(*index);
            Arc::new(Field::clone(field).with_nullable(field.is_nullable() || is_left))
        });
        let fields: Vec<_> = stream.fields().iter().cloned().chain(table).collect();
        Arc::new(Schema::new(fields))
    }
}

fn is_table(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => source_as_provider(&scan.source)
            .is_ok_and(|provider| provider.downcast_ref::<GridTable>().is_some()),
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) | LogicalPlan::Filter(_) => {
            plan.inputs().into_iter().all(is_table)
        }
        _ => false,
    }
}

/// The key column that `table` is, and the stream's expression in its type. A key that the type
/// rules widened is compared in its own width: a value that does not fit matches nothing.
fn key_match(stream: &Physical, table: &Physical, side: &TableSide) -> Option<(usize, Physical)> {
    let record = side.table.record();
    let (index, is_widened) = match (column_index(table), table.downcast_ref::<CastExpr>()) {
        (Some(index), _) => (index, false),
        (None, Some(cast)) => (column_index(cast.expr())?, true),
        _ => return None,
    };
    let position = record.key.iter().position(|key| *key == index)?;
    if !is_widened {
        return Some((position, Arc::clone(stream)));
    }
    let key_type = record.schema.field(index).data_type();
    if !key_type.is_integer() {
        return None;
    }
    let narrowed = TryCastExpr::new(Arc::clone(stream), DataType::clone(key_type));
    Some((position, Arc::new(narrowed)))
}

fn column(index: usize) -> Physical {
    Arc::new(Column::new("", index))
}

fn binary(left: Physical, operator: Operator, right: Physical) -> Physical {
    Arc::new(BinaryExpr::new(left, operator, right))
}

fn no_lookup() -> Error {
    let hint = "One side of the join must be a table, and ON must name its whole key.";
    Error::unsupported("a stream can only be joined with a table, by the table's key")
        .with_hint(hint)
}

fn partial_key(side: &TableSide) -> Error {
    let record = side.table.record();
    let name = &record.name.name;
    let message = format!("a stream joins table \"{name}\" by its whole key");
    if record.has_hidden_key {
        return Error::unsupported(message).with_hint("The table has no PRIMARY KEY.");
    }
    let keys: Vec<&str> =
        record.key.iter().map(|key| record.schema.field(*key).name().as_str()).collect();
    let hint = format!("Compare every key column with ON: {}.", keys.join(", "));
    Error::unsupported(message).with_hint(hint)
}
