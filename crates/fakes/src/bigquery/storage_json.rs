//! Cloud Storage: the JSON API, as far as checks of buckets and Google's own clients use it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::http::{Answer, ApiError, Call, Shared};
use super::state::State;
use super::storage::{self, Object};
use super::uploads;

/// The name of a method and what it is about.
pub(crate) fn name(call: &Call) -> (String, String) {
    let mut path: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    if path.first() == Some(&"download") {
        path.remove(0);
    }
    let (name, subject) = match (call.method.as_str(), path.as_slice()) {
        ("POST", ["storage", "v1", "b"]) => {
            ("buckets.insert", call.json().unwrap_or_default()["name"].as_str().unwrap_or_default().to_owned())
        }
        ("GET", ["storage", "v1", "b", bucket]) => ("buckets.get", (*bucket).to_owned()),
        ("GET", ["storage", "v1", "b", bucket, "iam", "testPermissions"]) => ("buckets.testIamPermissions", (*bucket).to_owned()),
        ("GET", ["storage", "v1", "b", bucket, "o"]) => ("objects.list", (*bucket).to_owned()),
        ("GET", ["storage", "v1", "b", bucket, "o", key @ ..]) => ("objects.get", format!("{bucket}/{}", key.join("/"))),
        ("DELETE", ["storage", "v1", "b", bucket, "o", key @ ..]) => ("objects.delete", format!("{bucket}/{}", key.join("/"))),
        ("POST" | "PUT", ["upload", "storage", "v1", "b", bucket, "o"]) => {
            (uploads::name(call), format!("{bucket}/{}", call.param("name").unwrap_or_default()))
        }
        _ => ("unknown", call.path.clone()),
    };
    (name.to_owned(), subject)
}

/// Does a call.
pub(crate) fn serve(shared: &Arc<Shared>, name: &str, call: &Call) -> Result<Answer, ApiError> {
    let mut state = shared.lock();
    if name == "buckets.insert" {
        return insert_bucket(&mut state, call);
    }
    let at = call.segments.iter().position(|segment| segment == "b").unwrap_or(0) + 1;
    let bucket = call.segments.get(at).cloned().unwrap_or_default();
    let key = call.segments.get(at + 2..).map(|parts| parts.join("/")).unwrap_or_default();
    let location = state.bucket(&bucket)?.clone();
    match name {
        "buckets.get" => Ok(Answer::json(200, &bucket_resource(&bucket, &location))),
        "buckets.testIamPermissions" => {
            let asked = call.query.iter().filter(|(key, _)| key == "permissions").map(|(_, value)| value.as_str());
            let mut answer = state.granted(asked);
            answer["kind"] = json!("storage#testIamPermissionsResponse");
            Ok(Answer::json(200, &answer))
        }
        "objects.list" => Ok(Answer::json(200, &uploads::list(&state, &bucket, call))),
        "objects.get" if call.param("alt") == Some("media") => storage::get(state.object(&bucket, &key)?, call),
        "objects.get" => Ok(Answer::json(200, &resource(&bucket, &key, state.object(&bucket, &key)?))),
        "objects.delete" => state.delete_object(&bucket, &key).map(|()| Answer::empty(204)),
        _ if call.segments.first().is_some_and(|first| first == "upload") => uploads::serve(&mut state, &bucket, call),
        _ => Err(ApiError::invalid(format!("not served: {} {}", call.method, call.path))),
    }
}

fn insert_bucket(state: &mut State, call: &Call) -> Result<Answer, ApiError> {
    let body = call.json()?;
    let name = body["name"].as_str().filter(|name| !name.is_empty()).ok_or_else(|| ApiError::invalid("a bucket needs a name"))?;
    let location = body["location"].as_str().unwrap_or("US");
    if state.storage.buckets.contains_key(name) {
        return Err(ApiError::new(
            409,
            "conflict",
            "Your previous request to create the named bucket succeeded and you already own it.",
        ));
    }
    state.storage.buckets.insert(name.to_owned(), location.to_owned());
    Ok(Answer::json(200, &bucket_resource(name, location)))
}

fn bucket_resource(name: &str, location: &str) -> Value {
    json!({
        "kind": "storage#bucket", "id": name, "name": name, "location": location.to_uppercase(),
        "locationType": if location.contains('-') { "region" } else { "multi-region" },
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": true}, "publicAccessPrevention": "enforced"},
    })
}

/// An object's resource.
pub(crate) fn resource(bucket: &str, key: &str, object: &Object) -> Value {
    json!({
        "kind": "storage#object", "id": format!("{bucket}/{key}/{}", object.generation), "name": key, "bucket": bucket,
        "generation": object.generation.to_string(), "size": object.bytes.len().to_string(), "etag": object.etag(),
        "contentType": object.content_type, "updated": object.updated.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        "metageneration": "1", "storageClass": "STANDARD", "crc32c": uploads::crc32c(&object.bytes),
    })
}
