//! What is written reads back equal, for every format, over all types, NULLs included.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
        Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, StringArray,
        Time64MicrosecondArray, TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use storage::env::Rng;

use super::*;
use crate::{connectors::kafka::format::RowDecoder, decode::column::TYPE_KEY};

const ROWS: usize = 40;
const SEEDS: u64 = 60;

fn settings(options: &[(&str, &str)]) -> Settings {
    let mut all = BTreeMap::from([("bootstrap.servers".to_owned(), "nowhere:1".to_owned())]);
    all.extend(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Settings::read("topic", &all).unwrap()
}

/// Values, a third of them NULL.
struct Draw(Rng);

impl Draw {
    fn below(&self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    fn some<T>(&self, value: impl Fn(u64) -> T) -> Vec<Option<T>> {
        let one = |_| (self.below(3) > 0).then(|| value(self.0.next_u64()));
        (0..ROWS).map(one).collect()
    }

    /// Numbers of all lengths, both ends included.
    fn integer(&self, bits: u64) -> i64 {
        match bits % 8 {
            0 => i64::MAX,
            1 => i64::MIN,
            _ => (bits as i64) >> (bits % 64),
        }
    }

    fn text(&self) -> String {
        const PIECES: [&str; 14] =
            ["", "a", "\"", "\\", ",", "\n", "\r\n", "\t", "é", "💧", " ", "null", "\u{1}", "{}"];
        (0..self.below(5)).map(|_| PIECES[self.below(14) as usize]).collect()
    }

    fn array(&self, data_type: &DataType, is_json: bool) -> ArrayRef {
        let micros = |bits: u64| (bits % 315_537_897_600_000_000) as i64 - 62_135_596_800_000_000;
        match data_type {
            DataType::Boolean => {
                Arc::new(BooleanArray::from(self.some(|bits: u64| bits.is_multiple_of(2))))
            }
            DataType::Int16 => Arc::new(Int16Array::from(self.some(|bits| bits as i16))),
            DataType::Int32 => Arc::new(Int32Array::from(self.some(|bits| bits as i32))),
            DataType::Int64 => Arc::new(Int64Array::from(self.some(|bits| self.integer(bits)))),
            DataType::Float32 => {
                let value = |bits: u64| f32::from_bits(bits as u32);
                let number = |bits| if value(bits).is_nan() { f32::NAN } else { value(bits) };
                Arc::new(Float32Array::from(self.some(number)))
            }
            DataType::Float64 => {
                let value = |bits: u64| f64::from_bits(bits);
                let number = |bits| if value(bits).is_nan() { f64::INFINITY } else { value(bits) };
                Arc::new(Float64Array::from(self.some(number)))
            }
            DataType::Decimal128(precision, _) => {
                let limit = 10_i128.pow(u32::from(*precision));
                let values = self.some(|bits| i128::from(bits as i64) * 7_919_777 % limit);
                let values = Decimal128Array::from(values);
                Arc::new(values.with_data_type(data_type.clone()))
            }
            DataType::Utf8 if is_json => {
                const DOCUMENTS: [&str; 4] = [r#"{"a":[1,"x\n"]}"#, "17", r#""s""#, "false"];
                let document = |bits: u64| DOCUMENTS[(bits % 4) as usize].to_owned();
                Arc::new(StringArray::from(self.some(document)))
            }
            DataType::Utf8 => Arc::new(StringArray::from(self.some(|_| self.text()))),
            DataType::Binary => {
                let values = self.some(|bits| bits.to_le_bytes()[..(bits % 9) as usize].to_vec());
                Arc::new(values.iter().map(Option::as_deref).collect::<BinaryArray>())
            }
            DataType::Date32 => Arc::new(Date32Array::from(
                self.some(|bits| micros(bits).div_euclid(86_400_000_000) as i32),
            )),
            DataType::Time64(_) => Arc::new(Time64MicrosecondArray::from(
                self.some(|bits| (bits % 86_400_000_000) as i64),
            )),
            DataType::Timestamp(..) => {
                let values = TimestampMicrosecondArray::from(self.some(micros));
                Arc::new(values.with_data_type(data_type.clone()))
            }
            DataType::FixedSizeBinary(width) => {
                let values = self.some(|bits| [bits.to_le_bytes(), bits.to_be_bytes()].concat());
                let values = values.into_iter();
                let array = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, *width);
                Arc::new(array.unwrap())
            }
            other => panic!("{other}"),
        }
    }
}

fn all_types() -> Vec<(DataType, bool)> {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let plain = [
        DataType::Boolean,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(38, 18),
        DataType::Decimal128(10, 2),
        DataType::Utf8,
        DataType::Date32,
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Microsecond, None),
        instant,
        DataType::FixedSizeBinary(16),
    ];
    plain.into_iter().map(|plain| (plain, false)).chain([(DataType::Utf8, true)]).collect()
}

fn field(name: &str, (data_type, is_json): &(DataType, bool)) -> Field {
    let field = Field::new(name, data_type.clone(), true);
    match is_json {
        true => field.with_metadata([(TYPE_KEY.to_owned(), "json".to_owned())].into()),
        false => field,
    }
}

/// Writes and reads columns under their external names, for many seeds.
fn round_trip(options: &[(&str, &str)], columns: &[(&str, (DataType, bool))]) {
    let settings = settings(options);
    let fields: Vec<Field> =
        columns.iter().enumerate().map(|(n, (_, kind))| field(&format!("c{n}"), kind)).collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let external: Vec<Option<String>> =
        columns.iter().map(|(name, _)| Some((*name).to_owned())).collect();
    let encoder = RowEncoder::new(&settings, &schema, &external).unwrap();
    let all: Vec<usize> = (0..columns.len()).collect();
    let mut decoder = RowDecoder::new(&settings, &schema, &external, &all).unwrap();
    let mut messages = Messages::default();
    for seed in 0..SEEDS {
        let draw = Draw(Rng::seeded(seed));
        let arrays = columns.iter().map(|(_, kind)| draw.array(&kind.0, kind.1)).collect();
        let rows = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
        messages.clear();
        encoder.encode(&rows, &mut messages).unwrap();
        assert_eq!(messages.len(), ROWS);
        for message in 0..messages.len() {
            let (key, value) = messages.get(message);
            decoder.decode(key, value).unwrap_or_else(|poison| {
                panic!("seed {seed}: {poison:?} in {:?}", value.map(String::from_utf8_lossy))
            });
        }
        let read = decoder.finish().unwrap();
        for (written, read) in rows.columns().iter().zip(read.columns()) {
            assert_eq!(written, read, "seed {seed}, {options:?}");
        }
    }
}

#[test]
fn fields_of_json_and_csv_read_back_equal() {
    let names: Vec<String> = (0..all_types().len()).map(|n| format!("field \"{n}\",")).collect();
    let columns: Vec<_> = names.iter().map(String::as_str).zip(all_types()).collect();
    round_trip(&[("valueFormat", "json-flat")], &columns);
    round_trip(&[("valueFormat", "csv")], &columns);
    round_trip(&[("valueFormat", "csv"), ("header", "true")], &columns);
    for kind in all_types() {
        for format in [&[("valueFormat", "csv")][..], &[("valueFormat", "csv"), ("header", "true")]]
        {
            round_trip(format, &[("x", kind.clone())]);
        }
    }
}

#[test]
fn keys_and_whole_values_read_back_equal() {
    let plain = |data_type| (data_type, false);
    let bytes = plain(DataType::Binary);
    round_trip(&[("valueFormat", "raw")], &[("this", bytes.clone())]);
    round_trip(
        &[("valueFormat", "raw"), ("keyFormat", "raw")],
        &[("__key", bytes.clone()), ("this", bytes)],
    );
    for kind in all_types() {
        round_trip(&[("valueFormat", "varchar")], &[("this", kind.clone())]);
        round_trip(&[("valueFormat", "raw")], &[("this", kind)]);
    }
    round_trip(&[("valueFormat", "json")], &[("this", (DataType::Utf8, true))]);
    round_trip(&[("valueFormat", "json")], &[("this", plain(DataType::Int64))]);
    round_trip(
        &[("valueFormat", "bigint"), ("keyFormat", "int")],
        &[("this", plain(DataType::Int64)), ("__key", plain(DataType::Int32))],
    );
    round_trip(
        &[("valueFormat", "json-flat"), ("keyFormat", "json-flat")],
        &[
            ("__key.a", plain(DataType::Utf8)),
            ("b", plain(DataType::Int64)),
            ("__key.c", plain(DataType::Int64)),
            ("this.d", plain(DataType::Utf8)),
        ],
    );
}

#[test]
fn what_could_not_be_read_back_is_refused() {
    let encode = |format: &str, data_type: DataType, array: ArrayRef| {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("this", data_type, true)]));
        let external = match format {
            "json-flat" | "csv" => Some("x".to_owned()),
            _ => None,
        };
        let settings = settings(&[("valueFormat", format)]);
        let encoder = RowEncoder::new(&settings, &schema, &[external])?;
        let rows = RecordBatch::try_new(schema, vec![array])?;
        encoder.encode(&rows, &mut Messages::default())
    };
    let code = |result: Result<()>| result.unwrap_err().sqlstate();
    let bytes = || -> ArrayRef { Arc::new(BinaryArray::from(vec![&b"x"[..]])) };
    assert_eq!(code(encode("json-flat", DataType::Binary, bytes())), "0A000");
    assert_eq!(code(encode("csv", DataType::Binary, bytes())), "0A000");
    let text = || -> ArrayRef { Arc::new(StringArray::from(vec!["{oops"])) };
    assert_eq!(code(encode("json", DataType::Utf8, text())), "22032");
    assert_eq!(code(encode("int", DataType::Utf8, text())), "0A000");
    let large: ArrayRef = Arc::new(Int64Array::from(vec![1 << 40]));
    assert_eq!(code(encode("int", DataType::Int64, large)), "22003");
    let late: ArrayRef = Arc::new(Date32Array::from(vec![2_932_897]));
    assert_eq!(code(encode("json-flat", DataType::Date32, late)), "22008");
}
