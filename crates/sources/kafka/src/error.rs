//! The codes of what can be wrong with a broker, a topic, or what was read of it before.

use longshore_core::codes;

codes! {
    KAFKA_UNREACHABLE = "kafka_unreachable": "None of the brokers answered. Check `brokers`, the network between here and there, and whether the listener speaks TLS: a listener with TLS does not answer a client without (`tls: {}`), nor the other way round. While a run reads, it waits for brokers that are away and goes on when they are back.";
    KAFKA_AUTHENTICATION = "kafka_authentication": "The broker refused who asked. Check the mechanism, the user and the password of `sasl`; the message has the broker's own words.";
    KAFKA_TLS = "kafka_tls": "No trusted connection to the broker could be made. Usually its certificate is signed by an authority that is not known here (name its file as `tls.ca`), or is for another host name than the one in `brokers`.";
    KAFKA_TOKEN = "kafka_token": "The token endpoint of `sasl` gave no token. The message says what it answered. It is asked again by itself while a run reads.";
    KAFKA_DENIED = "kafka_denied": "The broker knows who asked, and does not allow it. Reading needs the operations READ and DESCRIBE on the topics, and READ on the group.";
    KAFKA_TOPIC_UNKNOWN = "kafka_topic_unknown": "None of the topics that the settings name is there. Check the names: upper and lower case differ. A topic that may be read by others only is answered in the same way by some brokers.";
    KAFKA_GROUP_REFUSED = "kafka_group_refused": "The group does not take this reader. Its other members divide the partitions in another way, or another process has the same `group.instance.id`, or the broker allows no further member. Give the pipeline a group of its own with `group`.";
    KAFKA_POSITION_BEYOND_END = "kafka_position_beyond_end": "The journal says that more of a partition was landed than the partition holds now. The broker lost records that had been acknowledged (an unclean leader election), or its data was restored from an older copy. Going on would need a choice that nobody but a person can make: records that come now have offsets that landed already. Read the partition from its start under another `pipeline` name, or restore the topic.";
    KAFKA_START_BEYOND_END = "kafka_start_beyond_end": "`start: {offsets: ...}` names an offset that the partition does not have yet. Offsets count from 0 in each partition; the end is shown by `check`.";
    KAFKA_DAMAGED = "kafka_damaged": "A batch of records does not have the checksum that was written with it, so that its bytes were changed on the way or on the broker's disk. Nothing of it was read. If it happens again at the same offset the copy on the broker is damaged: let another replica lead the partition.";
    KAFKA_FAILED = "kafka_failed": "The broker, or the Kafka client library, ended the reading for a reason that does not pass by itself. The message has its words.";
    KAFKA_LETTERS = "kafka_letters": "A copy of a dead letter could not be written to the topic that `dead_letter_topic` names. The dead letter itself is in its table. The topic has to be there, and to take records as large as those that are read (`max.message.bytes`).";
    KAFKA_CLOSED = "kafka_closed": "The subscription was used after it was closed, or after it had failed.";
}
