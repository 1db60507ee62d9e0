//! Who we are to Google.

use google_cloud_auth::credentials::{self, CacheableResource, Credentials};
use http::{Extensions, HeaderMap};
use longshore_core::Result;
use longshore_core::error::{Error, Kind, Retry};
use serde_json::Value;

use crate::config::Access;
use crate::error::{codes, config};

const SCOPES: [&str; 1] = ["https://www.googleapis.com/auth/cloud-platform"];
const DEFAULT: &str = "the default credentials";
const HINT: &str = "log in with `gcloud auth application-default login`, or name a service account's key with `credentials`";

/// Makes the headers that a request needs. Tokens are cached and renewed by Google's library.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    credentials: Credentials,
    who: String,
}

impl Identity {
    /// Nobody: no credentials are sent.
    pub(crate) fn nobody() -> Self {
        Self { credentials: credentials::anonymous::Builder::new().build(), who: "nobody: no credentials are sent".into() }
    }

    /// Reads what the settings name; asks nobody yet.
    ///
    /// Errors: `pubsub_credentials` (configuration).
    pub(crate) fn new(access: &Access) -> Result<Self> {
        let (base, who) = match &access.credentials {
            None => {
                let found = credentials::Builder::default().with_scopes(SCOPES).build();
                (found.map_err(|e| unusable(DEFAULT, e))?, DEFAULT.to_owned())
            }
            Some(path) => {
                let shown = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|e| unusable(&shown, e))?;
                let key: Value = serde_json::from_str(&text).map_err(|e| unusable(&shown, e))?;
                let who = key["client_email"].as_str().map_or_else(|| format!("the credentials in {shown}"), str::to_owned);
                (from_file(key).map_err(|e| unusable(&shown, e))?, who)
            }
        };
        let Some(account) = &access.impersonate else { return Ok(Self { credentials: base, who }) };
        let builder = credentials::impersonated::Builder::from_source_credentials(base).with_target_principal(account);
        let credentials = builder.with_scopes(SCOPES).build().map_err(|e| unusable(account, e))?;
        Ok(Self { credentials, who: format!("{account}, by {who}") })
    }

    /// Who we are, in words, as far as the settings tell it.
    pub(crate) fn who(&self) -> &str {
        &self.who
    }

    /// The headers of one request. Errors: `pubsub_credentials`, `Backoff` if it passes.
    pub(crate) async fn headers(&self) -> Result<HeaderMap> {
        match self.credentials.headers(Extensions::new()).await {
            Ok(CacheableResource::New { data, .. }) => Ok(data),
            Ok(CacheableResource::NotModified) => Ok(HeaderMap::new()),
            Err(error) => {
                let retry = if error.is_transient() { Retry::Backoff } else { Retry::AfterFix };
                let refused = Error::new(Kind::Source, codes::CREDENTIALS, "no token could be had from Google").with_retry(retry);
                Err(refused.hint(HINT).caused_by(error))
            }
        }
    }
}

/// The kinds of file that Google gives out, told apart by their own word for it.
fn from_file(key: Value) -> Result<Credentials, google_cloud_auth::build_errors::Error> {
    use credentials::{external_account, impersonated, service_account, user_account};
    match key.get("type").and_then(Value::as_str) {
        Some("external_account") => external_account::Builder::new(key).with_scopes(SCOPES).build(),
        Some("impersonated_service_account") => impersonated::Builder::new(key).with_scopes(SCOPES).build(),
        Some("authorized_user") => user_account::Builder::new(key).with_scopes(SCOPES).build(),
        _ => {
            let scopes = service_account::AccessSpecifier::from_scopes(SCOPES);
            service_account::Builder::new(key).with_access_specifier(scopes).build()
        }
    }
}

fn unusable(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    config(codes::CREDENTIALS, format!("{what} cannot be used to log in to Google")).hint(HINT).caused_by(error)
}
