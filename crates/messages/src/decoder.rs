//! The decoder of one pipeline: what settings make of messages, and what is kept from one delivery to the next.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use longshore_core::Result;
use longshore_core::source::{Context, Target};
use longshore_core::stream::Decode;
use longshore_files::columns::Times;

use crate::changes::Keys;
use crate::config::{Format, MessagesConfig};
use crate::decode::Contents;
use crate::formats::{self, Reader};
use crate::message::Messages;
use crate::metadata::MetadataColumns;
use crate::plan::Plan;
use crate::registry::SchemaRegistry;
use crate::route::Route;
use crate::told::Told;

/// The largest message where nobody said how much memory there is: a quarter of the usual 256 MiB.
const MOST: usize = 64 << 20;
/// A tape counts in 32 bits.
const MOST_EVER: u64 = 1 << 30;

/// Turns messages into rows, as settings say. One serves all deliveries of a source, on any number of threads.
pub struct Decoder {
    pub(crate) route: Route,
    pub(crate) reader: Box<dyn Reader>,
    pub(crate) columns: MetadataColumns,
    /// The names that its columns need on a tape, that of a key without fields last.
    pub(crate) names: Vec<String>,
    /// How keys are read, if messages are changes.
    pub(crate) keys: Option<Keys>,
    pub(crate) format: Format,
    /// How times in texts are taken.
    times: Times,
    pub(crate) told: Arc<Told>,
    most: AtomicUsize,
    plans: Mutex<HashMap<String, Arc<Plan>>>,
}

impl Decoder {
    /// A decoder for these settings. `default_route` is what counts if they name no route. Reads the files of schemas that they name; asks
    /// nobody anything. Errors: `config`.
    pub fn new(config: &MessagesConfig, default_route: Route) -> Result<Arc<Self>> {
        let told = Arc::new(Told::default());
        let registry = config.registry.as_ref().map(|registry| SchemaRegistry::new(registry, told.clone())).transpose()?;
        let registry = registry.map(Arc::new);
        let keys = config.changes.then(|| Keys::new(config, registry.as_ref()));
        let mut names = config.columns.names();
        names.push(keys.as_ref().map_or_else(String::new, |keys| keys.column.clone()));
        Ok(Arc::new(Self {
            route: config.route.clone().unwrap_or(default_route),
            format: config.format,
            reader: formats::reader(config, registry.as_ref())?,
            columns: config.columns.clone(),
            names,
            keys,
            times: Times { assume_utc: config.assume_utc, truncate: config.truncate_nanoseconds },
            told,
            most: AtomicUsize::new(MOST),
            plans: Mutex::default(),
        }))
    }

    /// Tells it where it works: how much memory there is (a message of more than a quarter is a dead letter), and where to tell things. To be
    /// called once, when reading begins; without it messages of up to 64 MiB are taken and nothing is told.
    pub fn attach(&self, cx: &Context) {
        let most = (cx.budget.total() / 4).clamp(1024, MOST_EVER);
        self.most.store(usize::try_from(most).unwrap_or(usize::MAX), Ordering::Relaxed);
        self.told.tell(cx.events.clone());
    }

    /// What turns these messages into rows.
    pub fn decode(self: &Arc<Self>, messages: Messages) -> Arc<dyn Decode> {
        Arc::new(Contents { decoder: self.clone(), messages, table: None, readdressed: false })
    }

    /// What names the tables of messages.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The size of a message, in bytes of key and content, above which it is not decoded.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// The plan for a table with these columns: the one of last time, if they are the same.
    pub(crate) fn plan(&self, table: &str, target: &Target, key: &[String]) -> Arc<Plan> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        match plans.get(table) {
            Some(plan) if plan.is_for(target, key) => plan.clone(),
            _ => {
                let plan = Arc::new(Plan::new(table, target, key, self.times));
                plans.insert(table.to_owned(), plan.clone());
                plan
            }
        }
    }
}
