//! The tables in memory, what is staged for them, and what a commit makes of both.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use longshore_core::Result;
use longshore_core::batch::{Changes, Operation};
use longshore_core::commit::{AttemptId, CommitNumber, Committable, Contract, Published, Refused, WriteDisposition};
use longshore_core::destination::{PastCommit, Plan, Publication, SchemaChange};
use longshore_core::error::{Code, Error, Kind, Retry};
use longshore_core::schema::{Mode as ColumnMode, TableSchema};
use serde_json::Value;

/// What the twin says of rows that it does not take.
const REFUSAL: &str = "a test does not want this row";
const REFUSED: Code = Code { name: "memory_refused", explanation: "The destination in memory does not take this." };

/// All that is there.
#[derive(Default)]
pub(super) struct Data {
    pub(super) tables: BTreeMap<String, Table>,
    pub(super) staged: BTreeMap<String, Staged>,
    pub(super) payloads: BTreeMap<(AttemptId, String), Vec<u8>>,
    /// How many tables were made.
    pub(super) born: u64,
    pub(super) refuses: Option<fn(&Value) -> bool>,
    /// Tables that publishing waits for.
    pub(super) blocked: BTreeSet<String>,
    /// Tables that nothing can be staged for, and of what class that error is.
    pub(super) broken: BTreeMap<String, Retry>,
}

#[derive(Clone)]
pub(super) struct Table {
    /// Another one for a table that is made anew.
    pub(super) id: u64,
    pub(super) schema: TableSchema,
    /// The columns of its key, if it takes changes.
    pub(super) key: Vec<String>,
    /// The order of each key's last change.
    pub(super) orders: BTreeMap<String, String>,
    pub(super) rows: Vec<RecordBatch>,
    pub(super) marks: BTreeMap<String, CommitNumber>,
    pub(super) commits: u64,
    /// Mark and commit, in the order in which they were published.
    pub(super) history: Vec<(String, PastCommit)>,
}

/// Rows that wait for their commit.
pub(super) struct Staged {
    pub(super) attempt: AttemptId,
    pub(super) rows: Vec<RecordBatch>,
    pub(super) changes: Vec<Changes>,
    pub(super) published: bool,
}

impl Data {
    /// What a table would be like after a change.
    pub(super) fn plan(&self, change: &SchemaChange) -> Result<Plan> {
        let name = &change.table;
        let Some(table) = self.tables.get(name) else {
            if change.wanted.fields.is_empty() {
                return Ok(Plan::default());
            }
            let changes = vec![format!("create table {name} ({} columns)", change.wanted.fields.len())];
            return Ok(Plan { schema: change.wanted.clone(), existed: false, changes });
        };
        if change.disposition == WriteDisposition::Empty && table.rows.iter().any(|batch| batch.num_rows() > 0) {
            return Err(refused(format!("table {name} holds rows")).with_retry(Retry::AfterFix));
        }
        let mut plan = Plan { schema: table.schema.clone(), existed: true, changes: Vec::new() };
        if change.contract == Contract::Evolve {
            for field in change.wanted.fields.iter().filter(|field| table.schema.field(&field.name).is_none()) {
                let mut added = field.clone();
                if added.mode == ColumnMode::Required {
                    added.mode = ColumnMode::Nullable;
                }
                plan.changes.push(format!("add column {} {added}", added.name));
                plan.schema.fields.push(added);
            }
        }
        Ok(plan)
    }

    /// What publishing would come to, if it is settled already.
    pub(super) fn settled(&self, publication: &Publication<'_>) -> Result<Option<Published>> {
        let name = publication.table;
        let Some(table) = self.tables.get(name) else { return Ok(Some(Published::Parked(format!("table {name} is gone")))) };
        if table.marks.get(&publication.application.mark()).is_some_and(|mark| *mark >= publication.n) {
            return Ok(Some(Published::Already(None)));
        }
        for committable in publication.committables {
            let (id, born) = read_payload(committable)?;
            if born != table.id {
                return Ok(Some(Published::Parked(format!("table {name} was made anew since its rows were staged"))));
            }
            if !self.staged.contains_key(&id) {
                return Ok(Some(Published::Parked(format!("what was staged for table {name} is missing"))));
            }
        }
        Ok(None)
    }

    /// The numbers of the rows that a test wants refused.
    fn refused(&self, committables: &[Committable]) -> Result<Vec<u64>> {
        let Some(refuses) = self.refuses else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for committable in committables {
            let staged = self.staged.get(&read_payload(committable)?.0);
            all.extend(staged.into_iter().flat_map(|staged| staged.rows.iter().flat_map(batch_to_json)));
        }
        Ok((0..).zip(&all).filter(|(_, row)| refuses(row)).map(|(number, _)| number).collect())
    }

    /// Publishes, unless it is settled or a row is refused.
    pub(super) fn apply(&mut self, publication: &Publication<'_>) -> Result<Published> {
        if let Some(settled) = self.settled(publication)? {
            return Ok(settled);
        }
        let out = self.refused(publication.committables)?;
        if !out.is_empty() {
            let rows = out.into_iter().map(|row| (row, REFUSAL.to_owned())).collect();
            return Ok(Published::Refused(Refused { reason: REFUSAL.into(), rows, others_shown: false }));
        }
        let Some(table) = self.tables.get_mut(publication.table) else { return Err(refused("the table is gone".into())) };
        if publication.committables.iter().any(|c| c.disposition == WriteDisposition::Truncate) {
            table.rows.clear();
        }
        for committable in publication.committables {
            let (id, _) = read_payload(committable)?;
            if let Some(staged) = self.staged.get_mut(&id) {
                staged.published = true;
                table.rows.extend(staged.rows.iter().cloned());
                staged.changes.iter().for_each(|changes| table.change(changes));
            }
        }
        table.marks.insert(publication.application.mark(), publication.n);
        table.commits += 1;
        let past = PastCommit { n: publication.n, note: publication.note.clone(), done: true };
        table.history.push((publication.application.mark(), past));
        Ok(Published::Done(table.commits.to_string()))
    }
}

impl Table {
    /// Applies changes in their own order, unless the table has a newer one of the key.
    fn change(&mut self, changes: &Changes) {
        let key_of = |table: &Table, row: &RecordBatch| {
            let row = batch_to_json(row).pop().unwrap_or_default();
            table.key.iter().map(|column| row[column].to_string()).collect::<Vec<_>>().join("/")
        };
        for (place, (operation, order)) in changes.operations.iter().zip(&changes.order).enumerate() {
            let row = changes.rows.slice(place, 1);
            let key = key_of(self, &row);
            if self.orders.get(&key).is_some_and(|known| known > order) {
                continue;
            }
            self.orders.insert(key.clone(), order.clone());
            let all = std::mem::take(&mut self.rows);
            let rows = all.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| batch.slice(row, 1)));
            self.rows = rows.filter(|row| key_of(self, row) != key).collect();
            if *operation == Operation::Upsert {
                self.rows.push(row);
            }
        }
    }
}

/// Where the rows of a committable are staged, and the id of the table that they are for.
pub(super) fn read_payload(committable: &Committable) -> Result<(String, u64)> {
    let id = committable.payload.get("staged").and_then(Value::as_str);
    let born = committable.payload.get("table").and_then(Value::as_u64);
    id.map(str::to_owned).zip(born).ok_or_else(|| refused("a committable cannot be read".into()))
}

pub(super) fn refused(message: String) -> Error {
    Error::new(Kind::Destination, REFUSED, message)
}

/// Its rows as objects, nulls left out.
pub(super) fn batch_to_json(batch: &RecordBatch) -> Vec<Value> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(batch).and_then(|()| writer.finish()).expect("rows of a table turn into JSON");
    let text = writer.into_inner();
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("the writer writes JSON"))
        .collect()
}
