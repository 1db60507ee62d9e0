//! A null server of Pub/Sub: messages without end, as fast as they are taken, until its standard input ends. Prints where it is, then, if they
//! have an end, how many seconds it took until each was acknowledged, and at the end how many it has sent and had acknowledged:
//! `cargo run -p longshore-fakes --example null_pubsub -- SUBSCRIPTION TABLES BYTES [PER_SECOND [MESSAGES]]`.

use std::io::Read as _;
use std::time::{Duration, Instant};

use longshore_fakes::pubsub::{FakePubSub, Generated, Options};

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let subscription = next("projects/test/subscriptions/null");
    let number = |text: String| text.parse::<u64>().expect("a number");
    let (tables, bytes, rate, messages) = (number(next("50")), number(next("1000")), number(next("0")), number(next("0")));
    let fake = FakePubSub::start().await;
    fake.create_subscription(&subscription, Options::default());
    let generated = Generated {
        messages: if messages == 0 { u64::MAX } else { messages },
        tables: u32::try_from(tables).expect("fewer tables"),
        bytes: usize::try_from(bytes).expect("fewer bytes"),
        per_second: Some(rate).filter(|rate| *rate > 0),
    };
    fake.generate(&subscription, generated);
    println!("{{\"endpoint\": \"{}\"}}", fake.endpoint());
    if messages > 0 {
        let (fake, subscription) = (fake.clone(), subscription.clone());
        tokio::spawn(async move { println!("{{\"seconds\": {}}}", seconds(&fake, &subscription, messages).await) });
    }
    _ = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    println!("{{\"sent\": {}, \"acknowledged\": {}}}", fake.sent(&subscription), fake.acknowledged_count(&subscription));
}

/// From the first message that is sent to the last one that is acknowledged.
async fn seconds(fake: &FakePubSub, subscription: &str, messages: u64) -> f64 {
    let (mut ticks, mut began) = (tokio::time::interval(Duration::from_millis(10)), None);
    loop {
        ticks.tick().await;
        if fake.sent(subscription) > 0 {
            began.get_or_insert_with(Instant::now);
        }
        if let Some(began) = began
            && fake.acknowledged_count(subscription) as u64 >= messages
        {
            return began.elapsed().as_secs_f64();
        }
    }
}
