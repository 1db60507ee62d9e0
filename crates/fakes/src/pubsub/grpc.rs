//! gRPC: `google.pubsub.v1.Subscriber` and `Publisher`, as far as they are used.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use futures::Stream;
use http::{Request, Response};
use hyper::body::Incoming;
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Code, Status};

use super::backlog::{self, Backlog};
use super::protocol as pb;
use super::{Fault, Shared, State};

/// The largest message that is read: Google's own limit, and a little.
const MESSAGE_LIMIT: usize = 11 << 20;
/// Requests to acknowledge and to extend may have half a MiB.
const IDS_LIMIT: usize = 512 << 10;
/// How often a stream looks for leases that are over.
const LOOK: Duration = Duration::from_millis(100);

/// Answers as their bytes, requests as messages.
struct Answered<Q>(PhantomData<Q>);

impl<Q> Default for Answered<Q> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Q: prost::Message + Default + 'static> Codec for Answered<Q> {
    type Encode = Bytes;
    type Decode = Q;
    type Encoder = Answered<Q>;
    type Decoder = Answered<Q>;

    fn encoder(&mut self) -> Self::Encoder {
        Self::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self::default()
    }
}

impl<Q> Encoder for Answered<Q> {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl<Q: prost::Message + Default> Decoder for Answered<Q> {
    type Item = Q;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Q>, Status> {
        Q::decode(buffer).map(Some).map_err(|e| Status::internal(e.to_string()))
    }
}

type Answering<T> = Pin<Box<dyn Future<Output = Result<tonic::Response<T>, Status>> + Send>>;

/// Serves a call.
pub(super) async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match path.rsplit('/').next().unwrap_or_default() {
        "StreamingPull" => {
            let codec = Answered::<pb::StreamingPullRequest>::default();
            Grpc::new(codec).streaming(Pulls(shared), request).await
        }
        "Acknowledge" => unary(shared, "Acknowledge", request, acknowledge).await,
        "ModifyAckDeadline" => unary(shared, "ModifyAckDeadline", request, modify).await,
        "GetSubscription" => unary(shared, "GetSubscription", request, get).await,
        "Publish" => unary(shared, "Publish", request, publish).await,
        "TestIamPermissions" => {
            let work = |_: &mut State, _: pb::NameRequest, _: Option<&Fault>| {
                Ok(pb::TestPermissionsResponse { permissions: vec!["pubsub.subscriptions.consume".into()] }.encode_to_vec())
            };
            unary(shared, "TestIamPermissions", request, work).await
        }
        _ => Status::unimplemented(path).into_http(),
    }
}

fn find<'a>(state: &'a mut State, subscription: &str) -> Result<&'a mut Backlog, Status> {
    let missing = || Status::not_found(format!("Resource not found (resource={subscription})."));
    state.subscriptions.get_mut(subscription).ok_or_else(missing)
}

/// What an answer says of ids that were not taken.
fn refused(ids: Vec<String>, why: &str) -> Status {
    let metadata = ids.into_iter().map(|id| (id, why.to_owned())).collect();
    let info = pb::ErrorInfo { reason: "ACK_IDS_REFUSED".into(), domain: "pubsub.googleapis.com".into(), metadata };
    let any = prost_types::Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(), value: info.encode_to_vec() };
    let message = "Some acknowledgement ids in the request were invalid.".to_owned();
    let details = pb::RpcStatus { code: Code::FailedPrecondition as i32, message: message.clone(), details: vec![any] };
    Status::with_details(Code::FailedPrecondition, message, details.encode_to_vec().into())
}

/// The answer about ids: a subscription that does not deliver exactly once says nothing of those that are too old.
fn settled(backlog: &Backlog, stale: Vec<String>) -> Result<Vec<u8>, Status> {
    match backlog.options.exactly_once && !stale.is_empty() {
        true => Err(refused(stale, "PERMANENT_FAILURE_INVALID_ACK_ID")),
        false => Ok(Vec::new()),
    }
}

fn fits(request: &impl prost::Message) -> Result<(), Status> {
    let bytes = request.encoded_len();
    let why = || Status::invalid_argument(format!("Request payload size exceeds the limit: {IDS_LIMIT} bytes."));
    (bytes <= IDS_LIMIT).then_some(()).ok_or_else(why)
}

fn acknowledge(state: &mut State, request: pb::AcknowledgeRequest, fault: Option<&Fault>) -> Result<Vec<u8>, Status> {
    fits(&request)?;
    let backlog = find(state, &request.subscription)?;
    if let Some(Fault::Each(why)) = fault {
        return Err(refused(request.ack_ids, why));
    }
    let stale = backlog.acknowledge(request.ack_ids);
    settled(backlog, stale)
}

fn modify(state: &mut State, request: pb::ModifyAckDeadlineRequest, fault: Option<&Fault>) -> Result<Vec<u8>, Status> {
    fits(&request)?;
    let backlog = find(state, &request.subscription)?;
    if let Some(Fault::Each(why)) = fault {
        return Err(refused(request.ack_ids, why));
    }
    let stale = backlog.modify(request.ack_ids, request.ack_deadline_seconds);
    settled(backlog, stale)
}

fn get(state: &mut State, request: pb::NameRequest, _: Option<&Fault>) -> Result<Vec<u8>, Status> {
    let options = find(state, &request.name)?.options.clone();
    let push_config = Some(pb::NameRequest { name: options.push }).filter(|push| !push.name.is_empty());
    let subscription = pb::Subscription {
        name: request.name,
        topic: options.topic,
        push_config,
        ack_deadline_seconds: 10,
        enable_message_ordering: options.ordered,
        enable_exactly_once_delivery: options.exactly_once,
    };
    Ok(subscription.encode_to_vec())
}

fn publish(state: &mut State, request: pb::PublishRequest, _: Option<&Fault>) -> Result<Vec<u8>, Status> {
    let pb::PublishRequest { topic, messages } = request;
    if messages.len() > 1_000 {
        return Err(Status::invalid_argument("The value for message_count is too large."));
    }
    if messages.windows(2).any(|two| two[0].ordering_key != two[1].ordering_key) {
        return Err(Status::invalid_argument("In a single publish request, all messages must have the same ordering key."));
    }
    let missing = || Status::not_found(format!("Resource not found (resource={topic})."));
    let published = state.topics.get_mut(&topic).ok_or_else(missing)?;
    let first = published.len() as u64;
    published.extend(messages.iter().cloned());
    let message_ids = (first..).take(messages.len()).map(backlog::id).collect();
    for backlog in state.subscriptions.values_mut().filter(|backlog| backlog.options.topic == topic) {
        messages.iter().for_each(|message| _ = backlog.publish(message.clone()));
    }
    Ok(pb::PublishResponse { message_ids }.encode_to_vec())
}

struct Unary<W> {
    shared: Arc<Shared>,
    name: &'static str,
    work: Option<W>,
}

async fn unary<Q, W>(shared: Arc<Shared>, name: &'static str, request: Request<Incoming>, work: W) -> Response<Body>
where
    Q: prost::Message + Default + 'static,
    W: FnOnce(&mut State, Q, Option<&Fault>) -> Result<Vec<u8>, Status> + Send + 'static,
{
    let service = Unary { shared, name, work: Some(work) };
    Grpc::new(Answered::<Q>::default()).max_decoding_message_size(MESSAGE_LIMIT).unary(service, request).await
}

impl<Q, W> UnaryService<Q> for Unary<W>
where
    Q: Send + 'static,
    W: FnOnce(&mut State, Q, Option<&Fault>) -> Result<Vec<u8>, Status> + Send + 'static,
{
    type Response = Bytes;
    type Future = Answering<Bytes>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let (shared, name, work) = (self.shared.clone(), self.name, self.work.take().expect("a unary call is one call"));
        Box::pin(async move {
            let fault = shared.lock().fault(name);
            match &fault {
                Some(Fault::Refuse(code, why)) => return Err(Status::new(*code, why)),
                Some(Fault::Hold) => std::future::pending().await,
                _ => {}
            }
            let mut state = shared.lock();
            let done = work(&mut state, request.into_inner(), fault.as_ref());
            drop(state);
            shared.stirred.notify_waiters();
            if matches!(fault, Some(Fault::LoseAnswer)) {
                return Err(Status::unavailable("The service was unable to fulfill your request."));
            }
            done.map(|answer| tonic::Response::new(answer.into()))
        })
    }
}

struct Pulls(Arc<Shared>);

type Responses = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl StreamingService<pb::StreamingPullRequest> for Pulls {
    type Response = Bytes;
    type ResponseStream = Responses;
    type Future = Answering<Responses>;

    fn call(&mut self, request: tonic::Request<Streaming<pb::StreamingPullRequest>>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move {
            let mut requests = request.into_inner();
            let first = requests.message().await?.ok_or_else(|| Status::invalid_argument("The stream says nothing."))?;
            let number = {
                let mut state = shared.lock();
                if let Some(Fault::Refuse(code, why)) = state.fault("StreamingPull") {
                    return Err(Status::new(code, why));
                }
                state.streams += 1;
                let number = state.streams;
                let (messages, bytes) = (first.max_outstanding_messages, first.max_outstanding_bytes);
                let stream = backlog::Stream::new(messages, bytes, first.stream_ack_deadline_seconds);
                find(&mut state, &first.subscription)?.open(number, stream);
                number
            };
            // Two answers are on their way at most, so that flow control is the client's.
            let (sender, mut receiver) = mpsc::channel(2);
            tokio::spawn(async move {
                send(&shared, &first, number, requests, &sender).await;
                if let Ok(backlog) = find(&mut shared.lock(), &first.subscription) {
                    backlog.shut(number);
                }
            });
            // Google's servers say nothing, no headers even, before there is something to say.
            let first = receiver.recv().await.ok_or_else(|| Status::unavailable("The stream ended."))?;
            let rest = futures::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
            let responses = futures::StreamExt::chain(futures::stream::iter([first]), rest);
            Ok(tonic::Response::new(Box::pin(responses) as Responses))
        })
    }
}

/// Sends what there is until the client or a fault ends it.
async fn send(
    shared: &Shared,
    first: &pb::StreamingPullRequest,
    number: u64,
    mut requests: Streaming<pb::StreamingPullRequest>,
    sender: &mpsc::Sender<Result<Bytes, Status>>,
) {
    let broken = shared.broken.notified();
    tokio::pin!(broken);
    broken.as_mut().enable();
    loop {
        let stirred = shared.stirred.notified();
        tokio::pin!(stirred);
        stirred.as_mut().enable();
        let ended = Status::unavailable("The service was unable to fulfill your request. Please try again.");
        tokio::select! {
            biased;
            () = &mut broken => {
                _ = sender.send(Err(ended)).await;
                return;
            }
            sent = async {
                // Not before it is clear that the stream is not to end.
                let next = find(&mut shared.lock(), &first.subscription).map(|backlog| backlog.next(number));
                match next {
                    Ok(Some(answer)) => sender.send(Ok(answer)).await.is_ok(),
                    Err(status) => {
                        _ = sender.send(Err(status)).await;
                        false
                    }
                    Ok(None) => tokio::select! {
                        () = stirred => true,
                        () = tokio::time::sleep(LOOK) => true,
                        // A sign of life is answered by one.
                        request = requests.message() => match request {
                            Ok(Some(_)) if first.protocol_version > 0 => sender.send(Ok(Bytes::new())).await.is_ok(),
                            Ok(Some(_)) => true,
                            Ok(None) | Err(_) => false,
                        },
                    },
                }
            } => if !sent { return },
        }
    }
}
