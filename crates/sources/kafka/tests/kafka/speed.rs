//! How fast the reader alone is: `cargo test -p longshore-kafka --test kafka -- --ignored --nocapture speed`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_core::stream::{Arrival, StreamSource};
use longshore_kafka::KafkaSource;
use longshore_testkit::services::Kafka;
use longshore_testkit::services::kafka::Record;
use serde_json::json;

use crate::support::{Books, config, context, fresh};

const RECORDS: usize = 600_000;

/// Seconds of processor time that this process has used.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a Linux machine");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a check"]
async fn reading_records_of_a_kib_into_nothing() {
    let Some(kafka) = Kafka::start().await else { return };
    let topic = fresh("fast");
    kafka.create_topic(&topic, 4, &[]).await;
    let text = "abcdefghijklmnopqrstuvwxyz0123456789".repeat(28);
    let record = |n: usize| Record::new(format!("{{\"n\":{n},\"text\":\"{text}\"}}")).partition((n % 4) as i32);
    for chunk in 0..RECORDS / 20_000 {
        kafka.produce(&topic, (0..20_000).map(|n| record(chunk * 20_000 + n))).await;
    }
    for round in 1..=3 {
        let source = KafkaSource::new(config(&kafka.brokers(), &topic, json!({"group": fresh("group")}))).expect("settings");
        let cx = context(&topic, &Arc::default());
        let mut subscription = source.subscribe(&cx, Arc::<Books>::default()).await.expect("a subscription");
        let (mut messages, mut bytes, mut began) = (0, 0, None);
        while messages < RECORDS as u64 {
            let arrival =
                tokio::time::timeout(Duration::from_secs(60), subscription.next()).await.expect("comes").expect("goes on");
            if let Arrival::Delivery(delivery) = arrival {
                began.get_or_insert_with(|| (Instant::now(), processor()));
                messages += delivery.messages;
                bytes += delivery.bytes;
            }
        }
        let (began, used) = began.expect("something came");
        let (seconds, used) = (began.elapsed().as_secs_f64(), processor() - used);
        let mib = bytes as f64 / 1_000_000.0;
        println!(
            "round {round}: {:.0} MB/s, {:.0} MB for a second of processor time, {messages} records",
            mib / seconds,
            mib / used
        );
        subscription.close().await.expect("leaves");
    }
}
