//! The fingerprint of a table's columns: what their arrays look like, and which are the key. Names
//! are left out, so a renamed column still finds its rows; so is what may be null.

use arrow::datatypes::{DataType, TimeUnit};
use xxhash_rust::xxh3::xxh3_64;

use crate::{Error, Result, cluster::control::TableRecord};

/// Which rows fit the table. Kept on disk: a type's code is never given to another.
pub(super) fn of(record: &TableRecord) -> Result<u64> {
    let mut code = Vec::new();
    for field in record.schema.fields() {
        put_type(field.data_type(), &mut code)?;
    }
    code.push(u8::MAX);
    record.key.iter().for_each(|key| code.extend_from_slice(&(*key as u32).to_le_bytes()));
    Ok(xxh3_64(&code))
}

fn put_type(data_type: &DataType, code: &mut Vec<u8>) -> Result<()> {
    match data_type {
        DataType::Boolean => code.push(1),
        DataType::Int8 => code.push(2),
        DataType::Int16 => code.push(3),
        DataType::Int32 => code.push(4),
        DataType::Int64 => code.push(5),
        DataType::Float32 => code.push(6),
        DataType::Float64 => code.push(7),
        DataType::Decimal128(precision, scale) => code.extend([8, *precision, *scale as u8]),
        DataType::Date32 => code.push(9),
        DataType::Time64(unit) => code.extend([10, unit_code(*unit)]),
        DataType::Timestamp(unit, None) => code.extend([11, unit_code(*unit)]),
        // Which zone is only for display.
        DataType::Timestamp(unit, Some(_)) => code.extend([12, unit_code(*unit)]),
        DataType::Interval(_) => code.push(13),
        DataType::Utf8 => code.push(14),
        DataType::Binary => code.push(15),
        DataType::FixedSizeBinary(width) => {
            code.push(16);
            code.extend(width.to_le_bytes());
        }
        DataType::List(item) => {
            code.push(17);
            put_type(item.data_type(), code)?;
        }
        DataType::Struct(fields) => {
            code.push(18);
            code.extend((fields.len() as u32).to_le_bytes());
            for field in fields {
                put_type(field.data_type(), code)?;
            }
        }
        DataType::Map(entries, _) => {
            code.push(19);
            put_type(entries.data_type(), code)?;
        }
        // Only within nested types.
        DataType::Null => code.push(20),
        DataType::UInt8 => code.push(21),
        DataType::UInt16 => code.push(22),
        DataType::UInt32 => code.push(23),
        DataType::UInt64 => code.push(24),
        DataType::LargeUtf8 => code.push(25),
        DataType::Utf8View => code.push(26),
        DataType::LargeBinary => code.push(27),
        DataType::BinaryView => code.push(28),
        other => {
            return Err(Error::Invalid(format!("rows of type {other} cannot be kept on disk")));
        }
    }
    Ok(())
}

fn unit_code(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn fingerprint(columns: &[(&str, DataType)], key: &[usize]) -> u64 {
        let fields =
            columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        of(&TableRecord::new("t", schema, key)).unwrap()
    }

    #[test]
    fn it_heeds_types_and_key_and_no_names() {
        use DataType::{Int32, Int64, Utf8};
        let first = fingerprint(&[("k", Int64), ("v", Utf8)], &[0]);
        assert_eq!(first, fingerprint(&[("a", Int64), ("b", Utf8)], &[0]));
        let list = |item: DataType| DataType::List(Arc::new(Field::new("item", item, true)));
        let others = [
            fingerprint(&[("k", Int64), ("v", Utf8)], &[1]),
            fingerprint(&[("k", Int64), ("v", Utf8)], &[0, 1]),
            fingerprint(&[("v", Utf8), ("k", Int64)], &[0]),
            fingerprint(&[("k", Int32), ("v", Utf8)], &[0]),
            fingerprint(&[("k", Int64)], &[0]),
            fingerprint(&[("k", Int64), ("v", list(Utf8))], &[0]),
            fingerprint(&[("k", Int64), ("v", list(Int64))], &[0]),
            fingerprint(&[("k", Int64), ("v", DataType::Decimal128(10, 2))], &[0]),
            fingerprint(&[("k", Int64), ("v", DataType::Decimal128(10, 3))], &[0]),
        ];
        let mut all: Vec<_> = others.into_iter().chain([first]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 10);
        // Rows are on disk under it.
        assert_eq!(first, PINNED);
    }

    const PINNED: u64 = 14_074_100_355_440_803_903;
}
