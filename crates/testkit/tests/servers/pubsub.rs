//! The fake of Pub/Sub hands out, takes back and counts.

use std::time::Duration;

use longshore_testkit::services::{Fate, PubSub, PubSubMessage};
use serde_json::json;

#[tokio::test]
async fn a_message_comes_with_all_that_it_has_and_its_acknowledgement_counts() {
    let Some(pubsub) = PubSub::shared().await else { return };
    pubsub.create_topic("all").await;
    pubsub.create_subscription("all", "all", json!({"enableMessageOrdering": true})).await;
    let sent = [PubSubMessage::new("1").attribute("a", "b").ordering_key("k"), PubSubMessage::new("2").ordering_key("k")];
    let ids = pubsub.publish("all", &sent).await;
    let came = pubsub.pull_all("all").await;
    let expected = sent.into_iter().zip(&ids).map(|(message, id)| PubSubMessage { id: id.clone(), ..message });
    assert_eq!(came, expected.collect::<Vec<_>>());
    assert_eq!(pubsub.pull_all("all").await, []);
    let fate = |id: &String| Fate { id: id.clone(), topic: PubSub::topic("all"), deliveries: 1, acks: 1, deadlines: Vec::new() };
    let fates: Vec<_> = pubsub.fates().await.into_iter().filter(|fate| ids.contains(&fate.id)).collect();
    assert_eq!(fates, ids.iter().map(fate).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_server_says_what_is_wrong_and_takes_large_messages() {
    let Some(pubsub) = PubSub::shared().await else { return };
    pubsub.create_topic("large").await;
    let again = pubsub.call("Publisher", "CreateTopic", json!({"name": PubSub::topic("large")})).await.unwrap_err();
    assert!(again.starts_with("AlreadyExists: "), "{again}");
    pubsub.create_subscription("large", "large", json!({})).await;
    pubsub.publish("large", &[PubSubMessage::new(vec![b'x'; 9 << 20])]).await;
    assert_eq!(pubsub.pull_all("large").await[0].data.len(), 9 << 20);
}

#[tokio::test]
async fn a_lease_lapses_when_the_clock_is_ahead() {
    let Some(pubsub) = PubSub::start().await else { return };
    pubsub.create_topic("t").await;
    pubsub.create_subscription("s", "t", json!({"ackDeadlineSeconds": 300})).await;
    let ids = pubsub.publish("t", &[PubSubMessage::new("1")]).await;
    let pull = json!({"subscription": PubSub::subscription("s"), "maxMessages": 1});
    let leased = pubsub.call("Subscriber", "Pull", pull).await.unwrap();
    assert_eq!(leased["receivedMessages"][0]["message"]["messageId"], json!(ids[0]));
    assert_eq!(pubsub.pull_all("s").await, []);
    pubsub.clock_ahead(Duration::from_secs(301)).await;
    assert_eq!(pubsub.pull_all("s").await[0].id, ids[0], "{}", pubsub.log());
}
