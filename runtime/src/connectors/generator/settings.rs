//! `Settings`: the OPTIONS of a Generator mapping, validated; and its declared columns matched
//! against those the kind makes.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::{
    random::Stream,
    schedule::{BASE_TIME, Schedule},
};
use crate::{
    Error, Result,
    connector::MappingRequest,
    connectors::options::{Options, quoted},
};

/// TYPE as users write it.
pub const NAME: &str = "Generator";

const ACCEPTED: [&str; 7] = ["kind", "rate", "event_rate", "count", "keys", "seed", "lag"];
const KINDS: [&str; 2] = ["sequence", "nexmark"];

/// Event time advances so fast, in events a second, when neither `rate` nor `event_rate` says.
const EVENT_RATE_DEFAULT: u64 = 100_000;
/// A rate above this has no meaning: event time counts µs, and products must fit.
const RATE_MAX: u64 = 1_000_000_000;
/// Distinct `k` of a sequence unless `keys` says.
const KEYS_DEFAULT: u64 = 10_000;
/// An event may be at most a day earlier than its turn.
const LAG_MAX: i64 = 86_400_000_000;

/// What is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `id, k, v, ts`.
    Sequence,
    /// Persons, auctions and bids.
    Nexmark,
}

/// The options.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is generated.
    pub kind: Kind,
    /// Events a second of wall clock; `None`: 'max'.
    pub rate: Option<u64>,
    /// Events a second of event time; `None`: event time follows the wall clock.
    pub event_rate: Option<u64>,
    /// Number of events, if it ends.
    pub count: Option<u64>,
    /// Distinct keys of a sequence.
    pub keys: u64,
    /// Of all randomness.
    pub seed: u64,
    /// How far events are out of order, µs.
    pub lag: u64,
}

impl Settings {
    /// Reads and validates OPTIONS.
    pub fn read(options: &BTreeMap<String, String>) -> Result<Self> {
        let options = Options::new(NAME, options);
        options.refuse_unknown(&ACCEPTED)?;
        let kind = match options.get("kind") {
            None => return Err(options.missing("kind", &format!("one of {}", quoted(&KINDS)))),
            Some("sequence") => Kind::Sequence,
            Some("nexmark") => Kind::Nexmark,
            Some(other) => {
                return Err(options.wrong("kind", other, &format!("one of {}", quoted(&KINDS))));
            }
        };
        if kind == Kind::Nexmark
            && let Some(value) = options.get("keys")
        {
            return Err(options.wrong("keys", value, "no such option with 'kind'='nexmark'"));
        }
        let rate = match options.get("rate") {
            None | Some("max") => None,
            Some(_) => Some(rate(&options, "rate")?),
        };
        let event_rate = match options.get("event_rate") {
            None if rate.is_some() => None,
            None => Some(EVENT_RATE_DEFAULT),
            Some(_) => Some(self::rate(&options, "event_rate")?),
        };
        let lag = options.duration("lag", 0)?;
        if lag > LAG_MAX {
            let value = options.get("lag").unwrap_or_default();
            return Err(options.wrong("lag", value, "a duration of at most a day"));
        }
        let count = match options.get("count") {
            None => None,
            Some(_) => Some(options.number("count", 0, 0)?),
        };
        Ok(Self {
            kind,
            rate,
            event_rate,
            count,
            keys: options.number("keys", 1, KEYS_DEFAULT)?.min(i64::MAX as u64),
            seed: options.number("seed", 0, 0)?,
            lag: lag as u64,
        })
    }

    /// When events are due and what their times are; the start is set by the first instance.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            rate: self.rate,
            event_rate: self.event_rate.or(self.rate).unwrap_or(EVENT_RATE_DEFAULT),
            base: self.event_rate.map(|_| BASE_TIME),
            start: 0,
            lag: self.lag,
            delay: Stream::new(self.seed, 0),
        }
    }
}

fn rate(options: &Options, name: &str) -> Result<u64> {
    let rate = options.number(name, 1, 1)?;
    if rate <= RATE_MAX {
        return Ok(rate);
    }
    let value = options.get(name).unwrap_or_default();
    Err(options.wrong(name, value, &format!("at most {RATE_MAX} events a second")))
}

/// The mapping's schema: the kind's own columns, or those declared if each is one of them.
pub fn match_columns(own: &SchemaRef, request: &MappingRequest) -> Result<SchemaRef> {
    let Some(declared) = &request.schema else { return Ok(Arc::clone(own)) };
    for (position, field) in declared.fields().iter().enumerate() {
        let external = request.external_columns.get(position).and_then(Option::as_deref);
        let name = external.unwrap_or(field.name());
        if external.is_some_and(|external| external != field.name()) {
            return Err(Error::Invalid {
                code: "0A000",
                message: format!(
                    "EXTERNAL NAME is not supported for columns of a mapping of type {NAME}"
                ),
            });
        }
        let Ok(known) = own.field_with_name(name) else {
            let names: Vec<&str> = own.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::Invalid {
                code: "42703",
                message: format!(
                    "column \"{name}\" is not made by this generator; it makes {}",
                    names.join(", ")
                ),
            });
        };
        if !is_accepted(known, field.data_type()) {
            return Err(Error::Invalid {
                code: "42804",
                message: format!(
                    "column \"{name}\" of this generator cannot be declared with type {}",
                    field.data_type()
                ),
            });
        }
    }
    let fields: Vec<Field> = declared.fields().iter().map(|field| field.as_ref().clone()).collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// Whether a column the generator makes can come out with type `declared`.
fn is_accepted(own: &Field, declared: &DataType) -> bool {
    let is_timestamp =
        |data_type: &DataType| matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _));
    match own.name().as_str() {
        "ts" => *declared == DataType::Int64 || is_timestamp(declared),
        "date_time" => is_timestamp(declared),
        "event_type" => matches!(declared, DataType::Int32 | DataType::Int64),
        _ => is_same(own.data_type(), declared),
    }
}

/// Whether two types agree, names of struct fields included, nullability not.
fn is_same(own: &DataType, declared: &DataType) -> bool {
    match (own, declared) {
        (DataType::Struct(own), DataType::Struct(declared)) => {
            own.len() == declared.len()
                && own.iter().zip(declared).all(|(own, declared)| {
                    own.name() == declared.name() && is_same(own.data_type(), declared.data_type())
                })
        }
        _ => own == declared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&str, &str)]) -> Result<Settings> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::read(&options)
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        for (options, name) in [
            (vec![], "\"kind\""),
            (vec![("kind", "nexmarc")], "'nexmark'"),
            (vec![("kind", "sequence"), ("rates", "max")], "\"rates\""),
            (vec![("kind", "sequence"), ("rate", "fast")], "\"rate\""),
            (vec![("kind", "sequence"), ("rate", "0")], "\"rate\""),
            (vec![("kind", "sequence"), ("event_rate", "-1")], "\"event_rate\""),
            (vec![("kind", "sequence"), ("keys", "0")], "\"keys\""),
            (vec![("kind", "sequence"), ("count", "many")], "\"count\""),
            (vec![("kind", "sequence"), ("lag", "5")], "\"lag\""),
            (vec![("kind", "nexmark"), ("keys", "5")], "\"keys\""),
        ] {
            match read(&options) {
                Err(Error::Invalid { code: "22023", message }) => {
                    assert!(message.contains(name), "{message}");
                }
                other => panic!("{options:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn event_time_follows_the_wall_clock_only_with_a_rate_of_its_own() {
        let base = |options: &[(&str, &str)]| read(options).unwrap().schedule().base;
        assert_eq!(base(&[("kind", "sequence")]), Some(BASE_TIME));
        assert_eq!(base(&[("kind", "sequence"), ("rate", "100")]), None);
        let fixed = [("kind", "sequence"), ("rate", "100"), ("event_rate", "7")];
        assert_eq!(base(&fixed), Some(BASE_TIME));
    }
}
