//! Write streams: what each call does to them and to their tables.

use google::cloud::bigquery::storage::v1 as pb;
use googleapis_tonic_google_cloud_bigquery_storage_v1::google;
use longshore_core::schema::{Field, Mode, TableSchema, Type};
use pb::storage_error::StorageErrorCode;
use pb::write_stream::Type as StreamType;
use prost::Message as _;
use tonic::{Code, Status};

use super::cell::Row;
use super::state::{State, Table, rearranged};

/// A write stream.
#[derive(Clone)]
pub(crate) struct Stream {
    pub(crate) name: String,
    /// `dataset.table`.
    pub(crate) table: String,
    /// Which table of that name.
    pub(crate) incarnation: u64,
    pub(crate) type_: StreamType,
    /// The rows that are not visible yet; all of a committed stream's are.
    pub(crate) hidden: Vec<Row>,
    /// The columns that these rows have.
    pub(crate) fields: Vec<Field>,
    /// How many rows were appended.
    pub(crate) length: i64,
    /// How many of them are visible.
    pub(crate) visible: i64,
    pub(crate) finalized: bool,
    pub(crate) expired: bool,
    pub(crate) committed: Option<prost_types::Timestamp>,
    pub(crate) created: prost_types::Timestamp,
    pub(crate) schema_version: u64,
}

pub(crate) fn now() -> prost_types::Timestamp {
    let now = chrono::Utc::now();
    prost_types::Timestamp { seconds: now.timestamp(), nanos: i32::try_from(now.timestamp_subsec_nanos()).unwrap_or(0) }
}

/// A status whose details hold a `StorageError`.
pub(crate) fn refused(code: Code, error: StorageErrorCode, entity: &str, message: impl Into<String>) -> Status {
    let message = format!("{} Entity: {entity}", message.into());
    let status = error_status(code, error as i32, entity, &message);
    Status::with_details(code, message, status.encode_to_vec().into())
}

/// A status whose details hold a `RetryInfo`: <https://google.aip.dev/193#retryinfo>.
pub(crate) fn retried_after(code: Code, message: &str, seconds: u64) -> Status {
    let delay = prost_types::Duration { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 };
    let any = prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
        value: google::rpc::RetryInfo { retry_delay: Some(delay) }.encode_to_vec(),
    };
    let status = google::rpc::Status { code: code as i32, message: message.to_owned(), details: vec![any] };
    Status::with_details(code, message, status.encode_to_vec().into())
}

/// The same as `google.rpc.Status`, which stands in responses.
pub(crate) fn error_status(code: Code, error: i32, entity: &str, message: &str) -> google::rpc::Status {
    let detail = pb::StorageError { code: error, entity: entity.to_owned(), error_message: message.to_owned() };
    let any = prost_types::Any {
        type_url: "type.googleapis.com/google.cloud.bigquery.storage.v1.StorageError".into(),
        value: detail.encode_to_vec(),
    };
    google::rpc::Status { code: code as i32, message: message.to_owned(), details: vec![any] }
}

/// `projects/P/datasets/D/tables/T` and what may follow.
pub(crate) fn parse_table(name: &str) -> Result<(String, String, String), Status> {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        ["projects", project, "datasets", dataset, "tables", table, ..] if !table.is_empty() => {
            Ok(((*project).to_owned(), (*dataset).to_owned(), (*table).to_owned()))
        }
        _ => Err(Status::invalid_argument(format!("Invalid resource name: {name}"))),
    }
}

/// A name with `dataset.table` before it, so that rules find it by that.
pub(crate) fn labelled(name: &str) -> String {
    match parse_table(name) {
        Ok((_, dataset, table)) => format!("{dataset}.{table} {name}"),
        Err(_) => name.to_owned(),
    }
}

/// Whether a name is that of a table's default stream.
pub(crate) fn is_default(name: &str) -> bool {
    name.ends_with("/_default")
}

fn stream_not_found(name: &str) -> Status {
    refused(Code::NotFound, StorageErrorCode::StreamNotFound, name, "Requested entity was not found.")
}

impl Stream {
    /// Gives the hidden rows the columns that the table has now.
    pub(crate) fn follow(&mut self, fields: &[Field]) {
        if self.fields != fields {
            for row in &mut self.hidden {
                *row = rearranged(&self.fields, fields, std::mem::take(row));
            }
            self.fields = fields.to_vec();
        }
    }
}

impl State {
    pub(crate) fn table_of(&self, project: &str, dataset: &str, table: &str) -> Result<&Table, Status> {
        self.table(project, dataset, table).map_err(|e| {
            let entity = format!("projects/{project}/datasets/{dataset}/tables/{table}");
            refused(Code::NotFound, StorageErrorCode::TableNotFound, &entity, e.message)
        })
    }

    /// The stream, if it is still good.
    pub(crate) fn stream(&self, name: &str) -> Result<&Stream, Status> {
        let found = self.streams.get(name).filter(|stream| !stream.expired);
        let found = found.filter(|stream| self.tables.get(&stream.table).is_some_and(|t| t.incarnation == stream.incarnation));
        found.ok_or_else(|| stream_not_found(name))
    }

    fn stream_mut(&mut self, name: &str) -> Result<&mut Stream, Status> {
        self.stream(name)?;
        let stream = self.streams.get_mut(name).ok_or_else(|| stream_not_found(name))?;
        if let Some(table) = self.tables.get(&stream.table) {
            stream.follow(&table.schema.fields);
        }
        Ok(stream)
    }

    pub(crate) fn create_stream(&mut self, request: &pb::CreateWriteStreamRequest) -> Result<pb::WriteStream, Status> {
        let (project, dataset, table_name) = parse_table(&request.parent)?;
        let type_ = request.write_stream.as_ref().map_or(StreamType::Unspecified, pb::WriteStream::r#type);
        if type_ == StreamType::Unspecified {
            return Err(Status::invalid_argument("Stream type must be specified."));
        }
        let table = self.table_of(&project, &dataset, &table_name)?;
        let (incarnation, schema_version, fields) = (table.incarnation, table.schema_version, table.schema.fields.clone());
        let name = format!("projects/{project}/datasets/{dataset}/tables/{table_name}/streams/s{:08x}", self.number());
        let stream = Stream {
            name: name.clone(),
            table: format!("{dataset}.{table_name}"),
            incarnation,
            type_,
            hidden: Vec::new(),
            fields,
            length: 0,
            visible: 0,
            finalized: false,
            expired: false,
            committed: None,
            created: now(),
            schema_version,
        };
        self.streams.insert(name.clone(), stream);
        self.shown_stream(&name, true, false)
    }

    /// The stream as a client sees it; `stale` if it does not know yet of the table's last change of schema.
    pub(crate) fn shown_stream(&self, name: &str, full: bool, stale: bool) -> Result<pb::WriteStream, Status> {
        let mut shown = pb::WriteStream { name: name.to_owned(), write_mode: 1, ..Default::default() };
        let (project, dataset, table) = parse_table(name)?;
        let table = self.table_of(&project, &dataset, &table)?;
        shown.location = self.datasets.get(&dataset).map(|d| d.location.to_lowercase()).unwrap_or_default();
        if is_default(name) {
            shown.r#type = StreamType::Committed as i32;
        } else {
            let stream = self.stream(name)?;
            shown.r#type = stream.type_ as i32;
            shown.create_time = Some(stream.created);
            shown.commit_time = stream.committed;
        }
        let schema = table.previous_schema.as_ref().filter(|_| stale).unwrap_or(&table.schema);
        shown.table_schema = full.then(|| schema_message(schema));
        Ok(shown)
    }

    pub(crate) fn flush(&mut self, request: &pb::FlushRowsRequest) -> Result<pb::FlushRowsResponse, Status> {
        let name = request.write_stream.as_str();
        let stream = self.stream_mut(name)?;
        if stream.type_ != StreamType::Buffered {
            let why = "Rows of a stream that is not of type BUFFERED cannot be flushed.";
            return Err(refused(Code::InvalidArgument, StorageErrorCode::InvalidStreamType, name, why));
        }
        if stream.finalized {
            return Err(refused(Code::FailedPrecondition, StorageErrorCode::StreamFinalized, name, "Stream is finalized."));
        }
        // Without an offset, all that there is.
        let offset = request.offset.unwrap_or(stream.length - 1);
        if offset >= stream.length || offset < -1 {
            let why = format!("The offset {offset} is beyond the end of the stream, which has {} rows.", stream.length);
            return Err(refused(Code::OutOfRange, StorageErrorCode::OffsetOutOfRange, name, why));
        }
        let new = usize::try_from(offset + 1 - stream.visible).unwrap_or(0);
        stream.visible = stream.visible.max(offset + 1);
        let (rows, table) = (stream.hidden.drain(..new).collect::<Vec<_>>(), stream.table.clone());
        if let Some(table) = self.tables.get_mut(&table).filter(|_| !rows.is_empty()) {
            table.append(rows, None);
        }
        Ok(pb::FlushRowsResponse { offset })
    }

    pub(crate) fn finalize(&mut self, name: &str) -> Result<pb::FinalizeWriteStreamResponse, Status> {
        if is_default(name) {
            let why = "The default stream cannot be finalized.";
            return Err(refused(Code::InvalidArgument, StorageErrorCode::InvalidStreamType, name, why));
        }
        let stream = self.stream_mut(name)?;
        stream.finalized = true;
        Ok(pb::FinalizeWriteStreamResponse { row_count: stream.length })
    }

    pub(crate) fn commit(
        &mut self,
        request: &pb::BatchCommitWriteStreamsRequest,
    ) -> Result<pb::BatchCommitWriteStreamsResponse, Status> {
        let (project, dataset, table_name) = parse_table(&request.parent)?;
        self.table_of(&project, &dataset, &table_name)?;
        let key = format!("{dataset}.{table_name}");
        if request.write_streams.is_empty() {
            return Err(Status::invalid_argument("No streams to commit."));
        }
        let mut errors = Vec::new();
        for name in &request.write_streams {
            if !name.starts_with(&format!("{}/streams/", request.parent)) {
                return Err(Status::invalid_argument(format!("The stream {name} is not one of {}.", request.parent)));
            }
            let mut error = |code: StorageErrorCode, why: &str| {
                errors.push(pb::StorageError { code: code as i32, entity: name.clone(), error_message: why.to_owned() });
            };
            match self.stream(name) {
                Err(_) => error(StorageErrorCode::StreamNotFound, "Stream is not found."),
                Ok(stream) if stream.type_ != StreamType::Pending => {
                    error(StorageErrorCode::InvalidStreamType, "Only streams of type PENDING can be committed.");
                }
                Ok(stream) if stream.committed.is_some() => {
                    error(StorageErrorCode::StreamAlreadyCommitted, "Stream is already committed.");
                }
                // There is no code of its own for it: the state is not the one that a commit takes.
                Ok(stream) if !stream.finalized => error(StorageErrorCode::InvalidStreamState, "Stream is not finalized."),
                Ok(_) => {}
            }
        }
        if !errors.is_empty() {
            return Ok(pb::BatchCommitWriteStreamsResponse { commit_time: None, stream_errors: errors });
        }
        let time = now();
        let mut rows = Vec::new();
        for name in &request.write_streams {
            let stream = self.stream_mut(name)?;
            stream.committed = Some(time);
            stream.visible = stream.length;
            rows.append(&mut stream.hidden);
        }
        if let Some(table) = self.tables.get_mut(&key) {
            table.append(rows, None);
        }
        Ok(pb::BatchCommitWriteStreamsResponse { commit_time: Some(time), stream_errors: Vec::new() })
    }
}

/// The table's schema as gRPC answers hold it.
pub(crate) fn schema_message(schema: &TableSchema) -> pb::TableSchema {
    pb::TableSchema { fields: schema.fields.iter().map(field_message).collect() }
}

fn field_message(field: &Field) -> pb::TableFieldSchema {
    use pb::table_field_schema::{Mode as PbMode, Type as PbType};
    let type_ = match field.type_ {
        Type::String => PbType::String,
        Type::Bytes => PbType::Bytes,
        Type::Int64 => PbType::Int64,
        Type::Float64 => PbType::Double,
        Type::Numeric => PbType::Numeric,
        Type::BigNumeric => PbType::Bignumeric,
        Type::Bool => PbType::Bool,
        Type::Timestamp => PbType::Timestamp,
        Type::Date => PbType::Date,
        Type::Time => PbType::Time,
        Type::DateTime => PbType::Datetime,
        Type::Json => PbType::Json,
        Type::Geography => PbType::Geography,
        Type::Interval => PbType::Interval,
        Type::Struct(_) => PbType::Struct,
    };
    let mode = match field.mode {
        Mode::Nullable => PbMode::Nullable,
        Mode::Required => PbMode::Required,
        Mode::Repeated => PbMode::Repeated,
    };
    let number = |name: &str| {
        let value = field.options.get(name);
        value.and_then(|value| value.as_i64().or_else(|| value.as_str()?.parse().ok())).unwrap_or(0)
    };
    pb::TableFieldSchema {
        name: field.name.clone(),
        r#type: type_ as i32,
        mode: mode as i32,
        fields: field.children().iter().map(field_message).collect(),
        description: field.description.clone().unwrap_or_default(),
        max_length: number("maxLength"),
        precision: number("precision"),
        scale: number("scale"),
        ..Default::default()
    }
}
