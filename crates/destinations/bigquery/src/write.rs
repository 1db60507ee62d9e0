//! The Storage Write API: streams, and a connection that appends to one.
//!
//! Every append names its offset, so that after a lost connection the same requests may be sent again: what had arrived is
//! answered with ALREADY_EXISTS, and that is success. Requests in flight are bounded in bytes and kept until they are answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as api;
use googleapis_tonic_google_cloud_bigquery_storage_v1::google::rpc::Status as RpcStatus;
use http::HeaderMap;
use longshore_core::Result;
use longshore_core::destination::Refusal as NoRow;
use longshore_core::error::Error;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::credentials::Identity;
use crate::error::{Failure, Refusal, codes, destination};
use crate::rows::Piece;

use api::append_rows_request::{ArrowData, Rows as RequestRows};
use api::append_rows_response::Response;
use api::big_query_write_client::BigQueryWriteClient;
use api::storage_error::StorageErrorCode;
pub(crate) use api::write_stream::Type as StreamType;

/// Bytes that may be on their way to all streams together.
const IN_FLIGHT_BYTES: usize = 4 * crate::rows::REQUEST_BYTES;
/// Requests that may be on their way to one stream.
const IN_FLIGHT: usize = 64;
/// Rows of one stage that BigQuery may refuse before that is taken for a mistake of the whole.
const MOST_REFUSED: usize = 10_000;
/// How often a broken connection is opened anew without anything having been answered in between.
const REOPENED: u32 = 5;
/// No answer of the API takes longer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub(crate) struct StorageWrite {
    channel: Channel,
    identity: Identity,
    /// A permit is a byte on its way.
    room: Arc<Semaphore>,
}

/// Whether rows became visible by this call or were so before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Committed {
    Now,
    Before,
}

impl StorageWrite {
    /// Connects at the first call.
    pub(crate) fn new(endpoint: &str, identity: Identity) -> Result<Self> {
        let wrong = |e: tonic::transport::Error| {
            crate::error::config(codes::UNAVAILABLE, format!("{endpoint} cannot be used as the address of the Storage Write API"))
                .caused_by(e)
        };
        let mut target = Endpoint::from_shared(endpoint.to_owned())
            .map_err(wrong)?
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
            .map_err(wrong)?
            .connect_timeout(Duration::from_secs(20))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_while_idle(true)
            .initial_connection_window_size(1 << 20);
        if endpoint.starts_with("https://") {
            target = target.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(wrong)?;
        }
        Ok(Self { channel: target.connect_lazy(), identity, room: Arc::new(Semaphore::new(IN_FLIGHT_BYTES)) })
    }

    fn client(&self) -> BigQueryWriteClient<Channel> {
        BigQueryWriteClient::new(self.channel.clone()).max_decoding_message_size(1 << 24).max_encoding_message_size(1 << 24)
    }

    /// A request with who we are, and with what routes it to the region of its table.
    async fn request<T>(&self, message: T, routed_by: &str) -> Result<Request<T>> {
        let mut headers: HeaderMap = self.identity.headers().await?;
        if let Ok(value) = http::HeaderValue::from_str(routed_by) {
            headers.insert("x-goog-request-params", value);
        }
        Ok(Request::from_parts(MetadataMap::from_headers(headers), http::Extensions::new(), message))
    }

    /// A new stream of a table; returns its name.
    pub(crate) async fn create(&self, table: &str, type_: StreamType) -> Result<String, Failure> {
        let write_stream = api::WriteStream { r#type: type_ as i32, ..Default::default() };
        let message = api::CreateWriteStreamRequest { parent: table.to_owned(), write_stream: Some(write_stream) };
        let request = self.request(message, &format!("parent={table}")).await?;
        let answer = answered("CreateWriteStream", self.client().create_write_stream(request)).await?;
        Ok(answer.name)
    }

    /// Closes a stream to further rows; returns how many it has. Repeating it changes nothing.
    pub(crate) async fn finalize(&self, stream: &str) -> Result<i64, Failure> {
        let message = api::FinalizeWriteStreamRequest { name: stream.to_owned() };
        let request = self.request(message, &format!("name={stream}")).await?;
        Ok(answered("FinalizeWriteStream", self.client().finalize_write_stream(request)).await?.row_count)
    }

    /// Makes the rows of a buffered stream up to and including `last` visible. Repeating it changes nothing. Most servers do not tell
    /// whether they were visible before.
    pub(crate) async fn flush(&self, stream: &str, last: i64) -> Result<Committed, Failure> {
        let message = api::FlushRowsRequest { write_stream: stream.to_owned(), offset: Some(last) };
        let request = self.request(message, &format!("write_stream={stream}")).await?;
        match answered("FlushRows", self.client().flush_rows(request)).await {
            Ok(_) => Ok(Committed::Now),
            Err(Failure::Refused(refusal)) if refusal.exists() => Ok(Committed::Before),
            Err(failure) => Err(failure),
        }
    }

    /// Makes every row of these finalized pending streams of a table visible at once. Repeating it changes nothing.
    pub(crate) async fn commit(&self, table: &str, streams: &[String]) -> Result<Committed, Failure> {
        let message = api::BatchCommitWriteStreamsRequest { parent: table.to_owned(), write_streams: streams.to_vec() };
        let request = self.request(message, &format!("parent={table}")).await?;
        let refusal = match answered("BatchCommitWriteStreams", self.client().batch_commit_write_streams(request)).await {
            Ok(answer) => match answer.stream_errors.as_slice() {
                [] => return Ok(Committed::Now),
                errors if errors.len() == streams.len() && errors.iter().all(is_committed) => return Ok(Committed::Before),
                errors => stream_refusal(&errors[0]),
            },
            Err(Failure::Refused(refusal)) => refusal,
            Err(lost) => return Err(lost),
        };
        // Perhaps an earlier call did it and its answer was lost: the streams themselves know.
        for stream in streams {
            match self.get(stream).await {
                Ok(stream) if stream.commit_time.is_some() => {}
                Ok(_) | Err(Failure::Refused(_)) => return Err(Failure::Refused(refusal)),
                Err(lost) => return Err(lost),
            }
        }
        Ok(Committed::Before)
    }

    pub(crate) async fn get(&self, stream: &str) -> Result<api::WriteStream, Failure> {
        let message = api::GetWriteStreamRequest { name: stream.to_owned(), view: api::WriteStreamView::Full as i32 };
        let request = self.request(message, &format!("name={stream}")).await?;
        answered("GetWriteStream", self.client().get_write_stream(request)).await
    }

    /// A connection for appending to one stream.
    pub(crate) fn appender(&self, stream: &str, header: bytes::Bytes, first: Option<i64>) -> Appender {
        Appender {
            write: self.clone(),
            stream: stream.to_owned(),
            header,
            next: first,
            unanswered: VecDeque::new(),
            connection: None,
            reopened: 0,
            done: Appended { next: first, rows: 0, bytes: 0, digest: blake3::Hasher::new(), refused: Vec::new() },
        }
    }
}

/// Whether a stream's error says that it was committed before: by its code, or, as an emulator does, in words.
fn is_committed(error: &api::StorageError) -> bool {
    error.code() == StorageErrorCode::StreamAlreadyCommitted || error.error_message.contains("state=COMMITTED")
}

fn stream_refusal(error: &api::StorageError) -> Refusal {
    Refusal {
        doing: "BatchCommitWriteStreams".into(),
        status: if error.code() == StorageErrorCode::StreamNotFound { 404 } else { 400 },
        reason: error.code().as_str_name().to_owned(),
        message: error.error_message.clone(),
        retry_after: None,
    }
}

async fn answered<T>(doing: &str, call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWERED_WITHIN, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(failure(doing, &status)),
        Err(_) => Err(Failure::Lost(crate::error::lost(doing, "no answer in time"))),
    }
}

/// Whether Google said no, or nobody knows what happened.
fn failure(doing: &str, status: &Status) -> Failure {
    let http = match status.code() {
        // These also come from the connection, whatever became of the request.
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::Internal | Code::Aborted => {
            return Failure::Lost(crate::error::lost(doing, status.clone()));
        }
        Code::NotFound => 404,
        Code::AlreadyExists => 409,
        Code::PermissionDenied => 403,
        Code::Unauthenticated => 401,
        Code::ResourceExhausted => 429,
        _ => 400,
    };
    Failure::Refused(Refusal {
        doing: doing.to_owned(),
        status: http,
        reason: format!("{:?}", status.code()),
        message: status.message().to_owned(),
        retry_after: None,
    })
}

/// Appends to one stream, in order.
pub(crate) struct Appender {
    write: StorageWrite,
    stream: String,
    header: bytes::Bytes,
    /// The offset of the next row; none on the default stream, which has no offsets.
    next: Option<i64>,
    unanswered: VecDeque<Sent>,
    connection: Option<Connection>,
    reopened: u32,
    /// What is answered.
    done: Appended,
}

struct Sent {
    offset: Option<i64>,
    message: bytes::Bytes,
    /// Which rows of all that were handed over are in it, in order.
    rows: Rows,
    _room: OwnedSemaphorePermit,
}

/// Numbers of rows.
enum Rows {
    /// So many from this one on.
    Run(u64, u64),
    /// What is left of a run.
    List(Vec<u64>),
}

impl Rows {
    fn len(&self) -> u64 {
        match self {
            Rows::Run(_, len) => *len,
            Rows::List(list) => list.len() as u64,
        }
    }

    fn number(&self, index: usize) -> u64 {
        match self {
            Rows::Run(first, _) => first + index as u64,
            Rows::List(list) => list.get(index).copied().unwrap_or_default(),
        }
    }

    fn without(&self, indices: &BTreeSet<usize>) -> Self {
        let all = 0..usize::try_from(self.len()).unwrap_or(usize::MAX);
        Rows::List(all.filter(|index| !indices.contains(index)).map(|index| self.number(index)).collect())
    }
}

/// What became of everything that was appended.
pub(crate) struct Appended {
    /// The offset behind the last row; none on the default stream.
    pub(crate) next: Option<i64>,
    /// The rows that are in the stream, and their bytes and digest.
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: blake3::Hasher,
    /// The rows that BigQuery does not take.
    pub(crate) refused: Vec<NoRow>,
}

struct Connection {
    requests: mpsc::Sender<api::AppendRowsRequest>,
    answers: Streaming<api::AppendRowsResponse>,
}

impl Appender {
    /// Sends a piece; `first` is the number of its first row among all that are handed over. Returns when it is on its way and there is
    /// room for another one.
    pub(crate) async fn append(&mut self, piece: Piece, first: u64) -> Result<()> {
        let room = self.room(piece.message.len()).await?;
        let offset = self.next;
        self.next = self.next.map(|next| next + signed(piece.rows));
        let sent = Sent { offset, message: piece.message, rows: Rows::Run(first, piece.rows), _room: room };
        let request = self.request(&sent, false);
        self.unanswered.push_back(sent);
        let broken = match &self.connection {
            None => true,
            Some(connection) => connection.requests.send(request).await.is_err(),
        };
        if broken {
            self.reopen(None).await?;
        }
        while self.unanswered.len() > IN_FLIGHT {
            self.take_answer().await?;
        }
        Ok(())
    }

    /// Room for so many bytes. While there is none our own answers are taken, since they make room.
    async fn room(&mut self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX);
        loop {
            let room = self.write.room.clone();
            if self.unanswered.is_empty() {
                return room.acquire_many_owned(wanted).await.map_err(|_| crate::error::bug("the room for requests was closed"));
            }
            if let Ok(permit) = room.try_acquire_many_owned(wanted) {
                return Ok(permit);
            }
            self.take_answer().await?;
        }
    }

    /// Takes answers for as long as it is polled. Whoever waits for something else polls this beside it, because what is not answered
    /// takes room from other streams.
    pub(crate) async fn attend(&mut self) -> Result<std::convert::Infallible> {
        while !self.unanswered.is_empty() {
            self.take_answer().await?;
        }
        std::future::pending().await
    }

    /// Waits until every piece is in the stream.
    pub(crate) async fn finish(mut self) -> Result<Appended> {
        while !self.unanswered.is_empty() {
            self.take_answer().await?;
        }
        Ok(Appended { next: self.next, ..self.done })
    }

    fn request(&self, sent: &Sent, first: bool) -> api::AppendRowsRequest {
        let writer_schema = first.then(|| api::ArrowSchema { serialized_schema: self.header.clone() });
        let batch = api::ArrowRecordBatch { serialized_record_batch: sent.message.clone(), ..Default::default() };
        api::AppendRowsRequest {
            write_stream: self.stream.clone(),
            offset: sent.offset,
            trace_id: if first { concat!("longshore:", env!("CARGO_PKG_VERSION")).to_owned() } else { String::new() },
            rows: Some(RequestRows::ArrowRows(ArrowData { writer_schema, rows: Some(batch) })),
            ..Default::default()
        }
    }

    /// Takes the answer to the oldest request.
    async fn take_answer(&mut self) -> Result<()> {
        let Some(connection) = &mut self.connection else { return self.reopen(None).await };
        let answer = match tokio::time::timeout(ANSWERED_WITHIN, connection.answers.next()).await {
            Ok(Some(Ok(answer))) => answer,
            Ok(Some(Err(status))) => return self.reopen(Some(status)).await,
            Ok(None) => return self.reopen(None).await,
            Err(_) => return self.reopen(Some(Status::deadline_exceeded("no answer in time"))).await,
        };
        if !answer.row_errors.is_empty() {
            return self.take_out(&answer.row_errors).await;
        }
        if let Some(Response::Error(status)) = &answer.response {
            match verdict(status) {
                Verdict::Written => {}
                Verdict::Again => {
                    return self.reopen(Some(Status::new(Code::from_i32(status.code), status.message.clone()))).await;
                }
                Verdict::No(error) => return Err(error),
            }
        }
        self.reopened = 0;
        if let Some(sent) = self.unanswered.pop_front() {
            self.done.rows += sent.rows.len();
            self.done.bytes += sent.message.len() as u64;
            self.done.digest.update(&sent.message);
        }
        Ok(())
    }

    /// Takes rows that BigQuery refuses out of the oldest request, none of which was written, and sends everything again from there.
    async fn take_out(&mut self, errors: &[api::RowError]) -> Result<()> {
        let Some(sent) = self.unanswered.pop_front() else { return Err(crate::error::bug("an answer to no request")) };
        let Some(offset) = sent.offset.filter(|_| self.done.refused.len() + errors.len() <= MOST_REFUSED) else {
            return Err(refused_rows(errors));
        };
        self.drain().await?;
        let reasons: BTreeMap<usize, &str> =
            errors.iter().filter_map(|e| Some((usize::try_from(e.index).ok()?, e.message.as_str()))).collect();
        let indices: BTreeSet<usize> = reasons.keys().copied().collect();
        let (rest, values) = crate::rows::without(&self.header, &sent.message, &indices)?;
        let told = reasons.iter().zip(values).map(|((index, reason), values)| NoRow {
            row: sent.rows.number(*index),
            values,
            reason: (*reason).to_owned(),
        });
        self.done.refused.extend(told);
        if let Some(message) = rest {
            self.unanswered.push_front(Sent { rows: sent.rows.without(&indices), message, ..sent });
        }
        let mut next = offset;
        for sent in &mut self.unanswered {
            sent.offset = Some(next);
            next += signed(sent.rows.len());
        }
        self.next = Some(next);
        self.reopened = 0;
        if self.unanswered.is_empty() { Ok(()) } else { self.reopen(None).await }
    }

    /// Waits until everything behind a refused request is refused, too, because its place in the stream is taken by nobody. Until then
    /// it could still find its place once the rows before it are sent again.
    async fn drain(&mut self) -> Result<()> {
        let disturbed = || {
            destination(codes::OFFSET, "a stream was left in a state that is not known")
                .with_retry(longshore_core::error::Retry::Backoff)
        };
        let Some(mut connection) = self.connection.take() else { return Err(disturbed()) };
        for _ in 0..self.unanswered.len() {
            let answer = tokio::time::timeout(ANSWERED_WITHIN, connection.answers.next()).await;
            match answer {
                Ok(Some(Ok(answer))) if !answer.row_errors.is_empty() || matches!(answer.response, Some(Response::Error(_))) => {}
                _ => return Err(disturbed()),
            }
        }
        Ok(())
    }

    /// Opens the connection, anew if it broke, and sends everything that is not answered.
    async fn reopen(&mut self, broken_by: Option<Status>) -> Result<()> {
        self.connection = None;
        if let Some(status) = &broken_by {
            if let Failure::Refused(refusal) = failure("AppendRows", status)
                && !matches!(refusal.status, 401 | 429)
            {
                return Err(refusal.into());
            }
            tracing::debug!(stream = self.stream, %status, "a connection broke");
        }
        loop {
            self.reopened += 1;
            if self.reopened > REOPENED {
                let why = broken_by.map_or_else(|| "the connection keeps breaking".to_owned(), |status| status.to_string());
                return Err(crate::error::lost("AppendRows", why));
            }
            if self.reopened > 1 {
                tokio::time::sleep(Duration::from_millis(50 << self.reopened)).await;
            }
            match self.connect().await {
                Ok(connection) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(Failure::Lost(error)) => tracing::debug!(stream = self.stream, %error, "a connection could not be opened"),
                Err(Failure::Refused(refusal)) => return Err(refusal.into()),
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        // Room for all that is unanswered: nobody takes answers while it is sent.
        let (requests, receiver) = mpsc::channel(IN_FLIGHT + 2);
        for (i, sent) in self.unanswered.iter().enumerate() {
            let request = self.request(sent, i == 0);
            requests.try_send(request).map_err(|_| Failure::Lost(crate::error::bug("more requests in flight than allowed")))?;
        }
        let messages =
            futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|m| (m, receiver)) });
        let request = self.write.request(messages, &format!("write_stream={}", self.stream)).await?;
        let mut client = self.write.client();
        let answers = answered("AppendRows", client.append_rows(request)).await?;
        Ok(Connection { requests, answers })
    }
}

fn signed(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

enum Verdict {
    /// The rows are in the stream.
    Written,
    /// The same request may succeed on another connection.
    Again,
    No(Error),
}

fn verdict(status: &RpcStatus) -> Verdict {
    let code = Code::from_i32(status.code);
    let storage = storage_error(status);
    if storage == Some(StorageErrorCode::OffsetAlreadyExists) || code == Code::AlreadyExists {
        return Verdict::Written;
    }
    let shown =
        |code: longshore_core::error::Code| destination(code, format!("AppendRows: BigQuery answered: {}", status.message));
    match (storage, code) {
        (Some(StorageErrorCode::OffsetOutOfRange | StorageErrorCode::StreamFinalized | StorageErrorCode::StreamNotFound), _)
        | (_, Code::OutOfRange) => Verdict::No(shown(codes::OFFSET).with_retry(longshore_core::error::Retry::Backoff)),
        (Some(StorageErrorCode::SchemaMismatchExtraFields), _) => {
            Verdict::No(shown(codes::CHANGED).with_retry(longshore_core::error::Retry::Backoff))
        }
        (
            _,
            Code::Unavailable
            | Code::Aborted
            | Code::Internal
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Unauthenticated,
        ) => Verdict::Again,
        _ => match failure("AppendRows", &Status::new(code, status.message.clone())) {
            Failure::Refused(refusal) => Verdict::No(refusal.into()),
            Failure::Lost(error) => Verdict::No(error),
        },
    }
}

/// BigQuery's own code among the details of a status.
fn storage_error(status: &RpcStatus) -> Option<StorageErrorCode> {
    let detail = status.details.iter().find(|any| any.type_url.ends_with("google.cloud.bigquery.storage.v1.StorageError"))?;
    api::StorageError::decode(detail.value.as_ref()).ok().map(|error| error.code())
}

fn refused_rows(errors: &[api::RowError]) -> Error {
    let words = errors.first().map(|error| error.message.clone()).unwrap_or_default();
    destination(codes::ROWS_REFUSED, format!("BigQuery refused {} rows: {words}", errors.len()))
}
