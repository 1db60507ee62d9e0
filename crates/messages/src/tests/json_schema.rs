use super::server::{Server, framed};
use super::*;

#[test]
fn the_schema_tells_columns_and_the_content_what_it_has_beside_them() {
    let server = Server::start();
    server.register(
        1,
        "JSON",
        &json!({"type": "object", "properties": {
            "id": {"type": "integer"}, "at": {"oneOf": [{"type": "null"}, {"type": "string", "format": "date-time"}]},
            "more": {"$ref": "more.json"},
        }})
        .to_string(),
        &[("more.json", "more")],
    );
    server.subject("more", "JSON", &json!({"properties": {"x": {"type": "string", "description": "An x"}}}).to_string(), &[]);
    let settings = json!({"format": "json_schema", "registry": {"url": server.url}});
    let all = [
        framed(1, br#"{"id":1,"at":null,"more":{"x":"y"}}"#),
        framed(1, br#"{"id":2,"at":"2024-01-01T00:00:00Z","beside":[1]}"#),
        framed(1, br#"{"id":"x"}"#),
        framed(1, b"{"),
        b"{}".to_vec(),
    ];
    let (columns, got) = decode_wanted(&decoder(settings.clone()), &all);
    assert_eq!(columns, ["id INT64", "at TIMESTAMP", "more STRUCT<x STRING>", "beside ARRAY<INT64>"]);
    let expected = json!([
        {"id": 1, "at": null, "more": {"x": "y"}, "beside": []},
        {"id": 2, "at": "2024-01-01T00:00:00Z", "more": null, "beside": [1]},
    ]);
    assert_eq!(of_table(&got, "t"), expected);
    let codes: Vec<_> = rejected(&got).into_iter().map(|(_, code, index)| (code, index)).collect();
    assert_eq!(codes, [("type_mismatch", 2), ("json_invalid", 3), ("no_schema_id", 4)]);
    server.fail(Some(503));
    let known = tables(Contract::Freeze, &[("t", super::columns(&[("id", "INT64")]))]);
    let got = decoder(settings).decode(contents(&[framed(1, br#"{"id":1}"#)])).decode(&known).expect("nobody has to be asked");
    assert_eq!(of_table(&got, "t"), json!([{"id": 1}]));
}
