//! Poison in every format: what it is called, that it is counted, and that it leaves no row.

use std::collections::BTreeMap;

use arrow::{
    array::AsArray,
    datatypes::{DataType, Field, Int64Type, Schema, TimeUnit},
};

use super::{super::settings::Settings, *};

/// A column of every kind that text is converted to, after the `id` by which rows are known.
fn fields() -> Vec<Field> {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    vec![
        field("id", DataType::Int64),
        field("small", DataType::Int16),
        field("price", DataType::Decimal128(6, 2)),
        field("share", DataType::Float64),
        field("ts", DataType::Timestamp(TimeUnit::Microsecond, None)),
        field("day", DataType::Date32),
        field("flag", DataType::Boolean),
        field("name", DataType::Utf8),
    ]
}

fn reader(options: &[(&str, &str)], fields: Vec<Field>) -> Reader {
    let mut values = BTreeMap::from([("bootstrap.servers".to_owned(), "localhost:1".to_owned())]);
    values.extend(options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    let settings = Settings::read("trades", &values).unwrap();
    let schema = Arc::new(Schema::new(fields));
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let decoder = RowDecoder::new(&settings, &schema, &vec![None; all.len()], &all).unwrap();
    Reader {
        topic: "trades".into(),
        on_error: settings.on_error,
        decoder,
        partitions: vec![Progress::new(0, 0, None, i64::MAX)],
        runs: Vec::new(),
        bytes: 0,
        skipped: Metric::default(),
    }
}

fn record<'a>(offset: i64, key: Option<&'a [u8]>, value: &'a [u8]) -> Message<'a> {
    Message { partition: 0, offset, content: Content::Record { key, value: Some(value) } }
}

/// Key, value and SQLSTATE of a poison message.
type Poisoned<'a> = (Option<&'a [u8]>, &'a [u8], &'a str);

/// Reads `good`, every poison and `good` again: with `on_error = 'skip'` two rows and all poison
/// counted; with `fail` each poison is an error of its code that names its offset, and no row.
#[track_caller]
fn expect_poison(
    options: &[(&str, &str)],
    fields: &[Field],
    good: (Option<&[u8]>, &[u8]),
    poison: &[Poisoned<'_>],
) {
    let skipping: Vec<_> = options.iter().copied().chain([("on_error", "skip")]).collect();
    let mut reader_skips = reader(&skipping, fields.to_vec());
    let texts = poison.iter().map(|(key, value, _)| (*key, *value));
    let all: Vec<_> = [good].into_iter().chain(texts).chain([good]).collect();
    for (offset, (key, value)) in (0..).zip(&all) {
        reader_skips.read(record(offset, *key, value)).unwrap();
    }
    assert_eq!(reader_skips.skipped.get(), poison.len() as i64, "skipped of {options:?}");
    assert_eq!(reader_skips.partitions[0].next, all.len() as i64, "poison counts as read");
    let rows = reader_skips.decoder.finish().unwrap();
    assert_eq!(rows.num_rows(), 2, "{options:?}");
    if let Some(ids) = rows.column(0).as_primitive_opt::<Int64Type>() {
        assert_eq!(ids.values(), &[7, 7], "{options:?}");
    }

    for (key, value, code) in poison {
        let text = String::from_utf8_lossy(value);
        let mut reader = reader(options, fields.to_vec());
        reader.read(record(41, good.0, good.1)).unwrap();
        let Err(Error::User { code: found, message }) = reader.read(record(42, *key, value)) else {
            panic!("{options:?} took {text}");
        };
        assert_eq!(found, *code, "{text}: {message}");
        assert!(message.contains("\"trades\", partition 0, offset 42"), "{message}");
        assert_eq!(reader.decoder.finish().unwrap().num_rows(), 1, "{text}");
    }
}

#[test]
fn poison_in_json() {
    let texts: [(&[u8], &str); 19] = [
        (b"", "22032"),
        (b"not json", "22032"),
        (br#"{"id":7"#, "22032"),
        (br#"{"id":7}}"#, "22032"),
        (br#"{"id":07}"#, "22032"),
        (br#"{"name":"a"#, "22032"),
        (br#"{"other":[1,{"a":}]}"#, "22032"),
        (br#"[7]"#, "22032"),
        (br#"{"id":"x"}"#, "22P02"),
        (br#"{"id":{}}"#, "22P02"),
        (br#"{"id":true}"#, "22P02"),
        (br#"{"id":9223372036854775808}"#, "22003"),
        (br#"{"small":32768}"#, "22003"),
        (br#"{"price":10000}"#, "22003"),
        (br#"{"share":1e400}"#, "22003"),
        (br#"{"ts":"2026-02-30"}"#, "22P02"),
        (br#"{"day":"yesterday"}"#, "22P02"),
        (br#"{"name":"\ud800"}"#, "22P05"),
        (b"{\"name\":\"\xff\"}", "22021"),
    ];
    let poison: Vec<_> = texts.iter().map(|(value, code)| (None, *value, *code)).collect();
    let good: &[u8] =
        br#"{"id":7,"small":-1,"price":1.25,"ts":"2026-11-21T12:00:00Z","flag":true}"#;
    expect_poison(&[("valueFormat", "json-flat")], &fields(), (None, good), &poison);
    let deep = format!("{{\"other\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let deep = [(None, deep.as_bytes(), "54001")];
    expect_poison(&[("valueFormat", "json-flat")], &fields(), (None, good), &deep);
}

#[test]
fn poison_in_csv() {
    let texts: [(&[u8], &str); 10] = [
        (b"", "22P04"),
        (b"7,1", "22P04"),
        (b"x,1,1.25,0.5,2026-11-21,2026-11-21,t,a", "22P02"),
        (b"7,99999,1.25,0.5,2026-11-21,2026-11-21,t,a", "22003"),
        (b"7,1,1.25,0.5,2026-11-21,2026-11-21,t,\"a", "22P04"),
        (b"7,1,1.25,0.5,2026-11-21,2026-11-21,t,\"a\"b", "22P04"),
        (b"7,1,1.25,0.5,2026-11-21,2026-11-21,t,a\"b", "22P04"),
        (b"7,1,1.25,0.5,2026-11-21,2026-11-21,maybe,a", "22P02"),
        (b"7,1,1.25,0.5,2026-11-21,2026-11-21,t,\xff", "22021"),
        // A message of two records is taken or left as a whole.
        (b"7,1,1.25,0.5,2026-11-21,2026-11-21,t,a\nx,1,1,1,,,,", "22P02"),
    ];
    let poison: Vec<_> = texts.iter().map(|(value, code)| (None, *value, *code)).collect();
    let good: &[u8] = b"7,1,1.25,0.5,2026-11-21,2026-11-21,t,\"a, b\"";
    expect_poison(&[("valueFormat", "csv")], &fields(), (None, good), &poison);
}

#[test]
fn poison_in_formats_of_one_value() {
    let this = |data_type| vec![Field::new("this", data_type, true)];
    let (seven, seven_small) = (7_i64.to_be_bytes(), 7_i32.to_be_bytes());
    let poison: [Poisoned; 2] = [(None, b"", "22P02"), (None, b"1234567", "22P02")];
    expect_poison(&[("valueFormat", "bigint")], &this(DataType::Int64), (None, &seven), &poison);
    let int = &this(DataType::Int32);
    expect_poison(&[("valueFormat", "int")], int, (None, &seven_small), &poison);
    let text: [Poisoned; 1] = [(None, b"\xc3\x28", "22021")];
    expect_poison(&[("valueFormat", "varchar")], &this(DataType::Utf8), (None, b"a"), &text);
    let json: [Poisoned; 3] =
        [(None, b"{", "22032"), (None, b"1 2", "22032"), (None, b"\"\xff\"", "22021")];
    expect_poison(&[("valueFormat", "json")], &this(DataType::Utf8), (None, b"[1]"), &json);
}

#[test]
fn poison_in_the_key_takes_the_value_back() {
    let fields =
        [Field::new("id", DataType::Int64, true), Field::new("__key", DataType::Int64, true)];
    let (key, good): (&[u8], &[u8]) = (&7_i64.to_be_bytes(), br#"{"id":7}"#);
    let poison = [(Some(&b"short"[..]), good, "22P02"), (Some(key), &b"{"[..], "22032")];
    let options = [("valueFormat", "json-flat"), ("keyFormat", "bigint")];
    expect_poison(&options, &fields, (Some(key), good), &poison);
}

#[test]
fn raw_bytes_are_never_poison() {
    let this = vec![Field::new("this", DataType::Binary, true)];
    let mut reader = reader(&[("valueFormat", "raw")], this);
    for (offset, value) in (0..).zip([&b""[..], b"\xff\x00", b"{"]) {
        reader.read(record(offset, None, value)).unwrap();
    }
    let rows = reader.decoder.finish().unwrap();
    assert_eq!(rows.column(0).as_binary::<i32>().value(1), b"\xff\x00");
}
