//! Answers: refusals, and bodies that break off between two messages of gRPC.

use std::error::Error;
use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Bytes, Frame};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

use super::Book;

/// What breaks a stream off.
pub type Fault = Box<dyn Error + Send + Sync>;
/// A body of any origin.
pub type Body = UnsyncBoxBody<Bytes, Fault>;

/// An answer of our own. Without a body it is one of headers only, as gRPC wants for a status alone.
pub fn refusal(status: u16, headers: &[(String, String)], body: String) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(status).expect("a rule refuses with an HTTP status");
    for (name, value) in headers {
        let name: HeaderName = name.parse().expect("a rule's header has a name");
        let value: HeaderValue = value.parse().expect("a rule's header has a value");
        answer.headers_mut().append(name, value);
    }
    answer
}

/// A status of gRPC.
pub fn grpc_refusal(code: i32, message: &str) -> Response<Body> {
    let mut encoded = String::new();
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").expect("a string takes what is written"),
        }
    }
    let headers = [("content-type", "application/grpc".to_owned()), ("grpc-status", code.to_string()), ("grpc-message", encoded)];
    refusal(200, &headers.map(|(name, value)| (name.to_owned(), value)), String::new())
}

/// How long what has passed gets to leave, before a break throws away what has not left.
const LEAVE: Duration = Duration::from_millis(50);

/// A body that passes some messages of gRPC, waits for whatever is next, and breaks off instead of passing it.
pub struct Cut {
    inner: Body,
    messages: Messages,
    after: usize,
    state: State,
    book: Arc<Book>,
    /// Breaks the whole connection.
    breaks: Option<Arc<Notify>>,
}

enum State {
    Passing,
    Leaving(Pin<Box<Sleep>>),
    Broken,
}

enum Next {
    /// A frame, or the end.
    Pass(Option<Result<Frame<Bytes>, Fault>>),
    Lose,
}

impl Cut {
    pub fn new(inner: Body, after: usize, book: Arc<Book>, breaks: Option<Arc<Notify>>) -> Self {
        Self { inner, messages: Messages::default(), after, state: State::Passing, book, breaks }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
            let data = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(trailers) if self.messages.whole < self.after => return Poll::Ready(Next::Pass(Some(Ok(trailers)))),
                    Err(_) => return Poll::Ready(Next::Lose),
                },
                None if self.messages.whole >= self.after => return Poll::Ready(Next::Lose),
                end => return Poll::Ready(Next::Pass(end)),
            };
            let passed = self.messages.take(&data, self.after);
            let lost = data.slice(passed..);
            self.messages.take(&lost, self.after + 1);
            if self.messages.whole > self.after {
                // What belongs to messages before goes first; then there is nothing more to wait for.
                self.state = State::Leaving(Box::pin(sleep(LEAVE)));
            }
            if passed > 0 {
                return Poll::Ready(Next::Pass(Some(Ok(Frame::data(data.slice(..passed))))));
            }
            if self.messages.whole > self.after {
                return Poll::Ready(Next::Lose);
            }
        }
    }
}

impl hyper::body::Body for Cut {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Passing => match ready!(this.poll_next(cx)) {
                    Next::Pass(frame) => return Poll::Ready(frame),
                    Next::Lose => this.state = State::Leaving(Box::pin(sleep(LEAVE))),
                },
                State::Leaving(leave) => {
                    ready!(leave.as_mut().poll(cx));
                    this.book.fire();
                    this.state = State::Broken;
                    match &this.breaks {
                        None => return Poll::Ready(Some(Err("the answer is lost".into()))),
                        Some(breaks) => breaks.notify_one(),
                    }
                }
                // The connection is about to go.
                State::Broken => return Poll::Pending,
            }
        }
    }
}

/// Counts the messages of gRPC in what passes: each has a header of a byte and its length in four.
#[derive(Default)]
struct Messages {
    /// How many have passed to their last byte.
    whole: usize,
    header: Vec<u8>,
    /// What is missing of the message whose header has passed.
    missing: usize,
}

impl Messages {
    /// How many of these bytes belong to the messages up to the `limit`th; they are counted, the others are not.
    fn take(&mut self, bytes: &[u8], limit: usize) -> usize {
        let mut at = 0;
        while self.whole < limit && at < bytes.len() {
            if self.header.len() < 5 {
                self.header.push(bytes[at]);
                at += 1;
                if let [_, length @ ..] = self.header.as_slice()
                    && let Ok(length) = <[u8; 4]>::try_from(length)
                {
                    self.missing = u32::from_be_bytes(length) as usize;
                }
            } else {
                let step = self.missing.min(bytes.len() - at);
                self.missing -= step;
                at += step;
            }
            if self.header.len() == 5 && self.missing == 0 {
                self.whole += 1;
                self.header.clear();
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::Messages;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        // "ab", nothing, "c".
        let bytes = [0, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'c'];
        for step in 1..=bytes.len() {
            let mut messages = Messages::default();
            let taken: usize = bytes.chunks(step).map(|chunk| messages.take(chunk, 2)).sum();
            assert_eq!((messages.whole, taken), (2, 12), "{step}");
            let mut all = Messages::default();
            let taken: usize = bytes.chunks(step).map(|chunk| all.take(chunk, 9)).sum();
            assert_eq!((all.whole, taken), (3, bytes.len()), "{step}");
        }
    }
}
