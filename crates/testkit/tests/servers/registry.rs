//! The schema registry gives schemas ids, and schemas for ids.

use longshore_testkit::services::Registry;
use reqwest::Client;
use serde_json::Value;

const NAME: &str = r#"{"type": "record", "name": "Name", "fields": [{"name": "first", "type": "string"}]}"#;
const PERSON: &str = r#"{"type": "record", "name": "Person", "fields": [{"name": "name", "type": "Name"}]}"#;

async fn get(registry: &Registry, path: &str) -> (u16, Value) {
    let client = Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("{}/{path}", registry.url())).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn a_schema_is_found_by_its_id_with_what_it_refers_to() {
    let Some(registry) = Registry::shared().await else { return };
    let name = registry.register("name", NAME, "AVRO", &[]).await;
    assert_eq!(registry.register("same", NAME, "AVRO", &[]).await, name);
    let person = registry.register("person", PERSON, "AVRO", &[("Name", "name", 1)]).await;
    assert_ne!(person, name);
    let (status, found) = get(registry, &format!("schemas/ids/{person}")).await;
    assert_eq!((status, &found["references"][0]["subject"]), (200, &Value::from("name")), "{}", registry.log());
    assert_eq!(
        found["schema"].as_str().map(|s| serde_json::from_str::<Value>(s).unwrap()),
        serde_json::from_str(PERSON).unwrap()
    );
    let (status, missing) = get(registry, "schemas/ids/999999").await;
    assert_eq!((status, missing["error_code"].as_u64()), (404, Some(40403)));
}

#[tokio::test]
async fn protobuf_and_json_schema_are_taken_too() {
    let Some(registry) = Registry::shared().await else { return };
    let proto = registry.register("proto", "syntax = \"proto3\"; message P { string a = 1; }", "PROTOBUF", &[]).await;
    let json = registry.register("json", r#"{"type": "object", "properties": {"a": {"type": "string"}}}"#, "JSON", &[]).await;
    assert_eq!(get(registry, &format!("schemas/ids/{proto}")).await.1["schemaType"], "PROTOBUF");
    assert_eq!(get(registry, &format!("schemas/ids/{json}")).await.1["schemaType"], "JSON");
}
