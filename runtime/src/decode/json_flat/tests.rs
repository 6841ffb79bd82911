//! Tests of the flat JSON decoder, random and damaged documents against serde_json.

use arrow::{
    array::{Array, AsArray},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimeUnit,
        TimestampMicrosecondType,
    },
};
use serde_json::{Map, Value, json};

use super::*;
use crate::connectors::generator::random::Sequence;

fn decoder(fields: &[(&str, DataType)]) -> JsonFlat {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, data_type)| (Field::new(*name, data_type.clone(), true), (*name).to_owned()))
        .collect();
    JsonFlat::new(&fields).unwrap()
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

#[test]
fn fields_go_to_their_columns_in_any_order_and_missing_ones_are_null() {
    let mut decoder = decoder(&[("a", DataType::Int64), ("b", DataType::Utf8)]);
    for message in [
        r#"{"a":1,"x":[1,{"a":9}],"b":"one"}"#,
        r#" { "b" : "two" , "a" : 2.0e0 } "#,
        r#"{"b":null}"#,
        r#"{}"#,
        r#"{"a":3,"a":4,"b":"q\"\\\/\b\f\n\r\t\u00e4\ud83d\ude00"}"#,
        r#"{"\u0061":5,"b":{"deep": [true]}}"#,
        r#"{"a":"6","b":7.50}"#,
    ] {
        decoder.decode(Some(message.as_bytes())).unwrap();
    }
    decoder.decode(None).unwrap();
    let columns = decoder.finish().unwrap();
    let numbers: Vec<_> = columns[0].as_primitive::<Int64Type>().iter().collect();
    assert_eq!(numbers, [Some(1), Some(2), None, None, Some(4), Some(5), Some(6), None]);
    let texts: Vec<_> = columns[1].as_string::<i32>().iter().collect();
    let escaped = "q\"\\/\u{8}\u{c}\n\r\tä😀";
    let nested = r#"{"deep": [true]}"#;
    assert_eq!(
        texts,
        [Some("one"), Some("two"), None, None, Some(escaped), Some(nested), Some("7.50"), None]
    );
}

#[test]
fn every_type_is_read_from_its_json() {
    let mut decoder = decoder(&[
        ("i", DataType::Int32),
        ("d", DataType::Float64),
        ("n", DataType::Decimal128(10, 2)),
        ("f", DataType::Boolean),
        ("t", timestamp()),
        ("m", timestamp()),
        ("y", DataType::Date32),
        ("u", DataType::FixedSizeBinary(16)),
    ]);
    let message = br#"{"i":-5,"d":1.25e2,"n":3.14159,"f":true,"t":"2026-07-31T12:00:00+02:00",
        "m":1000,"y":"1970-02-01","u":"00000000-0000-0000-0000-0000000000ff"}"#;
    decoder.decode(Some(message)).unwrap();
    let columns = decoder.finish().unwrap();
    assert_eq!(columns[0].as_primitive::<Int32Type>().value(0), -5);
    assert_eq!(columns[1].as_primitive::<Float64Type>().value(0), 125.0);
    assert_eq!(columns[2].as_primitive::<Decimal128Type>().value(0), 314);
    assert!(columns[3].as_boolean().value(0));
    let times = columns[4].as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.value(0), 1_785_492_000_000_000);
    assert_eq!(columns[5].as_primitive::<TimestampMicrosecondType>().value(0), 1_000_000);
    assert_eq!(columns[6].as_primitive::<Date32Type>().value(0), 31);
    assert_eq!(columns[7].as_fixed_size_binary().value(0)[15], 255);
}

#[test]
fn json_columns_keep_the_text_of_any_value() {
    let metadata = [(super::super::column::TYPE_KEY.to_owned(), "json".to_owned())];
    let field = Field::new("j", DataType::Utf8, true).with_metadata(metadata.into());
    let mut decoder = JsonFlat::new(&[(field, "j".to_owned())]).unwrap();
    for message in [r#"{"j":"a\n"}"#, r#"{"j":{"b": 1}}"#, r#"{"j":false}"#, r#"{"j":1.0}"#] {
        decoder.decode(Some(message.as_bytes())).unwrap();
    }
    let columns = decoder.finish().unwrap();
    let texts: Vec<_> = columns[0].as_string::<i32>().iter().flatten().collect();
    assert_eq!(texts, [r#""a\n""#, r#"{"b": 1}"#, "false", "1.0"]);
}

#[test]
fn poison_leaves_no_trace_and_says_where_it_is() {
    let mut decoder = decoder(&[("a", DataType::Int64), ("b", DataType::Int32)]);
    for (message, code, word) in [
        (&br#"{"a":1,"b":"x"}"#[..], "22P02", "\"b\""),
        (br#"{"a":1,"b":2147483648}"#, "22003", "\"b\""),
        (br#"{"a":1.5,"b":2}"#, "22P02", "\"a\""),
        (br#"{"a":1,"b":[2]}"#, "22P02", "\"b\""),
        (br#"{"a":1,"b":2"#, "22032", "the end"),
        (br#"{"a":1,"b":2}}"#, "22032", "byte 13"),
        (br#"[1,2]"#, "22032", "an object"),
        (b"", "22032", "an object"),
        (b"{\"a\":\"\xff\"}", "22021", "byte 6"),
        (br#"{"a":01}"#, "22032", "comma"),
        (b"{\"x\":\"a\nb\"}", "22032", "control"),
        (br#"{"x":"\ud800"}"#, "", ""),
        (br#"{"a":1,}"#, "22032", "field name"),
        (br#"{"x":[1,2}"#, "22032", "comma"),
        (br#"{"x":tru}"#, "22032", "a value"),
    ] {
        match decoder.decode(Some(message)) {
            Err(poison) => {
                assert_eq!(poison.code, code, "{poison:?}");
                assert!(poison.reason.contains(word), "{poison:?}");
            }
            Ok(()) => assert_eq!(code, "", "skipped fields are not decoded: {message:?}"),
        }
    }
    decoder.decode(Some(br#"{"a":7,"b":8}"#)).unwrap();
    let columns = decoder.finish().unwrap();
    // One row of the skipped surrogate, all NULL, and the good one.
    assert_eq!(columns[0].len(), 2);
    assert_eq!(columns[1].as_primitive::<Int32Type>().value(1), 8);
}

#[test]
fn nesting_is_limited_not_recursive() {
    let mut decoder = decoder(&[("a", DataType::Int64)]);
    let deep =
        |levels: usize| format!("{{\"x\":{}{}, \"a\":1}}", "[".repeat(levels), "]".repeat(levels));
    decoder.decode(Some(deep(128).as_bytes())).unwrap();
    let poison = decoder.decode(Some(deep(129).as_bytes())).unwrap_err();
    assert_eq!(poison.code, "54001");
    assert_eq!(decoder.decode(Some(deep(1_000_000).as_bytes())).unwrap_err().code, "54001");
}

/// A random document; objects get small names so that they meet the columns.
fn random_value(random: &mut Sequence, depth: usize) -> Value {
    match random.below(if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 => json!(random.draw() as i64 >> random.below(63)),
        3 => json!(f64::from(random.draw() as i32) / 64.0),
        4 => {
            let characters = ['a', 'é', '"', '\\', '\n', '\u{1}', '😀', '/', ' ', 'z'];
            let text = (0..random.below(30)).map(|_| characters[random.below(10) as usize]);
            json!(text.collect::<String>())
        }
        5 => (0..random.below(4)).map(|_| random_value(random, depth - 1)).collect(),
        _ => Value::Object(random_object(random, depth - 1)),
    }
}

fn random_object(random: &mut Sequence, depth: usize) -> Map<String, Value> {
    let names = ["a", "b", "c", "name", "namé", "x\"y", ""];
    (0..random.below(6))
        .map(|_| (names[random.below(7) as usize].to_owned(), random_value(random, depth)))
        .collect()
}

#[test]
fn random_documents_decode_as_serde_reads_them() {
    let mut random = Sequence::new(42);
    let mut decoder = decoder(&[("a", DataType::Utf8), ("name", DataType::Utf8)]);
    for _ in 0..5_000 {
        let document = random_object(&mut random, 3);
        let text = match random.below(2) == 0 {
            true => serde_json::to_string(&document).unwrap(),
            false => serde_json::to_string_pretty(&document).unwrap(),
        };
        decoder.decode(Some(text.as_bytes())).unwrap_or_else(|poison| panic!("{text}: {poison:?}"));
        let columns = decoder.finish().unwrap();
        for (name, column) in ["a", "name"].iter().zip(&columns) {
            let column = column.as_string::<i32>();
            let found = column.is_valid(0).then(|| column.value(0));
            match document.get(*name) {
                None | Some(Value::Null) => assert_eq!(found, None),
                Some(Value::String(expected)) => assert_eq!(found, Some(expected.as_str())),
                Some(expected) => {
                    let found: Value = serde_json::from_str(found.unwrap()).unwrap();
                    assert_eq!(&found, expected);
                }
            }
        }
    }
}

#[test]
fn damaged_documents_are_poison_exactly_when_serde_says_so() {
    let mut random = Sequence::new(7);
    let mut decoder = decoder(&[("none of these", DataType::Utf8)]);
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut bytes = serde_json::to_vec(&random_object(&mut random, 3)).unwrap();
        for _ in 0..1 + random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(3) {
                0 => bytes[at] = random.draw() as u8,
                1 => drop(bytes.drain(at..)),
                _ => bytes.insert(at, b"{}[]\",:\\0e-.tn "[random.below(15) as usize]),
            }
            if bytes.is_empty() {
                bytes.push(b'{');
            }
        }
        let expected = serde_json::from_slice::<Map<String, Value>>(&bytes);
        let found = decoder.decode(Some(&bytes));
        let text = String::from_utf8_lossy(&bytes);
        // Surrogates of texts that are skipped, and numbers beyond a double, are not looked at.
        let is_unread = |error: &serde_json::Error| {
            let message = error.to_string();
            message.contains("surrogate")
                || message.contains("hex escape")
                || message.contains("number out of range")
        };
        match (&expected, &found) {
            (Ok(_), Ok(())) => {}
            (Err(_), Err(_)) => refused += 1,
            (Err(error), Ok(())) => assert!(is_unread(error), "{text}: {error}"),
            (Ok(_), Err(poison)) => panic!("{text}: {poison:?}"),
        }
    }
    assert!(refused > 5_000, "the damage must be real: {refused}");
    decoder.finish().unwrap();
}
