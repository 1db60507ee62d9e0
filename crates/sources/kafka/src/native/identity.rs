//! Who a cluster and its topics are, whatever their names.

use std::ffi::CString;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::error::RDKafkaErrorCode;

use super::{Client, millis, raw, text};

/// What a topic's id looks like where a broker has none.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// A topic as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// Its id, `None` if the brokers are too old to have ids.
    pub(crate) id: Option<String>,
    pub(crate) partitions: i32,
}

/// An error of a broker's, in its words.
pub(crate) type Refusal = (RDKafkaErrorCode, String);

/// An answer about a topic.
pub(crate) type About = Result<Described, Refusal>;

/// The id of the cluster; `None` if no broker says it in time.
pub(crate) fn cluster_id(client: &Client, wait: Duration) -> Option<String> {
    // SAFETY: the client lives. What comes back is ours, if it is not null: it is read and given back at once.
    unsafe {
        let id = c::rd_kafka_clusterid(raw(client), millis(wait));
        if id.is_null() {
            return None;
        }
        let read = text(id);
        c::rd_kafka_mem_free(raw(client), id.cast());
        Some(read)
    }
}

/// Asks a broker for topics by their names: one answer for each, or the error that no answer came. Blocks for up to `wait`.
pub(crate) fn describe(client: &Client, broker: i32, names: &[&str], wait: Duration) -> Result<Vec<(String, About)>, Refusal> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let owned: Vec<CString> = names.iter().filter_map(|name| CString::new(*name).ok()).collect();
    let mut pointers: Vec<_> = owned.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the client lives for the whole block. The names live until the collection, which copies them, is made. What is made here
    // is given back at its end: the event last of what is read from it, the queue after the event.
    unsafe {
        let topics = c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = c::rd_kafka_AdminOptions_new(raw(client), c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        c::rd_kafka_AdminOptions_set_request_timeout(options, millis(wait), std::ptr::null_mut(), 0);
        // Any broker can tell. Without this, only the controller is asked, and that is away at times.
        c::rd_kafka_AdminOptions_set_broker(options, broker, std::ptr::null_mut(), 0);
        let queue = c::rd_kafka_queue_new(raw(client));
        c::rd_kafka_DescribeTopics(raw(client), topics, options, queue);
        // The request ends by itself; this is only longer.
        let event = c::rd_kafka_queue_poll(queue, millis(wait + Duration::from_secs(5)));
        let answer = if event.is_null() {
            Err((RDKafkaErrorCode::OperationTimedOut, "no answer".to_owned()))
        } else {
            let answer = read(event);
            c::rd_kafka_event_destroy(event);
            answer
        };
        c::rd_kafka_queue_destroy(queue);
        c::rd_kafka_AdminOptions_destroy(options);
        c::rd_kafka_TopicCollection_destroy(topics);
        answer
    }
}

/// What an answer says.
///
/// # Safety
/// `event` must be an event that lives as long as this call.
unsafe fn read(event: *mut c::rd_kafka_event_t) -> Result<Vec<(String, About)>, Refusal> {
    // SAFETY: the event lives by the caller's word; what it points to lives as long; the list has `count` elements.
    unsafe {
        let code = c::rd_kafka_event_error(event);
        if code != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err((code.into(), text(c::rd_kafka_event_error_string(event))));
        }
        let result = c::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let list = if result.is_null() {
            std::ptr::null_mut()
        } else {
            c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count)
        };
        if list.is_null() {
            return Ok(Vec::new());
        }
        let topics = std::slice::from_raw_parts(list, count);
        Ok(topics.iter().map(|&topic| (text(c::rd_kafka_TopicDescription_name(topic)), read_topic(topic))).collect())
    }
}

/// What an answer says of one topic.
///
/// # Safety
/// `topic` must belong to an event that lives as long as this call.
unsafe fn read_topic(topic: *const c::rd_kafka_TopicDescription_t) -> About {
    // SAFETY: everything read here belongs to the topic, the text of its id included, and the topic lives by the caller's word.
    unsafe {
        let error = c::rd_kafka_TopicDescription_error(topic);
        let code =
            if error.is_null() { c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR } else { c::rd_kafka_error_code(error) };
        if code != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err((code.into(), text(c::rd_kafka_error_string(error))));
        }
        let mut partitions = 0;
        c::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        let id = c::rd_kafka_TopicDescription_topic_id(topic);
        let id = if id.is_null() { None } else { known_id(&text(c::rd_kafka_Uuid_base64str(id))) };
        Ok(Described { id, partitions: i32::try_from(partitions).unwrap_or(i32::MAX) })
    }
}

/// A topic's id as Kafka's own tools write it, which librdkafka writes with other letters; `None` for what stands for none.
pub(crate) fn known_id(written: &str) -> Option<String> {
    (!written.is_empty() && written != NO_ID).then(|| written.replace('+', "-").replace('/', "_"))
}
