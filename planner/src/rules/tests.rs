//! Claims about PostgreSQL's semantics over whole queries, on a bare DataFusion session.

use std::sync::Arc;

use arrow::{
    array::{Int32Array, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use datafusion::execution::context::SessionContext;

use crate::functions::testing::{context, error_in, error_of, rows_in, rows_of, run_in, value_of};

/// `t(k INTEGER, b BIGINT, s TEXT)` with two rows.
fn with_table() -> SessionContext {
    let schema = Schema::new(vec![
        Field::new("k", DataType::Int32, true),
        Field::new("b", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
    ]);
    let batch = RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(Int32Array::from(vec![0, 2])),
            Arc::new(Int64Array::from(vec![i64::MAX, 1])),
            Arc::new(StringArray::from(vec!["0", "x"])),
        ],
    );
    let context = context();
    context.register_batch("t", batch.unwrap()).unwrap();
    context
}

fn type_of(sql: &str) -> DataType {
    run_in(&with_table(), sql).unwrap()[0].schema().field(0).data_type().clone()
}

#[test]
fn literals_overflow_instead_of_wrapping() {
    assert_eq!(error_of("SELECT 2147483647 + 1"), "22003 integer out of range");
    assert_eq!(error_of("SELECT 9223372036854775807 + 1"), "22003 bigint out of range");
    assert_eq!(error_of("SELECT -(-2147483648)"), "22003 integer out of range");
    assert_eq!(value_of("SELECT 2147483648 + 1"), "2147483649");
    assert_eq!(error_of("SELECT 1 / 0"), "22012 division by zero");
    assert_eq!(error_of("SELECT 1.0 / 0"), "22012 division by zero");
    assert_eq!(error_of("SELECT 1::double precision / 0"), "22012 division by zero");
    assert_eq!(value_of("SELECT 7 / -2"), "-3");
    assert_eq!(error_of("SELECT abs(-2147483648)"), "22003 integer out of range");
}

#[test]
fn columns_overflow_instead_of_wrapping() {
    let t = with_table();
    assert_eq!(error_in(&t, "SELECT b + 1 FROM t"), "22003 bigint out of range");
    assert_eq!(
        error_in(&t, "SELECT sum(b) + 9223372036854775807::bigint, b * b FROM t GROUP BY b"),
        "22003 bigint out of range"
    );
    assert_eq!(error_in(&t, "SELECT 10 / k FROM t"), "22012 division by zero");
}

#[test]
fn results_have_postgres_types() {
    assert_eq!(type_of("SELECT k + 1 FROM t"), DataType::Int32);
    assert_eq!(type_of("SELECT k + b FROM t WHERE k = 2"), DataType::Int64);
    assert_eq!(type_of("SELECT k + 1.5 FROM t"), DataType::Decimal128(12, 1));
    assert_eq!(type_of("SELECT sum(k) FROM t"), DataType::Int64);
    assert_eq!(type_of("SELECT sum(b) FROM t"), DataType::Decimal128(38, 0));
    assert_eq!(type_of("SELECT avg(k) FROM t"), DataType::Decimal128(38, 16));
    assert_eq!(type_of("SELECT count(*) FROM t"), DataType::Int64);
}

#[test]
fn sums_and_averages_are_exact() {
    let t = with_table();
    assert_eq!(rows_in(&t, "SELECT sum(b), sum(k) FROM t"), ["9223372036854775808|2"]);
    assert_eq!(
        rows_in(&t, "SELECT avg(k), avg(k + 1) FROM t"),
        ["1.0000000000000000|2.0000000000000000"]
    );
    assert_eq!(rows_in(&t, "SELECT sum(k) FROM t WHERE k > 9"), ["NULL"]);
    assert_eq!(
        rows_in(&t, "SELECT k, sum(b) FROM t GROUP BY k ORDER BY k"),
        ["0|9223372036854775807", "2|1"]
    );
    assert_eq!(rows_in(&t, "SELECT sum(DISTINCT k), count(DISTINCT s) FROM t"), ["2|2"]);
    assert_eq!(
        rows_in(
            &t,
            "SELECT sum(k) OVER (ORDER BY k ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t ORDER BY 1"
        ),
        ["0", "2"]
    );
}

#[test]
fn string_literals_take_the_type_they_meet() {
    let t = with_table();
    assert_eq!(rows_in(&t, "SELECT k FROM t WHERE k = '2'"), ["2"]);
    assert_eq!(rows_in(&t, "SELECT k FROM t WHERE b IN ('1', '7')"), ["2"]);
    assert_eq!(rows_in(&t, "SELECT k + '3' FROM t ORDER BY 1"), ["3", "5"]);
    assert_eq!(
        error_in(&t, "SELECT k FROM t WHERE k = 'x'"),
        "22P02 invalid input syntax for type integer: \"x\""
    );
    assert_eq!(
        error_in(&t, "SELECT k FROM t WHERE s = 1"),
        "42883 operator does not exist: text = integer"
    );
    assert_eq!(
        error_in(&t, "SELECT s + 1 FROM t"),
        "42883 operator does not exist: text + integer"
    );
    assert_eq!(
        rows_in(&t, "SELECT CASE WHEN k = 0 THEN '7' ELSE k END FROM t ORDER BY 1"),
        ["2", "7"]
    );
}

#[test]
fn a_guarded_division_is_not_asked_for_other_rows() {
    let t = with_table();
    assert_eq!(rows_in(&t, "SELECT k FROM t WHERE k <> 0 AND 10 / k > 1"), ["2"]);
    assert_eq!(rows_in(&t, "SELECT k FROM t WHERE s ~ '^[0-9]+$' AND s::int = 0"), ["0"]);
    assert_eq!(
        rows_in(&t, "SELECT CASE WHEN k <> 0 THEN 10 / k ELSE 0 END FROM t ORDER BY 1"),
        ["0", "5"]
    );
}

#[test]
fn duplicate_and_unnamed_columns_are_planned() {
    let t = with_table();
    assert_eq!(rows_of("SELECT 1, 1"), ["1|1"]);
    assert_eq!(rows_in(&t, "SELECT k, k FROM t ORDER BY k"), ["0|0", "2|2"]);
    assert_eq!(rows_in(&t, "SELECT count(*), count(*) FROM t"), ["2|2"]);
    assert_eq!(
        rows_in(&t, "SELECT * FROM (SELECT k, k + 1 FROM t) x ORDER BY 2 DESC"),
        ["2|3", "0|1"]
    );
    assert_eq!(rows_in(&t, "SELECT count FROM (SELECT count(*) FROM t) x"), ["2"]);
    assert_eq!(rows_in(&t, "WITH w AS (SELECT max(k) FROM t) SELECT max FROM w"), ["2"]);
    assert_eq!(rows_of("SELECT 1, 1 UNION ALL SELECT 2, 2 ORDER BY 1"), ["1|1", "2|2"]);
    assert_eq!(
        rows_in(&t, "SELECT s, count(*) FROM t GROUP BY s ORDER BY count(*), s"),
        ["0|1", "x|1"]
    );
    assert_eq!(
        rows_in(&t, "SELECT s, count(*) FROM t GROUP BY 1 ORDER BY count, 1"),
        ["0|1", "x|1"]
    );
    assert_eq!(rows_in(&t, "SELECT DISTINCT k FROM t ORDER BY k"), ["0", "2"]);
    assert_eq!(rows_in(&t, "SELECT *, k FROM t WHERE k = 2"), ["2|1|x|2"]);
}

#[test]
fn a_correlated_scalar_subquery_may_be_any_query() {
    let t = with_table();
    let sql = "SELECT k, (SELECT s FROM t AS u WHERE u.k = t.k) FROM t ORDER BY k";
    assert_eq!(rows_in(&t, sql), ["0|0", "2|x"]);
    assert_eq!(
        error_in(&t, "SELECT (SELECT u.s FROM t AS u CROSS JOIN t AS v WHERE u.k = t.k) FROM t"),
        "21000 more than one row returned by a subquery used as an expression"
    );
}

#[test]
fn dates_count_in_days() {
    assert_eq!(value_of("SELECT DATE '2024-03-01' - DATE '2024-02-28'"), "2");
    assert_eq!(value_of("SELECT DATE '2024-02-28' + 2"), "2024-03-01");
}

#[test]
fn session_functions_are_bound_to_one_moment() {
    assert_eq!(value_of("SELECT now() = statement_timestamp()"), "true");
    assert_eq!(value_of("SELECT now()"), "2023-11-14T22:13:20Z");
    assert_eq!(value_of("SELECT current_user || '@' || current_database()"), "ann@harbour");
    assert_eq!(value_of("SELECT current_setting('server_version_num')::int"), "150000");
    assert!(value_of("SELECT version()").starts_with("PostgreSQL 15.0 (Tidewater"));
}
