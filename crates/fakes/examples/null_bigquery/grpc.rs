//! The Storage Write API.

use std::future::{Ready, ready};
use std::marker::PhantomData;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as pb;
use googleapis_tonic_google_cloud_bigquery_storage_v1::google::rpc::Status as RpcStatus;
use http::{Request, Response};
use hyper::body::Incoming;
use pb::append_rows_request::{ArrowData, Rows};
use pb::append_rows_response::{AppendResult, Response as Appended};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Code, Status};

use super::{Place, State};

/// No message is larger.
const MESSAGE_LIMIT: usize = 16 << 20;

/// Answers a call.
pub async fn write(place: Place, method: &str, request: Request<Incoming>) -> Response<Body> {
    match method {
        "CreateWriteStream" => {
            unary(request, move |asked: pb::CreateWriteStreamRequest| {
                let mut state = place.lock();
                let name = format!("{}/streams/s{}", asked.parent, state.streams.len() + 1);
                state.streams.insert(name.clone(), 0);
                Ok(pb::WriteStream { name, r#type: asked.write_stream.unwrap_or_default().r#type, ..Default::default() })
            })
            .await
        }
        "FinalizeWriteStream" => {
            unary(request, move |asked: pb::FinalizeWriteStreamRequest| {
                let row_count = place.lock().rows_of(&asked.name)?;
                Ok(pb::FinalizeWriteStreamResponse { row_count })
            })
            .await
        }
        "BatchCommitWriteStreams" => {
            unary(request, move |asked: pb::BatchCommitWriteStreamsRequest| {
                place.lock().check_open(&asked.parent)?;
                Ok(pb::BatchCommitWriteStreamsResponse { commit_time: Some(Default::default()), ..Default::default() })
            })
            .await
        }
        "FlushRows" => {
            unary(request, move |asked: pb::FlushRowsRequest| {
                let table = asked.write_stream.split("/streams/").next().unwrap_or_default();
                place.lock().check_open(table)?;
                Ok(pb::FlushRowsResponse { offset: asked.offset.unwrap_or(0) })
            })
            .await
        }
        "AppendRows" => {
            let codec = Prost::<pb::AppendRowsResponse, pb::AppendRowsRequest>(PhantomData);
            Grpc::new(codec).max_decoding_message_size(MESSAGE_LIMIT).streaming(Append(place), request).await
        }
        other => Status::unimplemented(other.to_owned()).into_http(),
    }
}

impl State {
    fn rows_of(&self, stream: &str) -> Result<i64, Status> {
        self.streams.get(stream).copied().ok_or_else(|| Status::not_found(format!("no such stream: {stream}")))
    }

    fn check_open(&self, table: &str) -> Result<(), Status> {
        let blocked = self.blocked.as_ref().is_some_and(|end| table.ends_with(end));
        if blocked { Err(Status::unavailable("this table is blocked")) } else { Ok(()) }
    }

    /// Counts a request's rows and answers with their offset.
    fn append(&mut self, stream: &str, request: &pb::AppendRowsRequest) -> Result<pb::AppendRowsResponse, Status> {
        let (rows, bytes) = counted(request)?;
        let is_default = stream.ends_with("/_default");
        let next = if is_default { 0 } else { self.rows_of(stream)? };
        let response = match request.offset.unwrap_or(next) {
            offset if offset < next => refused(Code::AlreadyExists, offset, next),
            offset if offset > next => refused(Code::OutOfRange, offset, next),
            offset => {
                self.seen.appends += 1;
                self.seen.append_bytes += bytes;
                // What goes to a default stream is not what is measured.
                if !is_default {
                    self.seen.rows += rows.unsigned_abs();
                    self.streams.insert(stream.to_owned(), next + rows);
                }
                Appended::AppendResult(AppendResult { offset: (!is_default).then_some(offset) })
            }
        };
        Ok(pb::AppendRowsResponse { response: Some(response), write_stream: stream.to_owned(), ..Default::default() })
    }
}

fn refused(code: Code, offset: i64, next: i64) -> Appended {
    let message = format!("the offset {offset} came where {next} was next");
    Appended::Error(RpcStatus { code: code as i32, message, details: Vec::new() })
}

/// The rows of a request, as the header of their Arrow message has it, and the bytes of the message.
fn counted(request: &pb::AppendRowsRequest) -> Result<(i64, u64), Status> {
    let Some(Rows::ArrowRows(ArrowData { rows: Some(batch), .. })) = &request.rows else {
        return Err(Status::invalid_argument("only Arrow rows are counted here"));
    };
    let message = &batch.serialized_record_batch;
    let malformed = || Status::invalid_argument("no Arrow message of a record batch");
    // Four bytes that say that a length follows, its four bytes, and the header.
    let header = message.get(8..).filter(|_| message.starts_with(&[0xff; 4])).ok_or_else(malformed)?;
    let header = arrow::ipc::root_as_message(header).map_err(|_| malformed())?;
    let rows = header.header_as_record_batch().ok_or_else(malformed)?.length();
    Ok((rows, message.len() as u64))
}

struct Append(Place);

impl StreamingService<pb::AppendRowsRequest> for Append {
    type Response = pb::AppendRowsResponse;
    type ResponseStream = BoxStream<'static, Result<pb::AppendRowsResponse, Status>>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, requests: tonic::Request<Streaming<pb::AppendRowsRequest>>) -> Self::Future {
        let place = self.0.clone();
        let mut stream = String::new();
        let answers = requests.into_inner().map(move |request| {
            let request = request?;
            // Later requests of a connection need not repeat the name.
            if !request.write_stream.is_empty() {
                stream.clone_from(&request.write_stream);
            }
            place.lock().append(&stream, &request)
        });
        ready(Ok(tonic::Response::new(answers.boxed())))
    }
}

struct Once<F>(F);

impl<Q, A, F: FnMut(Q) -> Result<A, Status>> UnaryService<Q> for Once<F> {
    type Response = A;
    type Future = Ready<Result<tonic::Response<A>, Status>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        ready((self.0)(request.into_inner()).map(tonic::Response::new))
    }
}

async fn unary<Q, A>(request: Request<Incoming>, work: impl FnMut(Q) -> Result<A, Status>) -> Response<Body>
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + 'static,
{
    Grpc::new(Prost::<A, Q>(PhantomData)).unary(Once(work), request).await
}

/// Messages as bytes on the wire.
struct Prost<T, U>(PhantomData<(T, U)>);

impl<T: prost::Message + 'static, U: prost::Message + Default + 'static> Codec for Prost<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

impl<T: prost::Message, U> Encoder for Prost<T, U> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|e| Status::internal(e.to_string()))
    }
}

impl<T, U: prost::Message + Default> Decoder for Prost<T, U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(buffer).map(Some).map_err(|e| Status::internal(e.to_string()))
    }
}
