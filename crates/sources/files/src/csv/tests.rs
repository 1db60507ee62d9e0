use proptest::prelude::*;

use super::CsvFormat;
use crate::config::{CsvConfig, CsvHeader, Jagged};
use crate::cut::{Format, Limits};
use crate::fuzz::{Everything, everything, fuzz_csv};

fn limits(chunk: usize, max_record: usize) -> Limits {
    Limits { chunk, max_record, spill: std::env::temp_dir(), keep_payloads: true }
}

fn format_of(text: &[u8], config: &CsvConfig) -> CsvFormat {
    CsvFormat::detect("file".into(), text, true, config).expect("a dialect")
}

fn read_with(text: &[u8], config: &CsvConfig) -> Everything {
    everything(&format_of(text, config), text, &limits(64, 1 << 20), None).expect("readable")
}

fn read(text: &str) -> Everything {
    read_with(text.as_bytes(), &CsvConfig::default())
}

/// Columns and cells as text, rows apart by `/`.
fn shown(got: &Everything) -> String {
    let schema: Vec<String> = got.schemas[0].fields.iter().map(|field| format!("{}:{field}", field.name)).collect();
    let rows = &got.rows[0];
    let cell = |column: &arrow::array::ArrayRef, row| {
        if column.is_null(row) {
            "NULL".to_owned()
        } else {
            arrow::util::display::array_value_to_string(column, row).expect("a cell")
        }
    };
    let line = |row| rows.columns().iter().map(|column| cell(column, row)).collect::<Vec<_>>().join("|");
    format!("{} = {}", schema.join(" "), (0..rows.num_rows()).map(line).collect::<Vec<_>>().join(" / "))
}

fn codes(got: &Everything) -> Vec<(&'static str, u64)> {
    got.rejects[0].iter().map(|r| (r.code, r.at.1)).collect()
}

#[test]
fn the_delimiter_is_found_and_said() {
    for (text, note) in [
        ("id,name\n1,a\n2,b\n", "delimiter ',', header yes"),
        ("id;name\n1;a, b\n2;\"c;d\"\n", "delimiter ';', header yes"),
        ("id\tname\n1\ta\n", "delimiter tab, header yes"),
        ("id|name\r\n1|a\r\n", "delimiter '|', header yes"),
        ("1;1,5\n2;2,5\n", "delimiter ',', header no"),
        ("id;x\n1;1,5\n2;2,5\n", "delimiter ';', header yes"),
        ("1,2\n3,4\n", "delimiter ',', header no"),
        ("id\n1\n2\n", "delimiter ',', header yes"),
    ] {
        assert_eq!(format_of(text.as_bytes(), &CsvConfig::default()).note(), note, "{text}");
    }
}

#[test]
fn a_header_is_all_text_unique_and_unlike_the_rows_below() {
    for (text, header) in [
        ("a,b\n1,x\n", true),
        ("a,b\nx,y\n", false),
        ("a,a\n1,2\n", false),
        ("a,1\n1,2\n", false),
        ("a,\n1,2\n", false),
        ("a,b\n", true),
        ("a,b\n1,x\ny,z\n", false),
    ] {
        assert_eq!(format_of(text.as_bytes(), &CsvConfig::default()).has_header(), header, "{text}");
    }
    assert_eq!(shown(&read("a,b\nx,y\n")), "c1:STRING c2:STRING = a|b / x|y");
}

#[test]
fn settings_win_over_what_is_found() {
    let config = CsvConfig {
        delimiter: Some("tab".into()),
        header: CsvHeader::Yes,
        null: Some("\\N".into()),
        quote: Some("'".into()),
        jagged: Jagged::Fill,
    };
    let got = read_with(b"a\ta\t\n'x\ty'\t\\N\t1\n'\\N'\n", &config);
    assert_eq!(shown(&got), "a:STRING c3:INT64 = x\ty|1 / \\N|NULL");
    assert_eq!(format_of(b"a\ta\t\n", &config).names(), ["a", "a_2", "c3"]);
    let none = CsvConfig { quote: Some("none".into()), header: CsvHeader::No, ..CsvConfig::default() };
    assert_eq!(shown(&read_with(b"\"a,b\n", &none)), "c1:STRING c2:STRING = \"a|b");
    for bad in ["", "ab", "\n", "ü"] {
        let config = CsvConfig { delimiter: Some(bad.into()), ..CsvConfig::default() };
        assert_eq!(CsvFormat::detect("file".into(), b"", true, &config).expect_err("refused").code(), "config");
    }
}

#[test]
fn unquoted_empty_is_null_and_quoted_empty_is_the_empty_string() {
    assert_eq!(shown(&read("n,s\n1,\n,\"\"\n2,x\n")), "n:INT64 s:STRING = 1|NULL / NULL| / 2|x");
}

#[test]
fn quoted_values_are_typed_by_content_and_may_hold_anything() {
    let got = read("n,s\n\"1\",\"a,\"\"b\"\"\nc\r\nd\"\n2,e\n");
    assert_eq!(shown(&got), "n:INT64 s:STRING = 1|a,\"b\"\nc\r\nd / 2|e");
    assert!(got.rejects[0].is_empty());
}

#[test]
fn any_line_end_does_and_blank_lines_and_a_mark_do_not_count() {
    for text in
        ["a,b\n1,x\n\n2,y\n", "a,b\r\n1,x\r\n\r\n2,y", "a,b\r1,x\r\r2,y\r", "\u{feff}a,b\n1,x\n2,y\n\n\n", "\n\na,b\n1,x\n2,y"]
    {
        assert_eq!(shown(&read(text)), "a:INT64 b:STRING = 1|x / 2|y", "{text:?}");
    }
}

#[test]
fn short_rows_are_dead_letters_unless_filled_and_long_rows_always() {
    let text = "a,b,c\n1,2,3\n4,5\n6,7,8,9\n";
    let got = read(text);
    assert_eq!(codes(&got), [("row_too_short", 3), ("row_too_long", 4)]);
    assert_eq!((got.rejects[0][0].payload.as_slice(), got.rejects[0][1].payload.as_slice()), (&b"4,5"[..], &b"6,7,8,9"[..]));
    assert!(got.rejects[0][0].reason.contains("2 values for 3 columns"));
    let fill = CsvConfig { jagged: Jagged::Fill, ..CsvConfig::default() };
    let got = read_with(text.as_bytes(), &fill);
    assert_eq!(shown(&got), "a:INT64 b:INT64 c:INT64 = 1|2|3 / 4|5|NULL");
    assert_eq!(codes(&got), [("row_too_long", 4)]);
}

#[test]
fn an_unclosed_quote_is_a_dead_letter_at_its_line_and_the_next_line_is_decoded() {
    let got = read("a,b\n1,x\n2,\"y\n3,z\n4,w\n");
    assert_eq!(shown(&got), "a:INT64 b:STRING = 1|x / 3|z / 4|w");
    assert_eq!(codes(&got), [("unclosed_quote", 3)]);
    assert_eq!(got.rejects[0][0].payload, b"2,\"y");
    assert!(got.rejects[0][0].reason.contains("line 3, column 3"));
    let got = read("a,b\n1,\"x\n2,\"y\"\n3,z\n");
    assert_eq!((shown(&got), codes(&got)), ("a:INT64 b:STRING = 2|y / 3|z".to_owned(), vec![("unclosed_quote", 2)]));
}

#[test]
fn text_behind_a_closing_quote_is_a_dead_letter() {
    let got = read("a,b\n1,\"x\"y\n2,z\n");
    assert_eq!((shown(&got), codes(&got)), ("a:INT64 b:STRING = 2|z".to_owned(), vec![("quote_misplaced", 2)]));
    assert_eq!(shown(&read("a,b\n1,5\" pipe\n")), "a:INT64 b:STRING = 1|5\" pipe", "a quote inside a value is itself");
}

#[test]
fn bytes_that_are_not_utf8_cost_only_their_row() {
    let got = read_with(b"a,b\n1,x\n2,\xff\n3,z\n", &CsvConfig::default());
    assert_eq!((shown(&got), codes(&got)), ("a:INT64 b:STRING = 1|x / 3|z".to_owned(), vec![("encoding_invalid", 3)]));
}

#[test]
fn a_row_too_large_goes_to_a_file_and_an_unclosed_quote_costs_only_its_line_even_then() {
    let big = format!("2,\"{}\n{}\"", "x".repeat(300), "y".repeat(300));
    let text = format!("a,b\n1,x\n{big}\n3,z\n");
    let got = everything(&format_of(text.as_bytes(), &CsvConfig::default()), text.as_bytes(), &limits(64, 200), None)
        .expect("readable");
    assert_eq!((shown(&got), codes(&got)), ("a:INT64 b:STRING = 1|x / 3|z".to_owned(), vec![("record_too_large", 3)]));
    assert_eq!(got.rejects[0][0].payload, big.as_bytes());

    let rows: String = (3..100).map(|i| format!("{i},row\n")).collect();
    let text = format!("a,b\n1,x\n2,\"open\n{rows}");
    let got = everything(&format_of(text.as_bytes(), &CsvConfig::default()), text.as_bytes(), &limits(64, 200), None)
        .expect("readable");
    assert_eq!((got.rows[0].num_rows(), codes(&got)), (98, vec![("unclosed_quote", 3)]));
    assert_eq!(got.rejects[0][0].payload, b"2,\"open");
}

#[test]
fn a_header_alone_and_nothing_at_all_are_no_rows() {
    for text in ["", "\n", "a,b\n", "a,b", "\u{feff}"] {
        let got = read(text);
        assert_eq!((got.rows[0].num_rows(), got.rejects[0].len()), (0, 0), "{text:?}");
    }
}

#[test]
fn a_replayed_row_is_read_without_its_header() {
    let format = format_of(b"a;b\n1;x\n", &CsvConfig::default());
    let replay = CsvFormat::for_replay("file".into(), &format.decoding(0)).expect("its own words");
    let got = everything(&replay, b"7;y", &limits(64, 200), None).expect("readable");
    assert_eq!(shown(&got), "a:INT64 b:STRING = 7|y");
    assert!(CsvFormat::for_replay("file".into(), &serde_json::json!({"format": "json"})).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_csv(&bytes);
    }

    #[test]
    fn nothing_like_csv_breaks_it(text in "[a1,;\"'\n\r ]{0,300}") {
        fuzz_csv(text.as_bytes());
    }
}
