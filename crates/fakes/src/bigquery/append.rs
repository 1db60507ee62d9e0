//! AppendRows: one connection's requests, in their order.

use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as pb;
use longshore_core::schema::{Field, TableSchema, Type};
use pb::append_rows_request::Rows as Sent;
use pb::append_rows_response::{AppendResult, Response};
use pb::storage_error::StorageErrorCode;
use pb::write_stream::Type as StreamType;
use prost::Message as _;
use tonic::{Code, Status};

use super::cell::Row;
use super::changes::{self, CHANGE_SEQUENCE, CHANGE_TYPE, Change};
use super::fault::Fault;
use super::from_arrow::{self, Mismatch, Source};
use super::from_proto::Message;
use super::state::State;
use super::streams::{error_status, is_default, labelled, parse_table, refused, retried_after};

/// How the client writes its rows.
enum Writer {
    Arrow(bytes::Bytes),
    Proto(Message),
}

/// What a connection remembers from one request to the next.
#[derive(Default)]
pub(crate) struct Connection {
    stream: String,
    writer: Option<Writer>,
    /// The version of the table's schema that the client knows.
    known_schema: Option<(String, u64)>,
}

/// What does not go into the table, and how that is said.
enum Refusal {
    /// The connection ends.
    Ends(Status),
    /// The response says it and the connection goes on.
    Answer { code: Code, error: StorageErrorCode, message: String },
    /// Rows of the request are bad.
    Rows(Vec<(i64, String)>),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Refusal::Ends(status)
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::Answer { code: Code::InvalidArgument, error: StorageErrorCode::Unspecified, message: message.into() }
}

impl Connection {
    /// The stream that a request is about.
    pub(crate) fn subject(&self, request: &pb::AppendRowsRequest) -> String {
        let name = if request.write_stream.is_empty() { &self.stream } else { &request.write_stream };
        labelled(name)
    }

    /// Does a request. An error ends the connection.
    pub(crate) fn append(
        &mut self,
        state: &mut State,
        request: &pb::AppendRowsRequest,
        fault: Option<&Fault>,
    ) -> Result<pb::AppendRowsResponse, Status> {
        let mut answer = pb::AppendRowsResponse::default();
        let result = self.do_append(state, request, fault, &mut answer);
        answer.write_stream.clone_from(&self.stream);
        match result {
            Ok(offset) => answer.response = Some(Response::AppendResult(AppendResult { offset })),
            Err(Refusal::Ends(status)) => return Err(status),
            Err(Refusal::Answer { code, error, message }) => {
                let message = format!("{message} Entity: {}", self.stream);
                answer.response = Some(Response::Error(error_status(code, error as i32, &self.stream, &message)));
            }
            Err(Refusal::Rows(rows)) => {
                let why = "Errors found while processing rows. Please refer to the row_errors field for details. The list may \
                           not be complete because of the size limitations.";
                let message = format!("{why} Entity: {}", self.stream);
                answer.response = Some(Response::Error(error_status(Code::InvalidArgument, 0, &self.stream, &message)));
                let code = pb::row_error::RowErrorCode::FieldsError as i32;
                answer.row_errors = rows.into_iter().map(|(index, message)| pb::RowError { index, code, message }).collect();
            }
        }
        Ok(answer)
    }

    fn do_append(
        &mut self,
        state: &mut State,
        request: &pb::AppendRowsRequest,
        fault: Option<&Fault>,
        answer: &mut pb::AppendRowsResponse,
    ) -> Result<Option<i64>, Refusal> {
        if request.encoded_len() > state.append_limit {
            let why = format!("AppendRows request too large: {} limit {}", request.encoded_len(), state.append_limit);
            return Err(Status::invalid_argument(why).into());
        }
        self.settle_stream(request)?;
        // What the connection remembers does not depend on whether this request is taken.
        let with_changes = self.settle_writer(request)?;
        let (project, dataset, table_name) = parse_table(&self.stream)?;
        let key = format!("{dataset}.{table_name}");
        let table = state.table_of(&project, &dataset, &table_name)?;
        let default = is_default(&self.stream);
        let mut known = table.schema_version;
        if !default {
            let stream = state.stream(&self.stream)?;
            known = stream.schema_version;
            offset_fits(stream, request.offset)?;
        } else if request.offset.is_some() {
            return Err(invalid("Offset must not be set for the default stream."));
        }
        let schema = match (fault, &table.previous_schema) {
            (Some(Fault::StaleSchema), Some(previous)) => previous,
            _ => &table.schema,
        };
        if with_changes && !default {
            return Err(invalid(format!("{CHANGE_TYPE} can be written to the default stream only.")));
        }
        let keys = changes::key_columns(table);
        if with_changes && keys.is_none() {
            return Err(invalid(format!("{CHANGE_TYPE} cannot be written to a table without a primary key.")));
        }
        let (rows, changes) = self.read(request, schema, with_changes)?;
        if let Some(Fault::RefuseRows(bad)) = fault {
            return Err(Refusal::Rows(bad.iter().map(|index| (*index, "Refused by the test.".to_owned())).collect()));
        }
        let stale = table.previous_schema.is_some() && matches!(fault, Some(Fault::StaleSchema));
        if !stale {
            self.tell_schema(&key, known, table, answer);
        }
        let rows = if stale { rows_of_now(&schema.fields, &table.schema.fields, rows) } else { rows };
        if !default {
            return Ok(Some(append_to_stream(state, &self.stream, rows)));
        }
        let table = state.tables.get_mut(&key).expect("it was found above");
        match keys {
            Some(keys) if with_changes => changes::apply(table, &keys, changes.into_iter().zip(rows).collect()),
            _ => table.append(rows, None),
        }
        Ok(None)
    }

    fn settle_stream(&mut self, request: &pb::AppendRowsRequest) -> Result<(), Refusal> {
        let named = request.write_stream.replace("/streams/_default", "/_default");
        let canonical = named.replace("/_default", "/streams/_default");
        match (self.stream.is_empty(), canonical.is_empty()) {
            (true, true) => return Err(Status::invalid_argument("The first request must name a write stream.").into()),
            (_, true) => {}
            (true, false) => self.stream = canonical,
            (false, false) if canonical != self.stream => {
                // Only default streams share a connection.
                if !is_default(&canonical) || !is_default(&self.stream) {
                    return Err(Status::invalid_argument("The write stream cannot change within a connection.").into());
                }
                self.stream = canonical;
                self.writer = None;
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes up the writer's schema; says whether its rows are changes.
    fn settle_writer(&mut self, request: &pb::AppendRowsRequest) -> Result<bool, Refusal> {
        match &request.rows {
            Some(Sent::ArrowRows(data)) => {
                if let Some(schema) = &data.writer_schema {
                    self.writer = Some(Writer::Arrow(schema.serialized_schema.clone()));
                }
            }
            Some(Sent::ProtoRows(data)) => {
                if let Some(descriptor) = data.writer_schema.as_ref().and_then(|schema| schema.proto_descriptor.as_ref()) {
                    self.writer = Some(Writer::Proto(Message::new(descriptor).map_err(Status::invalid_argument)?));
                }
            }
            None => return Err(Status::invalid_argument("The request has no rows.").into()),
        }
        match &self.writer {
            None => Err(Status::invalid_argument("The first request must hold the writer's schema.").into()),
            Some(Writer::Proto(message)) => Ok(message.has(CHANGE_TYPE)),
            Some(Writer::Arrow(schema)) => {
                let reader = StreamReader::try_new(Cursor::new(schema.clone()), None);
                let reader = reader.map_err(|e| Status::invalid_argument(format!("Invalid Arrow schema: {e}")))?;
                Ok(reader.schema().column_with_name(CHANGE_TYPE).is_some())
            }
        }
    }

    fn read(
        &self,
        request: &pb::AppendRowsRequest,
        schema: &TableSchema,
        with_changes: bool,
    ) -> Result<(Vec<Row>, Vec<Change>), Refusal> {
        let mut fields = schema.fields.clone();
        if with_changes {
            fields.push(Field::new(CHANGE_TYPE, Type::String));
            fields.push(Field::new(CHANGE_SEQUENCE, Type::String));
        }
        let read: Vec<Result<Row, String>> = match (&request.rows, &self.writer) {
            (Some(Sent::ArrowRows(data)), Some(Writer::Arrow(writer))) => {
                let rows = data.rows.as_ref().map(|rows| rows.serialized_record_batch.clone()).unwrap_or_default();
                let mut all = Vec::new();
                for batch in batches(writer, &rows).map_err(|e| invalid(format!("Invalid Arrow data: {e}")))? {
                    all.extend(from_arrow::rows(&fields, &batch, Source::Written).map_err(mismatch)?);
                }
                all
            }
            (Some(Sent::ProtoRows(data)), Some(Writer::Proto(message))) => {
                message.fits(&fields).map_err(mismatch)?;
                let rows = data.rows.as_ref().map(|rows| rows.serialized_rows.as_slice()).unwrap_or_default();
                rows.iter().map(|row| message.row(&fields, row)).collect()
            }
            _ => return Err(invalid("The rows are not in the format of the writer's schema.")),
        };
        let mut bad = Vec::new();
        let mut rows = Vec::with_capacity(read.len());
        let mut changes = Vec::new();
        for (index, row) in (0i64..).zip(read) {
            let split = row.and_then(|mut row| {
                if with_changes {
                    let tail = row.split_off(fields.len() - 2);
                    changes.push(Change::read(&tail[0], &tail[1])?);
                }
                Ok(row)
            });
            match split {
                Ok(row) => rows.push(row),
                Err(why) => bad.push((index, why)),
            }
        }
        if bad.is_empty() { Ok((rows, changes)) } else { Err(Refusal::Rows(bad)) }
    }

    fn tell_schema(&mut self, key: &str, known: u64, table: &super::state::Table, answer: &mut pb::AppendRowsResponse) {
        let known = match &self.known_schema {
            Some((of, version)) if of == key => *version,
            _ => known,
        };
        if known < table.schema_version {
            answer.updated_schema = Some(super::streams::schema_message(&table.schema));
        }
        self.known_schema = Some((key.to_owned(), table.schema_version));
    }
}

fn offset_fits(stream: &super::streams::Stream, offset: Option<i64>) -> Result<(), Refusal> {
    let answer = |code, error, message: String| Err(Refusal::Answer { code, error, message });
    if stream.finalized {
        let why = "Stream has been finalized and cannot be appended.".to_owned();
        return answer(Code::FailedPrecondition, StorageErrorCode::StreamFinalized, why);
    }
    match offset {
        Some(offset) if offset < 0 => Err(invalid("The offset must not be negative.")),
        Some(offset) if offset < stream.length => {
            let why = format!("The offset is within stream, expected offset {}, received {offset}.", stream.length);
            answer(Code::AlreadyExists, StorageErrorCode::OffsetAlreadyExists, why)
        }
        Some(offset) if offset > stream.length => {
            let why = format!("The offset is beyond stream, expected offset {}, received {offset}.", stream.length);
            answer(Code::OutOfRange, StorageErrorCode::OffsetOutOfRange, why)
        }
        _ => Ok(()),
    }
}

fn append_to_stream(state: &mut State, name: &str, rows: Vec<Row>) -> i64 {
    let stream = state.streams.get_mut(name).expect("it was found above");
    let offset = stream.length;
    stream.length += rows.len() as i64;
    if stream.type_ == StreamType::Committed {
        stream.visible = stream.length;
        let table = stream.table.clone();
        state.tables.get_mut(&table).expect("it was found above").append(rows, None);
    } else {
        if let Some(table) = state.tables.get(&stream.table) {
            stream.follow(&table.schema.fields);
        }
        stream.hidden.extend(rows);
    }
    offset
}

/// Rows that were read by an older schema, in the columns of the newer one.
fn rows_of_now(old: &[Field], new: &[Field], rows: Vec<Row>) -> Vec<Row> {
    rows.into_iter().map(|row| super::state::rearranged(old, new, row)).collect()
}

fn mismatch(mismatch: Mismatch) -> Refusal {
    match mismatch {
        Mismatch::Unknown(names) => Refusal::Answer {
            code: Code::InvalidArgument,
            error: StorageErrorCode::SchemaMismatchExtraFields,
            message: format!("Input schema has more fields than BigQuery schema, extra fields: '{}'.", names.join(",")),
        },
        Mismatch::Invalid(why) => invalid(why),
    }
}

/// The schema and the batch come as messages of their own; together they are a stream.
fn batches(schema: &bytes::Bytes, rows: &bytes::Bytes) -> Result<Vec<RecordBatch>, arrow::error::ArrowError> {
    let mut whole = schema.to_vec();
    whole.extend_from_slice(rows);
    StreamReader::try_new(Cursor::new(whole), None)?.collect()
}

/// The status of a fault that ends the connection.
pub(crate) fn ending(fault: &Fault, entity: &str) -> Option<Status> {
    match fault {
        Fault::ExpireToken => Some(Status::unauthenticated("Request had invalid authentication credentials.")),
        Fault::RefuseGrpc { code, message, storage_error: None } => Some(Status::new(Code::from(*code), message)),
        Fault::RefuseGrpc { code, message, storage_error: Some(error) } => {
            let error = StorageErrorCode::try_from(*error).unwrap_or(StorageErrorCode::Unspecified);
            Some(refused(Code::from(*code), error, entity, message))
        }
        Fault::Refuse { status, reason, message, retry_after } => {
            let code = match status {
                _ if matches!(reason.as_str(), "quotaExceeded" | "rateLimitExceeded" | "jobRateLimitExceeded") => {
                    Code::ResourceExhausted
                }
                400 => Code::InvalidArgument,
                401 => Code::Unauthenticated,
                403 => Code::PermissionDenied,
                404 => Code::NotFound,
                409 => Code::Aborted,
                429 => Code::ResourceExhausted,
                503 => Code::Unavailable,
                504 => Code::DeadlineExceeded,
                _ => Code::Internal,
            };
            Some(retry_after.map_or_else(|| Status::new(code, message), |seconds| retried_after(code, message, seconds)))
        }
        _ => None,
    }
}
