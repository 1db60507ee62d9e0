//! What there is to read of a ledger, and what reading it covers.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use longshore_core::Result;
use longshore_core::batch::Item;
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::position::{Covers, Delta, Partition, Position};
use longshore_core::schema::TableSchema;
use longshore_core::schema_arrow::field_to_arrow;
use longshore_core::source::{Context, Description, Source, Split, Splits, Target};
use longshore_core::store::{FileLedger, Store};

use crate::read::Reader;
use crate::rows::Columns;
use crate::tables::schemas;

/// Reads a store's ledger: all of it, each time.
pub struct LedgerSource {
    store: Arc<dyn Store>,
}

/// The ledger up to a run: what a split says.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Edition {
    /// The store.
    store: String,
    /// The last run that belongs to it.
    until: String,
    /// The number of the edition that this pipeline journalled last. They are its positions: 1, 2, 3 ...
    #[serde(default)]
    before: Option<Position>,
}

impl LedgerSource {
    /// A source of this store's ledger.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The runs up to `until`, oldest first.
    async fn runs(&self, until: &str) -> Result<Vec<String>> {
        // Newest first, as they began; ids of several processes need not be in that order to the last digit.
        let all = self.store.runs(None, usize::MAX).await?;
        let mut ids: Vec<String> = all.into_iter().map(|run| run.id).skip_while(|id| id != until).collect();
        ids.reverse();
        Ok(ids)
    }
}

#[async_trait]
impl Source for LedgerSource {
    async fn splits(&self, cx: &Context, _ledger: &dyn FileLedger) -> Result<Splits> {
        let newest = self.store.runs(None, 1).await?.into_iter().next();
        let until = newest.map_or_else(|| cx.run.clone(), |run| run.id);
        let edition = Edition { store: self.store.id().to_owned(), until, before: None };
        Ok(Splits { splits: vec![edition.split()?], skipped: Vec::new() })
    }

    async fn describe(&self, cx: &Context, splits: Vec<Split>, _ledger: &dyn FileLedger) -> Result<Description> {
        let mut found = Description { tables: schemas(), ..Description::default() };
        for split in splits {
            let mut edition = Edition::of(&split)?;
            edition.before = self.store.position(&cx.pipeline, &edition.partition()).await?;
            found.splits.push(edition.split()?);
        }
        Ok(found)
    }

    async fn read(
        &self,
        cx: &Context,
        split: &Split,
        targets: &BTreeMap<String, Target>,
    ) -> Result<BoxStream<'static, Result<Item>>> {
        let edition = Edition::of(split)?;
        let columns = columns(targets)?;
        let runs = self.runs(&edition.until).await?;
        Ok(Reader::new(self.store.clone(), cx.clone(), columns, runs, edition.covers()?).items())
    }

    async fn acknowledge(&self, _cx: &Context, _what: &serde_json::Value) -> Result<()> {
        Ok(())
    }

    fn covers(&self, split: &Split) -> Covers {
        Edition::of(split).and_then(|edition| edition.covers()).unwrap_or(Covers::Deltas(Vec::new()))
    }
}

impl Edition {
    fn of(split: &Split) -> Result<Self> {
        serde_json::from_value(split.payload.clone())
            .map_err(|e| Error::new(Kind::Bug, code::BUG, format!("the split {} cannot be read", split.name)).caused_by(e))
    }

    fn split(&self) -> Result<Split> {
        let payload = serde_json::to_value(self)
            .map_err(|e| Error::new(Kind::Bug, code::BUG, "a split of the ledger cannot be written").caused_by(e))?;
        // How large it is, is not known before it is read.
        Ok(Split { name: format!("the ledger up to run {}", self.until), bytes: 0, payload })
    }

    fn partition(&self) -> Partition {
        Partition(format!("ledger:{}", self.store))
    }

    /// The next edition. Of two processes that make it at once the journal refuses one: both start from the same position.
    fn covers(&self) -> Result<Covers> {
        let wrong = |e| Error::new(Kind::Store, code::BUG, "the number of the last edition is no number").caused_by(e);
        let before: u64 = self.before.as_ref().map_or(Ok(0), |position| position.0.parse()).map_err(wrong)?;
        let to = Position::from_count(before + 1);
        Ok(Covers::Deltas(vec![Delta { partition: self.partition(), from: self.before.clone(), to }]))
    }
}

/// The columns that rows are encoded into: the tables' own, once it is sure that they hold what the ledger has.
fn columns(targets: &BTreeMap<String, Target>) -> Result<Columns> {
    let mut columns = BTreeMap::new();
    for (table, wanted) in schemas() {
        let missing = || Error::new(Kind::Bug, code::BUG, format!("the table {table} was not prepared"));
        let target = targets.get(&table).ok_or_else(missing)?;
        check(&table, &wanted, &target.schema)?;
        columns.insert(table, target.schema.to_arrow());
    }
    Ok(Arc::new(columns))
}

/// Fails if a table that was there before has a column of another type.
fn check(table: &str, wanted: &TableSchema, found: &TableSchema) -> Result<()> {
    for field in &wanted.fields {
        let fits = found
            .fields
            .iter()
            .any(|other| other.name == field.name && field_to_arrow(other).data_type() == field_to_arrow(field).data_type());
        if !fits {
            let what = format!("the table {table} cannot hold the ledger: its column {} is not {field}", field.name);
            return Err(Error::new(Kind::Destination, code::TYPE_MISMATCH, what)
                .with_retry(Retry::AfterFix)
                .hint("another program made this table; export to another dataset"));
        }
    }
    Ok(())
}
