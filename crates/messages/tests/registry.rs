//! Schemas of a schema registry written by others.

use std::sync::Arc;

use longshore_core::batch::Reject;
use longshore_core::commit::Contract;
use longshore_core::source::Target;
use longshore_core::stream::{Decoded, Tables};
use longshore_messages::{Decoder, From, Message, Messages, MessagesConfig, Route};
use longshore_testkit::services::Registry;
use serde_json::json;

fn decoder(registry: &str, format: &str) -> Arc<Decoder> {
    let settings = json!({"format": format, "registry": {"url": registry}, "route": {"table": "t"}});
    let config: MessagesConfig = serde_json::from_value(settings).expect("settings");
    Decoder::new(&config, Route::Topic).expect("a decoder")
}

fn framed(id: u32, content: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], content].concat()
}

/// Decodes contents into the columns that a new table would get: these, and what came of it.
async fn decode(decoder: &Arc<Decoder>, contents: &[Vec<u8>]) -> longshore_core::Result<(Vec<String>, Decoded)> {
    let mut messages = Messages::new();
    for (offset, content) in (0..).zip(contents) {
        let from = From::Kafka { topic: "topic", partition: 0, offset };
        messages.push(Message { key: None, value: Some(content), headers: &[], from, time: None, latest: None });
    }
    let decode = decoder.decode(messages);
    tokio::task::spawn_blocking(move || {
        let wanted = decode.decode(&Tables::default())?.wanted.remove("t").expect("it waits for its table").columns;
        let columns = wanted.fields.iter().map(|field| format!("{} {field}", field.name)).collect();
        let target = Target { schema: wanted, contract: Contract::Freeze };
        let tables = Tables { known: [("t".to_owned(), target)].into(), ..Tables::default() };
        Ok((columns, decode.decode(&tables)?))
    })
    .await
    .expect("no panic")
}

fn outcome(decoded: &Decoded) -> (usize, Vec<(u64, &str)>) {
    let batch = &decoded.batches[0];
    (batch.rows.len(), batch.rejects.iter().map(|reject: &Reject| (reject.index, reject.code)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_of_every_kind_are_found_with_what_they_refer_to() {
    let Some(registry) = Registry::shared().await else { return };
    let money = json!({"type": "record", "name": "Money", "namespace": "shop", "fields": [{"name": "cents", "type": "long"}]});
    registry.register("avro-money", &money.to_string(), "AVRO", &[]).await;
    let order = json!({"type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "id", "type": "long"}, {"name": "total", "type": "Money"},
    ]});
    let reference = [("shop.Money", "avro-money", 1)];
    let id = registry.register("avro-order-value", &order.to_string(), "AVRO", &reference).await;
    let contents = [framed(id, &[2, 4]), framed(id, &[2]), framed(u32::MAX, &[2, 4])];
    let (columns, decoded) = decode(&decoder(registry.url(), "avro"), &contents).await.expect("answers");
    assert_eq!(columns, ["id INT64", "total STRUCT<cents INT64>"]);
    assert_eq!(outcome(&decoded), (1, vec![(1, "avro_invalid"), (2, "unknown_schema")]));

    let money = "syntax = \"proto3\"; package shop; message Money { int64 cents = 1; }";
    registry.register("proto-money", money, "PROTOBUF", &[]).await;
    let order = "syntax = \"proto3\"; package shop; import \"money.proto\"; import \"google/protobuf/timestamp.proto\";
        message Other {} message Order { int64 id = 1; Money total = 2; google.protobuf.Timestamp at = 3; }";
    let reference = [("money.proto", "proto-money", 1)];
    let id = registry.register("proto-order-value", order, "PROTOBUF", &reference).await;
    let contents = [framed(id, &[2, 2, 0x08, 1, 0x12, 2, 0x08, 7]), framed(id, &[2, 2, 0x08])];
    let (columns, decoded) = decode(&decoder(registry.url(), "protobuf"), &contents).await.expect("answers");
    assert_eq!(columns, ["id INT64", "total STRUCT<cents INT64>", "at TIMESTAMP"]);
    assert_eq!(outcome(&decoded), (1, vec![(1, "protobuf_invalid")]));

    let money = json!({"type": "object", "properties": {"cents": {"type": "integer"}}});
    registry.register("json-money", &money.to_string(), "JSON", &[]).await;
    let order = json!({"type": "object", "properties": {"id": {"type": "integer"}, "total": {"$ref": "money.json"}}});
    let id = registry.register("json-order-value", &order.to_string(), "JSON", &[("money.json", "json-money", 1)]).await;
    let contents = [framed(id, b"{\"id\":1,\"total\":{\"cents\":7}}"), framed(id, b"{\"id\":\"x\"}")];
    let (columns, decoded) = decode(&decoder(registry.url(), "json_schema"), &contents).await.expect("answers");
    assert_eq!(columns, ["id INT64", "total STRUCT<cents INT64>"]);
    assert_eq!(outcome(&decoded), (1, vec![(1, "type_mismatch")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_the_apis_is_an_error_and_no_unknown_schema() {
    let Some(registry) = Registry::shared().await else { return };
    let elsewhere = registry.url().replace("/ccompat/v7", "/nowhere");
    let decoder = decoder(&elsewhere, "avro");
    let error = decode(&decoder, &[framed(1, &[2])]).await.expect_err("refused");
    assert_eq!(error.code(), "registry_refused", "{error:?}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("registry.url")), "{error:?}");
}
