//! Records as a fleet of machines might send them: 1 KB of JSON each, with nested and repeated fields; the same in Avro.

use serde_json::{Value, json};

/// So many different records there are; they come again and again.
const POOL: u64 = 10_000;
/// The table of all records.
const TABLE: &str = "readings";
/// The bytes of a record in JSON.
const BYTES: usize = 1_000;
/// A large record, which is cut off, comes once in so many poisonous ones.
const LARGE: u64 = 3_000;

/// How the records of a topic are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Avro,
    /// JSON of which three in ten records do not fit; one in 10,000 has 20 MB.
    Poison {
        large: bool,
    },
}

impl Format {
    pub fn of(name: &str) -> Result<Self, String> {
        match name {
            "json" => Ok(Self::Json),
            "avro" => Ok(Self::Avro),
            "poison" => Ok(Self::Poison { large: false }),
            "poison_large" => Ok(Self::Poison { large: true }),
            other => Err(format!("there is no format {other}")),
        }
    }
}

/// A topic's records by their number.
pub struct Records {
    pool: Vec<Vec<u8>>,
    format: Format,
    large: Vec<u8>,
}

impl Records {
    /// `schema` is the registry's id of the schema, for Avro.
    pub fn new(format: Format, schema: u32) -> Self {
        let reading = |n| match format {
            Format::Json | Format::Poison { .. } => Reading::new(n).json().into_bytes(),
            Format::Avro => Reading::new(n).avro(schema),
        };
        let large = if format == (Format::Poison { large: true }) { 20_000_000 } else { 0 };
        let large = format!("{{\"note\": \"{}", "x".repeat(large)).into_bytes();
        Self { pool: (0..POOL).map(reading).collect(), format, large }
    }

    /// The table that a record names, and its content.
    pub fn get(&self, n: u64) -> (Option<&str>, &[u8]) {
        let whole = &self.pool[(n % POOL) as usize][..];
        if !matches!(self.format, Format::Poison { .. }) || n % 10 >= 3 {
            return (Some(TABLE), whole);
        }
        let kind = n / 10 * 3 + n % 10;
        if kind % LARGE == LARGE - 1 {
            return (Some(TABLE), &self.large);
        }
        match kind % 6 {
            // Cut off.
            0 => (Some(TABLE), &whole[..whole.len() / 2]),
            1 => (Some(TABLE), br#"{"sequence": "not a number", "device": "crane-1"}"#),
            2 => (Some("nowhere"), whole),
            3 => (None, whole),
            4 => (Some(TABLE), DEEP),
            _ => (Some(TABLE), b"{\"device\": \"\xff\xfe\"}"),
        }
    }
}

const DEEP: &[u8] = &{
    let mut deep = [b'['; 2_000];
    let mut at = 1_000;
    while at < deep.len() {
        deep[at] = b']';
        at += 1;
    }
    deep
};

/// The columns of the table, in BigQuery's own JSON.
pub fn columns() -> Value {
    let column = |name: &str, kind: &str| json!({"name": name, "type": kind});
    let record = |name: &str, fields: Value| json!({"name": name, "type": "RECORD", "fields": fields});
    json!([
        column("event_id", "STRING"),
        column("sequence", "INT64"),
        column("occurred_at", "TIMESTAMP"),
        column("device", "STRING"),
        record("customer", json!([
            column("id", "INT64"), column("name", "STRING"), column("country", "STRING"), column("vip", "BOOL"),
        ])),
        record("position", json!([
            column("latitude", "FLOAT64"), column("longitude", "FLOAT64"), column("accuracy", "FLOAT64"),
        ])),
        {"name": "readings", "type": "FLOAT64", "mode": "REPEATED"},
        column("temperature", "FLOAT64"),
        column("humidity", "FLOAT64"),
        column("battery", "FLOAT64"),
        column("duration_ms", "INT64"),
        column("attempt", "INT64"),
        column("firmware", "STRING"),
        column("status", "STRING"),
        {"name": "tags", "type": "STRING", "mode": "REPEATED"},
        column("trace_id", "STRING"),
        column("note", "STRING"),
    ])
}

/// The same as a schema of Avro.
pub fn avro_schema() -> String {
    fn field(column: &Value) -> Value {
        let name = &column["name"];
        let kind = match column["type"].as_str() {
            Some("STRING") => json!("string"),
            Some("INT64") => json!("long"),
            Some("FLOAT64") => json!("double"),
            Some("BOOL") => json!("boolean"),
            Some("TIMESTAMP") => json!({"type": "long", "logicalType": "timestamp-micros"}),
            _ => {
                json!({"type": "record", "name": format!("{}_t", name.as_str().unwrap_or_default()), "fields": fields(&column["fields"])})
            }
        };
        let kind = if column["mode"] == "REPEATED" { json!({"type": "array", "items": kind}) } else { kind };
        json!({"name": name, "type": kind})
    }
    fn fields(columns: &Value) -> Vec<Value> {
        columns.as_array().map(|columns| columns.iter().map(field).collect()).unwrap_or_default()
    }
    json!({"type": "record", "name": "reading", "fields": fields(&columns())}).to_string()
}

/// Numbers that look random and are the same each time (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// With so many digits behind the point.
    fn decimal(&mut self, below: u64, digits: i32) -> f64 {
        let unit = 10_f64.powi(digits);
        (self.next() % (below * unit as u64)) as f64 / unit
    }

    fn word(&mut self) -> &'static str {
        const WORDS: [&str; 16] = [
            "harbour", "crane", "pier", "cargo", "tide", "anchor", "rope", "sail", "lantern", "barge", "gull", "mast", "berth",
            "quay", "winch", "keel",
        ];
        WORDS[(self.next() % 16) as usize]
    }

    fn words(&mut self, count: usize) -> String {
        (0..count).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }
}

struct Reading {
    value: Value,
    micros: i64,
}

impl Reading {
    fn new(n: u64) -> Self {
        let mut random = Numbers(n);
        let micros = 1_790_000_000_000_000 + (n * 1_234_567 + random.next() % 1_000_000) as i64;
        let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
        let at = chrono::DateTime::from_timestamp(seconds, rest as u32 * 1_000).unwrap_or_default();
        let id = uuid::Uuid::from_u64_pair(random.next(), random.next());
        let mut value = json!({
            "event_id": id.to_string(),
            "sequence": n,
            "occurred_at": at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
            "device": format!("crane-{:03}", random.next() % 500),
            "customer": {
                "id": random.next() % 100_000,
                "name": random.words(3),
                "country": "NO",
                "vip": random.next().is_multiple_of(10),
            },
            "position": {
                "latitude": random.decimal(90, 6),
                "longitude": random.decimal(180, 6),
                "accuracy": random.decimal(20, 1),
            },
            "readings": (0..12).map(|_| random.decimal(1_000, 3)).collect::<Vec<_>>(),
            "temperature": random.decimal(50, 2),
            "humidity": random.decimal(100, 1),
            "battery": random.decimal(5, 2),
            "duration_ms": random.next() % 100_000,
            "attempt": random.next() % 4,
            "firmware": format!("4.{}.{}", random.next() % 20, random.next() % 100),
            "status": random.word(),
            "tags": (0..4).map(|_| random.word()).collect::<Vec<_>>(),
            "trace_id": format!("{:016x}{:016x}", random.next(), random.next()),
            "note": "",
        });
        let rest = BYTES.saturating_sub(value.to_string().len());
        let mut note = random.words(rest / 4);
        note.truncate(rest);
        value["note"] = json!(note);
        Self { value, micros }
    }

    fn json(&self) -> String {
        self.value.to_string()
    }

    /// With the five bytes of Confluent before it.
    fn avro(&self, schema: u32) -> Vec<u8> {
        let mut out = vec![0];
        out.extend(schema.to_be_bytes());
        self.fields(&columns(), &self.value, &mut out);
        out
    }

    fn fields(&self, columns: &Value, value: &Value, out: &mut Vec<u8>) {
        for column in columns.as_array().into_iter().flatten() {
            let value = &value[column["name"].as_str().unwrap_or_default()];
            match (column["mode"].as_str(), value.as_array()) {
                (Some("REPEATED"), Some(items)) => {
                    long(items.len() as i64, out);
                    items.iter().for_each(|item| self.one(column, item, out));
                    long(0, out);
                }
                _ => self.one(column, value, out),
            }
        }
    }

    fn one(&self, column: &Value, value: &Value, out: &mut Vec<u8>) {
        match column["type"].as_str() {
            Some("STRING") => {
                let text = value.as_str().unwrap_or_default();
                long(text.len() as i64, out);
                out.extend(text.as_bytes());
            }
            Some("INT64") => long(value.as_i64().unwrap_or_default(), out),
            Some("FLOAT64") => out.extend(value.as_f64().unwrap_or_default().to_le_bytes()),
            Some("BOOL") => out.push(u8::from(value == true)),
            Some("TIMESTAMP") => long(self.micros, out),
            _ => self.fields(&column["fields"], value, out),
        }
    }
}

/// Avro's way to write a number: the sign last, seven bits to a byte.
fn long(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
