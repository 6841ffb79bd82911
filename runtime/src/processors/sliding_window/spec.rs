//! `SlidingWindowSpec`: a windowed aggregation as the planner asks for it, and its supplier.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::{alignment::Alignment, window::SlidingWindow};
use crate::{
    Error, Result,
    processor::{Processor, ProcessorSupplier},
    processors::{
        accumulators::{Aggregate, AggregateFunction, AggregateSpec},
        operator::{OperatorSupplier, Stateful, columns_text},
    },
    time::EventTime,
};

/// A tumbling (`slide == size`) or hopping window, aggregated by key, final at the watermark.
/// Output: keys, `window_start`, `window_end` (Timestamp µs of the time column's zone),
/// aggregates, in this order.
#[derive(Debug, Clone)]
pub struct SlidingWindowSpec {
    /// Input schema.
    pub input: SchemaRef,
    /// Position of the time column in the input; µs timestamps, with or without zone.
    pub time_column: usize,
    /// Window length, µs, > 0.
    pub size: EventTime,
    /// Distance of window starts, µs, > 0; any slide, not only divisors of `size`.
    pub slide: EventTime,
    /// Added to the alignment at the epoch, µs.
    pub offset: EventTime,
    /// Key columns; the input edge is partitioned by them.
    pub keys: Vec<usize>,
    /// Output names of the key columns.
    pub key_names: Vec<String>,
    /// Aggregates; may be empty (DISTINCT keys).
    pub aggregates: Vec<AggregateSpec>,
    /// Whether the input never retracts a row. Then min and max keep one value for a key and pane
    /// and refuse a weight below zero; else they keep a multiset.
    pub is_append_only: bool,
}

/// What a window processor needs of its spec, checked.
pub(super) struct WindowPlan {
    pub(super) spec: SlidingWindowSpec,
    pub(super) alignment: Alignment,
    pub(super) aggregates: Vec<Aggregate>,
    pub(super) output: SchemaRef,
}

/// Windowed aggregation; see [`SlidingWindowSpec`].
pub fn sliding_window(spec: SlidingWindowSpec) -> Arc<dyn ProcessorSupplier> {
    let state = state_text(&spec);
    let supplier = OperatorSupplier {
        description: description(&spec),
        schema: output_schema(&spec),
        make: move || {
            let plan = WindowPlan::new(&spec)?;
            Ok(Box::new(SlidingWindow::new(plan)?) as Box<dyn Processor>)
        },
    };
    Arc::new(Stateful { supplier, state })
}

impl WindowPlan {
    pub(super) fn new(spec: &SlidingWindowSpec) -> Result<Self> {
        let time = spec.input.field(spec.time_column).data_type();
        if !matches!(time, DataType::Timestamp(TimeUnit::Microsecond, _)) {
            return Err(Error::Internal(format!("time column of type {time}")));
        }
        let aggregates = spec
            .aggregates
            .iter()
            .map(|aggregate| Aggregate::new(aggregate, &spec.input, spec.is_append_only))
            .collect::<Result<Vec<_>>>()?;
        for aggregate in &aggregates {
            // Whether its result type can be made is known before the first row.
            aggregate.finish(&aggregate.result_columns()?, &[], &[])?;
        }
        Ok(Self {
            spec: spec.clone(),
            alignment: Alignment::new(spec.size, spec.slide, spec.offset)?,
            aggregates,
            output: output_schema(spec),
        })
    }

    /// (aggregate, column) of every state column that is a multiset.
    pub(super) fn multiset_positions(&self) -> Vec<(usize, usize)> {
        let aggregates = self.aggregates.iter().enumerate();
        aggregates.filter(|(_, a)| a.is_multiset()).map(|(position, _)| (position, 0)).collect()
    }

    /// Types of the key columns.
    pub(super) fn key_types(&self) -> Vec<DataType> {
        let key = |&key: &usize| self.spec.input.field(key).data_type().clone();
        self.spec.keys.iter().map(key).collect()
    }
}

fn output_schema(spec: &SlidingWindowSpec) -> SchemaRef {
    let keys = spec.keys.iter().zip(&spec.key_names).map(|(&key, name)| {
        let field = spec.input.field(key);
        field.clone().with_name(name)
    });
    let time = spec.input.field(spec.time_column).data_type();
    let bounds = ["window_start", "window_end"].map(|name| Field::new(name, time.clone(), false));
    let aggregates = spec.aggregates.iter().map(|aggregate| {
        let is_count =
            matches!(aggregate.function, AggregateFunction::CountStar | AggregateFunction::Count);
        Field::new(&aggregate.name, aggregate.result_type.clone(), !is_count)
    });
    Arc::new(Schema::new(keys.chain(bounds).chain(aggregates).collect::<Vec<_>>()))
}

/// What a saved state is one of: panes, keys and aggregates with their types, but not where in the
/// input they are.
fn state_text(spec: &SlidingWindowSpec) -> String {
    let key = |(&key, name): (&usize, &String)| {
        Arc::new(spec.input.field(key).clone().with_name(unqualified(name)))
    };
    let keys: Vec<_> = spec.keys.iter().zip(&spec.key_names).map(key).collect();
    let aggregate = |aggregate: &AggregateSpec| {
        let argument = aggregate.argument.as_ref().and_then(|argument| {
            let data_type = argument.data_type(&spec.input).ok()?;
            Some(format!(" of {data_type}"))
        });
        format!("{}{}", unqualified(&aggregate.to_string()), argument.unwrap_or_default())
    };
    let aggregates: Vec<_> = spec.aggregates.iter().map(aggregate).collect();
    let time = spec.input.field(spec.time_column);
    let extremes = if spec.is_append_only { "" } else { " with retractions" };
    format!(
        "{} of {} {} by {}: {}{extremes}",
        shape(spec),
        unqualified(time.name()),
        time.data_type(),
        columns_text(&keys),
        aggregates.join(", ")
    )
}

/// An expression without the names of relations and the positions of columns: `sum(s.v@2)` is
/// `sum(v)`. Only ever compared with others that were made so.
fn unqualified(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut result = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '@' => while rest.next_if(char::is_ascii_digit).is_some() {},
            '.' if rest.peek().is_some_and(|next| next.is_alphabetic() || *next == '_') => {
                let start = result.rfind(|c| !is_word(c)).map_or(0, |at| at + 1);
                result.truncate(start);
            }
            c => result.push(c),
        }
    }
    result
}

/// `hop(window 10 s, slide 500 ms) by [k] count(*)`.
fn description(spec: &SlidingWindowSpec) -> String {
    let mut text = shape(spec);
    if !spec.key_names.is_empty() {
        text += &format!(" by [{}]", spec.key_names.join(", "));
    }
    let aggregates: Vec<_> = spec.aggregates.iter().map(ToString::to_string).collect();
    if !aggregates.is_empty() {
        text += " ";
        text += &aggregates.join(", ");
    }
    text
}

/// `hop(window 10 s, slide 500 ms)`.
fn shape(spec: &SlidingWindowSpec) -> String {
    let mut text = if spec.size == spec.slide {
        format!("tumble(window {}", duration(spec.size))
    } else {
        format!("hop(window {}, slide {}", duration(spec.size), duration(spec.slide))
    };
    if spec.offset != 0 {
        text += &format!(", offset {}", duration(spec.offset));
    }
    text += ")";
    text
}

/// In the largest unit that needs no fraction.
fn duration(micros: i64) -> String {
    let units = [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min")];
    let units = units.into_iter().chain([(1_000_000, "s"), (1000, "ms"), (1, "µs")]);
    for (length, unit) in units {
        if micros % length == 0 {
            return format!("{} {unit}", micros / length);
        }
    }
    format!("{micros} µs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_state_means_does_not_depend_on_where_a_column_is() {
        assert_eq!(unqualified("sum(s.v@2)"), "sum(v)");
        assert_eq!(
            unqualified("count(distinct public.s.v@12) filter (where s.v > 1.5)@3"),
            "count(distinct v) filter (where v > 1.5)"
        );
        assert_eq!(unqualified("v@1"), "v");
    }
}
