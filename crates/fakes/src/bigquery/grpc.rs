//! gRPC: `google.cloud.bigquery.storage.v1.BigQueryWrite`.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Buf as _;
use futures::Stream;
use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as pb;
use http::{Request, Response};
use hyper::body::Incoming;
use pb::append_rows_response::Response as Appended;
use tokio::sync::{Notify, mpsc};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Code, Status};

use super::append::{Connection, ending};
use super::fault::Fault;
use super::http::Shared;
use super::state::State;
use super::streams::{error_status, labelled};

/// The largest message that is read at all: what is too large for BigQuery must reach us to be refused.
const MESSAGE_LIMIT: usize = 256 << 20;

/// Messages as bytes on the wire.
struct Prost<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Prost<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: prost::Message + 'static, U: prost::Message + Default + 'static> Codec for Prost<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = Prost<T, U>;
    type Decoder = Prost<T, U>;

    fn encoder(&mut self) -> Self::Encoder {
        Self::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self::default()
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
        debug_assert!(buffer.remaining() <= MESSAGE_LIMIT, "the limit was set");
        U::decode(buffer).map(Some).map_err(|e| Status::internal(e.to_string()))
    }
}

type Answering<T> = Pin<Box<dyn Future<Output = Result<tonic::Response<T>, Status>> + Send>>;

/// What all methods of a connection need.
#[derive(Clone)]
struct Place {
    shared: Arc<Shared>,
    broken: Arc<Notify>,
}

/// Serves a call.
pub(crate) async fn handle(shared: Arc<Shared>, broken: Arc<Notify>, request: Request<Incoming>) -> Response<Body> {
    let place = Place { shared, broken };
    let path = request.uri().path().to_owned();
    let Some(method) = path.strip_prefix("/google.cloud.bigquery.storage.v1.BigQueryWrite/") else {
        return Status::unimplemented(path).into_http();
    };
    match method {
        "CreateWriteStream" => {
            let work =
                |state: &mut State, request: pb::CreateWriteStreamRequest, _: &Option<Fault>| state.create_stream(&request);
            unary(place, "CreateWriteStream", request, |r: &pb::CreateWriteStreamRequest| labelled(&r.parent), work).await
        }
        "GetWriteStream" => {
            let work = |state: &mut State, request: pb::GetWriteStreamRequest, fault: &Option<Fault>| {
                let stale = matches!(fault, Some(Fault::StaleSchema));
                state.shown_stream(&request.name, request.view() == pb::WriteStreamView::Full, stale)
            };
            unary(place, "GetWriteStream", request, |r: &pb::GetWriteStreamRequest| labelled(&r.name), work).await
        }
        "FlushRows" => {
            let work = |state: &mut State, request: pb::FlushRowsRequest, _: &Option<Fault>| state.flush(&request);
            unary(place, "FlushRows", request, |r: &pb::FlushRowsRequest| labelled(&r.write_stream), work).await
        }
        "FinalizeWriteStream" => {
            let work =
                |state: &mut State, request: pb::FinalizeWriteStreamRequest, _: &Option<Fault>| state.finalize(&request.name);
            unary(place, "FinalizeWriteStream", request, |r: &pb::FinalizeWriteStreamRequest| labelled(&r.name), work).await
        }
        "BatchCommitWriteStreams" => {
            let work = |state: &mut State, request: pb::BatchCommitWriteStreamsRequest, _: &Option<Fault>| state.commit(&request);
            let subject =
                |r: &pb::BatchCommitWriteStreamsRequest| format!("{} {}", labelled(&r.parent), r.write_streams.join(" "));
            unary(place, "BatchCommitWriteStreams", request, subject, work).await
        }
        "AppendRows" => {
            let codec = Prost::<pb::AppendRowsResponse, pb::AppendRowsRequest>::default();
            Grpc::new(codec).max_decoding_message_size(MESSAGE_LIMIT).streaming(Appends(place), request).await
        }
        other => Status::unimplemented(other.to_owned()).into_http(),
    }
}

struct Unary<S, W> {
    place: Place,
    name: &'static str,
    subject: S,
    work: Option<W>,
    token: Option<String>,
}

async fn unary<Q, A, S, W>(place: Place, name: &'static str, request: Request<Incoming>, subject: S, work: W) -> Response<Body>
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + 'static,
    S: Fn(&Q) -> String + Send + 'static,
    W: FnOnce(&mut State, Q, &Option<Fault>) -> Result<A, Status> + Send + 'static,
{
    let token = token_of(request.headers());
    let service = Unary { place, name, subject, work: Some(work), token };
    Grpc::new(Prost::<A, Q>::default()).max_decoding_message_size(MESSAGE_LIMIT).unary(service, request).await
}

fn token_of(headers: &http::HeaderMap) -> Option<String> {
    Some(headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?.to_owned())
}

/// The name of a table or a stream in the subject of a call.
fn resource(subject: &str) -> &str {
    subject.split(' ').nth(1).unwrap_or(subject)
}

impl Place {
    /// What goes wrong with a call.
    fn fault(&self, name: &str, subject: &str, token: Option<&String>) -> Option<Fault> {
        let mut state = self.shared.lock();
        let fault = state.faults.next(name, subject);
        let wrong_token = state.faults.token.is_some() && state.faults.token.as_ref() != token;
        if wrong_token { Some(Fault::ExpireToken) } else { fault }
    }

    async fn break_off<T>(&self) -> T {
        self.broken.notify_one();
        std::future::pending().await
    }
}

impl<Q, A, S, W> UnaryService<Q> for Unary<S, W>
where
    Q: Send + 'static,
    A: Send + 'static,
    S: Fn(&Q) -> String,
    W: FnOnce(&mut State, Q, &Option<Fault>) -> Result<A, Status> + Send + 'static,
{
    type Response = A;
    type Future = Answering<A>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let request = request.into_inner();
        let subject = (self.subject)(&request);
        let fault = self.place.fault(self.name, &subject, self.token.as_ref());
        let (place, work) = (self.place.clone(), self.work.take().expect("a unary call is one call"));
        Box::pin(async move {
            if let Some(status) = fault.as_ref().and_then(|fault| ending(fault, &subject)) {
                return Err(status);
            }
            if matches!(fault, Some(Fault::LoseRequest)) {
                return place.break_off().await;
            }
            let shared = Arc::clone(&place.shared);
            let wrong = fault.clone();
            // On its own: what is held is done even if the client goes away.
            let done = tokio::spawn(async move {
                if let Some(Fault::Hold(gate)) = &wrong {
                    gate.pass().await;
                }
                let mut state = shared.lock();
                state.permit_write(resource(&subject))?;
                work(&mut state, request, &wrong)
            });
            let done = done.await.map_err(|panic| Status::internal(format!("the fake failed: {panic}")))?;
            if matches!(fault, Some(Fault::LoseAnswer)) {
                return place.break_off().await;
            }
            done.map(tonic::Response::new)
        })
    }
}

struct Appends(Place);

type Responses = Pin<Box<dyn Stream<Item = Result<pb::AppendRowsResponse, Status>> + Send>>;

impl StreamingService<pb::AppendRowsRequest> for Appends {
    type Response = pb::AppendRowsResponse;
    type ResponseStream = Responses;
    type Future = Answering<Responses>;

    fn call(&mut self, request: tonic::Request<Streaming<pb::AppendRowsRequest>>) -> Self::Future {
        let place = self.0.clone();
        Box::pin(async move {
            let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
            let token = token.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
            let (sender, receiver) = mpsc::channel(64);
            tokio::spawn(append_all(place, request.into_inner(), sender, token));
            let responses = futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
            Ok(tonic::Response::new(Box::pin(responses) as Responses))
        })
    }
}

/// Does a connection's requests, one after the other. A client that is gone does not stop what it sent.
async fn append_all(
    place: Place,
    mut requests: Streaming<pb::AppendRowsRequest>,
    sender: mpsc::Sender<Result<pb::AppendRowsResponse, Status>>,
    token: Option<String>,
) {
    let mut connection = Connection::default();
    while let Ok(Some(request)) = requests.message().await {
        let subject = connection.subject(&request);
        let fault = place.fault("AppendRows", &subject, token.as_ref());
        if let Some(status) = fault.as_ref().and_then(|fault| ending(fault, &subject)) {
            _ = sender.send(Err(status)).await;
            return;
        }
        match &fault {
            Some(Fault::LoseRequest) => return place.break_off().await,
            Some(Fault::Hold(gate)) => gate.pass().await,
            Some(Fault::RefuseAppend { code, message, storage_error }) => {
                let error = error_status(Code::from(*code), storage_error.unwrap_or(0), &subject, message);
                let answer = pb::AppendRowsResponse { response: Some(Appended::Error(error)), ..Default::default() };
                _ = sender.send(Ok(answer)).await;
                continue;
            }
            _ => {}
        }
        let permitted = place.shared.lock().permit_write(resource(&subject));
        if let Err(status) = permitted {
            _ = sender.send(Err(status)).await;
            return;
        }
        let done = connection.append(&mut place.shared.lock(), &request, fault.as_ref());
        if matches!(fault, Some(Fault::LoseAnswer)) {
            return place.break_off().await;
        }
        let ends = done.is_err();
        _ = sender.send(done).await;
        if ends {
            return;
        }
    }
}
