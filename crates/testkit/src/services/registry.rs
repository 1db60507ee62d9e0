//! A schema registry.

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::installed;
use super::process::{Process, Ready, Spec, client, free_port};

/// A schema registry that answers as Confluent's does, in memory. Ids of schemas rise and have gaps; unless a test asks for
/// more, any schema may follow any other.
#[derive(Debug)]
pub struct Registry {
    process: Process,
    url: String,
}

/// A schema that another one needs: the name by which that one calls it, its subject and its version there.
pub type Reference<'a> = (&'a str, &'a str, u32);

impl Registry {
    /// Starts one without schemas, which takes some seconds; `None` (said loudly) if it is not installed.
    ///
    /// # Panics
    /// If it does not start, with what it said; with `CI=true` if it is not installed.
    pub async fn start() -> Option<Self> {
        let (registry, java) = (installed("registry")?, installed("java")?);
        let mut url = String::new();
        let process = Process::start(|_| {
            let port = free_port();
            url = format!("http://127.0.0.1:{port}/apis/ccompat/v7");
            Spec {
                program: java.join("bin/java"),
                args: vec![format!("@{}", registry.join("java.args").display()).into()],
                env: vec![
                    ("APICURIO_STORAGE_KIND", "sql".into()),
                    ("APICURIO_STORAGE_SQL_KIND", "h2".into()),
                    ("QUARKUS_HTTP_HOST", "127.0.0.1".into()),
                    ("QUARKUS_HTTP_PORT", port.to_string().into()),
                    ("QUARKUS_MANAGEMENT_HOST", "127.0.0.1".into()),
                    ("QUARKUS_MANAGEMENT_PORT", "0".into()),
                ],
                ready: Ready::Page(format!("{url}/subjects")),
                ..Spec::default()
            }
        })
        .await;
        Some(Self { process, url })
    }

    /// The one that all tests of this process share, started at the first call; each test uses subjects of its own. It ends
    /// with the process. `None` and panics as for [`Self::start`].
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Option<Registry>> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await.as_ref()
    }

    /// Where clients find Confluent's API, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Adds a schema to a subject (`TOPIC-value`); returns the id that messages carry. `kind` is `AVRO`, `PROTOBUF` or `JSON`.
    /// The same schema gets the same id.
    ///
    /// # Panics
    /// If the registry does not take it, with what it says.
    pub async fn register(&self, subject: &str, schema: &str, kind: &str, references: &[Reference<'_>]) -> u32 {
        let references: Vec<Value> = references
            .iter()
            .map(|(name, subject, version)| json!({"name": name, "subject": subject, "version": version}))
            .collect();
        let body = json!({"schema": schema, "schemaType": kind, "references": references});
        let url = format!("{}/subjects/{subject}/versions", self.url);
        let answer = client().post(url).json(&body).send().await.unwrap_or_else(|e| panic!("{e}:\n{}", self.log()));
        let fine = answer.status().is_success();
        let said: Value = answer.json().await.expect("an answer in JSON");
        let id = said["id"].as_u64().filter(|_| fine).unwrap_or_else(|| panic!("{subject}: the schema is not taken: {said}"));
        u32::try_from(id).expect("ids of messages have 32 bits")
    }

    /// What it has said, for a test that fails.
    pub fn log(&self) -> String {
        self.process.log()
    }
}
