//! Rejects as rows of the table `_dead_letters`.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use longshore_core::Result;
use longshore_core::batch::{Payload, Reject, Unit};
use longshore_core::commit::{AttemptId, DeadLetterKey};
use longshore_core::destination::{Destination, Refusal};
use longshore_core::error::{Error, Kind, Place, code};
use longshore_core::retry::{Patience, Policy};
use longshore_core::schema::{Field, Mode, TableSchema, Type};
use longshore_core::store::Store;

use crate::error::{ROW_REFUSED, ROWS_REFUSED};

/// The largest payload that a row holds; larger ones go to a file beside the table.
const INLINE_BYTES: u64 = 1 << 20;

/// The columns of `_dead_letters`. Of `payload` (text), `payload_bytes` (what is not UTF-8) and `payload_file` (what is
/// larger than 1 MiB) exactly one is set; together they are the source's bytes, unchanged.
pub(crate) static SCHEMA: LazyLock<TableSchema> = LazyLock::new(|| {
    let column = |name: &str, type_: Type, description: &str| Field {
        description: Some(description.to_owned()),
        ..Field::new(name, type_)
    };
    TableSchema::new(vec![
        column("id", Type::String, "Names the dead letter; made from its commit and its place in it").with_mode(Mode::Required),
        column("unit", Type::String, "What it is: file, record, message, row or object"),
        column("table", Type::String, "The table it was meant for"),
        column("code", Type::String, "Stable reason code; see longshore explain CODE"),
        column("reason", Type::String, "Why, in words"),
        column("file", Type::String, "Path or address of the source"),
        column("line", Type::Int64, "Line of its first byte, from 1"),
        column("column", Type::Int64, "Column of its first byte, from 1"),
        column("field", Type::String, "The column that did not fit"),
        column("index", Type::Int64, "Which record of its source it is, from 0"),
        column("payload", Type::String, "The source's bytes, where they are UTF-8"),
        column("payload_bytes", Type::Bytes, "The source's bytes, where they are not UTF-8"),
        column("payload_file", Type::String, "A file with the source's bytes, where they are more than 1 MiB"),
        column("payload_digest", Type::String, "BLAKE3 of the file with the payload, hex"),
        column("decoding", Type::Json, "What decodes the payload again without its file"),
        column("pipeline", Type::String, "The pipeline"),
        column("run", Type::String, "The run"),
        column("at", Type::Timestamp, "When"),
    ])
});

/// Where dead letters of one commit come from.
pub(crate) struct Letters {
    /// The commit's token: what makes ids unique.
    pub(crate) token: String,
    pub(crate) attempt: AttemptId,
    pub(crate) pipeline: String,
    pub(crate) run: String,
    /// How many there are so far.
    pub(crate) count: u64,
    /// Lines for the index that the store has not been given yet.
    pub(crate) keys: Vec<DeadLetterKey>,
}

impl Letters {
    /// None yet, but for those that a commit had before.
    pub(crate) fn new(attempt: &AttemptId, token: &str, pipeline: &str, run: &str, count: u64) -> Self {
        let (token, pipeline, run) = (token.to_owned(), pipeline.to_owned(), run.to_owned());
        Self { token, attempt: attempt.clone(), pipeline, run, count, keys: Vec::new() }
    }

    /// Gives the store the lines for the index.
    pub(crate) async fn keep(&mut self, store: &Arc<dyn Store>, patience: &Patience) -> Result<()> {
        let keys = std::mem::take(&mut self.keys);
        Policy::default().run(patience, || store.keep_letters(&self.attempt, &keys)).await
    }

    /// These rejects as rows. A payload that is too large is kept by the destination, under the attempt.
    pub(crate) async fn rows(&mut self, destination: &dyn Destination, mut rejects: Vec<Reject>) -> Result<RecordBatch> {
        let mut payloads = Vec::with_capacity(rejects.len());
        let first = self.keys.len();
        for reject in &mut rejects {
            self.count += 1;
            let id = format!("{}-{:06}", &self.token[..12.min(self.token.len())], self.count);
            let payload = std::mem::replace(&mut reject.payload, Payload::Inline(Vec::new()));
            payloads.push(keep(destination, &self.attempt, &id, payload).await?);
            self.keys.push(DeadLetterKey {
                id,
                code: reject.code.to_owned(),
                table: reject.table.clone(),
                place: reject.place.clone(),
            });
        }
        let keys = &self.keys[first..];
        let texts = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
        let numbers = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let decodings: Vec<Option<String>> = rejects.iter().map(|r| r.decoding.as_ref().map(ToString::to_string)).collect();
        let n = rejects.len();
        let columns: Vec<ArrayRef> = vec![
            texts(keys.iter().map(|k| Some(k.id.as_str())).collect()),
            texts(rejects.iter().map(|r| Some(unit_name(r.unit))).collect()),
            texts(rejects.iter().map(|r| r.table.as_deref()).collect()),
            texts(rejects.iter().map(|r| Some(r.code)).collect()),
            texts(rejects.iter().map(|r| Some(r.reason.as_str())).collect()),
            texts(rejects.iter().map(|r| Some(r.place.file.as_str())).collect()),
            numbers(rejects.iter().map(|r| r.place.line.and_then(|l| i64::try_from(l).ok())).collect()),
            numbers(rejects.iter().map(|r| r.place.column.and_then(|c| i64::try_from(c).ok())).collect()),
            texts(rejects.iter().map(|r| r.field.as_deref()).collect()),
            numbers(rejects.iter().map(|r| i64::try_from(r.index).ok()).collect()),
            texts(payloads.iter().map(|p| p.text.as_deref()).collect()),
            Arc::new(BinaryArray::from(payloads.iter().map(|p| p.bytes.as_deref()).collect::<Vec<_>>())),
            texts(payloads.iter().map(|p| p.file.as_deref()).collect()),
            texts(payloads.iter().map(|p| p.digest.as_deref()).collect()),
            texts(decodings.iter().map(Option::as_deref).collect()),
            texts(vec![Some(self.pipeline.as_str()); n]),
            texts(vec![Some(self.run.as_str()); n]),
            Arc::new(TimestampMicrosecondArray::from(vec![chrono::Utc::now().timestamp_micros(); n]).with_timezone("UTC")),
        ];
        RecordBatch::try_new(SCHEMA.to_arrow(), columns)
            .map_err(|e| Error::new(Kind::Bug, code::BUG, "dead letters do not fit their table").caused_by(e))
    }
}

/// A row that a destination does not take.
pub(crate) fn of_refused(table: &str, split: &str, refused: Refusal) -> Reject {
    Reject {
        unit: Unit::Row,
        table: Some(table.to_owned()),
        payload: Payload::Inline(refused.values.to_string().into_bytes()),
        code: ROW_REFUSED.name,
        reason: refused.reason,
        place: Place { file: split.to_owned(), line: None, column: None },
        field: None,
        decoding: None,
        index: refused.row,
    }
}

/// There is no place for what the dead letters' own table does not take.
pub(crate) fn refused(reason: &str) -> Error {
    Error::new(Kind::Destination, ROWS_REFUSED, "dead letters were refused").with("reason", reason)
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::File => "file",
        Unit::Record => "record",
        Unit::Message => "message",
        Unit::Row => "row",
        Unit::Object => "object",
    }
}

/// A payload as its columns.
#[derive(Default)]
struct Kept {
    text: Option<String>,
    bytes: Option<Vec<u8>>,
    file: Option<String>,
    digest: Option<String>,
}

async fn keep(destination: &dyn Destination, attempt: &AttemptId, id: &str, payload: Payload) -> Result<Kept> {
    let bytes = match payload {
        Payload::Inline(bytes) if bytes.len() as u64 <= INLINE_BYTES => bytes,
        Payload::File { path, offset, length, temporary } if length <= INLINE_BYTES => {
            let bytes = read_part(&path, offset, length)?;
            remove_temporary(&path, temporary);
            bytes
        }
        large => {
            let (file, digest) = destination.keep_payload(attempt, id, &large).await?;
            if let Payload::File { path, temporary, .. } = &large {
                remove_temporary(path, *temporary);
            }
            return Ok(Kept { file: Some(file), digest: Some(digest), ..Kept::default() });
        }
    };
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Kept { text: Some(text), ..Kept::default() },
        Err(error) => Kept { bytes: Some(error.into_bytes()), ..Kept::default() },
    })
}

fn read_part(path: &std::path::Path, offset: u64, length: u64) -> Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || {
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    read().map_err(|e| {
        Error::new(Kind::Source, code::BUG, format!("the bytes of a dead letter could not be read from {}", path.display()))
            .caused_by(e)
    })
}

fn remove_temporary(path: &std::path::Path, temporary: bool) {
    if temporary && let Err(error) = std::fs::remove_file(path) {
        // It is in the spool folder, which is emptied at the next start.
        tracing::debug!(path = %path.display(), %error, "a temporary file stays");
    }
}
