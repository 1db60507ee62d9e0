//! The five-step commit's records: what staging yields, what the journal holds, what completing leaves.
//!
//! All of them are small and serialisable: a commit can be published by a process that has none of the memory of the one
//! that staged it.

use std::collections::BTreeMap;

use crate::error::{Error, Kind, Result, code};
use crate::position::Covers;
use crate::schema::TableSchema;
use crate::store::Writer;

/// The number of a commit: 1, 2, 3 ... within its pipeline, given by the store, never used twice.
pub type CommitNumber = i64;

/// The table of a destination's dataset that keeps dead letters.
pub const DEAD_LETTERS: &str = "_dead_letters";

/// Who writes: what a destination's mark names.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Application {
    /// The pipeline's name.
    pub pipeline: String,
    /// The id born with the pipeline's ledger. (For `load` it is one per store and dataset.)
    pub ledger: String,
    /// The id of the store that the ledger is in.
    pub store: String,
}

impl Application {
    /// The text that stands in a destination's mark.
    pub fn mark(&self) -> String {
        format!("longshore:{}:{}:{}", self.store, self.ledger, self.pipeline)
    }

    /// The store and pipeline of a mark, `None` if another program wrote it.
    pub fn parse_mark(mark: &str) -> Option<Self> {
        let mut parts = mark.strip_prefix("longshore:")?.splitn(3, ':');
        let (store, ledger, pipeline) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { pipeline: pipeline.into(), ledger: ledger.into(), store: store.into() })
    }
}

/// A try at staging. Registered in the store before its first byte is written, so that a sweep can name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub String);

/// What happens to the rows that a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteDisposition {
    /// They stay.
    #[default]
    Append,
    /// They are replaced, in the same commit.
    Truncate,
    /// There must be none.
    Empty,
}

/// What may happen to a table's columns when records do not match them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contract {
    /// Columns are added, types widened where no value changes.
    #[default]
    Evolve,
    /// Nothing: a record that does not fit is a dead letter.
    Freeze,
    /// Nothing: unknown columns are dropped, counted and reported.
    Ignore,
}

/// Rows that are kept but not visible, and all that publishing them needs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Committable {
    /// The table.
    pub table: String,
    /// What becomes of the rows before it.
    pub disposition: WriteDisposition,
    /// The destination's own record: paths, a stream and its offsets, a job.
    pub payload: serde_json::Value,
    /// Rows staged.
    pub rows: u64,
    /// Bytes staged.
    pub bytes: u64,
    /// BLAKE3 of what was staged, hex.
    pub digest: String,
}

/// What a run counted within one commit. Every record read is in `rows` or in `rejects`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Records that became rows, by table.
    pub rows: BTreeMap<String, u64>,
    /// Records and files that became dead letters.
    pub rejects: u64,
    /// Input bytes.
    pub bytes: u64,
}

/// What the file ledger says of one file in one table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Landing {
    /// The table, or [`Landing::WHOLE`] for everything that discovery finds in the file.
    pub table: String,
    /// The file's absolute path or URL.
    pub address: String,
    /// Bytes on disk.
    pub size: u64,
    /// When the file was last changed, as the source says it (nanoseconds since 1970 locally, a generation or etag).
    pub version: String,
    /// BLAKE3 of the raw bytes, hex.
    pub digest: String,
    /// Rows that it brought to this table.
    pub rows: u64,
    /// Its dead letters.
    pub rejects: u64,
    /// Whether the file as a whole is a dead letter.
    pub refused: bool,
    /// The commit it landed with; 0 until the journal has given one.
    pub n: CommitNumber,
    /// The run that landed it.
    pub run: String,
    /// Where each record's coordinates are found when a table of the file is looked for again: the record paths used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<serde_json::Value>,
}

impl Landing {
    /// The table name of an entry for all that discovery finds in a file.
    pub const WHOLE: &'static str = "*";
}

/// A dead letter's line in the store's index. The payload is in the destination.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeadLetterKey {
    /// Made from N and its place in N.
    pub id: String,
    /// The stable reason code.
    pub code: String,
    /// The table it was meant for.
    pub table: Option<String>,
    /// Path, line and column.
    pub place: crate::error::Place,
}

/// State of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterState {
    /// Waits.
    Open,
    /// Landed by a replay.
    Replayed,
    /// Given up by a person.
    Dropped,
}

/// What step 2 asks the store to write. Everything in it is checked and written in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Draft {
    /// The pipeline.
    pub pipeline: String,
    /// Random; makes a repeated call recognisable, so that a lost answer is settled by asking again.
    pub token: String,
    /// By what right it was staged.
    #[serde(alias = "epoch")]
    pub writer: Writer,
    /// The run.
    pub run: String,
    /// The attempts that staged it. Each must be alive.
    pub attempts: Vec<AttemptId>,
    /// The records it covers.
    pub covers: Vec<Covers>,
    /// Everything staged.
    pub committables: Vec<Committable>,
    /// The schema that each table's rows were staged in.
    pub schemas: BTreeMap<String, TableSchema>,
    /// What was counted.
    pub counts: Counts,
    /// The file ledger's new lines, written by `complete`.
    pub landings: Vec<Landing>,
    /// The dead letters it brings besides those that its attempts keep: the rows that its amendments took out.
    pub dead_letters: Vec<DeadLetterKey>,
    /// The dead letters that it replays.
    pub replayed: Vec<String>,
    /// Where the staged rows of each table came from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<String, Origins>,
    /// Tables of it that nothing is to be published to before somebody has looked, and why: an endless source parks their rows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, String>,
    /// What step 5 has to do at the source, as the source wrote it.
    pub acknowledge: Option<serde_json::Value>,
}

/// Which split the rows of a table came from: runs of rows in the order in which they were staged.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Origins(Vec<(u64, String)>);

impl Origins {
    /// Notes that so many rows of a split follow.
    pub fn note(&mut self, split: &str, rows: u64) {
        match self.0.last_mut() {
            Some((end, last)) if last == split => *end += rows,
            last => {
                let end = last.map_or(0, |(end, _)| *end) + rows;
                self.0.push((end, split.to_owned()));
            }
        }
    }

    /// The split of a row, counted from 0.
    pub fn split(&self, row: u64) -> Option<&str> {
        let at = self.0.partition_point(|(end, _)| *end <= row);
        self.0.get(at).map(|(_, split)| split.as_str())
    }

    /// The same without these rows, given in ascending order.
    pub fn without(&self, rows: &[u64]) -> Self {
        let left = |(end, split): &(u64, String)| (end - rows.partition_point(|row| row < end) as u64, split.clone());
        let mut runs: Vec<(u64, String)> = self.0.iter().map(left).collect();
        let mut before = 0;
        runs.retain(|(end, _)| std::mem::replace(&mut before, *end) < *end);
        Self(runs)
    }
}

/// A journalled commit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// Its number.
    pub n: CommitNumber,
    /// What was asked for.
    pub draft: Draft,
    /// How often it was amended.
    pub amendment: i64,
    /// How far it is.
    pub state: EntryState,
    /// When it was journalled.
    pub at: chrono::DateTime<chrono::Utc>,
}

/// How far a journalled commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// Step 2 is done.
    Journalled,
    /// Step 4 is done.
    Complete,
    /// Step 5 is done.
    Acknowledged,
}

impl Entry {
    /// The committables of one table, in the order they were staged.
    pub fn committables<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a Committable> + 'a {
        self.draft.committables.iter().filter(move |c| c.table == table)
    }

    /// The tables it touches, each once, dead letters last: rows are never visible before the letters that explain what
    /// is missing among them could follow.
    pub fn tables(&self) -> Vec<String> {
        let mut tables: Vec<String> = Vec::new();
        for committable in &self.draft.committables {
            if !tables.contains(&committable.table) {
                tables.push(committable.table.clone());
            }
        }
        tables.sort_by_key(|table| table == DEAD_LETTERS);
        tables
    }
}

/// What became of one table of a commit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Receipt {
    /// The pipeline.
    pub pipeline: String,
    /// The commit.
    pub n: CommitNumber,
    /// The table.
    pub table: String,
    /// The destination's name for what it did (a Delta version, a job id), `None` if parked.
    pub commit: Option<String>,
    /// Why the table was parked.
    pub parked: Option<String>,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Digests of the committables, in order.
    pub digests: Vec<String>,
    /// The run.
    pub run: String,
    /// The records it covers, for people.
    pub covers: Vec<Covers>,
    /// When.
    pub at: chrono::DateTime<chrono::Utc>,
}

/// One table's part of a complete commit that waits for its table: all that publishing it needs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Parked {
    /// The pipeline.
    pub pipeline: String,
    /// The commit.
    pub n: CommitNumber,
    /// The table.
    pub table: String,
    /// The commit's token.
    pub token: String,
    /// How often the commit was amended.
    pub amendment: i64,
    /// What was staged for the table.
    pub committables: Vec<Committable>,
    /// The columns that it was staged in.
    pub schema: TableSchema,
    /// The receipt that says so.
    pub receipt: Receipt,
}

impl Entry {
    /// The part of a table that is parked with this receipt.
    pub fn park(&self, receipt: Receipt) -> Parked {
        Parked {
            pipeline: self.draft.pipeline.clone(),
            n: self.n,
            table: receipt.table.clone(),
            token: self.draft.token.clone(),
            amendment: self.amendment,
            committables: self.committables(&receipt.table).cloned().collect(),
            schema: self.draft.schemas.get(&receipt.table).cloned().unwrap_or_default(),
            receipt,
        }
    }
}

/// What step 4 asks the store to write.
#[derive(Debug, Clone)]
pub struct Completion {
    /// The pipeline.
    pub pipeline: String,
    /// The commit.
    pub n: CommitNumber,
    /// The epoch of the lease.
    pub epoch: i64,
    /// One receipt a table.
    pub receipts: Vec<Receipt>,
}

/// What a repair takes over from a destination's own log into a store that lacks it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adoption {
    /// The identity that the tables know the pipeline by, if the store that it was born in is lost.
    pub application: Option<Application>,
    /// What each table holds.
    pub marks: BTreeMap<String, CommitNumber>,
    /// Lines of the file ledger, each with its commit.
    pub landings: Vec<Landing>,
    /// What the commits covered.
    pub covers: Vec<Covers>,
    /// Commits that the destination was about to show, as the lost journal held them: they are published by the next run.
    pub entries: Vec<Entry>,
}

/// The answer of `publish` for one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It is visible now; the destination's name for the commit.
    Done(String),
    /// It was visible before; the destination's name for the commit, where it can still be told.
    Already(Option<String>),
    /// The destination says a final no to something of what was staged: the commit has to be amended.
    Refused(Refused),
    /// It cannot be published for a while.
    Parked(String),
}

/// What a destination does not take of what was staged for a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The destination's own words.
    pub reason: String,
    /// The rows that are known to be the cause: their numbers within all committables of the table, in ascending order, and why. Empty if
    /// the destination does not say; `restage` finds them then.
    pub rows: Vec<(u64, String)>,
    /// Whether all other rows are visible already, so that they must not be sent again.
    pub others_shown: bool,
}

/// Checks the mark of a table against the journal: `held` is the number in the table, `published` the last one whose
/// receipt the journal has for this table, `pending` those that are journalled but not complete.
///
/// Errors: `store_behind_table` if the table is ahead, `table_behind_store` if it lost something.
pub fn check_mark(
    table: &str,
    held: Option<CommitNumber>,
    published: Option<CommitNumber>,
    pending: &[CommitNumber],
) -> Result<()> {
    if held == published || held.is_some_and(|n| pending.contains(&n)) {
        return Ok(());
    }
    let text = |n: Option<CommitNumber>| n.map_or("none".to_owned(), |n| n.to_string());
    let error = if held > published {
        Error::new(Kind::Store, code::STORE_BEHIND_TABLE, format!("table {table} holds commits that the store does not know"))
    } else {
        Error::new(Kind::Store, code::TABLE_BEHIND_STORE, format!("table {table} lacks commits that were published to it"))
    };
    Err(error
        .with("table_holds", text(held))
        .with("store_published", text(published))
        .hint("`longshore repair` compares store and tables and shows what it would do"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_other_programs_marks_are_not_ours() {
        let app = Application { pipeline: "load:a:b/c".into(), ledger: "l1".into(), store: "s1".into() };
        assert_eq!(Application::parse_mark(&app.mark()), Some(app));
        assert_eq!(Application::parse_mark("spark-stream-7"), None);
    }

    #[test]
    fn a_row_is_known_by_its_split_also_after_others_are_taken_out() {
        let mut origins = Origins::default();
        for (split, rows) in [("a", 2), ("a", 1), ("b", 1), ("c", 2)] {
            origins.note(split, rows);
        }
        let splits = |origins: &Origins| (0..7).map(|row| origins.split(row).unwrap_or("-").to_owned()).collect::<String>();
        assert_eq!(splits(&origins), "aaabcc-");
        assert_eq!(splits(&origins.without(&[0, 3, 5])), "aac----");
    }

    #[test]
    fn a_draft_of_the_time_before_workers_was_written_by_a_lease() {
        let old = r#"{"pipeline":"p","token":"t","epoch":7,"run":"r","attempts":["a"],"covers":[],"committables":[],"schemas":{},
            "counts":{"rows":{},"rejects":0,"bytes":0},"landings":[],"dead_letters":[],"replayed":[],"acknowledge":null}"#;
        let draft: Draft = serde_json::from_str(old).expect("read");
        assert_eq!(draft.writer, Writer::Lease(7));
        for writer in [Writer::Lease(7), Writer::Worker { worker: 7 }] {
            let text = serde_json::to_string(&Draft { writer, ..draft.clone() }).expect("written");
            assert_eq!(serde_json::from_str::<Draft>(&text).expect("read").writer, writer, "{text}");
        }
    }

    #[test]
    fn a_mark_must_be_the_last_published_or_a_pending_one() {
        assert!(check_mark("t", None, None, &[]).is_ok());
        assert!(check_mark("t", Some(4), Some(4), &[]).is_ok());
        assert!(check_mark("t", Some(5), Some(4), &[5, 6]).is_ok());
        assert_eq!(check_mark("t", Some(5), Some(4), &[]).expect_err("ahead").code(), "store_behind_table");
        assert_eq!(check_mark("t", Some(3), Some(4), &[5]).expect_err("behind").code(), "table_behind_store");
        assert_eq!(check_mark("t", None, Some(4), &[5]).expect_err("recreated").code(), "table_behind_store");
    }
}
