//! How fast messages are decoded on one core. `cargo test --profile release -p longshore-messages speed -- --ignored --nocapture`

use std::time::{Duration, Instant};

use super::*;

/// Decodes a delivery over and over and says how fast that was.
fn measure(name: &str, settings: Value, tables: &Tables, delivery: impl Fn() -> Messages) {
    let decoder = decoder(settings);
    let messages = delivery();
    let (bytes, count) = (messages.bytes(), messages.len() as u64);
    let decode = decoder.decode(messages);
    let got = decode.decode(tables).expect("decoded");
    assert_eq!(got.batches.iter().map(|batch| batch.rows.len() as u64).sum::<u64>(), count);
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(2) {
        drop(decode.decode(tables).expect("decoded"));
        rounds += 1;
    }
    let seconds = start.elapsed().as_secs_f64() / f64::from(rounds);
    println!("{name}: {:.0} MB/s, {:.0} messages a second", bytes as f64 / seconds / 1e6, count as f64 / seconds);
}

/// An object of about 1 KB with 20 fields.
fn kilobyte(n: u64) -> String {
    let mut text = format!(
        "{{\"id\":{n},\"at\":\"2026-11-21T12:00:{:02}.{:06}Z\",\"price\":{}.25,\"ok\":{}",
        n % 60,
        n % 1_000_000,
        n % 1000,
        n.is_multiple_of(2)
    );
    for field in 0..8 {
        text.push_str(&format!(",\"text_{field}\":\"{}\"", format!("{:08x}", n * 2_654_435_761 % (1 << 32)).repeat(10)));
    }
    for field in 0..8 {
        text.push_str(&format!(",\"count_{field}\":{}", n * (field + 1)));
    }
    text.push('}');
    text
}

fn schema() -> Value {
    let mut all = vec![
        ("id".to_owned(), "INT64"),
        ("at".to_owned(), "TIMESTAMP"),
        ("price".to_owned(), "FLOAT64"),
        ("ok".to_owned(), "BOOL"),
    ];
    all.extend((0..8).map(|field| (format!("text_{field}"), "STRING")));
    all.extend((0..8).map(|field| (format!("count_{field}"), "INT64")));
    all.iter().map(|(name, type_)| json!({"name": name, "type": type_})).collect()
}

#[test]
#[ignore = "a measurement"]
fn speed_of_json() {
    let one = tables(Contract::Freeze, &[("t", schema())]);
    let delivery = || {
        let mut messages = Messages::with_capacity(1 << 20);
        for offset in 0..1000 {
            messages.push(kafka(
                offset,
                Some(b"some-key"),
                Some(kilobyte(offset as u64).as_bytes()),
                &[("trace", b"0123456789abcdef")],
            ));
        }
        messages
    };
    println!("a message has {} bytes", kilobyte(500).len());
    measure("JSON, one table", json!({}), &one, delivery);
    let mut with_columns = schema();
    for (name, type_) in [("_key", "BYTES"), ("_time", "TIMESTAMP"), ("_offset", "INT64")] {
        with_columns.as_array_mut().expect("a list").push(json!({"name": name, "type": type_}));
    }
    let more = tables(Contract::Freeze, &[("t", with_columns)]);
    measure("JSON, with columns", json!({"columns": ["key", "time", "offset"]}), &more, delivery);
    measure("JSON, changes", json!({"changes": true, "key_column": "text_0"}), &one, delivery);
    let names: Vec<String> = (0..50).map(|n| format!("table_{n}")).collect();
    let known: Vec<(&str, Value)> = names.iter().map(|name| (name.as_str(), schema())).collect();
    let fifty = tables(Contract::Freeze, &known);
    measure("JSON, 50 tables", json!({"route": {"header": "to"}}), &fifty, || {
        let mut messages = Messages::with_capacity(1 << 20);
        for offset in 0..1000 {
            let to = names[offset as usize * 7 % 50].as_bytes();
            messages.push(kafka(offset, None, Some(kilobyte(offset as u64).as_bytes()), &[("to", to)]));
        }
        messages
    });
    measure(
        "JSON, route by field",
        json!({"route": {"expression": "{field.ok}"}}),
        &tables(Contract::Freeze, &[("true", schema()), ("false", schema())]),
        delivery,
    );
}

#[test]
#[ignore = "a measurement"]
fn speed_of_avro() {
    use super::server::{Server, framed};
    let server = Server::start();
    let fields: Vec<Value> = schema()
        .as_array()
        .expect("a list")
        .iter()
        .map(|field| {
            let type_ = match field["type"].as_str() {
                Some("INT64") => json!("long"),
                Some("TIMESTAMP") => json!({"type": "long", "logicalType": "timestamp-micros"}),
                Some("FLOAT64") => json!("double"),
                Some("BOOL") => json!("boolean"),
                _ => json!(["null", "string"]),
            };
            json!({"name": field["name"], "type": type_})
        })
        .collect();
    server.register(1, "AVRO", &json!({"type": "record", "name": "R", "fields": fields}).to_string(), &[]);
    let long = |out: &mut Vec<u8>, value: i64| {
        let mut bits = ((value << 1) ^ (value >> 63)) as u64;
        while bits >= 0x80 {
            out.push(bits as u8 | 0x80);
            bits >>= 7;
        }
        out.push(bits as u8);
    };
    let content = |n: i64| {
        let mut out = Vec::new();
        long(&mut out, n);
        long(&mut out, 1_795_000_000_000_000 + n);
        out.extend(((n % 1000) as f64 + 0.25).to_le_bytes());
        out.push((n % 2) as u8);
        for _ in 0..8 {
            out.push(2);
            let text = format!("{:08x}", n * 2_654_435_761 % (1 << 32)).repeat(10);
            long(&mut out, text.len() as i64);
            out.extend(text.as_bytes());
        }
        (0..8).for_each(|field| long(&mut out, n * (field + 1)));
        framed(1, &out)
    };
    let settings = json!({"format": "avro", "registry": {"url": server.url}});
    measure("Avro, one table", settings, &tables(Contract::Freeze, &[("t", schema())]), || {
        let mut messages = Messages::with_capacity(1 << 20);
        (0..1000).for_each(|offset| messages.push(kafka(offset, Some(b"some-key"), Some(&content(offset)), &[])));
        messages
    });
}

#[test]
#[ignore = "a measurement"]
fn speed_of_poison() {
    let one = tables(Contract::Freeze, &[("t", schema())]);
    let decoder = decoder(json!({}));
    let mut messages = Messages::with_capacity(1 << 20);
    for offset in 0..1000 {
        let mut text = kilobyte(offset as u64);
        match offset % 10 {
            0 => text.truncate(500),
            3 => text = text.replace("\"price\":", "\"price\":\"x\",\"prise\":"),
            6 => text = text.replace("\"price\":", "\"new\":"),
            _ => {}
        }
        messages.push(kafka(offset, Some(b"some-key"), Some(text.as_bytes()), &[("trace", b"0123456789abcdef")]));
    }
    let bytes = messages.bytes();
    let decode = decoder.decode(messages);
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(2) {
        assert_eq!(all_rejects(&decode.decode(&one).expect("decoded")).count(), 300);
        rounds += 1;
    }
    println!("JSON, three in ten bad: {:.0} MB/s", bytes as f64 * f64::from(rounds) / start.elapsed().as_secs_f64() / 1e6);
}
