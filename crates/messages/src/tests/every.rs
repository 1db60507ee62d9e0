//! Whatever comes: every message is in the answer once, and nothing panics.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        6 => (any::<i64>(), "[a-z]{0,3}").prop_map(|(n, s)| Some(format!("{{\"n\":{n},\"s\":\"{s}\"}}").into_bytes())),
        1 => "[a-z]{1,2}".prop_map(|key| Some(format!("{{\"{key}\":1}}").into_bytes())),
        1 => "\\PC{0,20}".prop_map(|text| Some(text.into_bytes())),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Some),
        1 => Just(None),
    ]
}

fn table() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        4 => Just(Some("known".to_owned())),
        1 => Just(Some("strict".to_owned())),
        1 => Just(Some("unknown".to_owned())),
        1 => "(new|other)".prop_map(Some),
        1 => "\\PC{0,4}".prop_map(Some),
        1 => Just(None),
    ]
}

proptest! {
    #[test]
    fn every_message_is_a_row_a_reject_or_waits_for_its_table(
        all in prop::collection::vec((value(), table(), prop::option::of(value())), 0..40),
        changes in any::<bool>(),
        with_columns in any::<bool>(),
        contract in prop_oneof![Just(Contract::Evolve), Just(Contract::Freeze), Just(Contract::Ignore)],
    ) {
        let mut settings = json!({"route": {"header": "to"}, "changes": changes});
        if with_columns {
            settings["columns"] = json!(["offset", "key"]);
        }
        let mut messages = Messages::new();
        for (offset, (value, table, key)) in (0..).zip(&all) {
            let headers: Vec<(&str, &[u8])> = table.iter().map(|table| ("to", table.as_bytes())).collect();
            messages.push(kafka(offset, key.as_ref().and_then(|key| key.as_deref()), value.as_deref(), &headers));
        }
        let schema = columns(&[("n", "INT64"), ("s", "STRING"), ("key", "STRING"), ("_offset", "INT64"), ("_key", "BYTES")]);
        let mut tables = tables(contract, &[("known", schema), ("strict", json!([{"name": "n", "type": "INT64", "mode": "REQUIRED"}]))]);
        tables.unknown.insert("unknown".to_owned());
        let decode = decoder(settings).decode(messages);
        let got = decode.decode(&tables).expect("decoded");
        let rows: usize = got.batches.iter().map(|batch| batch.rows.len()).sum();
        let rejects: Vec<u64> = all_rejects(&got).map(|reject| reject.index).collect();
        let once: BTreeSet<u64> = rejects.iter().copied().collect();
        prop_assert_eq!(once.len(), rejects.len(), "no message is rejected twice");
        let waits = |table: &Option<String>| table.as_ref().is_some_and(|table| {
            got.wanted.contains_key(table) && !tables.known.contains_key(table)
        });
        let waiting = all.iter().filter(|(_, table, _)| waits(table)).count();
        prop_assert_eq!(rows + rejects.len() + waiting, all.len());
        for reject in all_rejects(&got) {
            let (value, table, _) = &all[reject.index as usize];
            prop_assert_eq!(payload(reject), value.as_deref().unwrap_or_default());
            prop_assert!(!waits(table), "what waits is not rejected");
        }
        let again = decode.decode(&tables).expect("decoded");
        prop_assert_eq!(rejected(&again), rejected(&got), "decoding again gives the same");
    }
}

/// A decoder of each format, with what its contents begin with.
fn formats() -> Vec<(Arc<Decoder>, Vec<u8>)> {
    use super::server::{Server, framed};
    let server = Server::start();
    let avro = json!({"type": "record", "name": "R", "fields": [
        {"name": "n", "type": ["null", "long"]}, {"name": "s", "type": {"type": "array", "items": ["string", "bytes", "R"]}},
        {"name": "m", "type": {"type": "map", "values": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}}},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}}, {"name": "d", "type": "double"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
        {"name": "span", "type": {"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}},
    ]});
    server.register(1, "AVRO", &avro.to_string(), &[]);
    let proto = "syntax = \"proto3\"; import \"google/protobuf/struct.proto\"; import \"google/protobuf/timestamp.proto\";
        message R { int64 n = 1; repeated string s = 2; map<int32, R> m = 3; google.protobuf.Struct j = 4; R r = 5;
        google.protobuf.Timestamp at = 6; bytes b = 7; }";
    server.register(2, "PROTOBUF", proto, &[]);
    server.register(3, "JSON", &json!({"properties": {"n": {"type": "integer"}}}).to_string(), &[]);
    let registry = json!({"url": server.url});
    let with = |settings: Value| {
        let mut all = json!({"changes": true, "columns": ["key", "offset"], "registry": registry});
        all.as_object_mut().expect("a map").extend(settings.as_object().expect("a map").clone());
        decoder(all)
    };
    vec![
        (with(json!({"format": "json"})), Vec::new()),
        (with(json!({"format": "json", "route": {"field": "/n/0"}})), b"{\"n\":".to_vec()),
        (with(json!({"format": "json_schema"})), framed(3, b"")),
        (with(json!({"format": "avro"})), framed(1, b"")),
        (with(json!({"format": "protobuf"})), framed(2, &[0])),
        (with(json!({"format": "csv", "csv": {"columns": ["n", "s"]}})), Vec::new()),
        (with(json!({"format": "raw", "raw": {"text": true}})), Vec::new()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn no_bytes_make_a_decoder_panic(
        all in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), any::<bool>(), prop::option::of(any::<[u8; 3]>())), 1..8),
        contract in prop_oneof![Just(Contract::Evolve), Just(Contract::Freeze), Just(Contract::Ignore)],
    ) {
        thread_local! {
            static FORMATS: Vec<(Arc<Decoder>, Vec<u8>)> = formats();
        }
        FORMATS.with(|formats| {
            for (decoder, begin) in formats {
                let mut messages = Messages::new();
                for (offset, (bytes, begins, key)) in (0..).zip(&all) {
                    let content = if *begins { [begin, &bytes[..]].concat() } else { bytes.clone() };
                    // Keys of the Avro schema, of nothing, and of anything.
                    let framed = key.map(|key| if key[0] < 128 { [begin, &key[..]].concat() } else { key.to_vec() });
                    messages.push(kafka(offset, framed.as_deref(), Some(&content), &[]));
                }
                let decode = decoder.decode(messages);
                let first = decode.decode(&Tables::default()).expect("decoded");
                let mut known = Tables::default();
                for (table, wanted) in first.wanted {
                    known.known.insert(table, Target { schema: wanted.columns, contract });
                }
                let got = decode.decode(&known).expect("decoded");
                let rows: usize = got.batches.iter().map(|batch| batch.rows.len()).sum();
                assert_eq!(rows + all_rejects(&got).count(), all.len());
            }
        });
    }
}
