//! Messages out.

use longshore_core::error::{Kind, Retry};
use longshore_core::retry::Patience;
use longshore_fakes::pubsub::{FakePubSub, Fault, Rule};
use longshore_pubsub::config::Access;
use longshore_pubsub::{Outgoing, Publisher};
use tonic::Code;

const TOPIC: &str = "projects/test/topics/dlq";

async fn publisher() -> (FakePubSub, Publisher) {
    let fake = FakePubSub::start().await;
    fake.create_topic(TOPIC);
    let access = Access { endpoint: Some(fake.endpoint()), ..Access::default() };
    (fake, Publisher::new(&access, Some("test")).expect("a publisher"))
}

fn message(number: usize, key: &str) -> Outgoing {
    Outgoing {
        data: format!("{number}").into(),
        attributes: vec![("reason".to_owned(), "unknown_table".to_owned())],
        ordering_key: key.to_owned(),
    }
}

#[tokio::test]
async fn messages_are_published_with_attributes_and_their_ids_come_in_order() {
    let (fake, publisher) = publisher().await;
    let messages: Vec<_> = (0..2_500).map(|number| message(number, ["", "a", "b"][number % 3])).collect();
    let ids = publisher.publish("dlq", messages.clone(), &Patience::default()).await.expect("publishes");
    let published = fake.published(TOPIC);
    assert_eq!((ids.len(), published.len()), (2_500, 2_500));
    for key in ["", "a", "b"] {
        let sent: Vec<_> = messages.iter().filter(|message| message.ordering_key == key).map(|message| &message.data).collect();
        let came: Vec<_> = published.iter().filter(|message| message.ordering_key == key).map(|message| &message.data).collect();
        assert_eq!(came, sent, "{key}");
    }
    assert!(published.iter().all(|message| message.attributes["reason"] == "unknown_table"));
    // The id of each is that of its own message.
    let first: u64 = ids.iter().map(|id| id.parse().expect("a number")).min().expect("some");
    for (message, id) in messages.iter().zip(&ids) {
        let place = (id.parse::<u64>().expect("a number") - first) as usize;
        assert_eq!(published[place].data, message.data);
    }
}

#[tokio::test]
async fn case_25_an_answer_that_is_lost_publishes_twice() {
    let (fake, publisher) = publisher().await;
    fake.rule(Rule::on("Publish", Fault::LoseAnswer));
    let ids = publisher.publish(TOPIC, vec![message(1, "")], &Patience::default()).await.expect("publishes");
    assert_eq!((ids.len(), fake.published(TOPIC).len()), (1, 2));
}

#[tokio::test]
async fn a_topic_that_is_not_there_or_not_ours_is_an_error_with_a_hint() {
    let (fake, publisher) = publisher().await;
    let patience = Patience::default();
    let publish = |topic: &'static str| publisher.publish(topic, vec![message(1, "")], &patience);
    let error = publish("nowhere").await.expect_err("refused");
    assert_eq!((error.code(), error.kind(), error.retry()), ("pubsub_missing", Kind::Destination, Retry::AfterFix));
    assert!(error.hint_text().is_some_and(|hint| hint.contains("topics create")));
    fake.rule(Rule::on("Publish", Fault::Refuse(Code::PermissionDenied, "no".into())));
    let error = publish("dlq").await.expect_err("refused");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("roles/pubsub.publisher")), "{error:?}");
    assert_eq!(publish("a/b").await.expect_err("refused").code(), "pubsub_name");
}
