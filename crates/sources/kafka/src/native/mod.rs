//! The calls of librdkafka that `rdkafka` has no safe form for, or one that loses what is needed here: which topic an end or an error
//! belongs to, the ids of topics and of the cluster, and the last watermarks seen. All `unsafe` code of the crate is below this module.
#![expect(unsafe_code, reason = "librdkafka is a C library; each call says why it is sound")]

mod events;
mod identity;

use std::ffi::CStr;
use std::os::raw::c_char;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafka;

pub(crate) use events::{Queue, Record, Trouble, What};
pub(crate) use identity::{About, Described, cluster_id, describe, known_id};

use crate::client::Quiet;

/// The client that everything here belongs to. It is let go of on a thread of its own, because that waits for librdkafka's threads.
pub(crate) struct Client(Option<BaseConsumer<Quiet>>);

impl Client {
    pub(crate) fn new(consumer: BaseConsumer<Quiet>) -> Self {
        Self(Some(consumer))
    }
}

impl std::ops::Deref for Client {
    type Target = BaseConsumer<Quiet>;

    fn deref(&self) -> &Self::Target {
        match &self.0 {
            Some(consumer) => consumer,
            None => unreachable!("it is there until it is dropped"),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let consumer = self.0.take();
        // Without a thread it is dropped here.
        let _ = std::thread::Builder::new().name("kafka-farewell".to_owned()).spawn(move || drop(consumer));
    }
}

fn raw(client: &Client) -> *mut RDKafka {
    client.client().native_ptr()
}

/// Whole milliseconds, not less than the time: to wait for none of them would be to ask again at once.
fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
}

/// A text of librdkafka's. What is not UTF-8 is replaced.
///
/// # Safety
/// `text` must be null, or end with a zero byte and live as long as this call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: it is not null, and ends with a zero, by the caller's word.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The first offset that a partition has, and the one behind its last record, as the last answer to a fetch said; `None` before that.
pub(crate) fn watermarks(client: &Client, topic: &str, partition: i32) -> Option<(i64, i64)> {
    let topic = std::ffi::CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client lives; the topic is a C string and both numbers are writable for the length of the call.
    let answer =
        unsafe { c::rd_kafka_get_watermark_offsets(raw(client), topic.as_ptr(), partition, &raw mut low, &raw mut high) };
    (answer == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some((low, high))
}

/// Whether the group has taken this client in, with partitions or without.
pub(crate) fn is_member(client: &Client) -> bool {
    // SAFETY: the client lives. What comes back is ours, if it is not null: it is read and given back at once.
    unsafe {
        let group = c::rd_kafka_consumer_group_metadata(raw(client));
        if group.is_null() {
            return false;
        }
        let generation = c::rd_kafka_consumer_group_metadata_generation_id(group);
        c::rd_kafka_consumer_group_metadata_destroy(group);
        generation > 0
    }
}

/// Gives the client a token, good until this time (milliseconds since 1970), or says why there is none.
pub(crate) fn set_token(client: &Client, token: Result<(&str, i64, &str), &str>) -> Result<(), String> {
    let owned = |text: &str| std::ffi::CString::new(text.replace('\0', " ")).unwrap_or_default();
    let mut why = [0 as c_char; 512];
    let answer = match token {
        Ok((token, until, principal)) => {
            let (token, principal) = (owned(token), owned(principal));
            // SAFETY: the client lives; both texts are C strings; there are no extensions; `why` has the length that is told.
            unsafe {
                c::rd_kafka_oauthbearer_set_token(
                    raw(client),
                    token.as_ptr(),
                    until,
                    principal.as_ptr(),
                    std::ptr::null_mut(),
                    0,
                    why.as_mut_ptr(),
                    why.len(),
                )
            }
        }
        // SAFETY: the client lives and the text is a C string.
        Err(reason) => unsafe { c::rd_kafka_oauthbearer_set_token_failure(raw(client), owned(reason).as_ptr()) },
    };
    if answer == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    // SAFETY: librdkafka ends what it writes with a zero, and the buffer was all zeros before.
    Err(unsafe { text(why.as_ptr()) })
}

/// What ends a wait for events early. Keeps nothing alive.
#[derive(Clone)]
pub(crate) struct Waker(std::sync::Weak<Queue>);

impl Waker {
    pub(crate) fn of(queue: &Arc<Queue>) -> Self {
        Self(Arc::downgrade(queue))
    }

    /// Ends the wait that is under way, or the next one if none is.
    pub(crate) fn wake(&self) {
        if let Some(queue) = self.0.upgrade() {
            queue.wake();
        }
    }
}
