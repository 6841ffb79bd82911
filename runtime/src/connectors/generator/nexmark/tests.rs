//! Tests of the Nexmark generator: proportions, ranges, and that an event is its number's alone.

use std::collections::BTreeSet;

use arrow::{
    array::AsArray,
    datatypes::{Int32Type, Int64Type, TimestampMicrosecondType},
};

use super::{super::settings::Settings, *};

fn schedule() -> Schedule {
    let options = BTreeMap::from([("kind".to_owned(), "nexmark".to_owned())]);
    Settings::read(&options).unwrap().schedule()
}

fn rows(first: u64, length: usize, seed: u64) -> RecordBatch {
    let mut rows = NexmarkRows::new(schema(), &BTreeMap::new(), seed).unwrap();
    rows.batch(&schedule(), first, length).unwrap()
}

fn longs<'a>(batch: &'a RecordBatch, record: &str, field: &str) -> &'a Int64Array {
    let record = batch.column_by_name(record).unwrap().as_struct();
    record.column_by_name(field).unwrap().as_primitive::<Int64Type>()
}

#[test]
fn any_cut_of_the_numbers_makes_the_same_rows() {
    let whole = rows(0, 1000, 9);
    for (first, length) in [(0, 1), (1, 3), (49, 2), (50, 1), (3, 400), (499, 501)] {
        assert_eq!(rows(first as u64, length, 9), whole.slice(first, length));
    }
    assert_ne!(rows(0, 1000, 8), whole);
}

#[test]
fn kinds_are_one_three_fortysix_and_others_are_null() {
    let batch = rows(0, 5000, 1);
    let kinds = batch.column(0).as_primitive::<Int32Type>();
    let mut counts = [0; 3];
    for row in 0..batch.num_rows() {
        let kind = kinds.value(row) as usize;
        counts[kind] += 1;
        for record in 0..3 {
            let column = batch.column(1 + record).as_struct();
            assert_eq!(column.is_valid(row), record == kind);
            assert!(column.columns().iter().all(|child| child.is_valid(row) == (record == kind)));
        }
    }
    assert_eq!(counts, [100, 300, 4600]);
}

#[test]
fn ids_count_up_and_references_are_recent() {
    let batch = rows(100_000, 5000, 1);
    let ids = |record| longs(&batch, record, "id").iter().flatten().collect::<Vec<i64>>();
    assert_eq!(ids("person"), (3000..3100).collect::<Vec<_>>());
    assert_eq!(ids("auction"), (7000..7300).collect::<Vec<_>>());
    let bidders = longs(&batch, "bid", "bidder").iter().flatten().collect::<Vec<_>>();
    assert!(bidders.iter().all(|bidder| (2000..=3110).contains(bidder)));
    let auctions = longs(&batch, "bid", "auction").iter().flatten().collect::<Vec<_>>();
    assert!(auctions.iter().all(|auction| (6900..=7310).contains(auction)));
    let hot = auctions.iter().filter(|auction| *auction % 100 == 0).count();
    assert!((2200..2600).contains(&hot), "half of the bids go to the hot auction: {hot}");
}

#[test]
fn prices_are_log_uniform() {
    let batch = rows(0, 100_000, 5);
    let prices = longs(&batch, "bid", "price").iter().flatten().collect::<Vec<_>>();
    assert!(prices.iter().all(|price| (100..=100_000_000).contains(price)));
    for power in 3..8 {
        let below = prices.iter().filter(|price| **price < 10_i64.pow(power)).count();
        let share = below as f64 / prices.len() as f64;
        let expected = f64::from(power - 2) / 6.0;
        assert!((share - expected).abs() < 0.01, "10^{power}: {share} instead of {expected}");
    }
}

#[test]
fn the_table_of_powers_ends_where_it_should() {
    let prices = model::Prices::new();
    assert_eq!(prices.at(0), 100);
    assert_eq!(prices.at(u64::MAX), 100_000_000);
    assert_eq!(prices.at(1 << 63), 100_000);
}

#[test]
fn texts_look_like_what_they_are() {
    let batch = rows(0, 50_000, 3);
    let texts = |record: &str, field: &str| -> Vec<String> {
        let record = batch.column_by_name(record).unwrap().as_struct();
        let column = record.column_by_name(field).unwrap().as_string::<i32>();
        column.iter().flatten().map(str::to_owned).collect()
    };
    assert!(texts("person", "credit_card").iter().all(|card| card.len() == 19));
    assert!(texts("person", "email_address").iter().all(|mail| mail.ends_with(".com")));
    assert_eq!(texts("person", "state").iter().collect::<BTreeSet<_>>().len(), 6);
    assert_eq!(texts("person", "city").iter().collect::<BTreeSet<_>>().len(), 10);
    let channels = texts("bid", "channel");
    let hot = channels.iter().filter(|name| !name.starts_with("channel-")).count();
    assert!((22_000..24_000).contains(&hot), "half of 46 000 bids are from hot channels: {hot}");
    let urls = texts("bid", "url");
    let with_id = urls.iter().filter(|url| url.contains("&channel_id=")).count();
    assert!((19_500..21_900).contains(&with_id), "nine of ten others have an id: {with_id}");
    for (channel, field, size) in [("bid", "extra", 54..=82), ("auction", "extra", 250..=533)] {
        assert!(texts(channel, field).iter().all(|extra| size.contains(&extra.len())));
    }
}

#[test]
fn auctions_expire_after_they_begin() {
    let batch = rows(0, 10_000, 3);
    let auctions = batch.column_by_name("auction").unwrap().as_struct();
    let time = |name| {
        let column = auctions.column_by_name(name).unwrap();
        column.as_primitive::<TimestampMicrosecondType>().iter().flatten().collect::<Vec<_>>()
    };
    let lengths: Vec<i64> =
        time("expires").iter().zip(time("date_time")).map(|(end, begin)| end - begin).collect();
    // 100 auctions take 1666 events, 16 ms at 100 000 a second.
    assert!(lengths.iter().all(|length| (1_000..=33_000).contains(length)));
}

#[test]
fn children_nobody_reads_are_null_and_the_others_unchanged() {
    let whole = rows(0, 1000, 9);
    let schema = Arc::new(schema().project(&[3]).unwrap());
    let wanted = BTreeMap::from([(0, vec![0, 2])]);
    let mut rows = NexmarkRows::new(schema, &wanted, 9).unwrap();
    assert_eq!(rows.batch_rows(), BLOCK_ROWS);
    let batch = rows.batch(&schedule(), 0, 1000).unwrap();
    for (position, child) in batch.column(0).as_struct().columns().iter().enumerate() {
        if [0, 2].contains(&position) {
            assert_eq!(child, whole.column(3).as_struct().column(position));
        } else {
            assert_eq!(child.null_count(), 1000);
        }
    }
}
