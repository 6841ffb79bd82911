//! Bounds of arrays. Ours always begin at 1, so an upper bound is a length; what PostgreSQL says of
//! an empty array or of a dimension that is not there is NULL.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int32Array, ListArray},
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF},
};

use super::{
    error::user_error,
    function::{Function, TypeRule, answer, array_argument},
};

const BOUND: TypeRule = |types| match types {
    [DataType::List(_), dimension] if dimension.is_integer() => Ok(DataType::Int32),
    _ => Err(user_error("42883", "function array bound (array, integer) does not exist")),
};

/// All functions of this family.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        Function::new("array_upper", BOUND, |args| bound(args, |length| length)).build(),
        Function::new("array_lower", BOUND, |args| bound(args, |_| 1)).build(),
    ]
}

/// A bound of the dimension asked for, made of its length.
fn bound(args: &ScalarFunctionArgs, of_length: fn(i32) -> i32) -> Result<ColumnarValue> {
    let (lists, dimensions) = (array_argument(args, 0)?, array_argument(args, 1)?);
    let dimensions = cast(&dimensions, &DataType::Int64)?;
    let dimensions = dimensions.as_primitive::<Int64Type>();
    let lists = lists.as_list::<i32>();
    let bounds: Int32Array = (0..lists.len())
        .map(|row| {
            let is_known = lists.is_valid(row) && dimensions.is_valid(row);
            let length = is_known.then(|| length(lists, row, dimensions.value(row))).flatten()?;
            Some(of_length(length))
        })
        .collect();
    let bounds: ArrayRef = Arc::new(bounds);
    answer(args, bounds)
}

/// The length of dimension `dimension` (1 is the outermost); `None` without elements.
fn length(lists: &ListArray, row: usize, dimension: i64) -> Option<i32> {
    let length = lists.value_length(row);
    match dimension {
        1 if length > 0 => Some(length),
        // Arrays are rectangular: the first inner one tells for all.
        2.. if length > 0 => {
            let inner = lists.value(row);
            let inner = inner.as_list_opt::<i32>()?;
            inner.is_valid(0).then(|| self::length(inner, 0, dimension - 1)).flatten()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::value_of;

    #[test]
    fn bounds_are_those_of_arrays_that_begin_at_one() {
        assert_eq!(value_of("SELECT array_upper(ARRAY[7, 8, 9], 1)"), "3");
        assert_eq!(value_of("SELECT array_lower(ARRAY[7, 8, 9], 1)"), "1");
        assert_eq!(value_of("SELECT array_upper(ARRAY[ARRAY[1, 2], ARRAY[3, 4]], 2)"), "2");
        assert_eq!(value_of("SELECT array_upper(ARRAY[7], 2) IS NULL"), "true");
        assert_eq!(value_of("SELECT array_upper('{}'::int[], 1) IS NULL"), "true");
    }
}
