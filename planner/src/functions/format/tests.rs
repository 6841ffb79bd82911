//! Pictures against what PostgreSQL 15 writes and reads.

use crate::functions::testing::{error_of, value_of};

fn written(value: &str, picture: &str) -> String {
    value_of(&format!("SELECT to_char({value}, '{picture}')"))
}

#[test]
fn times_are_written_by_their_picture() {
    let at = "TIMESTAMP '2024-05-06 07:08:09.123456'";
    for (picture, text) in [
        ("YYYY-MM-DD HH24:MI:SS.US", "2024-05-06 07:08:09.123456"),
        ("Day, DD Month YYYY", "Monday   , 06 May       2024"),
        ("FMDay, FMDD FMMonth YYYY", "Monday, 6 May 2024"),
        (
            "Dy Mon DDD D WW IW Q J CC MS US SSSS",
            "Mon May 127 2 19 19 2 2460437 21 123 123456 25689",
        ),
        ("DAY MONTH dy mon day month", "MONDAY    MAY       mon may monday    may      "),
        ("DDth YYYY\"year\"", "06th 2024year"),
        ("YY Y,YYY IYYY ID", "24 2,024 2024 1"),
        ("HH12:MI AM", "07:08 AM"),
    ] {
        assert_eq!(written(at, picture), text, "{picture}");
    }
    assert_eq!(written("INTERVAL '3 days 15:02:12'", "DD HH24:MI:SS"), "03 15:02:12");
}

#[test]
fn numbers_are_written_by_their_picture() {
    for (value, picture, text) in [
        ("125", "999", " 125"),
        ("125.8", "999D9", " 125.8"),
        ("-125.8", "999D99S", "125.80-"),
        ("1234567.891", "9,999,999.99", " 1,234,567.89"),
        ("0.1", "0.9", " 0.1"),
        ("0.1", "9.9", "  .1"),
        ("0", "9.9", "  .0"),
        ("0", "999", "   0"),
        ("485", "RN", "        CDLXXXV"),
        ("12", "00000", " 00012"),
        ("-1", "S99", " -1"),
        ("1000", "9.9EEEE", " 1.0e+03"),
        ("125", "FM999", "125"),
        ("1234.5", "FM9,999.00", "1,234.50"),
        ("-5", "9PR", "<5>"),
        ("5", "9MI", "5 "),
        ("12345", "999", " ###"),
        ("-12", "9999", "  -12"),
        ("482", "999th", " 482nd"),
        ("1234.5", "FM9999.99", "1234.5"),
    ] {
        assert_eq!(written(value, picture), text, "{value} by {picture}");
    }
}

#[test]
fn texts_are_read_by_their_picture() {
    for (call, text) in [
        ("to_date('05 Dec 2000', 'DD Mon YYYY')", "2000-12-05"),
        ("to_date('20240506', 'YYYYMMDD')", "2024-05-06"),
        (
            "to_timestamp('05 Dec 2000 10:11:12', 'DD Mon YYYY HH24:MI:SS')::text",
            "2000-12-05 10:11:12+00",
        ),
        (
            "to_timestamp('2024-05-06 03:04 PM', 'YYYY-MM-DD HH12:MI PM')::text",
            "2024-05-06 15:04:00+00",
        ),
        ("to_timestamp('12.5', 'SS.MS')::text", "0001-01-01 00:00:12.5+00 BC"),
        ("to_timestamp(1700000000.5)::text", "2023-11-14 22:13:20.5+00"),
        ("to_number('12,454.8-', '99G999D9S')::text", "-12454.8"),
        ("to_number('$1,234', 'L9,999')::text", "1234"),
    ] {
        assert_eq!(value_of(&format!("SELECT {call}")), text, "{call}");
    }
    assert_eq!(
        error_of("SELECT to_date('2024-13-01', 'YYYY-MM-DD')"),
        "22008 date/time field value out of range: \"2024-13-01\""
    );
    assert_eq!(
        error_of("SELECT to_timestamp('x', 'YYYY')"),
        "22007 invalid value \"x\" for \"YYYY\""
    );
}
