//! A connection that appends to one stream.
//!
//! Every append names its offset, so that after a lost connection the same requests may be sent again: what had arrived is
//! answered with ALREADY_EXISTS, and that is success. Requests in flight are bounded in bytes and kept until they are answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures::StreamExt;
use googleapis_tonic_google_cloud_bigquery_storage_v1::google::rpc::Status as RpcStatus;
use longshore_core::Result;
use longshore_core::destination::Refusal as NoRow;
use longshore_core::error::{Code as ErrorCode, Error, Retry};
use prost::Message as _;
use prost_types::DescriptorProto;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::{Code, Status, Streaming};

use super::{ANSWERED_WITHIN, Seat, StorageErrorCode, StorageWrite, answered, api, failure};
use crate::error::{Failure, codes, destination};
use crate::message::{Header, Message, Piece};
use crate::quota::Spent;

use api::append_rows_request::{ArrowData, ProtoData, Rows as RequestRows};
use api::append_rows_response::Response;

/// Requests that may be on their way to one stream.
const IN_FLIGHT: usize = 64;
/// Rows of one stage that BigQuery may refuse before that is taken for a mistake of the whole.
const MOST_REFUSED: usize = 10_000;
/// How often a broken connection is opened anew without anything having been answered in between.
const REOPENED: u32 = 5;

/// Appends to one stream, in order.
pub(crate) struct Appender {
    write: StorageWrite,
    stream: String,
    header: Header,
    /// The offset of the next row; none on the default stream, which has no offsets.
    next: Option<i64>,
    unanswered: VecDeque<Sent>,
    connection: Option<Connection>,
    reopened: u32,
    /// An answer that has come and was not looked at.
    arrived: Option<Answer>,
    /// What is answered.
    done: Appended,
}

/// What comes from a connection: an answer, or its end.
type Answer = Option<Result<api::AppendRowsResponse, Status>>;

struct Sent {
    offset: Option<i64>,
    message: Message,
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
    _seat: Seat,
}

impl Connection {
    /// The next answer. May be given up on: nothing is lost then.
    async fn answer(&mut self) -> Answer {
        match tokio::time::timeout(ANSWERED_WITHIN, self.answers.next()).await {
            Ok(answer) => answer,
            Err(_) => Some(Err(Status::deadline_exceeded("no answer in time"))),
        }
    }
}

impl Appender {
    pub(super) fn new(write: StorageWrite, stream: &str, header: Header, first: Option<i64>) -> Self {
        Self {
            write,
            stream: stream.to_owned(),
            header,
            next: first,
            unanswered: VecDeque::new(),
            connection: None,
            reopened: 0,
            arrived: None,
            done: Appended { next: first, rows: 0, bytes: 0, digest: blake3::Hasher::new(), refused: Vec::new() },
        }
    }

    /// Sends a piece; `first` is the number of its first row among all that are handed over. Returns when it is on its way and there is
    /// room for another one.
    pub(crate) async fn append(&mut self, piece: Piece, first: u64) -> Result<()> {
        let bytes = piece.message.len();
        self.write.quota.take(Spent::Append(u32::try_from(bytes).unwrap_or(u32::MAX))).await?;
        let room = self.room(bytes).await?;
        let offset = self.next;
        self.next = self.next.map(|next| next + signed(piece.rows));
        self.send(Sent { offset, message: piece.message, rows: Rows::Run(first, piece.rows), _room: room }).await?;
        while self.unanswered.len() > IN_FLIGHT {
            self.take_answer().await?;
        }
        Ok(())
    }

    async fn send(&mut self, sent: Sent) -> Result<()> {
        let request = self.request(&sent, false);
        self.unanswered.push_back(sent);
        let broken = match &self.connection {
            None => true,
            Some(connection) => connection.requests.send(request).await.is_err(),
        };
        if broken { self.reopen(None).await } else { Ok(()) }
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

    /// Returns when there is an answer to take; never if nothing is unanswered. May be given up on: nothing is lost then.
    pub(crate) async fn arrival(&mut self) {
        if self.unanswered.is_empty() {
            std::future::pending::<()>().await;
        }
        if let (None, Some(connection)) = (&self.arrived, &mut self.connection) {
            self.arrived = Some(connection.answer().await);
        }
    }

    /// Waits until every piece is in the stream.
    pub(crate) async fn finish(mut self) -> Result<Appended> {
        while !self.unanswered.is_empty() {
            self.take_answer().await?;
        }
        Ok(Appended { next: self.next, ..self.done })
    }

    fn request(&self, sent: &Sent, first: bool) -> api::AppendRowsRequest {
        let rows = match &sent.message {
            Message::Arrow(bytes) => {
                let batch = api::ArrowRecordBatch { serialized_record_batch: bytes.clone(), ..Default::default() };
                RequestRows::ArrowRows(ArrowData { writer_schema: self.arrow_schema(first), rows: Some(batch) })
            }
            Message::Proto(rows) => {
                let rows = api::ProtoRows { serialized_rows: rows.clone() };
                RequestRows::ProtoRows(ProtoData { writer_schema: self.proto_schema(first), rows: Some(rows) })
            }
        };
        api::AppendRowsRequest {
            write_stream: self.stream.clone(),
            offset: sent.offset,
            trace_id: if first { concat!("longshore:", env!("CARGO_PKG_VERSION")).to_owned() } else { String::new() },
            rows: Some(rows),
            ..Default::default()
        }
    }

    fn arrow_schema(&self, first: bool) -> Option<api::ArrowSchema> {
        match &self.header {
            Header::Arrow(bytes) if first => Some(api::ArrowSchema { serialized_schema: bytes.clone() }),
            _ => None,
        }
    }

    fn proto_schema(&self, first: bool) -> Option<api::ProtoSchema> {
        match &self.header {
            Header::Proto(descriptor) if first => {
                Some(api::ProtoSchema { proto_descriptor: Some(DescriptorProto::clone(descriptor)) })
            }
            _ => None,
        }
    }

    /// Takes the answer to the oldest request. What is not answered takes room from other streams, so whoever waits for rows takes
    /// answers meanwhile. Never to be given up on: a request whose rows are being taken out would be lost.
    pub(crate) async fn take_answer(&mut self) -> Result<()> {
        let Some(connection) = &mut self.connection else { return self.reopen(None).await };
        let answer = match self.arrived.take() {
            Some(answer) => answer,
            None => connection.answer().await,
        };
        let answer = match answer {
            Some(Ok(answer)) => answer,
            Some(Err(status)) => return self.reopen(Some(status)).await,
            None => return self.reopen(None).await,
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
            sent.message.digest(&mut self.done.digest);
        }
        Ok(())
    }

    /// Takes rows that BigQuery refuses out of the oldest request, none of which was written, and sends the rest of it again: where rows
    /// have offsets with everything behind it, else alone.
    async fn take_out(&mut self, errors: &[api::RowError]) -> Result<()> {
        let Some(sent) = self.unanswered.pop_front() else { return Err(crate::error::bug("an answer to no request")) };
        if self.done.refused.len() + errors.len() > MOST_REFUSED {
            return Err(refused_rows(errors));
        }
        if sent.offset.is_some() {
            self.drain().await?;
        }
        let reasons: BTreeMap<usize, &str> =
            errors.iter().filter_map(|e| Some((usize::try_from(e.index).ok()?, e.message.as_str()))).collect();
        let indices: BTreeSet<usize> = reasons.keys().copied().collect();
        let (rest, values) = sent.message.without(&self.header, &indices)?;
        let told = reasons.iter().zip(values).map(|((index, reason), values)| NoRow {
            row: sent.rows.number(*index),
            values,
            reason: (*reason).to_owned(),
        });
        self.done.refused.extend(told);
        self.reopened = 0;
        let rest = rest.map(|message| Sent { rows: sent.rows.without(&indices), message, ..sent });
        let Some(mut next) = sent.offset else {
            return match rest {
                Some(rest) => self.send(rest).await,
                None => Ok(()),
            };
        };
        if let Some(rest) = rest {
            self.unanswered.push_front(rest);
        }
        for sent in &mut self.unanswered {
            sent.offset = Some(next);
            next += signed(sent.rows.len());
        }
        self.next = Some(next);
        if self.unanswered.is_empty() { Ok(()) } else { self.reopen(None).await }
    }

    /// Waits until everything behind a refused request is refused, too, because its place in the stream is taken by nobody. Until then
    /// it could still find its place once the rows before it are sent again.
    async fn drain(&mut self) -> Result<()> {
        let disturbed =
            || destination(codes::OFFSET, "a stream was left in a state that is not known").with_retry(Retry::Backoff);
        let Some(mut connection) = self.connection.take() else { return Err(disturbed()) };
        for _ in 0..self.unanswered.len() {
            match connection.answer().await {
                Some(Ok(answer)) if !answer.row_errors.is_empty() || matches!(answer.response, Some(Response::Error(_))) => {}
                _ => return Err(disturbed()),
            }
        }
        Ok(())
    }

    /// Opens the connection, anew if it broke, and sends everything that is not answered.
    async fn reopen(&mut self, broken_by: Option<Status>) -> Result<()> {
        (self.connection, self.arrived) = (None, None);
        if let Some(status) = &broken_by {
            if let Failure::Refused(refusal) = failure("AppendRows", status) {
                match refusal.status {
                    // A reached limit passes, however often it is met.
                    429 => {
                        self.write.quota.refused(Spent::Append(0), refusal.retry_after);
                        self.reopened = 0;
                    }
                    401 => {}
                    _ => return Err(refusal.into()),
                }
            }
            tracing::debug!(stream = self.stream, %status, "a connection broke");
        }
        self.write.quota.take(Spent::Append(0)).await?;
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
        let (mut client, seat) = self.write.seated_client();
        let answers = answered("AppendRows", client.append_rows(request)).await?;
        Ok(Connection { requests, answers, _seat: seat })
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
    let shown = |code: ErrorCode| destination(code, format!("AppendRows: BigQuery answered: {}", status.message));
    match (storage, code) {
        (Some(StorageErrorCode::OffsetOutOfRange | StorageErrorCode::StreamFinalized | StorageErrorCode::StreamNotFound), _)
        | (_, Code::OutOfRange) => Verdict::No(shown(codes::OFFSET).with_retry(Retry::Backoff)),
        (Some(StorageErrorCode::SchemaMismatchExtraFields), _) => Verdict::No(shown(codes::CHANGED).with_retry(Retry::Backoff)),
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
