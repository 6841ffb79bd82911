//! Tests of the keyed map against a standard map.

use std::{collections::HashMap, sync::Arc};

use arrow::array::{
    Array, ArrayRef, Date32Array, Float64Array, Int16Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use storage::env::Rng;

use super::*;

fn ids(map: &mut KeyedMap, columns: &[ArrayRef]) -> Vec<u32> {
    let mut ids = Vec::new();
    map.ids_of(columns, columns[0].len(), &mut ids).unwrap();
    ids
}

#[test]
fn equal_keys_share_an_id_in_order_of_first_sight() {
    let mut map = KeyedMap::new(&[DataType::Int64], 1).unwrap();
    let column: ArrayRef =
        Arc::new(Int64Array::from(vec![Some(7), None, Some(0), Some(7), None, Some(-1)]));
    assert_eq!(ids(&mut map, &[Arc::clone(&column)]), [0, 1, 2, 0, 1, 3]);
    assert_eq!(&map.columns_of(&[0, 1, 2, 0, 1, 3]).unwrap()[0], &column);
}

#[test]
fn every_integer_type_comes_back_as_it_went_in() {
    let columns: [ArrayRef; 3] = [
        Arc::new(Int16Array::from(vec![Some(-3), None, Some(9)])),
        Arc::new(Date32Array::from(vec![Some(19_000), None, Some(-1)])),
        Arc::new(
            TimestampMicrosecondArray::from(vec![Some(-5), None, Some(i64::MAX)])
                .with_timezone("UTC"),
        ),
    ];
    for column in columns {
        let mut map = KeyedMap::new(&[column.data_type().clone()], 1).unwrap();
        assert_eq!(ids(&mut map, &[Arc::clone(&column)]), [0, 1, 2]);
        assert_eq!(&map.columns_of(&[0, 1, 2]).unwrap()[0], &column);
    }
}

#[test]
fn integer_map_agrees_with_a_std_map_through_growth_and_retain() {
    for seed in 0..4 {
        let rng = Rng::seeded(seed);
        let mut map = KeyedMap::new(&[DataType::Int64], rng.next_u64()).unwrap();
        let mut model: HashMap<i64, u32> = HashMap::new();
        for round in 0..20 {
            let values: Vec<i64> =
                (0..1000).map(|_| (rng.next_u64() % 3000) as i64 * 64 - 5000).collect();
            let column: ArrayRef = Arc::new(Int64Array::from(values.clone()));
            let found = ids(&mut map, &[column]);
            for (value, id) in values.iter().zip(found) {
                let next = model.len() as u32;
                assert_eq!(*model.entry(*value).or_insert(next), id, "key {value}");
            }
            if round % 5 == 4 {
                let new_ids = map.retain(|id| id % 3 != 0);
                model.retain(|_, id| *id % 3 != 0);
                model.values_mut().for_each(|id| *id = new_ids[*id as usize]);
            }
            assert_eq!(map.len(), model.len());
        }
    }
}

#[test]
fn text_and_composite_keys_survive_retain() {
    let types = [DataType::Utf8, DataType::Int64];
    let mut map = KeyedMap::new(&types, 3).unwrap();
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("a"), Some("")]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1), None, Some(1)]));
    let columns = [names, numbers];
    assert_eq!(ids(&mut map, &columns), [0, 1, 2, 3]);
    assert_eq!(map.retain(|id| id != 1), [0, NO_ID, 1, 2]);
    assert_eq!(ids(&mut map, &columns), [0, 3, 1, 2]);
    assert_eq!(map.columns_of(&[0, 3, 1, 2]).unwrap(), columns);
    assert!(map.bytes() > 0);
}

#[test]
fn minus_zero_and_zero_are_one_key_and_all_nan_another() {
    let mut map = KeyedMap::new(&[DataType::Float64], 3).unwrap();
    let column: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]));
    assert_eq!(ids(&mut map, &[column]), [0, 0, 1, 1]);
}

#[test]
fn without_key_columns_all_rows_are_one_group() {
    let mut map = KeyedMap::new(&[], 3).unwrap();
    let mut ids = Vec::new();
    map.ids_of(&[], 3, &mut ids).unwrap();
    assert_eq!((ids, map.len()), (vec![0, 0, 0], 1));
    assert!(map.columns_of(&[0]).unwrap().is_empty());
    map.retain(|_| false);
    assert!(map.is_empty());
}
