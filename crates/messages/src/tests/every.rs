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
