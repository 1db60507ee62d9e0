use arrow::array::AsArray;
use arrow::datatypes::Decimal128Type;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, ReflectMessage, Value as Proto};

use super::server::{Server, framed};
use super::*;

const ORDER: &str = r#"
    syntax = "proto3";
    package shop.v1;
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/duration.proto";
    import "google/protobuf/wrappers.proto";
    import "google/protobuf/struct.proto";
    import "google/protobuf/field_mask.proto";
    import "confluent/meta.proto";
    import "confluent/type/decimal.proto";
    import "money.proto";

    message Order {
      int64 id = 1 [(confluent.field_meta).doc = "The number"];
      string name = 2;
      optional int32 count = 3;
      uint64 big = 4;
      double price = 5;
      bool paid = 6;
      bytes raw = 7;
      Color color = 8;
      repeated string tags = 9;
      map<string, int32> sizes = 10;
      Money total = 11;
      google.protobuf.Timestamp at = 12;
      google.protobuf.Duration took = 13;
      google.protobuf.StringValue note = 14;
      google.protobuf.Struct extra = 15;
      google.protobuf.FieldMask mask = 16;
      confluent.type.Decimal exact = 17;
      oneof contact { string mail = 18; int64 phone = 19; }
      Order previous = 20;
      repeated Inner inner = 21;
      message Inner { float f = 1; }
      message Other { string only = 1; }
      enum Color { NONE = 0; RED = 1; }
    }
    message Second { int32 x = 1; }
"#;
const MONEY: &str = r#"syntax = "proto3"; package shop.v1; message Money { string currency = 1; sint64 units = 2; }"#;

fn server() -> Server {
    let server = Server::start();
    server.subject("money", "PROTOBUF", MONEY, &[]);
    server.register(1, "PROTOBUF", ORDER, &[("money.proto", "money")]);
    server
}

fn settings(server: &Server) -> Value {
    json!({"format": "protobuf", "registry": {"url": server.url}})
}

/// The descriptors, compiled into a folder.
fn pool() -> (tempfile::TempDir, DescriptorPool) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("order.proto"), ORDER).expect("written");
    std::fs::write(folder.path().join("money.proto"), MONEY).expect("written");
    for (name, text) in [
        (
            "confluent/meta.proto",
            "syntax = \"proto3\"; package confluent; import \"google/protobuf/descriptor.proto\"; message Meta { string doc = 1; } extend google.protobuf.FieldOptions { Meta field_meta = 1088; }",
        ),
        (
            "confluent/type/decimal.proto",
            "syntax = \"proto3\"; package confluent.type; message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }",
        ),
    ] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    let set = protox::compile(["order.proto"], [folder.path()]).expect("compiles");
    std::fs::write(folder.path().join("order.pb"), set.encode_to_vec()).expect("written");
    let pool = DescriptorPool::from_file_descriptor_set(set).expect("a pool");
    (folder, pool)
}

fn full(pool: &DescriptorPool) -> DynamicMessage {
    let message = |name: &str| DynamicMessage::new(pool.get_message_by_name(name).expect("a message"));
    let with = |name: &str, fields: Vec<(&str, Proto)>| {
        let mut made = message(name);
        fields.into_iter().for_each(|(field, value)| made.set_field_by_name(field, value));
        Proto::Message(made)
    };
    let mut order = message("shop.v1.Order");
    let string = |text: &str| Proto::String(text.to_owned());
    let json_number = with("google.protobuf.Value", vec![("number_value", Proto::F64(1.5))]);
    let json_null = with("google.protobuf.Value", vec![("null_value", Proto::EnumNumber(0))]);
    let json_list = with("google.protobuf.ListValue", vec![("values", Proto::List(vec![json_number.clone(), json_null]))]);
    let json_list = with("google.protobuf.Value", vec![("list_value", json_list)]);
    let extra = [("b", json_number), ("a", json_list)].map(|(key, value)| (MapKey::String(key.to_owned()), value));
    for (field, value) in [
        ("id", Proto::I64(-1)),
        ("name", string("ü")),
        ("count", Proto::I32(0)),
        ("big", Proto::U64(u64::MAX)),
        ("price", Proto::F64(0.1)),
        ("paid", Proto::Bool(true)),
        ("raw", Proto::Bytes(vec![0xFF, 0].into())),
        ("color", Proto::EnumNumber(1)),
        ("tags", Proto::List(vec![string("a"), string("")])),
        (
            "sizes",
            Proto::Map([("y", 2), ("x", 1)].map(|(key, value)| (MapKey::String(key.to_owned()), Proto::I32(value))).into()),
        ),
        ("total", with("shop.v1.Money", vec![("currency", string("EUR")), ("units", Proto::I64(-5))])),
        ("at", with("google.protobuf.Timestamp", vec![("seconds", Proto::I64(-1)), ("nanos", Proto::I32(1000))])),
        ("took", with("google.protobuf.Duration", vec![("seconds", Proto::I64(1)), ("nanos", Proto::I32(500_000_000))])),
        ("note", with("google.protobuf.StringValue", vec![("value", string(""))])),
        ("extra", with("google.protobuf.Struct", vec![("fields", Proto::Map(extra.into()))])),
        ("mask", with("google.protobuf.FieldMask", vec![("paths", Proto::List(vec![string("a.b"), string("c")]))])),
        (
            "exact",
            with("confluent.type.Decimal", vec![("value", Proto::Bytes(vec![0x04, 0xD2].into())), ("scale", Proto::I32(2))]),
        ),
        ("mail", string("a@b")),
        ("previous", with("shop.v1.Order", vec![("id", Proto::I64(7))])),
        ("inner", Proto::List(vec![with("shop.v1.Order.Inner", vec![("f", Proto::F32(0.5))])])),
    ] {
        order.set_field_by_name(field, value);
    }
    order
}

#[test]
fn every_type_becomes_the_column_that_holds_it_exactly() {
    let (_folder, pool) = pool();
    let empty = DynamicMessage::new(full(&pool).descriptor());
    let all = [&full(&pool), &empty].map(|message| framed(1, &[&[0], &message.encode_to_vec()[..]].concat()));
    let (columns, got) = decode_wanted(&decoder(settings(&server())), &all);
    let expected = [
        "id INT64",
        "name STRING",
        "count INT64",
        "big NUMERIC",
        "price FLOAT64",
        "paid BOOL",
        "raw BYTES",
        "color STRING",
        "tags ARRAY<STRING>",
        "sizes ARRAY<STRUCT<key STRING, value INT64>>",
        "total STRUCT<currency STRING, units INT64>",
        "at TIMESTAMP",
        "took STRING",
        "note STRING",
        "extra JSON",
        "mask STRING",
        "exact BIGNUMERIC",
        "mail STRING",
        "phone INT64",
        "previous JSON",
        "inner ARRAY<STRUCT<f FLOAT64>>",
    ];
    assert_eq!(columns, expected);
    assert_eq!(rejected(&got), []);
    let rows = of_table(&got, "t");
    let expected = json!({
        "id": -1, "name": "ü", "count": 0, "price": 0.1, "paid": true, "raw": "ff00", "color": "RED", "tags": ["a", ""],
        "sizes": [{"key": "x", "value": 1}, {"key": "y", "value": 2}], "total": {"currency": "EUR", "units": -5},
        "at": "1969-12-31T23:59:59.000001Z", "took": "1.5s", "note": "", "extra": "{\"a\":[1.5,null],\"b\":1.5}", "mask": "a.b,c",
        "exact": "12.34", "mail": "a@b", "phone": null, "inner": [{"f": 0.5}],
    });
    for (name, value) in expected.as_object().expect("a map") {
        assert_eq!(&rows[0][name], value, "{name}");
    }
    assert!(rows[0]["previous"].as_str().expect("JSON").starts_with("{\"id\":7,\"name\":\"\",\"count\":null,"));
    let Rows::Plain(batch) = &got.batches[0].rows else { panic!("rows") };
    let big = batch.column_by_name("big").expect("the column").as_primitive::<Decimal128Type>();
    assert_eq!(big.value(0), i128::from(u64::MAX) * 1_000_000_000);
    let expected = json!({
        "id": 0, "name": "", "count": null, "price": 0.0, "paid": false, "raw": "", "color": "NONE", "tags": [], "sizes": [],
        "total": null, "at": null, "took": null, "note": null, "extra": null, "mask": null, "exact": null, "mail": null, "phone": null,
        "previous": null, "inner": [],
    });
    for (name, value) in expected.as_object().expect("a map") {
        assert_eq!(&rows[1][name], value, "what is absent: {name}");
    }
}

#[test]
fn numbers_before_a_content_name_its_type() {
    let server = server();
    let decoder = decoder(settings(&server));
    let of = |table: &str, schema: Value, path: &[u8], content: &[u8]| {
        let known = tables(Contract::Freeze, &[("t", schema)]);
        let got = decoder.decode(contents(&[framed(1, &[path, content].concat())])).decode(&known).expect("decoded");
        assert_eq!(table, "t");
        match all_rejects(&got).next() {
            Some(reject) => Err(reject.code),
            None => Ok(of_table(&got, "t")[0].clone()),
        }
    };
    let second = columns(&[("x", "INT64")]);
    assert_eq!(of("t", second.clone(), &[2, 2], &[0x08, 5]), Ok(json!({"x": 5})));
    let only = columns(&[("only", "STRING")]);
    // Behind the type of the map's entries and `Inner` comes `Other`.
    let place = (0..4u8).find(|place| of("t", only.clone(), &[4, 0, place * 2], &[0x0A, 1, b'q']) == Ok(json!({"only": "q"})));
    assert!(place.is_some());
    for path in [&[][..], &[2], &[2, 40], &[2, 1], &[4, 0, 40], &[0xFF; 12], &[0xFE, 0xFF, 0xFF, 0x7F]] {
        assert_eq!(of("t", second.clone(), path, &[]), Err("protobuf_invalid"), "{path:?}");
    }
    assert_eq!(of("t", second, &[2, 2], &[0x08]), Err("protobuf_invalid"), "cut off");
}

#[test]
fn a_time_that_cannot_be_is_a_reject_that_names_its_field() {
    let (_folder, pool) = pool();
    let mut message = full(&pool);
    let at = message.get_field_by_name("at").expect("set").into_owned();
    let mut at = at.as_message().expect("a message").clone();
    at.set_field_by_name("nanos", Proto::I32(1));
    message.set_field_by_name("at", Proto::Message(at));
    let content = framed(1, &[&[0], &message.encode_to_vec()[..]].concat());
    let (_, got) = decode_wanted(&decoder(settings(&server())), &[&content]);
    let reject = all_rejects(&got).next().expect("finer than a microsecond");
    assert_eq!((reject.code, reject.field.as_deref()), ("protobuf_invalid", Some("at")));
    let mut settings = settings(&server());
    settings["truncate_nanoseconds"] = json!(true);
    let (_, got) = decode_wanted(&decoder(settings), &[content]);
    assert_eq!(of_table(&got, "t")[0]["at"], json!("1969-12-31T23:59:59Z"));
}

#[test]
fn a_file_has_the_type_of_every_message() {
    let (folder, pool) = pool();
    let path = |name: &str| folder.path().join(name);
    let content = full(&pool).encode_to_vec();
    for schema in ["order.proto", "order.pb"] {
        let settings = json!({"format": "protobuf", "protobuf": {"schema": path(schema), "message": "shop.v1.Order"}});
        let got = decode(settings, &[("id", "INT64")], &[&content]);
        assert_eq!(rejected(&got), [(Some("t"), "unknown_column", 0)], "the table has one column only");
        assert_eq!(got.wanted["t"].columns.fields.len(), 21);
    }
    let money = json!({"format": "protobuf", "protobuf": {"schema": path("money.proto")}});
    let got =
        decode(money, &[("currency", "STRING"), ("units", "INT64")], &[&[0x0A, 1, b'x', 0x10, 3][..], &[0x0A], &[0x0A, 1, 0xFF]]);
    assert_eq!(of_table(&got, "t"), json!([{"currency": "x", "units": -2}]));
    assert_eq!(rejected(&got), [(Some("t"), "protobuf_invalid", 1), (Some("t"), "protobuf_invalid", 2)]);
    for (protobuf, words) in [
        (json!({"schema": path("order.proto")}), "declares 2 types"),
        (json!({"schema": path("order.proto"), "message": "shop.v1.Odrer"}), "there is no shop.v1.Odrer"),
        (json!({"schema": path("none.proto")}), "cannot be used"),
        (json!({"schema": path("none.pb")}), "cannot be used"),
    ] {
        let error =
            Decoder::new(&config(json!({"format": "protobuf", "protobuf": protobuf})), Route::Topic).err().expect("refused");
        assert!(error.to_string().contains(words), "{error}");
    }
    std::fs::write(path("broken.proto"), "syntax = \"proto3\";\nmessage M { int64 = 1; }").expect("written");
    let broken = json!({"format": "protobuf", "protobuf": {"schema": path("broken.proto")}});
    let error = Decoder::new(&config(broken), Route::Topic).err().expect("refused").to_string();
    assert!(error.contains("expected an identifier") && error.contains("broken.proto"), "{error}");
}
