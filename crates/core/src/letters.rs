//! Dead letters on their way back.

use async_trait::async_trait;

use crate::Result;
use crate::batch::Payload;

/// A dead letter that is to be decoded again.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its id.
    pub id: String,
    /// The table it was meant for.
    pub table: Option<String>,
    /// Whether a person named that table: it counts more than what the message says.
    pub readdressed: bool,
    /// Its bytes, corrected or not.
    pub payload: Payload,
    /// What its source said of it: [`crate::batch::Reject::decoding`].
    pub decoding: Option<serde_json::Value>,
}

/// Where the letters to replay are kept.
#[async_trait]
pub trait Letters: Send + Sync {
    /// The ids of those that are open now, with the bytes of their payloads.
    async fn open(&self) -> Result<Vec<(String, u64)>>;

    /// These letters. Fails if one is not there.
    async fn fetch(&self, ids: &[String]) -> Result<Vec<Letter>>;
}
