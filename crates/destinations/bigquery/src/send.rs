//! Sends rows that show at once from the files of ours where they wait.

use arrow::array::{AsArray, RecordBatch};
use futures::StreamExt;
use longshore_core::Result;
use longshore_core::batch::{OPERATION, ORDER, Operation};
use longshore_core::commit::Refused;
use longshore_core::error::{Error, Retry};
use longshore_core::schema::TableSchema;

use crate::error::{bug, is_missing};
use crate::fit;
use crate::insert_all::Inserter;
use crate::message::Piece;
use crate::publish::Publish;
use crate::rows::{Cut, Encoder, encoding};
use crate::spool::Format;
use crate::write::Appender;
use crate::{proto, stage::How};

/// The table's columns of such rows, and what happened when.
fn as_changes(rows: &RecordBatch) -> Result<(RecordBatch, Vec<(Operation, String)>)> {
    let texts = |name: &str| rows.column_by_name(name).and_then(|column| column.as_string_opt::<i32>().cloned());
    let (Some(operations), Some(orders)) = (texts(OPERATION), texts(ORDER)) else { return Err(bug("rows that are no changes")) };
    let operation = |text: &str| if text == "delete" { Operation::Delete } else { Operation::Upsert };
    let changes = (0..rows.num_rows()).map(|row| (operation(operations.value(row)), orders.value(row).to_owned()));
    let columns: Vec<usize> = (0..rows.num_columns() - 2).collect();
    Ok((rows.project(&columns).map_err(encoding)?, changes.collect()))
}

/// Where rows of one kind go.
enum Route<'a> {
    Rows(Box<Encoder>, Box<Appender>),
    Changes(proto::Encoder, Box<Appender>),
    Insert(Inserter<'a>),
}

impl Publish<'_> {
    /// Sends the rows of these files, in order; tells which of them BigQuery does not take, all others being shown then. Repeating it
    /// sends them again: changes come to the same, other rows may be there twice.
    pub(crate) async fn send(&self, files: &[String], how: How, first: u64) -> Result<Option<Refused>> {
        let mut route: Option<Route<'_>> = None;
        let (mut number, mut refused) = (first, Vec::new());
        let now = self.remote.schema(self.table)?;
        for file in files {
            let mut batches = self.shared.spool.read(file, Format::Arrow).await?;
            while let Some(batch) = batches.next().await {
                let batch = fit::fit(batch?, &now)?;
                let route = match &mut route {
                    Some(route) => route,
                    None => route.insert(self.route(&batch, how)?),
                };
                route.send(&batch, number, &mut refused).await?;
                number += batch.num_rows() as u64;
            }
        }
        match route {
            None => return Ok(None),
            Some(Route::Insert(inserter)) => refused.extend(inserter.refused),
            Some(Route::Rows(_, appender) | Route::Changes(_, appender)) => {
                let appended = appender.finish().await.map_err(late)?;
                refused.extend(appended.refused.into_iter().map(|refused| (refused.row, refused.reason)));
            }
        }
        refused.sort();
        let reason = refused.first().map(|(_, reason)| reason.clone());
        Ok(reason.map(|reason| Refused { reason, rows: refused, others_shown: true }))
    }

    fn route(&self, batch: &RecordBatch, how: How) -> Result<Route<'_>> {
        let schema = TableSchema::from_arrow(&batch.schema())?;
        let (tables, table) = (&self.shared.tables, self.table);
        let stream = format!("{}/streams/_default", tables.resource_name(table));
        Ok(match how {
            How::Insert => Route::Insert(Inserter { tables, table, id: self.token.to_owned(), refused: Vec::new() }),
            How::Append => {
                let encoder = Encoder::new(&schema)?;
                let appender = self.shared.write.appender(&stream, encoder.header.clone(), None);
                Route::Rows(Box::new(encoder), Box::new(appender))
            }
            How::Change => {
                let columns = schema.fields.len() - 2;
                let encoder = proto::Encoder::new(&TableSchema::new(schema.fields.into_iter().take(columns).collect()))?;
                let appender = self.shared.write.appender(&stream, encoder.header.clone(), None);
                Route::Changes(encoder, Box::new(appender))
            }
        })
    }
}

impl Route<'_> {
    /// Sends a batch whose first row has this number.
    async fn send(&mut self, batch: &RecordBatch, number: u64, refused: &mut Vec<(u64, String)>) -> Result<()> {
        let (cut, appender) = match self {
            Route::Insert(inserter) => return inserter.send(batch, number).await.map_err(late),
            Route::Rows(encoder, appender) => (encoder.cut(batch)?, appender),
            Route::Changes(encoder, appender) => {
                let (rows, changes) = as_changes(batch)?;
                (encoder.cut(&rows, &changes)?, appender)
            }
        };
        let Cut { pieces, refused: unfit } = cut;
        refused.extend(unfit.into_iter().map(|refused| (number + refused.row, refused.reason)));
        for Piece { message, rows, first } in pieces {
            appender.append(Piece { message, rows, first }, number + first).await.map_err(late)?;
        }
        Ok(())
    }
}

/// Where rows are written a new table is known a little later than where tables are made.
fn late(error: Error) -> Error {
    if is_missing(&error) { error.with_retry(Retry::Backoff) } else { error }
}
