//! TableScan: a mapping or generating function becomes its connector's source, a table the scan of
//! its committed rows. Only the columns the query reads are asked for.

use std::{collections::BTreeSet, sync::Arc};

use arrow::array::RecordBatch;
use datafusion::{
    catalog::default_table_source::source_as_provider,
    common::DFSchema,
    logical_expr::{self as df, Expr, utils::conjunction},
    physical_expr::expressions::Column,
};
use runtime::{
    dag::Parallelism,
    processors::{self, ChangesAs, NamedExpr, TableChangesSpec},
};

use super::{Lowering, Stage, fields::StructFields};
use crate::{
    Error, Result,
    catalog::{
        changes::ChangesProvider,
        mapping::{MappingProvider, SourceColumns},
        provider::GridTable,
    },
    rules::literal_rows::LiteralRows,
};

impl Lowering<'_> {
    pub(super) fn scan(&mut self, scan: &df::TableScan) -> Result<Stage> {
        let provider = source_as_provider(&scan.source)?;
        let table_schema = provider.schema();
        let all = || (0..table_schema.fields().len()).collect();
        let wanted: Vec<usize> = scan.projection.clone().unwrap_or_else(all);
        // Columns that only pushed-down filters read follow the wanted ones, and go again.
        let mut read = wanted.clone();
        read.extend(filter_columns(scan, &wanted)?);
        if read.is_empty() {
            read.push(0);
        }
        let stage = if let Some(mapping) = provider.downcast_ref::<MappingProvider>() {
            self.mapping_scan(mapping, read.clone(), self.scan_fields.wanted(scan))?
        } else if let Some(table) = provider.downcast_ref::<GridTable>() {
            let table = table.table();
            let name = format!("scan({})", table.record().name.name);
            let supplier = processors::table_scan(Arc::clone(table), read.clone());
            self.source(&name, Parallelism::Exactly(1), supplier)
        } else if let Some(changes) = provider.downcast_ref::<ChangesProvider>() {
            self.changes_scan(changes, read.clone())
        } else if let Some(rows) = provider.downcast_ref::<LiteralRows>() {
            let batches: Vec<RecordBatch> = rows
                .batches()
                .iter()
                .map(|batch| batch.project(&read))
                .collect::<Result<_, _>>()?;
            let schema = Arc::new(table_schema.project(&read)?);
            self.source("values", Parallelism::Exactly(1), processors::values(batches, schema))
        } else {
            let name = scan.table_name.table();
            let message = format!("\"{name}\" cannot be read by a streaming query or job");
            let detail = "Only tables, mappings and generating functions can.";
            return Err(Error::unsupported(message).with_detail(detail));
        };
        self.filter_scan(stage, scan, &read, wanted.len())
    }

    fn changes_scan(&mut self, changes: &ChangesProvider, projection: Vec<usize>) -> Stage {
        let (table, spec) = (Arc::clone(changes.table()), changes.spec());
        let name = format!("changes({})", table.record().name.name);
        let supplier = processors::table_changes(TableChangesSpec {
            table,
            from: spec.from,
            form: spec.form,
            is_of_job: self.is_of_job,
            projection,
        });
        let is_append_only = spec.form == ChangesAs::Rows;
        let stage = self.source(&name, Parallelism::Exactly(1), supplier);
        Stage { is_unbounded: true, is_append_only, ..stage }
    }

    fn mapping_scan(
        &mut self,
        mapping: &MappingProvider,
        read: Vec<usize>,
        struct_fields: StructFields,
    ) -> Result<Stage> {
        let columns = SourceColumns {
            projection: read,
            struct_fields,
            wants_event_time: self.wants_event_time,
        };
        let (source, event_time) = mapping.source(&columns)?;
        let parallelism = source.parallelism.map_or(Parallelism::Workers, Parallelism::Exactly);
        let name = format!("scan({})", mapping.name());
        let stage = self.source(&name, parallelism, source.supplier);
        Ok(Stage { event_time, is_unbounded: !source.is_bounded, ..stage })
    }

    /// Applies the filters the optimizer moved into the scan.
    fn filter_scan(
        &mut self,
        stage: Stage,
        scan: &df::TableScan,
        read: &[usize],
        wanted_count: usize,
    ) -> Result<Stage> {
        let Some(predicate) = conjunction(scan.filters.iter().cloned()) else { return Ok(stage) };
        let schema = scan.source.schema().project(read)?;
        let schema = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &schema)?;
        let predicate = self.physical(&predicate, &schema)?;
        let stage = self.filtered_by(stage, predicate)?;
        let columns = (0..wanted_count)
            .map(|index| {
                let name = stage.schema.field(index).name().clone();
                NamedExpr { expr: Arc::new(Column::new(&name, index)), name }
            })
            .collect();
        self.project(stage, columns)
    }
}

/// Columns that filters inside the scan read beyond `wanted`.
fn filter_columns(scan: &df::TableScan, wanted: &[usize]) -> Result<BTreeSet<usize>> {
    let schema = scan.source.schema();
    let mut columns = BTreeSet::new();
    for column in scan.filters.iter().flat_map(Expr::column_refs) {
        let index = schema.index_of(&column.name).map_err(|error| {
            Error::new("XX000", format!("filter of a column that is not there: {error}"))
        })?;
        if !wanted.contains(&index) {
            columns.insert(index);
        }
    }
    Ok(columns)
}
