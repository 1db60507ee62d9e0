//! Input at and beyond the limits: a clear error or a dead letter, bounded memory, never a panic.

use std::io::Write as _;

use serde_json::json;

use crate::place::Place;

/// What the program may hold at most while `--memory 32MiB` holds, bytes: buffers, the binary's own pages, one row group.
const BOUND: i64 = 350 << 20;

/// Loads a file; the exit code, and the peak of resident memory in bytes.
fn load(place: &Place, args: &[&str]) -> (i32, String) {
    let args: Vec<&str> = ["load", "--memory", "32MiB"].into_iter().chain(args.iter().copied()).collect();
    let said = place.run(&args);
    assert!(!said.stderr.contains("panicked") && said.code != 1, "{args:?}: {}", said.stderr);
    (said.code, said.stderr)
}

/// The largest resident memory of any child so far, bytes.
fn children_peak() -> i64 {
    #[expect(unsafe_code, reason = "the standard library does not tell what a child used")]
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    usage.ru_maxrss * 1024
}

#[test]
fn a_field_of_a_hundred_megabytes_is_a_dead_letter_and_its_neighbours_land() {
    for (name, before, after) in [
        ("big.json", "{\"a\":\"small\"}\n{\"a\":\"", "\"}\n{\"a\":\"last\"}\n"),
        ("big.csv", "a,b\nsmall,1\n\"", "\",2\nlast,3\n"),
        ("big.xml", "<r><i><a>small</a></i><i><a>", "</a></i><i><a>last</a></i></r>"),
    ] {
        let place = Place::new();
        let mut file = std::fs::File::create(place.path().join(name)).expect("made");
        file.write_all(before.as_bytes()).expect("written");
        for _ in 0..100 {
            file.write_all(&[b'x'; 1 << 20]).expect("written");
        }
        file.write_all(after.as_bytes()).expect("written");
        let (code, said) = load(&place, &[name, "--table", "t"]);
        assert_eq!(code, 0, "{name}: {said}");
        assert_eq!(place.rows("select a from t order by a"), [json!({"a": "last"}), json!({"a": "small"})], "{name}");
        let letters = place
            .rows("select code, payload_file is not null as kept, payload_digest is not null as digested from _dead_letters");
        assert_eq!(letters, [json!({"code": "record_too_large", "kept": true, "digested": true})], "{name}");
    }
    assert!(children_peak() < BOUND, "{} bytes", children_peak());
}

#[test]
fn ten_thousand_columns_and_ten_thousand_levels_have_a_clear_end() {
    let place = Place::new();
    let columns: Vec<String> = (0..10_000).map(|i| format!("c{i}")).collect();
    let wide_json: Vec<String> = columns.iter().map(|name| format!("\"{name}\":1")).collect();
    let wide_xml: Vec<String> = columns.iter().map(|name| format!("<{name}>1</{name}>")).collect();
    place.write("wide.json", &format!("{{{}}}\n", wide_json.join(",")));
    place.write("wide.csv", &format!("{}\n{}\n", columns.join(","), vec!["1"; 10_000].join(",")));
    place.write("wide.xml", &format!("<r><i>{0}</i><i>{0}</i></r>", wide_xml.concat()));
    for name in ["wide.json", "wide.csv", "wide.xml"] {
        let (code, said) = load(&place, &[name, "--to", "warehouse/wide", "--table", &name.replace('.', "_")]);
        assert_eq!(code, 0, "{name}: {said}");
        let sum = format!("select c0 + c9999 as n from wide.{}", name.replace('.', "_"));
        assert_eq!(place.rows(&sum)[0]["n"], json!(2), "{name}");
    }
    // Deeper than a table can be: the record, or the document, is turned away; what stands beside it lands.
    place.write("deep.json", &format!("{{\"a\":1}}\n{{\"a\":{}1{}}}\n", "[".repeat(10_000), "]".repeat(10_000)));
    place.write("deep.xml", &format!("<r><i a='1'/><i>{}{}</i></r>", "<d>".repeat(9_990), "</d>".repeat(9_990)));
    place.write("deeper.xml", &format!("{}{}", "<d>".repeat(20_000), "</d>".repeat(20_000)));
    for name in ["deep.json", "deep.xml", "deeper.xml"] {
        let (_, said) = load(&place, &[name, "--to", "warehouse/deep"]);
        assert!(said.contains("nest") || said.contains("deep"), "{name}: {said}");
    }
    let letters = place.good(&["dead-letters", "list", "--json"]).objects();
    assert_eq!(letters.len(), 3, "{letters:?}");
}

#[test]
fn entity_bombs_and_outside_entities_are_dead_letters() {
    let place = Place::new();
    let mut bomb = String::from("<!DOCTYPE r [<!ENTITY a0 'ha'>");
    for i in 1..30 {
        bomb += &format!("<!ENTITY a{i} '&a{0};&a{0};&a{0};&a{0};'>", i - 1);
    }
    bomb += "]><r><i><a>&a29;</a></i><i><a>fine</a></i></r>";
    place.write("bomb.xml", &bomb);
    place.write("passwd.xml", "<!DOCTYPE r [<!ENTITY p SYSTEM 'file:///etc/passwd'>]><r><i><a>&p;</a></i><i><a>fine</a></i></r>");
    for name in ["bomb.xml", "passwd.xml"] {
        let (code, said) = load(&place, &[name, "--table", "t"]);
        assert_eq!(code, 0, "{name}: {said}");
    }
    assert_eq!(place.rows("select a, count(*) as n from t group by a"), [json!({"a": "fine", "n": 2})]);
    assert!(children_peak() < BOUND, "{} bytes", children_peak());
}

#[test]
fn damaged_bytes_are_told_with_their_place() {
    let place = Place::new();
    std::fs::write(place.path().join("latin.csv"), b"id,name\n1,fine\n2,caf\xE9\n").expect("written");
    std::fs::write(place.path().join("latin.json"), b"{\"id\":1}\n{\"id\":\"\xFF\"}\n").expect("written");
    let whole = gzip(&"id\n1\n2\n".repeat(1000));
    std::fs::write(place.path().join("cut.csv.gz"), &whole[..whole.len() / 2]).expect("written");
    for name in ["latin.csv", "latin.json"] {
        assert_eq!(load(&place, &[name]).0, 0, "{name}");
    }
    let (code, said) = load(&place, &["cut.csv.gz"]);
    assert_eq!(code, 6, "nothing of it landed: {said}");
    let letters = place.rows("select unit, code, line from _dead_letters order by code, file");
    assert_eq!(
        letters,
        [
            json!({"unit": "file", "code": "compression_broken", "line": null}),
            json!({"unit": "record", "code": "encoding_invalid", "line": 3}),
            json!({"unit": "record", "code": "encoding_invalid", "line": 2}),
        ]
    );
}

#[test]
fn names_that_are_reserved_or_twins_are_told_apart() {
    let place =
        Place::with(&[("a.json", "{\"Id\":1,\"id\":2,\"ID\":3,\"select\":4,\"_TABLE_x\":5,\"a b\":6,\"2nd\":7,\"\":8}\n")]);
    let (code, said) = load(&place, &["a.json"]);
    assert_eq!(code, 0, "{said}");
    let row = &place.rows("select * from a")[0];
    let row = row.as_object().expect("a row");
    let mut values: Vec<i64> = row.values().map(|value| value.as_i64().expect("a number")).collect();
    values.sort_unstable();
    assert_eq!(values, (1..=8).collect::<Vec<_>>(), "every value has a column of its own: {row:?}");
    let mut names: Vec<String> = row.keys().map(|name| name.to_lowercase()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 8, "no two differ by case alone: {row:?}");
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).expect("compressed");
    encoder.finish().expect("compressed")
}
