//! Functions about the server rather than about data: types of expressions, random ids, pauses.
//! `pg_typeof` is answered from the plan; nothing looks at a value.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, FixedSizeBinaryBuilder},
    datatypes::DataType,
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF},
    scalar::ScalarValue,
};

use super::{
    function::{Body, Function},
    session::{facts, text_value},
};
use crate::SqlType;

/// All functions of this family.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let nothing =
        |_: &ScalarFunctionArgs| Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(String::new()))));
    let mut functions = vec![
        Function::new("pg_typeof", |_| Ok(DataType::Utf8), pg_typeof).build(),
        Function::new("gen_random_uuid", |_| Ok(DataType::FixedSizeBinary(16)), gen_random_uuid)
            .volatile()
            .build(),
        // No advisory lock can be taken, so none is held.
        Function::new("pg_advisory_unlock_all", |_| Ok(DataType::Utf8), nothing).volatile().build(),
    ];
    // For the tests of what a bug in a function does to its query and to everybody else.
    if cfg!(debug_assertions) {
        let bug: Body = |_| panic!("a test asked for this");
        functions
            .push(Function::new("debug_panic", |_| Ok(DataType::Int64), bug).volatile().build());
    }
    functions
}

/// The SQL name of the argument's type.
fn pg_typeof(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let name = match SqlType::of_field(&args.arg_fields[0]) {
        SqlType::Unknown => "unknown".to_owned(),
        SqlType::Numeric(..) | SqlType::NumericAny | SqlType::NumericAvg => "numeric".to_owned(),
        SqlType::Varchar(_) => "character varying".to_owned(),
        SqlType::Bpchar(_) => "character".to_owned(),
        other => other.name(),
    };
    Ok(text_value(&name))
}

/// Version 4: random but for the six bits that say so.
fn gen_random_uuid(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let rng = &facts(args)?.env.rng;
    let mut builder = FixedSizeBinaryBuilder::with_capacity(args.number_rows, 16);
    for _ in 0..args.number_rows {
        let mut bytes = [0u8; 16];
        bytes[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
        bytes[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        builder.append_value(bytes)?;
    }
    let ids: ArrayRef = Arc::new(builder.finish());
    Ok(ColumnarValue::Array(ids))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{rows_of, value_of};

    #[test]
    fn types_have_their_sql_names() {
        assert_eq!(value_of("SELECT pg_typeof(1)"), "integer");
        assert_eq!(value_of("SELECT pg_typeof(2147483648)"), "bigint");
        assert_eq!(value_of("SELECT pg_typeof(1.5)"), "numeric");
        assert_eq!(value_of("SELECT pg_typeof(1 + 1.5)"), "numeric");
        assert_eq!(value_of("SELECT pg_typeof(now())"), "timestamp with time zone");
        assert_eq!(value_of("SELECT pg_typeof(sum(1))"), "bigint");
    }

    #[test]
    fn random_ids_differ() {
        let rows = rows_of("SELECT gen_random_uuid() FROM (VALUES (1), (2)) x");
        assert_eq!(rows.len(), 2);
        assert_ne!(rows[0], rows[1]);
    }
}
