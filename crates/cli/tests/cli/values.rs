//! Any value, written as JSON, CSV and XML, comes back equal from the table, for every type.

use chrono::{DateTime, Datelike as _, TimeDelta, Timelike as _};
use serde_json::{Value, json};

use crate::place::Place;

const ROWS: usize = 300;

/// Every type that a column has, but for STRUCT.
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

/// Records with a value of each type: as columns, and again as the fields of a STRUCT beside an ARRAY of INT64.
struct Records {
    names: Vec<String>,
    rows: Vec<Vec<Value>>,
}

impl Records {
    fn new(mut dice: Dice) -> Self {
        let value = |dice: &mut Dice, type_: &str| if dice.below(8) == 0 { Value::Null } else { dice.value(type_) };
        let rows = (0..ROWS).map(|_| TYPES.iter().map(|type_| value(&mut dice, type_)).collect()).collect();
        Self { names: TYPES.iter().map(|type_| format!("v_{}", type_.to_lowercase())).collect(), rows }
    }

    fn schema(&self, nested: bool) -> Value {
        let field = |(name, type_): (&String, &&str)| json!({"name": name, "type": type_});
        let fields: Vec<Value> = self.names.iter().zip(&TYPES).map(field).collect();
        let mut all = vec![json!({"name": "id", "type": "INT64"})];
        all.extend(fields.clone());
        if nested {
            all.push(json!({"name": "inner", "type": "RECORD", "fields": fields}));
            all.push(json!({"name": "many", "type": "INT64", "mode": "REPEATED"}));
        }
        Value::Array(all)
    }

    fn json(&self) -> String {
        let object = |row: &[Value]| self.names.iter().cloned().zip(row.iter().cloned()).collect::<serde_json::Map<_, _>>();
        let line = |(id, row): (usize, &Vec<Value>)| {
            let mut whole = object(row);
            whole.extend([("id".into(), json!(id)), ("inner".into(), object(row).into()), ("many".into(), json!([id, 7, -1]))]);
            format!("{}\n", Value::Object(whole))
        };
        self.rows.iter().enumerate().map(line).collect()
    }

    fn csv(&self) -> String {
        let line = |(id, row): (usize, &Vec<Value>)| format!("{id},{}\n", row.iter().map(csv).collect::<Vec<_>>().join(","));
        let lines: String = self.rows.iter().enumerate().map(line).collect();
        format!("id,{}\n{lines}", self.names.join(","))
    }

    fn xml(&self) -> String {
        let record = |(id, row): (usize, &Vec<Value>)| {
            let fields: String = self.names.iter().zip(row).map(|(name, value)| xml(name, value)).collect();
            let many = format!("<many>{id}</many><many>7</many><many>-1</many>");
            format!("<i><id>{id}</id>{fields}<inner>{fields}</inner>{many}</i>")
        };
        format!("<r>{}</r>", self.rows.iter().enumerate().map(record).collect::<String>())
    }

    /// Compares a row of a query, or a STRUCT in it, with what was written. `exact` is its FLOAT64 as text: the reader of JSON in this
    /// test rounds numbers.
    fn check(&self, what: &str, found: &Value, exact: &Value, wanted: &[Value]) {
        for ((name, type_), wanted) in self.names.iter().zip(TYPES).zip(wanted) {
            let got = &found[name];
            let same = match type_ {
                "INT64" => plain(got) == plain(wanted),
                "FLOAT64" => {
                    let exact = exact.as_str().map(|text| text.parse::<f64>().expect("a number").to_bits());
                    exact == wanted.as_f64().map(f64::to_bits)
                }
                "JSON" => without_nulls(&parsed(got)) == without_nulls(wanted),
                _ => got == wanted,
            };
            assert!(same, "{what}, {type_}: {wanted} came back as {got}");
        }
    }
}

#[test]
fn every_type_comes_back_from_the_table_as_it_was_written() {
    let records = Records::new(Dice(0x5eed_1234_9876_4321));
    for (file, text, nested) in
        [("v.json", records.json(), true), ("v.csv", records.csv(), false), ("v.xml", records.xml(), true)]
    {
        let place = Place::with(&[(file, &text), ("schema.json", &records.schema(nested).to_string())]);
        let said = place.good(&["load", file, "--table", "t", "--schema", "schema.json"]);
        assert!(!said.stderr.contains("not fit"), "{file}: {}", said.stderr);
        let inner = if nested { ", cast(inner['v_float64'] as varchar) as inner_exact" } else { "" };
        let found = place.rows(&format!("select *, cast(v_float64 as varchar) as exact{inner} from t order by id"));
        assert_eq!(found.len(), ROWS, "{file}");
        for (id, (wanted, found)) in records.rows.iter().zip(&found).enumerate() {
            records.check(&format!("{file}, row {id}"), found, &found["exact"], wanted);
            if nested {
                records.check(&format!("{file}, row {id}, STRUCT"), &found["inner"], &found["inner_exact"], wanted);
                assert_eq!(found["many"], json!([id, 7, -1]), "{file}, row {id}");
            }
        }
    }
}

/// A JSON value, which a query may write as such or as its text.
fn parsed(value: &Value) -> Value {
    value.as_str().map_or_else(|| value.clone(), |text| serde_json::from_str(text).expect("JSON"))
}
