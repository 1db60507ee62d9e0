//! BigQuery's REST, as JSON.
//!
//! Resources stay JSON all the way: what a table has that Longshore does not know (policy tags, row access, what comes next
//! year) goes back as it came.

use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::credentials::Identity;
use crate::error::{Failure, Refusal, codes, destination, lost};

/// No call of ours takes longer: jobs are asked about in short calls.
const TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub(crate) struct Rest {
    http: reqwest::Client,
    identity: Identity,
    base: String,
}

impl Rest {
    pub(crate) fn new(base: String, identity: Identity) -> longshore_core::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| destination(codes::UNAVAILABLE, "an HTTP client could not be made").caused_by(e))?;
        Ok(Self { http, identity, base })
    }

    /// Whom it asks.
    pub(crate) fn server(&self) -> &str {
        &self.base
    }

    /// One call. `doing` is what it does, for people; `path` begins with a slash, `query` is what stands behind `?`. With an etag it is
    /// refused with 412 unless what it changes still has that.
    async fn call(
        &self,
        doing: &str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<Value, Failure> {
        let mut headers = self.identity.headers().await?;
        if let Some(etag) = etag.and_then(|etag| http::HeaderValue::from_str(etag).ok()) {
            headers.insert(http::header::IF_MATCH, etag);
        }
        let mut url = url::Url::parse(&format!("{}{path}", self.base))
            .map_err(|e| destination(codes::ANSWER, format!("{}{path} is no URL", self.base)).caused_by(e))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url).headers(headers);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|e| lost(doing, e))?;
        let status = answer.status();
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let text = answer.text().await.map_err(|e| lost(doing, e))?;
        if status.is_success() {
            if text.trim().is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_str(&text)
                .map_err(|e| Failure::Lost(destination(codes::ANSWER, format!("{doing}: the answer is not JSON")).caused_by(e)));
        }
        Err(Failure::Refused(refusal(doing, status.as_u16(), &text, retry_after.map(Duration::from_secs))))
    }

    pub(crate) async fn get(&self, doing: &str, path: &str, query: &[(&str, &str)]) -> Result<Value, Failure> {
        self.call(doing, Method::GET, path, query, None, None).await
    }

    pub(crate) async fn post(&self, doing: &str, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(doing, Method::POST, path, &[], Some(body), None).await
    }

    pub(crate) async fn patch(&self, doing: &str, path: &str, body: &Value, etag: Option<&str>) -> Result<Value, Failure> {
        self.call(doing, Method::PATCH, path, &[], Some(body), etag).await
    }

    /// Removes something; what is not there is fine.
    pub(crate) async fn delete(&self, doing: &str, path: &str) -> Result<(), Failure> {
        match self.call(doing, Method::DELETE, path, &[], None, None).await {
            Err(Failure::Refused(refusal)) if refusal.is_missing() => Ok(()),
            answer => answer.map(drop),
        }
    }
}

/// The texts of a list; none if it is no list.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn refusal(doing: &str, status: u16, text: &str, retry_after: Option<Duration>) -> Refusal {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let error = &body["error"];
    let first = &error["errors"][0];
    let word = |value: &Value| value.as_str().map(str::to_owned);
    Refusal {
        doing: doing.to_owned(),
        status,
        reason: word(&first["reason"]).or_else(|| word(&error["status"])).unwrap_or_default(),
        message: word(&error["message"]).unwrap_or_else(|| text.lines().next().unwrap_or_default().chars().take(300).collect()),
        retry_after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_core::error::{Error, Retry};
    use serde_json::json;

    #[test]
    fn a_refusal_keeps_the_words_and_says_whether_it_passes() {
        let body =
            json!({"error": {"code": 403, "message": "Quota exceeded: load jobs", "errors": [{"reason": "quotaExceeded"}]}});
        let refusal = refusal("jobs.insert", 403, &body.to_string(), Some(Duration::from_secs(7)));
        let error = Error::from(refusal);
        assert_eq!((error.code(), error.retry()), ("bigquery_quota", Retry::Backoff));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(error.to_string(), "jobs.insert: BigQuery answered 403: Quota exceeded: load jobs");
    }

    #[test]
    fn an_answer_of_somebody_else_is_told_by_its_first_line() {
        let refusal = refusal("tables.get t", 502, "<html>bad gateway\n</html>", None);
        assert_eq!((refusal.message.as_str(), refusal.reason.as_str()), ("<html>bad gateway", ""));
        assert_eq!(Error::from(refusal).retry(), Retry::Backoff);
    }
}
