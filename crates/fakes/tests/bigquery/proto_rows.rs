//! Rows as protocol buffers.

use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as pb;
use pb::append_rows_request::{ProtoData, Rows};
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type as T};
use prost_types::{DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto};
use serde_json::json;
use tonic::Code;

use crate::client::*;

#[derive(Clone, PartialEq, Message)]
struct Inner {
    #[prost(int64, optional, tag = "1")]
    x: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(int64, optional, tag = "1")]
    id: Option<i64>,
    #[prost(string, optional, tag = "2")]
    num: Option<String>,
    #[prost(int64, optional, tag = "3")]
    at: Option<i64>,
    #[prost(int32, optional, tag = "4")]
    day: Option<i32>,
    #[prost(int64, repeated, tag = "5")]
    list: Vec<i64>,
    #[prost(message, repeated, tag = "6")]
    inner: Vec<Inner>,
    #[prost(bytes = "vec", optional, tag = "7")]
    raw: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "8")]
    color: Option<i32>,
    #[prost(sint64, optional, tag = "9")]
    time: Option<i64>,
}

fn field(name: &str, number: i32, type_: T, label: Label, type_name: Option<&str>) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        r#type: Some(type_ as i32),
        label: Some(label as i32),
        type_name: type_name.map(str::to_owned),
        ..Default::default()
    }
}

fn descriptor() -> DescriptorProto {
    let inner = DescriptorProto {
        name: Some("Inner".into()),
        field: vec![field("x", 1, T::Int64, Label::Optional, None)],
        ..Default::default()
    };
    let value =
        |name: &str, number| EnumValueDescriptorProto { name: Some(name.into()), number: Some(number), ..Default::default() };
    let colors =
        EnumDescriptorProto { name: Some("Color".into()), value: vec![value("RED", 0), value("BLUE", 1)], ..Default::default() };
    DescriptorProto {
        name: Some("Line".into()),
        field: vec![
            field("id", 1, T::Int64, Label::Optional, None),
            field("num", 2, T::String, Label::Optional, None),
            field("at", 3, T::Int64, Label::Optional, None),
            field("day", 4, T::Int32, Label::Optional, None),
            field("list", 5, T::Int64, Label::Repeated, None),
            field("inner", 6, T::Message, Label::Repeated, Some(".Line.Inner")),
            field("raw", 7, T::Bytes, Label::Optional, None),
            field("color", 8, T::Enum, Label::Optional, Some("Color")),
            field("time", 9, T::Sint64, Label::Optional, None),
        ],
        nested_type: vec![inner],
        enum_type: vec![colors],
        ..Default::default()
    }
}

fn rows(lines: &[Line]) -> Rows {
    Rows::ProtoRows(ProtoData {
        writer_schema: Some(pb::ProtoSchema { proto_descriptor: Some(descriptor()) }),
        rows: Some(pb::ProtoRows { serialized_rows: lines.iter().map(|line| line.encode_to_vec().into()).collect() }),
    })
}

fn fields() -> serde_json::Value {
    json!([{"name": "id", "type": "INT64", "mode": "REQUIRED"}, {"name": "num", "type": "NUMERIC"}, {"name": "at", "type": "TIMESTAMP"},
        {"name": "day", "type": "DATE"}, {"name": "list", "type": "INT64", "mode": "REPEATED"},
        {"name": "inner", "type": "RECORD", "mode": "REPEATED", "fields": [{"name": "x", "type": "INT64"}]},
        {"name": "raw", "type": "BIGNUMERIC"}, {"name": "color", "type": "STRING"}, {"name": "time", "type": "TIME"}, {"name": "other", "type": "STRING"}])
}

#[tokio::test]
async fn proto_rows_are_read_by_their_descriptor() {
    let fake = fake().await;
    table(&fake, fields());
    let packed = 1i64 << 32 | 2 << 26 | 3 << 20 | 500_000;
    let full = Line {
        id: Some(-5),
        num: Some("1.50".into()),
        at: Some(1_000_000),
        day: Some(1),
        list: vec![1, 300],
        inner: vec![Inner { x: Some(7) }, Inner { x: None }],
        raw: Some(vec![0xff]),
        color: Some(1),
        time: Some(packed),
    };
    let stream = create_stream(&fake, pb::write_stream::Type::Committed).await;
    let small = Line { id: Some(1), ..Default::default() };
    let (answers, end) = append(&fake, vec![request(&stream, Some(0), rows(&[full, small.clone()]))]).await;
    assert_eq!(error(&answers[0]).0, 0, "{answers:?} {end:?}");
    assert_eq!(
        fake.rows("d", "t"),
        [
            json!({"id": -5, "num": "1.5", "at": "1970-01-01T00:00:01Z", "day": "1970-01-02", "list": [1, 300],
                "inner": [{"x": 7}, {"x": null}], "raw": "-0.00000000000000000000000000000000000001", "color": "BLUE", "time": "01:02:03.500"}),
            json!({"id": 1, "list": [], "inner": []}),
        ]
    );
    let bad = [Line::default(), small.clone(), Line { color: Some(9), ..small.clone() }, Line { num: Some("x".into()), ..small }];
    let (answers, _) = append(&fake, vec![request(&stream, Some(2), rows(&bad))]).await;
    assert_eq!(answers[0].row_errors.iter().map(|row| row.index).collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!(fake.row_count("d", "t"), 2);
}

#[tokio::test]
async fn a_descriptor_that_does_not_fit_the_table_is_refused() {
    let fake = fake().await;
    table(&fake, json!([{"name": "id", "type": "INT64"}]));
    let (answers, _) = append(&fake, vec![request(&format!("{TABLE}/_default"), None, rows(&[Line::default()]))]).await;
    let extra = pb::storage_error::StorageErrorCode::SchemaMismatchExtraFields as i32;
    assert_eq!(error(&answers[0]), (Code::InvalidArgument as i32, extra));
}
