//! The registry's REST: `GET /schemas/ids/ID`, and what a schema refers to. A thread of its own asks, because decoding waits on threads that
//! may belong to any runtime or to none.
//!
//! Source: <https://docs.confluent.io/platform/current/schema-registry/develop/api.html>

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use longshore_core::error::{Code, Error, Kind as ErrorKind, Result, Retry, code};
use reqwest::StatusCode;
use secrecy::ExposeSecret;
use url::Url;

use crate::config::Registry;
use crate::error::{REGISTRY_REFUSED, REGISTRY_UNAVAILABLE};

/// No answer of a registry takes longer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Schemas that one schema may need.
const MOST_REFERENCES: usize = 1000;

/// What a schema is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Avro,
    Json,
    Protobuf,
}

/// A schema as the registry has it.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub kind: Kind,
    pub text: String,
    /// The schemas that it refers to, those that others need before them: the name that it calls each by, and its text.
    pub references: Vec<(String, String)>,
}

/// What the registry says.
#[derive(Debug)]
pub(crate) enum Answer {
    Found(Written),
    /// There is no such schema.
    Missing,
    /// There is, and it cannot be used.
    Broken(String),
}

type Question = (u32, SyncSender<Result<Answer>>);

/// Asks one registry.
pub(crate) struct Client {
    asker: Asker,
    /// To the thread that asks, once there is one.
    thread: Mutex<Option<Sender<Question>>>,
}

impl Client {
    /// Errors: `config` for an address that is none, credentials that do not go together, and a certificate that cannot be read.
    pub fn new(config: &Registry) -> Result<Self> {
        Ok(Self { asker: Asker::new(config)?, thread: Mutex::new(None) })
    }

    /// Waits for the answer. Errors: `registry_unavailable` (`Backoff`), `registry_refused`.
    pub fn ask(&self, id: u32) -> Result<Answer> {
        let (answer, answered) = sync_channel(1);
        let gone = |_| Error::new(ErrorKind::Bug, code::BUG, "the thread that asks the schema registry is gone");
        self.thread()?.send((id, answer)).map_err(|e| gone(e.to_string()))?;
        answered.recv().map_err(|e| gone(e.to_string()))?
    }

    fn thread(&self) -> Result<Sender<Question>> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*thread {
            return Ok(sender.clone());
        }
        let (sender, questions) = channel();
        let asker = self.asker.clone();
        let failed =
            |e| Error::new(ErrorKind::Bug, code::BUG, "a thread that asks the schema registry cannot be made").caused_by(e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let work = move || answer_all(&questions, &asker, &runtime);
        std::thread::Builder::new().name("schema registry".to_owned()).spawn(work).map_err(failed)?;
        *thread = Some(sender.clone());
        Ok(sender)
    }
}

/// Ends when nobody can ask any more.
fn answer_all(questions: &Receiver<Question>, asker: &Asker, runtime: &tokio::runtime::Runtime) {
    while let Ok((id, answer)) = questions.recv() {
        // Whoever asked may have been given up.
        let _ = answer.send(runtime.block_on(asker.schema(id)));
    }
}

#[derive(Clone)]
struct Asker {
    base: Url,
    http: reqwest::Client,
    config: Registry,
}

/// A schema in an answer.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    schema: String,
    /// Avro's if it is missing.
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Clone, serde::Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i64,
}

impl Asker {
    fn new(config: &Registry) -> Result<Self> {
        let refused = |what: String| Error::new(ErrorKind::Config, code::CONFIG, what);
        let base = Url::parse(&config.url)
            .map_err(|e| refused(format!("`registry.url`: {:?} is no address", config.url)).caused_by(e))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(refused("`registry.url` does not begin with https:// or http://".to_owned()));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(refused("`registry.url` holds a user or password".to_owned())
                .hint("set `registry.user` and `registry.password`, which are never shown"));
        }
        if config.token.is_some() && (config.user.is_some() || config.password.is_some()) {
            return Err(refused("`registry` has a token and a user: one of them".to_owned()));
        }
        if config.password.is_some() && config.user.is_none() {
            return Err(refused("`registry.password` is set and `registry.user` is not".to_owned()));
        }
        let mut http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(TIMEOUT / 2)
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &config.ca {
            let unreadable = || refused(format!("`registry.ca`: {} is no certificate that can be read", path.display()));
            let pem = std::fs::read(path).map_err(|e| unreadable().caused_by(e))?;
            let certificate = reqwest::Certificate::from_pem(&pem).map_err(|e| unreadable().caused_by(e))?;
            http = http.tls_certs_merge([certificate]);
        }
        let http = http.build().map_err(|e| refused("the schema registry cannot be asked".to_owned()).caused_by(e))?;
        Ok(Self { base, http, config: config.clone() })
    }

    async fn schema(&self, id: u32) -> Result<Answer> {
        let Some(body) = self.get(&["schemas", "ids", &id.to_string()]).await? else { return Ok(Answer::Missing) };
        let kind = match body.schema_type.as_deref() {
            None | Some("AVRO") => Kind::Avro,
            Some("JSON") => Kind::Json,
            Some("PROTOBUF") => Kind::Protobuf,
            Some(other) => return Ok(Answer::Broken(format!("it is written in {other}, which Longshore does not know"))),
        };
        Ok(match self.references(body.references).await? {
            Ok(references) => Answer::Found(Written { kind, text: body.schema, references }),
            Err(why) => Answer::Broken(why),
        })
    }

    /// What schemas refer to and what that refers to, each once, behind what it needs itself.
    async fn references(&self, first: Vec<Reference>) -> Result<Result<Vec<(String, String)>, String>> {
        let mut texts: HashMap<String, String> = HashMap::new();
        let mut order: Vec<String> = Vec::new();
        // A reference is looked at twice: before and behind those that it refers to itself.
        let mut stack: Vec<(Reference, bool)> = first.into_iter().rev().map(|reference| (reference, false)).collect();
        while let Some((reference, done)) = stack.pop() {
            if done {
                order.push(reference.name);
                continue;
            }
            if texts.contains_key(&reference.name) {
                continue;
            }
            if texts.len() >= MOST_REFERENCES {
                return Ok(Err(format!("it refers to more than {MOST_REFERENCES} others")));
            }
            let version = reference.version.to_string();
            let Some(body) = self.get(&["subjects", &reference.subject, "versions", &version]).await? else {
                let Reference { name, subject, .. } = reference;
                return Ok(Err(format!("it refers to {name}, version {version} of {subject}, which the registry does not have")));
            };
            texts.insert(reference.name.clone(), body.schema);
            stack.push((reference, true));
            stack.extend(body.references.into_iter().rev().map(|reference| (reference, false)));
        }
        let text = |name: String| texts.remove(&name).map(|text| (name, text));
        Ok(Ok(order.into_iter().filter_map(text).collect()))
    }

    /// A schema, `None` if the registry says that it has none.
    async fn get(&self, path: &[&str]) -> Result<Option<Body>> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Error::new(ErrorKind::Bug, code::BUG, "the registry's address was checked"))?
            .pop_if_empty()
            .extend(path);
        let failed = |code: Code, what: &str| Error::new(ErrorKind::Source, code, format!("{what} (GET {url})"));
        let lost = |what: &str| failed(REGISTRY_UNAVAILABLE, what).with_retry(Retry::Backoff);
        let mut request = self.http.get(url.clone()).header("accept", "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(token) = &self.config.token {
            request = request.bearer_auth(token.expose_secret());
        } else if let Some(user) = &self.config.user {
            request = request.basic_auth(user, self.config.password.as_ref().map(ExposeSecret::expose_secret));
        }
        let answer = request.send().await.map_err(|e| lost("the schema registry does not answer").caused_by(e))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|e| lost("the schema registry's answer broke off").caused_by(e))?;
        if status.is_success() {
            let unreadable = "the schema registry's answer cannot be understood: perhaps something else answers at its address";
            return serde_json::from_str(&text)
                .map(Some)
                .map_err(|e| failed(REGISTRY_REFUSED, unreadable).with_retry(Retry::AfterFix).caused_by(e));
        }
        // Only a registry answers with a number of its own. Another server's 404 says nothing of schemas.
        let error: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let (number, words) = (error["error_code"].as_i64(), error["message"].as_str().unwrap_or_default());
        if status == StatusCode::NOT_FOUND && number.is_some_and(|number| number == 404 || (40400..40500).contains(&number)) {
            return Ok(None);
        }
        let what = format!("the schema registry answers {status}{}{words}", if words.is_empty() { "" } else { ": " });
        if status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) {
            return Err(lost(&what));
        }
        let hint = match status {
            StatusCode::NOT_FOUND => "check `registry.url`: nothing there speaks as a schema registry does",
            _ => "check `registry.user`, `registry.password` or `registry.token`, and that they may read schemas",
        };
        Err(failed(REGISTRY_REFUSED, &what).with_retry(Retry::AfterFix).hint(hint))
    }
}
