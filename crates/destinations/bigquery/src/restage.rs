//! What BigQuery refused for good is staged anew without the rows that it does not take.

use std::collections::BTreeMap;

use futures::stream;
use futures::{StreamExt, TryStreamExt};
use longshore_core::Result;
use longshore_core::batch::{OPERATION, ORDER, Rows};
use longshore_core::commit::{AttemptId, Committable, Refused};
use longshore_core::destination::{Batches, Refusal, Staged as Staging};
use longshore_core::error::Retry;
use longshore_core::schema::TableSchema;

use crate::config::Method;
use crate::error::{bug, codes, destination};
use crate::fit;
use crate::rows::object;
use crate::spool::{Format, Spool};
use crate::stage::{Kept, Shared, Stage, Staged};
use crate::tables::{Remote, split_name};

/// Rows of one partition that may become dead letters together, which are held in memory.
const MOST_TOGETHER: usize = 100_000;

/// Stages the rows of these committables anew.
///
/// - A load job says which file it cannot read, not which rows. So its files are read back and their rows appended to a pending stream,
///   which says of each row why it does not take it, and takes the others.
/// - Streams have no partitions to replace: rows for one partition are refused together, with the words of the job.
/// - Rows that show as soon as they are sent have been sent: the refused ones are looked up, and nothing is left to do.
pub(crate) async fn restage(
    shared: &Shared,
    attempt: &AttemptId,
    table: &str,
    remote: &Remote,
    schema: &TableSchema,
    committables: &[Committable],
    refused: &Refused,
) -> Result<Staging> {
    // Somebody may have widened a column meanwhile: that may be why the rows were refused.
    let columns = fit::widened(schema, &remote.schema(table)?);
    let disposition = committables.first().map(|committable| committable.disposition).unwrap_or_default();
    let (mut files, mut leftovers) = (Vec::new(), Vec::new());
    for committable in committables {
        let staged = Staged::read(committable)?;
        leftovers.extend(staged.leftovers);
        match staged.kept {
            Kept::Files { uris, format } if format == "PARQUET" => {
                files.extend(uris.into_iter().map(|uri| (uri, Format::Parquet)))
            }
            Kept::Files { uris, format } if format == "AVRO" => {
                files.extend(uris.into_iter().map(|uri| (uri, Format::Avro(schema.clone()))));
            }
            Kept::Files { uris, .. } => files.extend(uris.into_iter().map(|uri| (uri, Format::Json(schema.clone())))),
            Kept::Spooled { files: spooled, .. } => files.extend(spooled.into_iter().map(|file| (file, Format::Arrow))),
            Kept::Nothing => {}
            kept => return Err(bug(format!("rows were refused that had been taken: {kept:?}"))),
        }
    }
    leftovers.extend(files.iter().map(|(file, _)| file.clone()));
    let method = Method::StorageWritePending;
    let stage = Stage { shared, method, table, remote, schema: &columns, attempt, disposition, leftovers };
    if refused.others_shown {
        let refused = look_up(shared, files, &refused.rows).await?;
        shared.bear(table, &refused)?;
        let rows: u64 = committables.iter().map(|committable| committable.rows).sum();
        return Ok(Staging { committable: stage.shown(rows - refused.len() as u64)?, refused });
    }
    if split_name(table).1.is_some() {
        let refused = all(shared, files, &refused.reason).await?;
        shared.bear(table, &refused)?;
        return Ok(Staging { committable: stage.shown(0)?, refused });
    }
    let wanted = columns.clone();
    let rows = read(shared.spool.clone(), files).map(move |batch| match batch? {
        Rows::Plain(batch) => Ok(Rows::Plain(fit::fit(batch, &wanted)?)),
        changes @ Rows::Changes(_) => Ok(changes),
    });
    stage.run(rows.boxed()).await
}

/// The rows of files, one file after the other.
fn read(spool: Spool, files: Vec<(String, Format)>) -> Batches {
    let batches = stream::iter(files).then(move |(file, format)| {
        let spool = spool.clone();
        async move { spool.read(&file, format).await }
    });
    batches.try_flatten().map_ok(Rows::Plain).boxed()
}

/// Every row, refused.
async fn all(shared: &Shared, files: Vec<(String, Format)>, reason: &str) -> Result<Vec<Refusal>> {
    let mut batches = read(shared.spool.clone(), files);
    let mut found = Vec::new();
    while let Some(batch) = batches.next().await {
        let Rows::Plain(batch) = batch? else { return Err(bug("changes in a file of ours")) };
        for index in 0..batch.num_rows() {
            found.push(Refusal { row: found.len() as u64, values: object(&batch, index), reason: reason.to_owned() });
        }
        if found.len() > MOST_TOGETHER {
            return Err(destination(codes::ROWS_REFUSED, reason).with_retry(Retry::AfterFix).with("rows", found.len()));
        }
    }
    Ok(found)
}

/// What is in rows of these numbers.
async fn look_up(shared: &Shared, files: Vec<(String, Format)>, rows: &[(u64, String)]) -> Result<Vec<Refusal>> {
    let reasons: BTreeMap<u64, &String> = rows.iter().map(|(row, reason)| (*row, reason)).collect();
    let mut batches = read(shared.spool.clone(), files);
    let (mut found, mut first) = (Vec::with_capacity(rows.len()), 0);
    while let Some(batch) = batches.next().await {
        let Rows::Plain(batch) = batch? else { return Err(bug("changes in a file of ours")) };
        let end = first + batch.num_rows() as u64;
        for (row, reason) in reasons.range(first..end) {
            let index = usize::try_from(row - first).map_err(|e| bug("a row beyond memory").caused_by(e))?;
            let mut values = object(&batch, index);
            if let Some(object) = values.as_object_mut() {
                object.remove(OPERATION);
                object.remove(ORDER);
            }
            found.push(Refusal { row: *row, values, reason: (*reason).clone() });
        }
        first = end;
    }
    Ok(found)
}
