//! One value of each type through the whole encoder, in both formats, from arrays and from keyed
//! values: the two must agree byte for byte.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
        Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray,
        ListArray, StringArray, StringViewArray, StructArray, Time64MicrosecondArray,
        TimestampMicrosecondArray, TimestampNanosecondArray,
    },
    datatypes::{DataType, Field, Int64Type, IntervalMonthDayNano},
};
use storage::Datum;

use super::*;
use crate::wire::types::datum::data_row;

fn column(sql_type: SqlType) -> Vec<OutputColumn> {
    vec![OutputColumn::computed("c", sql_type)]
}

/// The value of a one-column DataRow frame.
fn value(frame: &[u8]) -> &[u8] {
    assert_eq!((frame[0], &frame[5..7]), (b'D', &[0, 1][..]));
    assert_eq!(u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize, frame.len() - 1);
    &frame[11..]
}

fn encoded(array: &ArrayRef, sql_type: &SqlType, format: Format) -> Vec<u8> {
    let encoder = RowEncoder::new(&column(sql_type.clone()), &[format], TimeZone::Utc).unwrap();
    let batch = RecordBatch::try_from_iter([("c", ArrayRef::clone(array))]).unwrap();
    let arrays = encoder.normalise(&batch).unwrap();
    let mut out = BytesMut::new();
    encoder.data_rows(&arrays, 0..1, &mut out).unwrap();
    value(&out).to_vec()
}

fn text(array: ArrayRef, sql_type: SqlType) -> String {
    String::from_utf8(encoded(&array, &sql_type, Format::Text)).unwrap()
}

fn scalars() -> Vec<(SqlType, ArrayRef, Datum, &'static str)> {
    let interval = IntervalMonthDayNano::new(1, 2, 3_000_000_000);
    let id: Vec<u8> = (0..16).collect();
    let uuid = FixedSizeBinaryArray::try_from_iter([id.clone()].iter()).unwrap();
    let numeric = Decimal128Array::from(vec![-12_345]).with_precision_and_scale(10, 2).unwrap();
    let zoned = TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC");
    let text = |text: &str| Datum::Text(text.to_owned());
    vec![
        (SqlType::Bool, Arc::new(BooleanArray::from(vec![true])), Datum::Bool(true), "t"),
        (SqlType::Int2, Arc::new(Int16Array::from(vec![-2])), Datum::Int(-2), "-2"),
        (SqlType::Int4, Arc::new(Int32Array::from(vec![70_000])), Datum::Int(70_000), "70000"),
        (
            SqlType::Int8,
            Arc::new(Int64Array::from(vec![1 << 40])),
            Datum::Int(1 << 40),
            "1099511627776",
        ),
        (
            SqlType::Float4,
            Arc::new(Float32Array::from(vec![0.1])),
            Datum::Float(f64::from(0.1f32)),
            "0.1",
        ),
        (SqlType::Float8, Arc::new(Float64Array::from(vec![1e100])), Datum::Float(1e100), "1e+100"),
        (SqlType::Numeric(10, 2), Arc::new(numeric), Datum::Decimal(-12_345), "-123.45"),
        (SqlType::Text, Arc::new(StringArray::from(vec!["ä"])), text("ä"), "ä"),
        (SqlType::Jsonb, Arc::new(StringArray::from(vec!["{}"])), text("{}"), "{}"),
        (
            SqlType::Bytea,
            Arc::new(BinaryArray::from(vec![&[1u8, 255][..]])),
            Datum::Bytes(vec![1, 255]),
            "\\x01ff",
        ),
        (
            SqlType::Date,
            Arc::new(Date32Array::from(vec![10_957])),
            Datum::Int(10_957),
            "2000-01-01",
        ),
        (
            SqlType::Time,
            Arc::new(Time64MicrosecondArray::from(vec![1_000_001])),
            Datum::Int(1_000_001),
            "00:00:01.000001",
        ),
        (
            SqlType::Timestamp,
            Arc::new(TimestampMicrosecondArray::from(vec![0])),
            Datum::Int(0),
            "1970-01-01 00:00:00",
        ),
        (SqlType::Timestamptz, Arc::new(zoned), Datum::Int(1), "1970-01-01 00:00:00.000001+00"),
        (
            SqlType::Interval,
            Arc::new(IntervalMonthDayNanoArray::from(vec![interval])),
            Datum::Interval(1, 2, 3_000_000_000),
            "1 mon 2 days 00:00:03",
        ),
        (SqlType::Uuid, Arc::new(uuid), Datum::Bytes(id), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
    ]
}

#[test]
fn arrays_and_keyed_values_give_the_same_bytes() {
    for (sql_type, array, datum, shown) in scalars() {
        assert_eq!(text(ArrayRef::clone(&array), sql_type.clone()), shown);
        for format in [Format::Text, Format::Binary] {
            let mut out = BytesMut::new();
            let columns = column(sql_type.clone());
            data_row(std::slice::from_ref(&datum), &columns, &[format], &TimeZone::Utc, &mut out)
                .unwrap();
            assert_eq!(value(&out), encoded(&array, &sql_type, format), "{sql_type:?} {format:?}");
        }
    }
}

#[test]
fn what_is_sent_in_binary_is_read_back_the_same() {
    use crate::wire::types::parameter::decode;
    for (sql_type, array, datum, shown) in scalars() {
        for format in [Format::Text, Format::Binary] {
            let bytes = encoded(&array, &sql_type, format);
            let read = decode(&bytes, &sql_type, format, &TimeZone::Utc).unwrap();
            assert_eq!(read, datum, "{shown} {format:?}");
        }
    }
}

#[test]
fn arrays_of_arrays_go_out_as_dimensions_and_ragged_lists_do_not() {
    use crate::wire::types::parameter::decode;
    let inner = SqlType::Array(Box::new(SqlType::Int4));
    let outer = SqlType::Array(Box::new(inner));
    let read = |bytes: &[u8], format| decode(bytes, &outer, format, &TimeZone::Utc).unwrap();
    let columns = column(outer.clone());
    let sent = |value: &Datum, format| {
        let mut out = BytesMut::new();
        let row = std::slice::from_ref(value);
        data_row(row, &columns, &[format], &TimeZone::Utc, &mut out).map(|()| out)
    };
    let rectangular = read(b"{{1,2},{3,NULL}}", Format::Text);
    let bytes = sent(&rectangular, Format::Binary).unwrap();
    assert_eq!(value(&bytes)[..4], [0, 0, 0, 2], "two dimensions");
    assert_eq!(read(value(&bytes), Format::Binary), rectangular);
    let ragged = read(b"{{1},{2,3}}", Format::Text);
    assert_eq!(value(&sent(&ragged, Format::Text).unwrap()), b"{{1},{2,3}}");
    assert_eq!(sent(&ragged, Format::Binary).unwrap_err().code, "0A000");
    let empty = read(b"{}", Format::Text);
    let bytes = sent(&empty, Format::Binary).unwrap();
    assert_eq!(read(value(&bytes), Format::Binary), empty);
}

#[test]
fn lists_and_records_quote_as_postgres_does() {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None])]);
    let sql_type = SqlType::Array(Box::new(SqlType::Int8));
    assert_eq!(text(Arc::new(list), sql_type), "{1,NULL}");
    let words = ["a", "b c", "", "null", "q\"\\"].map(Some);
    let words: ArrayRef = Arc::new(StringArray::from(words.to_vec()));
    let field = Arc::new(Field::new("item", DataType::Utf8, true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([5]);
    let list = ListArray::new(field, offsets, ArrayRef::clone(&words), None);
    let sql_type = SqlType::Array(Box::new(SqlType::Text));
    assert_eq!(text(Arc::new(list), sql_type), r#"{a,"b c","","null","q\"\\"}"#);
    let record = StructArray::from(vec![
        (
            Arc::new(Field::new("n", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![None])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("s", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec!["a,\"b"])) as ArrayRef,
        ),
    ]);
    let fields = vec![("n".to_owned(), SqlType::Int8), ("s".to_owned(), SqlType::Text)];
    assert_eq!(text(Arc::new(record), SqlType::Struct(fields)), r#"(,"a,""b")"#);
}

#[test]
fn other_arrow_forms_are_cast_once_a_batch() {
    let view: ArrayRef = Arc::new(StringViewArray::from(vec!["v"]));
    assert_eq!(text(view, SqlType::Text), "v");
    let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_000]));
    assert_eq!(text(nanos, SqlType::Timestamp), "1970-01-01 00:00:00.000001");
}

#[test]
fn formats_must_fit_the_columns() {
    let columns = column(SqlType::Int8);
    let formats = [Format::Text, Format::Binary];
    assert_eq!(RowEncoder::new(&columns, &formats, TimeZone::Utc).unwrap_err().code, "08P01");
}
