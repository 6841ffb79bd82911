//! Projection and Limit. Two projections in a row become one where that computes nothing
//! twice, and a projection that changes nothing becomes none.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    common::ScalarValue,
    logical_expr::{self as df, Expr},
    physical_expr::{
        PhysicalExpr, ScalarFunctionExpr,
        expressions::{Column, Literal},
    },
};
use runtime::{
    dag::Parallelism,
    processors::{self, NamedExpr},
};

use super::{
    Lowering, Stage,
    expression::{column_index, is_free, literal, named_by, substitute},
    stage::spread,
};
use crate::{Error, Result};

impl Lowering<'_> {
    pub(super) fn projection(&mut self, projection: &df::Projection) -> Result<Stage> {
        let input = self.relation(&projection.input)?;
        let schema = projection.input.schema();
        let mut exprs = Vec::with_capacity(projection.expr.len());
        for (expr, field) in projection.expr.iter().zip(projection.schema.fields()) {
            let expr = self.physical(&expr.clone().unalias(), schema)?;
            let name = extracted_name(&expr).unwrap_or_else(|| field.name().clone());
            exprs.push(NamedExpr { expr, name });
        }
        self.project(input, exprs)
    }

    /// Adds a projection, merged with one below it if that is free.
    pub(super) fn project(&mut self, input: Stage, exprs: Vec<NamedExpr>) -> Result<Stage> {
        // Nothing reads the columns of an empty projection, so they may stay.
        if exprs.is_empty() || is_identity(&exprs, &input) {
            return Ok(input);
        }
        if let Some((below, lower)) = self.projections.get(&input.vertex).cloned()
            && (lower.iter().all(|named| is_free(&named.expr)) || exprs.iter().all(is_column))
            && self.remove_newest(input.vertex)
        {
            let lower: Vec<Arc<dyn PhysicalExpr>> =
                lower.into_iter().map(|named| named.expr).collect();
            let mut merged = Vec::with_capacity(exprs.len());
            for NamedExpr { expr, name } in exprs {
                merged.push(NamedExpr { expr: substitute(&expr, &lower)?, name });
            }
            return self.project(below, merged);
        }
        let exprs: Vec<NamedExpr> = exprs
            .into_iter()
            .map(|named| NamedExpr { expr: named_by(&named.expr, &input.schema), ..named })
            .collect();
        let event_time = input.event_time.and_then(|time| {
            exprs.iter().position(|named| column_index(&named.expr) == Some(time))
        });
        let supplier = processors::project(exprs.clone(), Arc::clone(&input.schema));
        let stage = Stage { event_time, ..self.local("project", &input, supplier) };
        self.projections.insert(stage.vertex, (input, exprs));
        Ok(stage)
    }

    pub(super) fn limit(&mut self, limit: &df::Limit) -> Result<Stage> {
        let offset = row_count(limit.skip.as_deref())?.unwrap_or(0);
        let fetch = row_count(limit.fetch.as_deref())?;
        let input = self.relation(&limit.input)?;
        let supplier = processors::limit(offset, fetch, Arc::clone(&input.schema));
        let one = Parallelism::Exactly(1);
        let routing = spread(input.parallelism, one);
        let stage = self.routed("limit", &input, one, routing, supplier);
        Ok(Stage { is_unbounded: input.is_unbounded && fetch.is_none(), ..stage })
    }
}

/// `bid.price` for the field of a struct that the optimizer has extracted under a made-up name.
fn extracted_name(expr: &Arc<dyn PhysicalExpr>) -> Option<String> {
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    let [column, field] = call.args() else { return None };
    let column = column.downcast_ref::<Column>()?;
    let field = field.downcast_ref::<Literal>()?.value().try_as_str()??;
    (call.name() == "get_field").then(|| format!("{}.{field}", column.name()))
}

fn is_column(named: &NamedExpr) -> bool {
    column_index(&named.expr).is_some()
}

/// Whether the expressions are the input's columns in their order, under their names.
fn is_identity(exprs: &[NamedExpr], input: &Stage) -> bool {
    exprs.len() == input.schema.fields().len()
        && exprs.iter().enumerate().all(|(index, named)| {
            column_index(&named.expr) == Some(index)
                && *input.schema.field(index).name() == named.name
        })
}

/// LIMIT and OFFSET: a constant, NULL for none.
fn row_count(expr: Option<&Expr>) -> Result<Option<u64>> {
    let Some(expr) = expr else { return Ok(None) };
    let Some(value) = literal(expr) else {
        return Err(Error::unsupported("LIMIT and OFFSET of a streaming query must be constants"));
    };
    if value.is_null() {
        return Ok(None);
    }
    match value.cast_to(&DataType::Int64)? {
        ScalarValue::Int64(Some(count)) if count >= 0 => Ok(Some(count as u64)),
        _ => Err(Error::new("2201W", "LIMIT must not be negative")),
    }
}
