//! Tokens for OAUTHBEARER, by OAuth's client credentials (RFC 6749, section 4.4).

use std::time::Duration;

use chrono::Utc;
use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use secrecy::{ExposeSecret, SecretString};

use crate::config::{KafkaConfig, Mechanism};

/// In the words of every reason why there is no token, so that librdkafka's error is known for one.
pub(crate) const NO_TOKEN: &str = "no token for SASL";

/// Where tokens come from. Shows no secret.
#[derive(Clone)]
pub(crate) struct Tokens {
    http: reqwest::Client,
    endpoint: reqwest::Url,
    client: String,
    secret: SecretString,
    scope: Option<String>,
}

/// A token, until when it is good (milliseconds since 1970), and whose it is.
pub(crate) struct Token {
    pub(crate) text: SecretString,
    pub(crate) until: i64,
    pub(crate) principal: String,
}

#[derive(serde::Deserialize)]
struct Answer {
    access_token: SecretString,
    expires_in: Option<u64>,
}

impl Tokens {
    /// What the settings say of tokens, if they say anything. Errors: `config` for an address that is none.
    pub(crate) fn new(config: &KafkaConfig) -> Result<Option<Self>> {
        let Some(sasl) = config.sasl.as_ref().filter(|sasl| sasl.mechanism == Mechanism::Oauthbearer) else { return Ok(None) };
        let invalid = |what: &str| Error::new(Kind::Config, code::CONFIG, what);
        let endpoint = sasl.token_endpoint.as_deref().unwrap_or_default();
        let endpoint = reqwest::Url::parse(endpoint)
            .map_err(|e| invalid("`sasl.token_endpoint` is not an address").caused_by(e).hint("https://HOST/PATH"))?;
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .build()
            .map_err(|e| invalid("tokens cannot be asked for").caused_by(e))?;
        Ok(Some(Self {
            http,
            endpoint,
            client: sasl.client_id.clone().unwrap_or_default(),
            secret: sasl.client_secret.clone().unwrap_or_default(),
            scope: sasl.scope.clone(),
        }))
    }

    /// A fresh token, or why there is none.
    pub(crate) async fn fetch(&self) -> std::result::Result<Token, String> {
        self.ask().await.map_err(|why| format!("{NO_TOKEN}: {} {why}", self.endpoint.host_str().unwrap_or_default()))
    }

    async fn ask(&self) -> std::result::Result<Token, String> {
        let mut form = url_form("grant_type", "client_credentials");
        if let Some(scope) = &self.scope {
            form = format!("{form}&{}", url_form("scope", scope));
        }
        let request = self
            .http
            .post(self.endpoint.clone())
            .basic_auth(&self.client, Some(self.secret.expose_secret()))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let answer = request.send().await.map_err(|e| format!("cannot be reached: {}", e.without_url()))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("answers {status}"));
        }
        let answer: Answer = answer.json().await.map_err(|_| "answers something that is not a token".to_owned())?;
        // Without a word of it, tokens of an hour are common; asking sooner does no harm.
        let seconds = answer.expires_in.unwrap_or(300).clamp(1, 30 * 24 * 3600);
        let until = Utc::now().timestamp_millis() + i64::try_from(seconds * 1000).unwrap_or(i64::MAX);
        Ok(Token { text: answer.access_token, until, principal: self.client.clone() })
    }
}

fn url_form(name: &str, value: &str) -> String {
    reqwest::Url::parse_with_params("form://x/", [(name, value)])
        .ok()
        .and_then(|url| url.query().map(str::to_owned))
        .unwrap_or_default()
}
