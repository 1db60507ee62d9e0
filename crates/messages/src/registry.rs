//! The schema registry: schemas by their numbers, each asked for once.

mod client;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use longshore_core::error::Retry;
use longshore_core::{Error, Result};

use crate::config::Registry;
use crate::error::{NO_SCHEMA_ID, SCHEMA_UNUSABLE, UNKNOWN_SCHEMA};
use crate::fault::Fault;
use crate::formats::Unread;
use crate::formats::schema::Schema;
use crate::told::Told;

use client::{Answer, Client};
pub(crate) use client::{Kind, Written};

/// How long a schema that is not there is not asked for again. Damaged messages may name any number.
const MISSING_FOR: Duration = Duration::from_secs(30);
/// Numbers of missing schemas that are remembered.
const MISSING_MOST: usize = 10_000;

/// The schemas of one registry. What a number stands for never changes, so that a schema is kept for ever.
pub(crate) struct SchemaRegistry {
    url: String,
    client: Client,
    schemas: Mutex<Schemas>,
    told: Arc<Told>,
    is_down: AtomicBool,
}

#[derive(Default)]
struct Schemas {
    known: HashMap<u32, Arc<Schema>>,
    /// Those that cannot be used, and why.
    faults: HashMap<u32, (Fault, Instant)>,
}

impl SchemaRegistry {
    /// Asks nobody anything. Errors: `config`.
    pub fn new(config: &Registry, told: Arc<Told>) -> Result<Self> {
        let client = Client::new(config)?;
        Ok(Self { url: config.url.clone(), client, schemas: Mutex::default(), told, is_down: AtomicBool::new(false) })
    }

    /// The schema of a number. A fault if there is none that can be used. Waits for the registry's answer, the first time.
    pub fn schema(&self, id: u32) -> Result<Arc<Schema>, Unread> {
        {
            let schemas = self.schemas();
            if let Some(schema) = schemas.known.get(&id) {
                return Ok(schema.clone());
            }
            if let Some((fault, _)) = schemas.faults.get(&id).filter(|(_, since)| since.elapsed() < MISSING_FOR) {
                return Err(fault.clone().into());
            }
        }
        let fault = match self.ask(id)? {
            Answer::Found(written) => match Schema::read(&written) {
                Ok(schema) => return Ok(self.schemas().known.entry(id).or_insert_with(|| Arc::new(schema)).clone()),
                Err(why) => Fault::new(SCHEMA_UNUSABLE, format!("schema {id} cannot be read: {why}")),
            },
            Answer::Missing => Fault::new(UNKNOWN_SCHEMA, format!("the schema registry has no schema {id}")),
            Answer::Broken(why) => Fault::new(SCHEMA_UNUSABLE, format!("schema {id} cannot be read: {why}")),
        };
        let mut schemas = self.schemas();
        if schemas.faults.len() >= MISSING_MOST {
            schemas.faults.clear();
        }
        schemas.faults.insert(id, (fault.clone(), Instant::now()));
        Err(fault.into())
    }

    /// Asks the registry; tells once that it does not answer, and once that it does again.
    fn ask(&self, id: u32) -> Result<Answer, Error> {
        let answer = self.client.ask(id);
        match &answer {
            Ok(_) => {
                if self.is_down.swap(false, Ordering::Relaxed) {
                    self.told.note(format!("the schema registry at {} answers again", self.url));
                }
            }
            Err(error) if error.retry() == Retry::Backoff => {
                if !self.is_down.swap(true, Ordering::Relaxed) {
                    let why = error.chain().pop().unwrap_or_else(|| error.message().to_owned());
                    let url = &self.url;
                    self.told.warn(format!("the schema registry at {url} does not answer ({why}); messages wait until it does"));
                }
            }
            Err(_) => {}
        }
        answer
    }

    fn schemas(&self) -> MutexGuard<'_, Schemas> {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of the schema that a content names, and what follows it.
pub(crate) fn split(content: &[u8]) -> Result<(u32, &[u8]), Fault> {
    match content {
        [0, a, b, c, d, rest @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), rest)),
        _ => {
            let found = match content.first() {
                None => "is empty".to_owned(),
                Some(0) => format!("has only {} bytes", content.len()),
                Some(byte) => format!("begins with the byte {byte:#04x}"),
            };
            let why = format!(
                "the message {found}, not with a zero byte and the number of its schema as a schema registry's writers do"
            );
            Err(Fault::new(NO_SCHEMA_ID, why))
        }
    }
}
