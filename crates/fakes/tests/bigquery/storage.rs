//! Cloud Storage by plain HTTP.

use reqwest::{Client, Method};

use crate::client::*;
use longshore_fakes::bigquery::{FakeBigQuery, Fault, Rule};

async fn send(fake: &FakeBigQuery, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut request = Client::new().request(Method::from_bytes(method.as_bytes()).unwrap(), format!("{}/{path}", fake.rest()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.body(body.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn objects_are_put_read_and_deleted() {
    let fake = fake().await;
    let none = [("x-goog-if-generation-match", "0")];
    assert_eq!(send(&fake, "PUT", "b/a%2Fone%20x.txt", &none, "0123456789").await.0, 200);
    assert_eq!(send(&fake, "PUT", "b/a/one%20x.txt", &none, "other").await.0, 412);
    assert_eq!(fake.objects(), ["b/a/one x.txt"]);
    assert_eq!(send(&fake, "GET", "b/a/one%20x.txt", &[("range", "bytes=2-4")], "").await, (206, "234".into()));
    assert_eq!(send(&fake, "GET", "b/a/one%20x.txt", &[("range", "bytes=-2")], "").await, (206, "89".into()));
    assert_eq!(send(&fake, "GET", "b/a/one%20x.txt", &[("range", "bytes=10-")], "").await.0, 416);
    let head = Client::new().head(format!("{}/b/a/one%20x.txt", fake.rest())).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "10");
    assert!(head.headers().contains_key("etag") && head.headers().contains_key("last-modified"));
    assert_eq!(send(&fake, "GET", "none/x", &[], "").await.0, 404);
    assert_eq!(send(&fake, "DELETE", "b/a/one%20x.txt", &[], "").await.0, 204);
    assert_eq!(send(&fake, "DELETE", "b/a/one%20x.txt", &[], "").await.0, 404);
    assert_eq!(fake.calls("objects.put"), 2);
    fake.arm(Rule::on("objects.put", Fault::refuse(503, "backendError", "again")).about("b/k"));
    assert_eq!(send(&fake, "PUT", "b/k", &[], "1").await.0, 503);
    assert_eq!(send(&fake, "PUT", "b/k", &[], "1").await.0, 200);
}

#[tokio::test]
async fn lists_come_in_pages_and_by_delimiter() {
    let fake = fake().await;
    for key in ["a/1", "a/2", "b", "c/1", "c/2", "d&"] {
        fake.put_object("b", key, "x");
    }
    let keys = |body: &str, tag: &str| -> Vec<String> {
        body.split(&format!("<{tag}>")).skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
    };
    let (_, body) = send(&fake, "GET", "b?list-type=2&prefix=a/", &[], "").await;
    assert_eq!(keys(&body, "Key"), ["a/1", "a/2"]);
    let (_, body) = send(&fake, "GET", "b?list-type=2&delimiter=/&max-keys=2", &[], "").await;
    assert_eq!((keys(&body, "Key"), keys(&body, "Prefix")), (vec!["b".into()], vec![String::new(), "a/".into()]));
    let token = keys(&body, "NextContinuationToken").remove(0);
    let (_, body) = send(&fake, "GET", &format!("b?list-type=2&delimiter=/&continuation-token={token}"), &[], "").await;
    assert_eq!((keys(&body, "Key"), keys(&body, "Prefix")), (vec!["d&amp;".into()], vec![String::new(), "c/".into()]));
    let (_, body) = send(&fake, "GET", "b?list-type=2&start-after=c/1", &[], "").await;
    assert_eq!(keys(&body, "Key"), ["c/2", "d&amp;"]);
}

#[tokio::test]
async fn an_upload_in_parts_is_there_when_it_is_complete() {
    let fake = fake().await;
    let (_, body) = send(&fake, "POST", "b/big?uploads=", &[], "").await;
    let id = body.split("<UploadId>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    for (number, text) in [(2, "world"), (1, "hello ")] {
        assert_eq!(send(&fake, "PUT", &format!("b/big?partNumber={number}&uploadId={id}"), &[], text).await.0, 200);
    }
    assert!(fake.objects().is_empty());
    let parts = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part><Part><PartNumber>2</PartNumber></Part></CompleteMultipartUpload>";
    assert_eq!(send(&fake, "POST", &format!("b/big?uploadId={id}"), &[], parts).await.0, 200);
    assert_eq!(fake.object("b", "big").unwrap(), "hello world");
    let (_, body) = send(&fake, "POST", "b/no?uploads=", &[], "").await;
    let id = body.split("<UploadId>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert_eq!(send(&fake, "DELETE", &format!("b/no?uploadId={id}"), &[], "").await.0, 204);
    assert_eq!(send(&fake, "DELETE", &format!("b/no?uploadId={id}"), &[], "").await.0, 404);
}

#[tokio::test]
async fn the_json_api_shows_buckets_and_takes_uploads() {
    let fake = fake().await;
    let (_, body) = send(&fake, "GET", "storage/v1/b/b", &[], "").await;
    let bucket: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(bucket["location"], "US");
    assert_eq!(send(&fake, "GET", "storage/v1/b/none", &[], "").await.0, 404);
    assert_eq!(send(&fake, "POST", "upload/storage/v1/b/b/o?uploadType=media&name=a/k", &[], "hello").await.0, 200);
    assert_eq!(send(&fake, "GET", "storage/v1/b/b/o/a%2Fk?alt=media", &[], "").await, (200, "hello".into()));
    assert!(send(&fake, "GET", "storage/v1/b/b/o/a%2Fk", &[], "").await.1.contains("\"size\":\"5\""));
}

#[tokio::test]
async fn uploads_come_in_two_parts_or_in_a_session() {
    let fake = fake().await;
    let body = "--x\r\ncontent-type: application/json\r\n\r\n{\"contentType\": \"text/a\", \"crc32c\": \"4waSgw==\"}\r\n--x\r\n\r\n123456789\r\n--x--\r\n";
    let related = [("content-type", "multipart/related; boundary=x")];
    let path = "upload/storage/v1/b/b/o?uploadType=multipart&name=one";
    let (status, answer) = send(&fake, "POST", path, &related, body).await;
    assert!(status == 200 && answer.contains("4waSgw==") && answer.contains("text/a"), "{answer}");
    assert_eq!(send(&fake, "POST", path, &related, &body.replace("4waSgw==", "AAAAAA==")).await.0, 400);

    let start = format!("{}/upload/storage/v1/b/b/o?uploadType=resumable&name=a/two", fake.rest());
    let answer = Client::new().post(start).json(&serde_json::json!({})).send().await.unwrap();
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let put = async |range: &str, body: &str| {
        let request = Client::new().put(&location).header("content-range", range).body(body.to_owned());
        let answer = request.send().await?;
        let known = answer.headers().get("range").map(|value| value.to_str().unwrap().to_owned());
        Ok::<_, reqwest::Error>((answer.status().as_u16(), known))
    };
    assert_eq!(put("bytes */*", "").await.unwrap(), (308, None));
    assert_eq!(put("bytes 0-3/*", "1234").await.unwrap(), (308, Some("bytes=0-3".into())));
    assert_eq!(put("bytes 6-7/*", "78").await.unwrap(), (308, Some("bytes=0-3".into())));
    fake.arm(Rule::on("objects.put", Fault::LoseAnswer).about("b/a/two"));
    assert!(put("bytes 2-8/9", "3456789").await.is_err());
    assert_eq!(put("bytes */*", "").await.unwrap(), (200, None));
    assert_eq!(fake.object("b", "a/two").unwrap(), "123456789");

    let (_, page) = send(&fake, "GET", "storage/v1/b/b/o?delimiter=/&maxResults=1", &[], "").await;
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["prefixes"], serde_json::json!(["a/"]));
    let next = format!("storage/v1/b/b/o?delimiter=/&pageToken={}", page["nextPageToken"].as_str().unwrap());
    let (_, page) = send(&fake, "GET", &next, &[], "").await;
    assert!(page.contains("\"name\":\"one\"") && !page.contains("nextPageToken"));
}
