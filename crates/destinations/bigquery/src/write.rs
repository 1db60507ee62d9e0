//! The Storage Write API: streams, and what is done with them as a whole.

mod append;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as api;
use http::HeaderMap;
use longshore_core::Result;
use prost::Message as _;
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use crate::credentials::Identity;
use crate::error::{Failure, Refusal, codes};
use crate::message::Header;
use crate::quota::{Quota, Spent};

use api::big_query_write_client::BigQueryWriteClient;
use api::storage_error::StorageErrorCode;
pub(crate) use api::write_stream::Type as StreamType;
pub(crate) use append::Appender;

/// Bytes that may be on their way to all streams together.
const IN_FLIGHT_BYTES: usize = 4 * crate::rows::REQUEST_BYTES;
/// No answer of the API takes longer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub(crate) struct StorageWrite {
    connections: Arc<Connections>,
    identity: Identity,
    /// A permit is a byte on its way.
    room: Arc<Semaphore>,
    quota: Quota,
}

/// Connections to the API. A server lets a connection carry a hundred calls or so at once, and every open stream is one: a call too many
/// would wait for streams that wait for it.
#[derive(Debug)]
struct Connections {
    target: Endpoint,
    open: Mutex<Vec<(Channel, Weak<()>)>>,
}

/// Streams of one connection.
const STREAMS: usize = 60;

/// A place on a connection, held while a stream is open.
#[derive(Debug)]
pub(crate) struct Seat(#[expect(dead_code, reason = "counted, not read")] Arc<()>);

impl Connections {
    /// A connection with room for another stream.
    fn seat(&self) -> (Channel, Seat) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (channel, taken) in open.iter_mut() {
            if taken.strong_count() < STREAMS {
                let seat = taken.upgrade().unwrap_or_default();
                *taken = Arc::downgrade(&seat);
                return (channel.clone(), Seat(seat));
            }
        }
        let (channel, seat) = (self.target.connect_lazy(), Arc::default());
        open.push((channel.clone(), Arc::downgrade(&seat)));
        (channel, Seat(seat))
    }
}

/// Whether rows became visible by this call or were so before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Committed {
    Now,
    Before,
}

impl StorageWrite {
    /// Connects at the first call.
    pub(crate) fn new(endpoint: &str, identity: Identity, quota: Quota) -> Result<Self> {
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
        let connections = Arc::new(Connections { target, open: Mutex::default() });
        Ok(Self { connections, identity, room: Arc::new(Semaphore::new(IN_FLIGHT_BYTES)), quota })
    }

    /// For a short call: any connection will do.
    fn client(&self) -> BigQueryWriteClient<Channel> {
        self.seated_client().0
    }

    /// For a stream, which keeps its place.
    fn seated_client(&self) -> (BigQueryWriteClient<Channel>, Seat) {
        let (channel, seat) = self.connections.seat();
        let client = BigQueryWriteClient::new(channel);
        (client.max_decoding_message_size(1 << 24).max_encoding_message_size(1 << 24), seat)
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
        let mut client = self.client();
        let call = answered("CreateWriteStream", client.create_write_stream(request));
        Ok(self.quota.spend(Spent::Stream, call).await?.name)
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

    /// Appends to one stream, from the offset `first` on; `header` says how the rows look. Without an offset it is the default
    /// stream, which shows rows at once.
    pub(crate) fn appender(&self, stream: &str, header: Header, first: Option<i64>) -> Appender {
        Appender::new(self.clone(), stream, header, first)
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
        retry_after: asked_wait(status),
    })
}

/// The wait that a refusal asks for: `google.rpc.RetryInfo` among its details.
fn asked_wait(status: &Status) -> Option<Duration> {
    #[derive(prost::Message)]
    struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        retry_delay: Option<prost_types::Duration>,
    }
    let details = googleapis_tonic_google_cloud_bigquery_storage_v1::google::rpc::Status::decode(status.details()).ok()?.details;
    let info = details.iter().find(|any| any.type_url.ends_with("google.rpc.RetryInfo"))?;
    RetryInfo::decode(info.value.as_ref()).ok()?.retry_delay?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_beyond_what_a_connection_carries_get_another_one() {
        let connections = Connections { target: Endpoint::from_static("http://127.0.0.1:1"), open: Mutex::default() };
        let open = || connections.open.lock().unwrap_or_else(PoisonError::into_inner).len();
        let seats: Vec<Seat> = (0..STREAMS).map(|_| connections.seat().1).collect();
        assert_eq!(open(), 1);
        let more = connections.seat();
        assert_eq!(open(), 2);
        drop(seats);
        let again: Vec<Seat> = (0..STREAMS).map(|_| connections.seat().1).collect();
        assert_eq!((open(), again.len()), (2, STREAMS), "what was left is taken again");
        drop(more);
    }
}
