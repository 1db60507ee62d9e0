use super::super::fuzz::{fuzz_xml, json};
use super::super::structure::{Known, RecordPath, Rigour, look};
use super::*;
use crate::cut::empty_records;
use std::io::Read;

const DOCUMENT: &str = "<?xml version=\"1.0\"?>\n<Root>\n  stray\n  <Clients>\n    <Client Id=\"K1\"><Name>Ørsted</Name></Client>\n  </Clients>\n\
    <Trips>\n<Trip><Client>K1</Client><Leg n=\"1\"/><Leg n=\"2\"/></Trip> <Trip/><Other><Trip>no</Trip></Other>\n</Trips>\n</Root>\n";

fn format() -> XmlFormat {
    let paths =
        vec![XmlPath { path: "/Root/Clients/Client".into(), table: 0 }, XmlPath { path: "/Root/Trips/Trip".into(), table: 1 }];
    XmlFormat::new("f.xml", 2, paths, Entities::default(), &Clashes::new())
}

fn limits(chunk: usize, max_record: usize, folder: &std::path::Path) -> Limits {
    Limits { chunk, max_record, spill: folder.to_owned(), keep_payloads: true }
}

/// Rows as table, place, index and value; rejects as code and place.
fn read(format: &XmlFormat, input: Input, limits: &Limits) -> Vec<String> {
    let mut cutter = format.cutter(input, limits);
    let mut found = Vec::new();
    while let Some(chunk) = cutter.next().expect("readable") {
        let mut records = empty_records(format);
        format.parse(&chunk, &mut records).expect("parses");
        for (table, records) in records.iter().enumerate() {
            for row in &records.rows {
                let raw = &chunk.bytes[row.start..row.start + row.len];
                assert!(raw.starts_with(b"<") && raw.ends_with(b">"));
                let value = json(&records.tape, row.token);
                found.push((row.index, format!("{table} {}:{} {value}", row.line, row.column)));
            }
            for reject in &records.rejects {
                found.push((reject.index, format!("{table} {} {}", reject.place, reject.code)));
            }
        }
    }
    found.sort();
    found.into_iter().map(|(index, text)| format!("{index} {text}")).collect()
}

fn bytes(text: impl Into<Vec<u8>>) -> Input {
    Box::new(std::io::Cursor::new(text.into()))
}

#[test]
fn records_of_several_tables_are_cut_with_their_places_whatever_the_chunk_size() {
    let expected =
        [r#"0 0 5:5 {"Id":"K1","Name":"Ørsted"}"#, r#"1 1 8:1 {"Client":"K1","Leg":[{"n":"1"},{"n":"2"}]}"#, "2 1 8:58 {}"];
    let folder = std::env::temp_dir();
    for chunk in [1, 7, 64, 1 << 20] {
        assert_eq!(read(&format(), bytes(DOCUMENT), &limits(chunk, 1 << 20, &folder)), expected, "chunks of {chunk}");
    }
}

#[test]
fn every_byte_of_the_input_is_accounted_for() {
    for chunk in [1, 50, 1 << 20] {
        let format = format();
        let mut cutter = format.cutter(bytes(DOCUMENT), &limits(chunk, 1 << 20, &std::env::temp_dir()));
        let mut total = 0;
        while let Some(chunk) = cutter.next().expect("readable") {
            total += chunk.input_bytes;
        }
        assert_eq!(total, DOCUMENT.len() as u64);
    }
}

#[test]
fn a_record_that_is_too_large_goes_to_a_file_and_the_others_land() {
    let folder = tempfile::tempdir().expect("a folder");
    let large = format!("<Trip><Note>{}</Note></Trip>", "x".repeat(100_000));
    let document = format!("<Root><Trips><Trip>1</Trip>\n{large}<Trip>2</Trip>\n{large}</Trips></Root>");
    for chunk in [16, 4096, 1 << 20] {
        let limits = limits(chunk, 10_000, folder.path());
        let found = read(&format(), bytes(document.clone()), &limits);
        let expected = [
            r#"0 1 1:14 {"_text":"1"}"#,
            "1 1 f.xml:2:1 record_too_large",
            r#"2 1 2:100027 {"_text":"2"}"#,
            "3 1 f.xml:3:1 record_too_large",
        ];
        assert_eq!(found, expected, "chunks of {chunk}");
    }
    for file in std::fs::read_dir(folder.path()).expect("the folder") {
        let path = file.expect("a file").path();
        assert_eq!(std::fs::read_to_string(path).expect("readable"), large);
    }
}

#[test]
fn a_field_of_a_hundred_megabytes_is_never_held() {
    struct Long(u64, &'static [u8], &'static [u8]);
    impl Read for Long {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if !self.1.is_empty() {
                return self.1.read(buffer);
            }
            if self.0 > 0 {
                let n = buffer.len().min(self.0 as usize);
                buffer[..n].fill(b'y');
                self.0 -= n as u64;
                return Ok(n);
            }
            self.2.read(buffer)
        }
    }
    let format = format();
    let mut limits = limits(1 << 20, 4 << 20, &std::env::temp_dir());
    limits.keep_payloads = false;
    let input = Box::new(Long(100_000_000, b"<Root><Trips><Trip><a>", b"</a></Trip><Trip>2</Trip></Trips></Root>"));
    let mut cutter = format.cutter(input, &limits);
    let (mut rejects, mut pieces) = (Vec::new(), 0);
    while let Some(chunk) = cutter.next().expect("readable") {
        assert!(chunk.bytes.capacity() <= 12 << 20, "{} bytes are held", chunk.bytes.capacity());
        pieces += chunk.pieces.len();
        rejects.extend(chunk.rejects.clone());
    }
    assert_eq!((rejects.len(), pieces), (1, 1));
    assert!(rejects[0].1.reason.contains("100000020 bytes"), "{}", rejects[0].1.reason);
}

#[test]
fn bytes_that_are_not_utf_8_cost_their_record_only() {
    let mut document = b"<Root><Trips><Trip>a</Trip>\n<Trip>bad ".to_vec();
    document.extend(b"\xFF\xFE</Trip><Trip>c</Trip></Trips></Root>");
    let format = format();
    let mut cutter = format.cutter(bytes(document), &limits(1 << 20, 1 << 20, &std::env::temp_dir()));
    let chunk = cutter.next().expect("readable").expect("a chunk");
    let mut records = empty_records(&format);
    format.parse(&chunk, &mut records).expect("parses");
    assert_eq!(records[1].rows.len(), 2);
    let reject = &records[1].rejects[0];
    assert_eq!(reject.code, "encoding_invalid");
    assert!(reject.reason.starts_with("line 2, column 11:"), "{}", reject.reason);
    assert!(matches!(&reject.payload, Payload::Inline(bytes) if bytes.ends_with(b"\xFF\xFE</Trip>")));
}

#[test]
fn a_rejected_record_is_read_again_alone_by_what_its_decoding_says() {
    let entities = Entities::from_doctype(br#"<!DOCTYPE r [<!ENTITY co "Quill">]>"#);
    let paths = vec![XmlPath { path: "/Root/Trips/Trip".into(), table: 0 }];
    let clashes = Clashes::from([(0, "id".to_owned())]);
    let format = XmlFormat::new("f", 1, paths, entities, &clashes);
    let replay = XmlFormat::replay("letter", &format.decoding(0)).expect("complete");
    let found = read(&replay, bytes("<Trip id='1'><a>&co;</a></Trip>"), &limits(100, 100, &std::env::temp_dir()));
    assert_eq!(found, [r#"0 0 1:1 {"id_attr":"1","a":"Quill"}"#]);
}

#[test]
fn attributes_that_share_their_name_with_an_element_of_another_record_are_told() {
    let format = format();
    let document = "<Root><Trips><Trip id='1'/><Trip><id>2</id></Trip></Trips></Root>";
    read(&format, bytes(document), &limits(100, 100, &std::env::temp_dir()));
    assert_eq!(format.found_clashes(), Clashes::from([(1, "id".to_owned())]));
}

#[test]
fn small_documents_are_the_same_in_any_pieces() {
    let cases: &[&[u8]] = &[
        DOCUMENT.as_bytes(),
        b"",
        b"<",
        b"<a",
        b"<a><b/><b x='>'>]]></b><![CDATA[<b>]]></a>",
        b"<a><b>\r\n&lt;</b><b>&#x41;&bad;</b></a>",
        b"<!DOCTYPE a [<!ENTITY e \"v\">]><a><b>&e;</b><b></b></a>",
        b"<a><b>\xFF</b><b>\xC3\xA6</b></a>",
        b"<a><b x=1/><b/></a>",
        b"\xEF\xBB\xBF<a/>",
        b"<a><b></a></b>",
        b"<?xml version='1.0'?><a>x</a> ",
        b"<a>]]]]></a>",
    ];
    for case in cases {
        fuzz_xml(case);
    }
}

proptest::proptest! {
    #[test]
    fn any_markup_is_the_same_in_any_pieces(parts in proptest::collection::vec(proptest::sample::select(vec![
        "<a>", "</a>", "<b x='1'>", "</b>", "<c/>", "<b>", "text", " ", "\n", "&amp;", "&", "<!--", "-->", "<![CDATA[", "]]>", "<?", "?>", "<",
        ">", "'", "\"", "=", "/", "é", "<a y=\"<\">", "<!DOCTYPE", "[", "]", "\r\n", "<r>", "</r>",
    ]), 0..24), wrap: bool) {
        let inner = parts.concat();
        fuzz_xml(if wrap { format!("<root>{inner}</root>") } else { inner }.as_bytes());
    }
}

/// Seconds that this thread has been on a processor: other load does not count.
fn on_cpu() -> f64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    statistics.split(' ').next().and_then(|n| n.parse::<f64>().ok()).expect("nanoseconds") / 1e9
}

/// Not a test of speed, which machines differ in: prints how fast the passes are. Run with `--ignored --nocapture`.
#[test]
#[ignore = "prints measurements"]
fn how_fast_the_passes_are() {
    let order = |i: usize| {
        format!(
            "    <Trip>\n      <Client>K{i:05}</Client>\n      <Guide>{}</Guide>\n      <Start>2024-03-{:02}T08:00:00</Start>\n      \
            <Route Booked=\"2024-01-02T00:00:00\">\n        <Via>{}</Via>\n        <Price>{}.50</Price>\n        <Name>Fjord and \
            mountain</Name>\n        <Town>Odda</Town>\n        <Zip>57{}</Zip>\n      </Route>\n    </Trip>\n",
            i % 9,
            i % 28 + 1,
            i % 3,
            i % 400,
            i % 90 + 10
        )
    };
    let document = format!("<Root>\n  <Trips>\n{}  </Trips>\n</Root>\n", (0..200_000).map(order).collect::<String>());
    let megabytes = document.len() as f64 / 1e6;
    let rate = |since: f64| megabytes / (on_cpu() - since);
    let input = bytes(document.clone());
    let now = on_cpu();
    let structure = look(input, "f", Known::Earlier(&[]), Rigour::Strict, |_| Ok(())).expect("well formed");
    println!("{megabytes:.0} MB; structure {:.0} MB/s", rate(now));
    assert_eq!(structure.records, [RecordPath { table: "trips".into(), path: "/Root/Trips/Trip".into() }]);
    let format = format();
    let mut cutter = format.cutter(bytes(document), &limits(1 << 20, 1 << 24, &std::env::temp_dir()));
    let now = on_cpu();
    let mut chunks = Vec::new();
    while let Some(chunk) = cutter.next().expect("readable") {
        chunks.push(chunk);
    }
    println!("cut {:.0} MB/s", rate(now));
    let now = on_cpu();
    let mut rows = 0;
    for chunk in &chunks {
        let mut records = empty_records(&format);
        format.parse(chunk, &mut records).expect("parses");
        rows += records[1].rows.len();
    }
    println!("parse {:.0} MB/s", rate(now));
    assert_eq!(rows, 200_000);
}
