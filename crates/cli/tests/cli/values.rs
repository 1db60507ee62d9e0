//! Any value, written as JSON, CSV and XML, comes back equal from the table, for every type.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike as _, TimeDelta, Timelike as _};
use serde_json::{Value, json};

use crate::place::Place;

const ROWS: usize = 300;

/// Every type that a column has, but for STRUCT, which holds them all.
const TYPES: [&str; 14] = [
    "STRING",
    "BYTES",
    "INT64",
    "FLOAT64",
    "NUMERIC",
    "BIGNUMERIC",
    "BOOL",
    "TIMESTAMP",
    "DATE",
    "TIME",
    "DATETIME",
    "JSON",
    "GEOGRAPHY",
    "INTERVAL",
];

/// A small generator, so that a seed names a test.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn text(&mut self) -> String {
        let alphabet =
            ['a', 'Z', '7', ' ', '\t', '\n', '\r', ',', ';', '"', '\'', '<', '>', '&', ']', '\\', '/', '-', 'é', '漢', '🦀'];
        (0..self.below(12)).map(|_| self.pick(&alphabet)).collect()
    }

    /// A decimal in its shortest form, with at most so many digits before and behind the point.
    fn decimal(&mut self, before: u64, behind: u64) -> String {
        let digits = |dice: &mut Self, count| (0..count).map(|_| char::from(b'0' + dice.below(10) as u8)).collect::<String>();
        let count = self.below(before + 1);
        let whole = digits(self, count).trim_start_matches('0').to_owned();
        let count = self.below(behind + 1);
        let fraction = digits(self, count).trim_end_matches('0').to_owned();
        let number = match (whole.is_empty(), fraction.is_empty()) {
            (true, true) => return "0".to_owned(),
            (_, true) => whole,
            (true, false) => format!("0.{fraction}"),
            (false, false) => format!("{whole}.{fraction}"),
        };
        if self.below(2) == 0 { number } else { format!("-{number}") }
    }

    /// Any microsecond of the years 1 to 9999.
    fn moment(&mut self) -> DateTime<chrono::Utc> {
        let (first, last) = (-62_135_596_800i64, 253_402_300_799i64);
        let seconds = match self.below(10) {
            0 => first,
            1 => last,
            _ => first + self.below((last - first) as u64) as i64,
        };
        let micros = self.pick(&[0, 1, 999_999, 500_000, 120]);
        DateTime::from_timestamp(seconds, 0).expect("in range") + TimeDelta::microseconds(micros)
    }

    /// A value as JSON input has it; texts stand for what JSON has no form for.
    fn value(&mut self, type_: &str) -> Value {
        let moment = self.moment();
        let day = format!("{:04}-{:02}-{:02}", moment.year(), moment.month(), moment.day());
        let micros = moment.nanosecond() / 1000;
        // As a query writes it: none, three or six digits.
        let fraction = match micros {
            0 => String::new(),
            _ if micros.is_multiple_of(1000) => format!(".{:03}", micros / 1000),
            _ => format!(".{micros:06}"),
        };
        let time = format!("{:02}:{:02}:{:02}{fraction}", moment.hour(), moment.minute(), moment.second());
        match type_ {
            "STRING" => json!(self.text()),
            "BYTES" => {
                let bytes: Vec<u8> = (0..self.below(20)).map(|_| self.next() as u8).collect();
                json!(longshore_files::values::to_base64(&bytes))
            }
            "INT64" => {
                let random = self.next() as i64;
                json!(self.pick(&[i64::MIN, i64::MAX, 0, -1, 1 << 53, random]))
            }
            "FLOAT64" => loop {
                let random = f64::from_bits(self.next());
                let value = self.pick(&[0.1, -0.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, random, random]);
                if value.is_finite() {
                    break json!(value);
                }
            },
            "NUMERIC" => json!(self.decimal(29, 9)),
            "BIGNUMERIC" => json!(self.decimal(38, 38)),
            "BOOL" => json!(self.below(2) == 0),
            "TIMESTAMP" => json!(format!("{day}T{time}Z")),
            "DATE" => json!(day),
            "TIME" => json!(time),
            "DATETIME" => json!(format!("{day}T{time}")),
            "JSON" => json!({"a": [1, self.text(), null], "b": {"c": self.below(100)}}),
            "GEOGRAPHY" => json!(format!("POINT({} {})", self.below(180), self.below(90))),
            "INTERVAL" => json!(format!("{}-{} {} {}:0:0", self.below(100), self.below(12), self.below(28), self.below(24))),
            other => panic!("no values of {other}"),
        }
    }
}

/// A value as text formats write it; NULL is nothing.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn csv(value: &Value) -> String {
    plain(value).map_or_else(String::new, |text| format!("\"{}\"", text.replace('"', "\"\"")))
}

fn xml(name: &str, value: &Value) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace(']', "&#93;").replace('\r', "&#13;");
    plain(value).map_or_else(String::new, |text| format!("<{name}>{}</{name}>", escape(&text)))
}

/// What stands in a table for NULL stands for nothing in an input.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            object.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect()
        }
        other => other.clone(),
    }
}

#[test]
fn every_type_comes_back_from_the_table_as_it_was_written() {
    let mut dice = Dice(0x5eed_1234_9876_4321);
    let rows: Vec<Vec<Value>> = (0..ROWS)
        .map(|_| TYPES.iter().map(|type_| if dice.below(8) == 0 { Value::Null } else { dice.value(type_) }).collect())
        .collect();
    let names: Vec<String> = TYPES.iter().map(|type_| format!("v_{}", type_.to_lowercase())).collect();
    let field = |(name, type_): (&String, &&str)| json!({"name": name, "type": type_});
    let mut fields = vec![json!({"name": "id", "type": "INT64"})];
    fields.extend(names.iter().zip(&TYPES).map(field));
    let (mut lines, mut table, mut document) = (String::new(), format!("id,{}\n", names.join(",")), String::from("<r>"));
    for (id, row) in rows.iter().enumerate() {
        let mut object = serde_json::Map::new();
        object.insert("id".into(), json!(id));
        object.extend(names.iter().cloned().zip(row.iter().cloned()));
        writeln!(lines, "{}", Value::Object(object)).expect("text");
        writeln!(table, "{id},{}", row.iter().map(csv).collect::<Vec<_>>().join(",")).expect("text");
        let elements: String = names.iter().zip(row).map(|(name, value)| xml(name, value)).collect();
        write!(document, "<i><id>{id}</id>{elements}</i>").expect("text");
    }
    let place = Place::with(&[("v.json", &lines), ("v.csv", &table), ("v.xml", &format!("{document}</r>"))]);
    place.write("schema.json", &Value::Array(fields).to_string());
    for file in ["v.json", "v.csv", "v.xml"] {
        let name = file.replace('.', "_");
        let said = place.good(&["load", file, "--table", &name, "--schema", "schema.json"]);
        assert!(!said.stderr.contains("not fit"), "{file}: {}", said.stderr);
        // The reader of JSON in this test rounds numbers; of texts it does not.
        let found = place.rows(&format!("select *, cast(v_float64 as varchar) as exact from {name} order by id"));
        assert_eq!(found.len(), ROWS, "{file}");
        for (row, found) in rows.iter().zip(&found) {
            for ((name, type_), wanted) in names.iter().zip(TYPES).zip(row) {
                let got = &found[name];
                let same = match type_ {
                    // Numbers that JSON readers might round are texts.
                    "INT64" => plain(got) == plain(wanted),
                    "FLOAT64" => {
                        let exact = found["exact"].as_str().map(|text| text.parse::<f64>().expect("a number").to_bits());
                        exact == wanted.as_f64().map(f64::to_bits)
                    }
                    "JSON" => without_nulls(&parsed(got)) == without_nulls(wanted),
                    _ => got == wanted,
                };
                assert!(same, "{file}, {type_} in row {}: {wanted} came back as {got}", found["id"]);
            }
        }
    }
}

/// A JSON value, which a query may write as such or as its text.
fn parsed(value: &Value) -> Value {
    value.as_str().map_or_else(|| value.clone(), |text| serde_json::from_str(text).expect("JSON"))
}
