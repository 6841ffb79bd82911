//! What decoding costs: ns a message and a byte, for messages of about 200 bytes, by format and by
//! how many of their fields are wanted. Run with `--release`; it prints and asserts nothing, since
//! the answer is the machine's.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]

use arrow::datatypes::{DataType, Field, TimeUnit};
use storage::env::{Clock, Env};
use tidewater_runtime::decode::{
    csv::{Csv, Header, Source},
    json_flat::JsonFlat,
};

/// Messages of one batch, as a source decodes them.
const BATCH: usize = 4096;
/// Batches decoded, and how often the best of them is looked for.
const BATCHES: usize = 200;

fn main() {
    let clock = Env::real().clock;
    let json: Vec<String> = (0..BATCH).map(json_message).collect();
    let csv: Vec<String> = (0..BATCH).map(csv_message).collect();
    let bigint = || DataType::Int64;
    let time = || DataType::Timestamp(TimeUnit::Microsecond, None);
    let wide: [(&str, DataType); 7] = [
        ("id", bigint()),
        ("k", bigint()),
        ("price", DataType::Float64),
        ("amount", DataType::Decimal128(18, 4)),
        ("ts", time()),
        ("side", DataType::Utf8),
        ("note", DataType::Utf8),
    ];
    let narrow = [("k", bigint()), ("ts", time())];
    for (name, fields) in
        [("all 7 fields", &wide[..]), ("2 of 7 fields", &narrow), ("no field", &[])]
    {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, kind)| (Field::new(*name, kind.clone(), true), (*name).to_owned()))
            .collect();
        let Ok(mut decoder) = JsonFlat::new(&fields) else { return };
        report(&*clock, &format!("json-flat, {name}"), &json, |message| match message {
            Some(message) => decoder.decode(Some(message)).is_ok(),
            None => decoder.finish().is_ok(),
        });
    }
    for (name, positions) in
        [("all 7 fields", vec![0, 1, 2, 3, 4, 5, 6]), ("2 of 7 fields", vec![1, 4])]
    {
        let fields: Vec<_> = positions
            .into_iter()
            .map(|position| {
                let (name, kind) = &wide[position];
                let source = Source { position, name: (*name).to_owned() };
                (Field::new(*name, kind.clone(), true), source)
            })
            .collect();
        let Ok(mut decoder) = Csv::new(&fields, Header::None) else { return };
        report(&*clock, &format!("csv, {name}"), &csv, |message| match message {
            Some(message) => decoder.decode(Some(message)).is_ok(),
            None => decoder.finish().is_ok(),
        });
    }
}

/// Calls `decode` with every message, and with `None` after each batch; prints the best batch.
fn report(
    clock: &dyn Clock,
    name: &str,
    messages: &[String],
    mut decode: impl FnMut(Option<&[u8]>) -> bool,
) {
    let mut best = u64::MAX;
    for _ in 0..BATCHES {
        let start = clock.monotonic_nanos();
        let is_good = messages.iter().all(|message| decode(Some(message.as_bytes())));
        let is_good = is_good && decode(None);
        best = best.min(clock.monotonic_nanos() - start);
        if !is_good {
            println!("{name}: poison");
            return;
        }
    }
    let bytes: usize = messages.iter().map(String::len).sum();
    println!(
        "{name:<26} {:>6.0} ns a message of {:>3} bytes {:>6.2} ns a byte",
        best as f64 / messages.len() as f64,
        bytes / messages.len(),
        best as f64 / bytes as f64
    );
}

fn json_message(n: usize) -> String {
    format!(
        "{{\"id\":{},\"k\":{},\"price\":{}.25,\"amount\":{}.1234,\"ts\":\"2026-11-21T12:{:02}:{:02}.{:03}Z\",\
         \"side\":\"{}\",\"note\":\"customer note of some length, number {:08}, without escapes\"}}",
        1_000_000 + n,
        n % 10_000,
        n % 977,
        n,
        n / 60 % 60,
        n % 60,
        n % 1000,
        if n.is_multiple_of(2) { "buy" } else { "sell" },
        n
    )
}

fn csv_message(n: usize) -> String {
    format!(
        "{},{},{}.25,{}.1234,2026-11-21T12:{:02}:{:02}.{:03}Z,{},\"customer note of some length, number {:08}\"",
        1_000_000 + n,
        n % 10_000,
        n % 977,
        n,
        n / 60 % 60,
        n % 60,
        n % 1000,
        if n.is_multiple_of(2) { "buy" } else { "sell" },
        n
    )
}
