//! Entries for fuzzing: each decoder as a plain function of bytes that must not panic, with what must hold for any input.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use longshore_core::batch::{Payload, Rows};
use longshore_core::commit::Contract;
use longshore_core::error::{Result, code};
use longshore_core::schema::TableSchema;
use longshore_core::source::Target;

use crate::columns::Decoder;
use crate::config::{CsvConfig, CsvHeader, Jagged};
use crate::csv::CsvFormat;
use crate::cut::{Format, Limits, empty_records};
use crate::error;
use crate::json::JsonFormat;
use crate::shape::{Overrides, Shape};

/// All that a file gives, looked at and then decoded.
#[derive(Debug, PartialEq)]
pub struct Everything {
    /// Columns, by table.
    pub schemas: Vec<TableSchema>,
    /// Rows, by table.
    pub rows: Vec<RecordBatch>,
    /// Rejects, by table.
    pub rejects: Vec<Vec<Rejected>>,
}

/// What is stable about a reject.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its code.
    pub code: &'static str,
    /// Its reason.
    pub reason: String,
    /// Its index, line and column.
    pub at: (u64, u64, u64),
    /// Its column.
    pub field: Option<String>,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// Looks at a file and decodes it, as a load does. `given` is a schema instead of the inferred ones.
pub fn everything(format: &dyn Format, bytes: &[u8], limits: &Limits, given: Option<&Target>) -> Result<Everything> {
    let targets = match given {
        Some(target) => vec![target.clone(); format.tables()],
        None => look(format, bytes, limits)?,
    };
    let file: Arc<str> = "file".into();
    let decoder = |(table, target)| Decoder::new("t", file.clone(), target, format.decoding(table));
    let decoders: Vec<Decoder> = targets.iter().enumerate().map(decoder).collect();
    let mut batches: Vec<Vec<RecordBatch>> = vec![Vec::new(); format.tables()];
    let mut rejects: Vec<Vec<Rejected>> = (0..format.tables()).map(|_| Vec::new()).collect();
    let mut cutter = format.cutter(Box::new(std::io::Cursor::new(bytes.to_vec())), limits);
    while let Some(chunk) = cutter.next()? {
        let mut records = empty_records(format);
        format.parse(&chunk, &mut records)?;
        for (table, records) in records.into_iter().enumerate() {
            let all = records.rows.len() + records.rejects.len();
            let decoded = decoders[table].decode(records, &chunk.bytes)?;
            assert_eq!(decoded.batch.rows.len() + decoded.batch.rejects.len(), all, "a record is a row or a reject");
            if let Rows::Plain(batch) = decoded.batch.rows {
                batches[table].push(batch);
            }
            rejects[table].extend(decoded.batch.rejects.into_iter().map(|reject| Rejected {
                code: reject.code,
                reason: reject.reason,
                at: (reject.index, reject.place.line.unwrap_or_default(), reject.place.column.unwrap_or_default()),
                field: reject.field,
                payload: bytes_of(reject.payload),
            }));
        }
    }
    let rows = targets.iter().zip(&batches).map(|(target, batches)| {
        concat_batches(&target.schema.to_arrow(), batches).expect("batches of one schema are one batch")
    });
    let rows = rows.collect();
    Ok(Everything { schemas: targets.into_iter().map(|target| target.schema).collect(), rows, rejects })
}

fn look(format: &dyn Format, bytes: &[u8], limits: &Limits) -> Result<Vec<Target>> {
    let limits = Limits { keep_payloads: false, ..limits.clone() };
    let mut shapes = vec![Shape::new(); format.tables()];
    let mut cutter = format.cutter(Box::new(std::io::Cursor::new(bytes.to_vec())), &limits);
    while let Some(chunk) = cutter.next()? {
        let mut records = empty_records(format);
        format.parse(&chunk, &mut records)?;
        for (shape, records) in shapes.iter_mut().zip(&records) {
            let mut later = Shape::new();
            later.observe_all(records);
            shape.merge(later);
        }
    }
    let target = |shape: &Shape| Ok(Target { schema: shape.resolve(&Overrides::default())?, contract: Contract::Evolve });
    shapes.iter().map(target).collect()
}

fn bytes_of(payload: Payload) -> Vec<u8> {
    match payload {
        Payload::Inline(bytes) => bytes,
        Payload::File { path, offset, length, .. } => {
            let bytes = std::fs::read(&path).expect("a payload's file exists");
            std::fs::remove_file(&path).expect("a payload's file is removed by its reader");
            bytes[offset as usize..(offset + length) as usize].to_vec()
        }
    }
}

/// What must hold: the size of chunks changes nothing, and what was inferred from records holds these records.
fn check(format: &dyn Format, bytes: &[u8]) {
    for max_record in [100, 1 << 20] {
        let limits = |chunk| Limits { chunk, max_record, spill: std::env::temp_dir(), keep_payloads: true };
        let small = everything(format, bytes, &limits(64), None);
        let large = everything(format, bytes, &limits(max_record), None);
        match (small, large) {
            (Ok(small), Ok(large)) => {
                assert_eq!(small, large, "chunk sizes change nothing");
                for reject in large.rejects.iter().flatten() {
                    assert_ne!(reject.code, code::TYPE_MISMATCH.name, "inferred columns hold their records: {reject:?}");
                    assert_ne!(reject.code, code::UNKNOWN_COLUMN.name, "inferred columns hold their records: {reject:?}");
                }
            }
            (Err(small), Err(large)) => assert_eq!(format!("{small:?}"), format!("{large:?}"), "chunk sizes change nothing"),
            (small, large) => panic!("chunk sizes change nothing: {small:?} and {large:?}"),
        }
    }
}

/// Any bytes as JSON, by themselves and with pointers into them.
pub fn fuzz_json(bytes: &[u8]) {
    for pointers in [vec![], vec!["/a".to_owned(), "/b/0".to_owned()]] {
        let format = JsonFormat::detect("file".into(), bytes, &pointers).expect("pointers beside each other");
        check(&format, bytes);
    }
}

/// Any bytes as CSV, with everything found and with everything set.
pub fn fuzz_csv(bytes: &[u8]) {
    let set = CsvConfig {
        delimiter: Some(";".to_owned()),
        header: CsvHeader::No,
        null: Some("NULL".to_owned()),
        quote: Some("'".to_owned()),
        jagged: Jagged::Fill,
    };
    for config in [CsvConfig::default(), set] {
        match CsvFormat::detect("file".into(), bytes, true, &config) {
            Ok(format) => check(&format, bytes),
            Err(refused) => assert_eq!(refused.code(), error::FILE_UNREADABLE.name),
        }
    }
}
