//! Topics: made, changed, removed, asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::metadata::Metadata;
use rdkafka::producer::Producer;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, error::KafkaError};

use super::{Kafka, PATIENCE};

impl Kafka {
    /// Makes a topic with a copy on each broker, and waits until clients see it.
    ///
    /// # Panics
    /// If the cluster does not make it, say because it is there.
    pub async fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        let copies = i32::try_from(self.cluster.len()).expect("few brokers");
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(copies));
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        let made = self.admin.create_topics([&topic], &options()).await.expect("the cluster answers");
        made[0].as_ref().unwrap_or_else(|e| panic!("topic {} is not made: {}", e.0, e.1));
        self.until_partitions_are(name, partitions).await;
    }

    /// Removes a topic, and waits until clients no longer see it.
    pub async fn delete_topic(&self, name: &str) {
        let gone = self.admin.delete_topics(&[name], &options()).await.expect("the cluster answers");
        gone[0].as_ref().unwrap_or_else(|e| panic!("topic {} is not removed: {}", e.0, e.1));
        self.until(Some(name), "the topic is gone", |found| {
            found
                .topics()
                .iter()
                .all(|t| t.error().map(RDKafkaErrorCode::from) == Some(RDKafkaErrorCode::UnknownTopicOrPartition))
        })
        .await;
    }

    /// Gives a topic more partitions, `total` in all, and waits until clients see them.
    pub async fn add_partitions(&self, name: &str, total: i32) {
        let count = usize::try_from(total).expect("a number of partitions");
        let made =
            self.admin.create_partitions([&NewPartitions::new(name, count)], &options()).await.expect("the cluster answers");
        made[0].as_ref().unwrap_or_else(|e| panic!("topic {} does not get partitions: {}", e.0, e.1));
        self.until_partitions_are(name, total).await;
    }

    /// Removes the records of a partition that are before an offset, as retention would.
    pub async fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("an offset");
        let gone = self.admin.delete_records(&list, &options()).await.expect("the cluster answers");
        gone.elements().iter().for_each(|partition| partition.error().expect("records are removed"));
    }

    /// The offset of the first record of a partition, and the one after its last, transaction markers included.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> (i64, i64) {
        let (admin, topic) = (Arc::clone(&self.admin), topic.to_owned());
        let asked = move || admin.inner().fetch_watermarks(&topic, partition, PATIENCE);
        tokio::task::spawn_blocking(asked).await.expect("it does not panic").expect("the partition is there")
    }

    /// Waits until all brokers know of each other.
    pub(super) async fn all_are_there(&self) {
        let brokers = self.cluster.len();
        self.until(None, "all brokers are there", move |found| found.brokers().len() == brokers).await;
    }

    async fn until_partitions_are(&self, name: &str, partitions: i32) {
        let count = usize::try_from(partitions).expect("a number of partitions");
        self.until(Some(name), "the topic has its partitions", move |found| {
            found
                .topics()
                .iter()
                .all(|t| t.error().is_none() && t.partitions().len() == count && t.partitions().iter().all(|p| p.leader() >= 0))
        })
        .await;
    }

    /// Waits until something is so, as far as brokers tell: a broker may be behind another one, and any of them may be asked.
    async fn until(&self, topic: Option<&str>, what: &str, so: impl Fn(&Metadata) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let wanted = if self.cluster.len() == 1 { 1 } else { 3 * self.cluster.len() };
        let mut seen = 0;
        loop {
            // By the producer, which remembers what it is told.
            let (producer, topic) = (self.producer.clone(), topic.map(str::to_owned));
            let asked = move || producer.client().fetch_metadata(topic.as_deref(), Duration::from_secs(5));
            let answer: Result<Metadata, KafkaError> = tokio::task::spawn_blocking(asked).await.expect("it does not panic");
            seen = if answer.as_ref().is_ok_and(&so) { seen + 1 } else { 0 };
            if seen == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "it is not so after {} s that {what}:\n{}", PATIENCE.as_secs(), self.log());
            if seen == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}
