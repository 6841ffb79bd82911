//! Claims about casts, through the analyzer and a bare DataFusion session.

use crate::functions::testing::{error_of, value_of};

#[test]
fn texts_become_numbers_or_22p02() {
    assert_eq!(value_of("SELECT ' 42 '::int + 1"), "43");
    assert_eq!(
        error_of("SELECT 'abc'::int"),
        "22P02 invalid input syntax for type integer: \"abc\""
    );
    assert_eq!(
        error_of("SELECT '99999'::smallint"),
        "22003 value \"99999\" is out of range for type smallint"
    );
    assert_eq!(value_of("SELECT '1.005'::numeric(5,2)"), "1.01");
}

#[test]
fn floats_and_numerics_round_as_postgres() {
    assert_eq!(value_of("SELECT 2.5::double precision::int"), "2");
    assert_eq!(value_of("SELECT 2.5::int"), "3");
    assert_eq!(value_of("SELECT (-2.5)::int"), "-3");
    assert_eq!(error_of("SELECT 3e9::double precision::int"), "22003 integer out of range");
    assert_eq!(error_of("SELECT 40000::smallint"), "22003 smallint out of range");
    assert_eq!(error_of("SELECT 1000::numeric(5,2)"), "22003 numeric field overflow");
}

#[test]
fn values_print_as_on_the_wire() {
    assert_eq!(value_of("SELECT 1.0::double precision::text"), "1");
    assert_eq!(value_of("SELECT true::text"), "true");
    assert_eq!(value_of("SELECT '{1,NULL,3}'::int[]::text"), "{1,NULL,3}");
    assert_eq!(
        value_of("SELECT '2024-02-29 12:00:00.5'::timestamp::text"),
        "2024-02-29 12:00:00.5"
    );
    assert_eq!(value_of("SELECT 1.5 || 'x'"), "1.5x");
}
