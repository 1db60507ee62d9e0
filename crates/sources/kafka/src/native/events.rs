//! What a client has to tell: records, ends of partitions, errors, changes of the group, log lines.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::error::RDKafkaErrorCode;

use super::{Client, millis, raw, text};

/// The queue on which a client tells everything. Keeps the client alive.
pub(crate) struct Queue {
    queue: NonNull<c::rd_kafka_queue_t>,
    client: Arc<Client>,
}

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Queue {}
// SAFETY: as above; they lock themselves.
unsafe impl Sync for Queue {}

impl Queue {
    /// The client's queue: that of its group, or its main one if it is in none.
    pub(crate) fn of(client: Arc<Client>) -> Self {
        // SAFETY: the client lives. The group's queue is null if there is no group; the main one never is.
        let queue = unsafe {
            let group = c::rd_kafka_queue_get_consumer(raw(&client));
            NonNull::new(group).unwrap_or_else(|| NonNull::new_unchecked(c::rd_kafka_queue_get_main(raw(&client))))
        };
        Self { queue, client }
    }

    /// The client.
    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// The next event, waited for so long.
    pub(crate) fn poll(&self, wait: Duration) -> Option<Event<'_>> {
        // SAFETY: the queue lives as long as `self`.
        let event = unsafe { c::rd_kafka_queue_poll(self.queue.as_ptr(), millis(wait)) };
        NonNull::new(event).map(|event| Event { event, queue: PhantomData })
    }

    /// Ends the wait that is under way, or the next one if none is.
    pub(crate) fn wake(&self) {
        // SAFETY: the queue lives as long as `self`.
        unsafe { c::rd_kafka_queue_yield(self.queue.as_ptr()) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it was made in `of`, which counted a reference, and is not used after this. The client is dropped after it.
        unsafe { c::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// Something that a client tells. Its texts and bytes live as long as it does.
pub(crate) struct Event<'q> {
    event: NonNull<c::rd_kafka_event_t>,
    queue: PhantomData<&'q Queue>,
}

/// What an event is.
pub(crate) enum What<'e> {
    Record(Record<'e>),
    /// Nothing more to read: the next offset of the partition.
    End {
        topic: String,
        partition: i32,
        offset: i64,
    },
    Trouble(Trouble),
    /// The group has given these partitions to this member. It has to be answered by an assignment.
    Assigned(Vec<(String, i32)>),
    /// The group takes these partitions away, or they are lost already. It has to be answered by an end of their assignment.
    Revoked(Vec<(String, i32)>),
    /// Offsets were committed, or not.
    Committed(Option<RDKafkaErrorCode>),
    /// A line of librdkafka's log; `level` is syslog's.
    Log {
        level: i32,
        text: String,
    },
    /// A token is wanted.
    Token,
    Other,
}

/// An error that a client tells.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub(crate) code: RDKafkaErrorCode,
    /// Whether the client cannot go on.
    pub(crate) fatal: bool,
    pub(crate) text: String,
    /// Which partition, and the offset that was asked for.
    pub(crate) partition: Option<(String, i32, i64)>,
}

impl Event<'_> {
    /// What it is. A record can be had once.
    pub(crate) fn what(&mut self) -> What<'_> {
        let event = self.event.as_ptr();
        // SAFETY: the event lives as long as `self`, here and in all calls below.
        match unsafe { c::rd_kafka_event_type(event) } {
            c::RD_KAFKA_EVENT_FETCH => {
                // SAFETY: a record of the event lives as long as the event.
                match NonNull::new(unsafe { c::rd_kafka_event_message_next(event) }.cast_mut()) {
                    Some(message) => What::Record(Record { message, event: PhantomData }),
                    None => What::Other,
                }
            }
            c::RD_KAFKA_EVENT_ERROR => self.trouble(),
            c::RD_KAFKA_EVENT_REBALANCE => {
                let partitions = self.partitions();
                match self.error() {
                    Some(RDKafkaErrorCode::AssignPartitions) => What::Assigned(partitions),
                    _ => What::Revoked(partitions),
                }
            }
            c::RD_KAFKA_EVENT_OFFSET_COMMIT => What::Committed(self.error()),
            c::RD_KAFKA_EVENT_LOG => self.log(),
            c::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH => What::Token,
            _ => What::Other,
        }
    }

    fn error(&self) -> Option<RDKafkaErrorCode> {
        // SAFETY: the event lives.
        let error = unsafe { c::rd_kafka_event_error(self.event.as_ptr()) };
        (error != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| error.into())
    }

    fn trouble(&self) -> What<'static> {
        let Some(code) = self.error() else { return What::Other };
        let partition = self.partition();
        if let (RDKafkaErrorCode::PartitionEOF, Some((topic, partition, offset))) = (code, &partition) {
            return What::End { topic: topic.clone(), partition: *partition, offset: *offset };
        }
        // SAFETY: the event lives, and with it its text.
        let (fatal, words) = unsafe {
            let event = self.event.as_ptr();
            (c::rd_kafka_event_error_is_fatal(event) != 0, text(c::rd_kafka_event_error_string(event)))
        };
        What::Trouble(Trouble { code, fatal, text: words, partition })
    }

    /// The partition that an error belongs to.
    fn partition(&self) -> Option<(String, i32, i64)> {
        // SAFETY: the event lives. What comes back is ours, if anything does: it is read and given back at once.
        unsafe {
            let partition = c::rd_kafka_event_topic_partition(self.event.as_ptr());
            let read = partition.as_ref().map(|read| (text(read.topic), read.partition, read.offset));
            if !partition.is_null() {
                c::rd_kafka_topic_partition_destroy(partition);
            }
            read
        }
    }

    /// The partitions that a change of the group names.
    fn partitions(&self) -> Vec<(String, i32)> {
        // SAFETY: the list belongs to the event, which lives; it has `cnt` elements.
        unsafe {
            let Some(list) = c::rd_kafka_event_topic_partition_list(self.event.as_ptr()).as_ref() else { return Vec::new() };
            if list.cnt <= 0 {
                return Vec::new();
            }
            let elements = std::slice::from_raw_parts(list.elems, list.cnt as usize);
            elements.iter().map(|element| (text(element.topic), element.partition)).collect()
        }
    }

    fn log(&self) -> What<'static> {
        let (mut facility, mut line, mut level) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: the event lives, and with it the texts it points to; the three places are writable.
        unsafe {
            match c::rd_kafka_event_log(self.event.as_ptr(), &raw mut facility, &raw mut line, &raw mut level) {
                0 => What::Log { level, text: text(line) },
                _ => What::Other,
            }
        }
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        // SAFETY: it came from a poll and is not used after this.
        unsafe { c::rd_kafka_event_destroy(self.event.as_ptr()) }
    }
}

/// A record. Its parts live as long as its event.
pub(crate) struct Record<'e> {
    message: NonNull<c::rd_kafka_message_t>,
    event: PhantomData<&'e ()>,
}

impl<'e> Record<'e> {
    fn message(&self) -> &'e c::rd_kafka_message_t {
        // SAFETY: the message lives as long as its event, which `'e` borrows, and nothing changes it.
        unsafe { self.message.as_ref() }
    }

    /// The topic's name.
    pub(crate) fn topic(&self) -> &'e str {
        // SAFETY: the topic lives at least as long as its message, and its name ends with a zero.
        let name = unsafe { CStr::from_ptr(c::rd_kafka_topic_name(self.message().rkt)) };
        // Names of topics are ASCII.
        name.to_str().unwrap_or_default()
    }

    pub(crate) fn partition(&self) -> i32 {
        self.message().partition
    }

    pub(crate) fn offset(&self) -> i64 {
        self.message().offset
    }

    pub(crate) fn key(&self) -> Option<&'e [u8]> {
        bytes(self.message().key, self.message().key_len)
    }

    /// The value; `None` for a tombstone.
    pub(crate) fn value(&self) -> Option<&'e [u8]> {
        bytes(self.message().payload, self.message().len)
    }

    /// When it was written, in milliseconds since 1970.
    pub(crate) fn time(&self) -> Option<i64> {
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives, and the place is writable.
        let time = unsafe { c::rd_kafka_message_timestamp(self.message.as_ptr(), &raw mut kind) };
        (kind != c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && time >= 0).then_some(time)
    }

    /// Its headers, in order. A header without a value has an empty one; in a name, what is not UTF-8 is replaced.
    pub(crate) fn headers(&self) -> Vec<(std::borrow::Cow<'e, str>, &'e [u8])> {
        let mut headers = std::ptr::null_mut();
        let mut all = Vec::new();
        // SAFETY: the headers belong to the message, which lives for `'e`; the places are writable; a name ends with a zero.
        unsafe {
            let answer = c::rd_kafka_message_headers(self.message.as_ptr(), &raw mut headers);
            if answer != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return all;
            }
            let (mut name, mut value, mut len) = (std::ptr::null(), std::ptr::null(), 0);
            while c::rd_kafka_header_get_all(headers, all.len(), &raw mut name, &raw mut value, &raw mut len)
                == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                all.push((CStr::from_ptr(name).to_string_lossy(), bytes(value, len).unwrap_or_default()));
            }
        }
        all
    }
}

/// The bytes at a place that librdkafka names, `None` for null. Only called for parts of a message that lives for `'e`.
fn bytes<'e>(start: *const std::ffi::c_void, len: usize) -> Option<&'e [u8]> {
    // SAFETY: by the condition above, there are `len` bytes there, which live for `'e` and which nobody changes.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), len) })
}
