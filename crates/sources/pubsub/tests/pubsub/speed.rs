//! How fast a subscription is read. Not a test: `cargo test -p longshore-pubsub --test pubsub -- --ignored --nocapture`.

use std::time::Instant;

use longshore_core::stream::Arrival;
use longshore_fakes::pubsub::{Generated, Options};
use serde_json::json;

use crate::harness::{NAME, Stage, ids};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_null_server_is_read_as_fast_as_it_can() {
    let count = 300_000;
    for (bytes, streams) in [(100, 1), (1_000, 1), (1_000, 2)] {
        let stage = Stage::new(Options::default()).await;
        stage.fake.generate(NAME, Generated { messages: count, tables: 50, bytes, per_second: None });
        let started = Instant::now();
        let mut worker = stage.worker_with(json!({"streams": streams})).await;
        let (mut messages, mut covers) = (0, Vec::new());
        while messages < count {
            let Arrival::Delivery(delivery) = worker.next().await.expect("reads") else { continue };
            messages += delivery.messages;
            covers.extend(delivery.covers);
            // A commit of 20,000 messages.
            if ids(&covers).len() >= 20_000 || messages == count {
                worker.subscription.journalled(&covers);
                worker.subscription.acknowledge(&covers).await.expect("acknowledges");
                covers.clear();
            }
        }
        stage.acknowledged(count as usize).await;
        let seconds = started.elapsed().as_secs_f64();
        println!("{bytes} bytes, {streams} streams: {:.0} messages a second, acknowledged", count as f64 / seconds);
    }
}
