use proptest::prelude::*;

use super::{JsonFormat, Layout};
use crate::cut::Limits;
use crate::fuzz::{Everything, everything, fuzz_json};

fn limits(chunk: usize, max_record: usize) -> Limits {
    Limits { chunk, max_record, spill: std::env::temp_dir(), keep_payloads: true }
}

fn read(text: &[u8], pointers: &[&str]) -> longshore_core::Result<Everything> {
    let pointers: Vec<String> = pointers.iter().map(ToString::to_string).collect();
    let format = JsonFormat::detect("file".into(), text, &pointers).expect("pointers");
    everything(&format, text, &limits(64, 1 << 20), None)
}

fn rows(got: &Everything) -> Vec<usize> {
    got.rows.iter().map(|rows| rows.num_rows()).collect()
}

fn layout(text: &str) -> Layout {
    JsonFormat::detect("file".into(), text.as_bytes(), &[]).expect("a layout").layout()
}

fn codes(got: &Everything) -> Vec<(&'static str, u64)> {
    got.rejects.iter().flatten().map(|r| (r.code, r.at.1)).collect()
}

#[test]
fn the_layout_is_found_from_the_content() {
    for (text, expected) in [
        ("{\"a\":1}\n{\"a\":2}\n", Layout::Lines),
        ("{\"a\":1}", Layout::Lines),
        ("{\"a\":1\n{\"a\":2}\n{\"a\":3}\n", Layout::Lines),
        ("\u{feff}\n\n{\"a\":1}\r\n{\"a\":2}", Layout::Lines),
        ("[1]\n[2]\n", Layout::Lines),
        ("{\"a\":1}{\"a\":2}\n", Layout::Document),
        ("[{\"a\":1}]", Layout::Document),
        ("[\n{\"a\":1}\n,\n{\"a\":2}\n]\n", Layout::Document),
        ("{\n  \"a\": 1,\n  \"b\": {}\n}\n", Layout::Document),
    ] {
        assert_eq!(layout(text), expected, "{text}");
    }
}

#[test]
fn every_layout_gives_the_same_records() {
    for text in [
        "{\"a\":1,\"b\":\"x\"}\n\n{\"a\":2,\"b\":\"\\u00fc\\ud83d\\ude00\\n\"}\r\n{\"a\":3}",
        "[{\"a\":1,\"b\":\"x\"},{\"a\":2,\"b\":\"\\u00fc\\ud83d\\ude00\\n\"},{\"a\":3}]",
        "{\"a\":1,\"b\":\"x\"} {\"a\":2,\"b\":\"\\u00fc\\ud83d\\ude00\\n\"}\n{\n\"a\":3}\n",
        "\u{feff}[\n  {\n \"a\": 1, \"b\": \"x\"},\n {\"a\":2,\"b\":\"\u{fc}\u{1f600}\\n\"},\n {\"a\":3}\n]\n",
    ] {
        let got = read(text.as_bytes(), &[]).expect("readable");
        assert!(got.rejects[0].is_empty(), "{:?}", got.rejects);
        let expected =
            read(b"{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":\"\xc3\xbc\xf0\x9f\x98\x80\\n\"}\n{\"a\":3}", &[]).expect("readable");
        assert_eq!(got.rows, expected.rows, "{text}");
    }
    assert_eq!(rows(&read(b"{\n\"a\": [1,\n2]}", &[]).expect("readable")), [1]);
}

#[test]
fn a_bad_line_is_a_dead_letter_and_the_next_line_is_decoded() {
    let text =
        b"{\"a\":1}\n{\"a\":}\n{\"a\":\"x\n{\"a\":01}\n{\"a\":2} {\"a\":3}\n{\"a\":\"\xff\"}\n{\"a\":\"\\ud800\"}\n{\"a\":4}\n";
    let got = read(text, &[]).expect("readable");
    assert_eq!(rows(&got), [2]);
    let mut expected = ["json_invalid"; 6];
    expected[4] = "encoding_invalid";
    assert_eq!(codes(&got), expected.into_iter().zip(2..).collect::<Vec<_>>());
    let first = &got.rejects[0][0];
    assert_eq!(first.payload, b"{\"a\":}");
    assert_eq!(first.reason, "line 2, column 6: expected a value, found '}'");
}

#[test]
fn a_column_counts_characters() {
    let got = read("{\"ü\":1}\n{\"üü\":x}\n".as_bytes(), &[]).expect("readable");
    assert!(got.rejects[0][0].reason.starts_with("line 2, column 7: "), "{}", got.rejects[0][0].reason);
}

#[test]
fn records_that_are_no_objects_are_dead_letters() {
    let got = read(b"1\n[{\"a\":1}]\n\"x\"\nnull\n{\"a\":1}\n", &[]).expect("readable");
    assert_eq!((rows(&got), codes(&got)), (vec![1], (1..=4).map(|line| ("not_an_object", line)).collect()));
    let got = read(b"[{\"a\":1},\n2,\nnull]", &[]).expect("readable");
    assert_eq!((rows(&got), codes(&got)), (vec![1], vec![("not_an_object", 2), ("not_an_object", 3)]));
}

#[test]
fn a_key_that_is_there_twice_is_a_dead_letter_at_any_depth() {
    let text = "{\"a\":1,\"b\":2}\n{\"a\":1,\"a\":2}\n{\"b\":{\"a\":{\"a\":1},\"c\":1,\"a\":2}}\n{\"a\":{\"a\":1},\"b\":{\"a\":1}}\n{\"a\":1,\"\\u0061\":1}\n";
    let got = read(text.as_bytes(), &[]).expect("readable");
    assert_eq!(codes(&got), [2, 3, 5].map(|line| ("duplicate_key", line)));
    assert!(got.rejects[0][0].reason.contains("key \"a\" twice"));
}

#[test]
fn a_broken_document_is_unreadable_as_a_whole_and_says_where() {
    for (text, at, what) in [
        ("[{\"a\":1},\n{\"a\":2", "file:2:1", "ends within a value"),
        ("[{\"a\":1}\n {\"a\":2}]", "file:2:2", "expected `,` or `]`"),
        ("[{\"a\":1},]", "file:1:10", "a value is missing"),
        ("[{\"a\":1}", "file:1:9", "ends within an array"),
        ("{\n\"a\": [1,\n", "file:1:1", "ends within a value"),
        ("[{\"a\":1}] ]", "file:1:11", "unexpected `]`"),
    ] {
        let error = read(text.as_bytes(), &[]).expect_err("unreadable");
        assert_eq!(error.code(), "file_unreadable");
        let said = error.to_string();
        assert!(said.starts_with(at) && said.contains(what), "{said}");
    }
}

#[test]
fn a_record_of_a_document_whose_brackets_match_but_that_is_not_json_is_one_dead_letter() {
    let got = read(b"[{\"a\":1},{\"a\":nul},{\"a\":3}]", &[]).expect("readable");
    assert_eq!((rows(&got), codes(&got)), (vec![2], vec![("json_invalid", 1)]));
}

#[test]
fn pointers_find_arrays_and_objects_inside_a_document() {
    let text = b"{\"meta\":{\"n\":[1,2]},\"data\":{\"c/d\":[{\"a\":1},{\"a\":2}],\"one\":{\"b\":1},\"none\":null}}";
    let got = read(text, &["/data/c~1d", "/data/one", "/data/none", "/missing", "/meta/n"]).expect("readable");
    assert_eq!(rows(&got), [2, 1, 0, 0, 0]);
    assert_eq!(got.rejects[4].len(), 2, "elements that are no objects");
    let got = read(b"[{\"x\":[{\"a\":1}]},{\"x\":[{\"a\":2},{\"a\":3}]}]", &["/1/x"]).expect("readable");
    assert_eq!(rows(&got), [2]);
    let got = read(b"{\"x\":[{\"a\":1}]}\n{\"x\":[{\"a\":2}]}\n", &["/x"]).expect("readable");
    assert_eq!(rows(&got), [2]);
}

#[test]
fn pointers_that_are_none_or_within_one_another_are_refused() {
    for pointers in [vec!["data"], vec!["/a", "/a/b"], vec!["/a", "/a"], vec!["", "/a"]] {
        let pointers: Vec<String> = pointers.into_iter().map(str::to_owned).collect();
        assert_eq!(JsonFormat::detect("file".into(), b"{}", &pointers).expect_err("refused").code(), "config");
    }
}

#[test]
fn a_record_too_large_goes_to_a_file_whatever_the_layout() {
    let big = format!("{{\"a\":\"{}\"}}", "x".repeat(500));
    for text in [format!("{{\"b\":1}}\n{big}\n{{\"b\":2}}\n"), format!("[{{\"b\":1}},\n{big},{{\"b\":2}}]")] {
        let format = JsonFormat::detect("file".into(), text.as_bytes(), &[]).expect("a layout");
        let got = everything(&format, text.as_bytes(), &limits(64, 200), None).expect("readable");
        assert_eq!((rows(&got), codes(&got)), (vec![2], vec![("record_too_large", 2)]));
        assert_eq!(got.rejects[0][0].payload, big.as_bytes());
        assert_eq!(got.schemas[0].fields.len(), 1);
    }
}

#[test]
fn deep_nesting_is_a_dead_letter_and_not_a_crash() {
    let deep = format!("{{\"a\":{}{}}}\n{{\"b\":1}}\n", "[".repeat(100_000), "]".repeat(100_000));
    let got = read(deep.as_bytes(), &[]).expect("readable");
    assert_eq!((rows(&got), codes(&got)), (vec![1], vec![("json_invalid", 1)]));
}

#[test]
fn a_replayed_payload_is_read_by_itself() {
    let text = b"{\"a\":1}";
    let got = everything(&JsonFormat::for_replay("file".into()), text, &limits(64, 200), None).expect("readable");
    assert_eq!(rows(&got), [1]);
}

#[test]
fn nothing_is_no_rows() {
    for text in ["", "\n\n", "\u{feff}", "[]", "  [ ] "] {
        assert_eq!(rows(&read(text.as_bytes(), &[]).expect("readable")), [0], "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_json(&bytes);
    }

    #[test]
    fn nothing_like_json_breaks_it(text in "[\\[\\]{}\",:ab\\\\u01e.tfn \n-]{0,200}") {
        fuzz_json(text.as_bytes());
    }
}
