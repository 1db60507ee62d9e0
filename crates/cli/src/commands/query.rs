//! `longshore query`: SQL on the warehouse.

use std::io::{BufWriter, Stdout, Write as _};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use longshore_bigquery::query::Reader;
use longshore_core::error::Result;
use longshore_core::show::{CsvWriter, JsonWriter, TableWriter};
use longshore_delta::query::Warehouse;

use crate::args::{QueryArgs, QueryFormat};
use crate::console::{Console, terminal_width, written};
use crate::destination::Dataset;
use crate::{exit, units};

/// The rows that a terminal is given.
const TERMINAL_ROWS: usize = 100;

/// Runs one query and writes its rows to stdout.
pub async fn run(console: &Console, args: &QueryArgs) -> Result<u8> {
    let (schema, mut stream) = ask(args).await?;
    let mut rows = Rows::new(console, args.format, schema)?;
    while let Some(batch) = stream.next().await {
        match batch {
            Ok(batch) => {
                if !rows.write(&batch)? {
                    break;
                }
            }
            // What came before the error stands on stdout; the exit code tells that it is not all.
            Err(error) => {
                rows.finish(console)?;
                return Err(error);
            }
        }
    }
    rows.finish(console)?;
    Ok(exit::DONE)
}

/// The answer of the warehouse, or of the dataset that was named.
async fn ask(args: &QueryArgs) -> Result<(SchemaRef, BoxStream<'static, Result<RecordBatch>>)> {
    match args.warehouse.on.as_deref().map(Dataset::parse).transpose()? {
        Some(Dataset::BigQuery(config)) => {
            let answer = Reader::open(&config)?.query(&args.sql).await?;
            Ok((answer.schema, answer.stream))
        }
        Some(Dataset::Folder { folder, .. }) => answer_of(&Warehouse::open(&folder)?, &args.sql).await,
        None => answer_of(&Warehouse::open(&args.warehouse.folder)?, &args.sql).await,
    }
}

async fn answer_of(warehouse: &Warehouse, sql: &str) -> Result<(SchemaRef, BoxStream<'static, Result<RecordBatch>>)> {
    let result = warehouse.query(sql).await?;
    Ok((result.schema, result.stream))
}

enum Rows {
    Table(TableWriter),
    Csv(CsvWriter<BufWriter<Stdout>>),
    Json(JsonWriter<BufWriter<Stdout>>),
}

impl Rows {
    fn new(console: &Console, format: Option<QueryFormat>, schema: SchemaRef) -> Result<Self> {
        let terminal = console.stdout_is_terminal();
        let format = match format {
            _ if console.json => QueryFormat::Json,
            Some(format) => format,
            None if terminal => QueryFormat::Table,
            None => QueryFormat::Csv,
        };
        let stdout = || BufWriter::with_capacity(1 << 16, std::io::stdout());
        Ok(match format {
            QueryFormat::Table if terminal => Rows::Table(TableWriter::new(schema, TERMINAL_ROWS, terminal_width())),
            QueryFormat::Table => Rows::Table(TableWriter::new(schema, usize::MAX, None)),
            QueryFormat::Csv => Rows::Csv(written(CsvWriter::new(stdout(), schema))?),
            QueryFormat::Json => Rows::Json(JsonWriter::new(stdout(), schema)),
        })
    }

    /// False once no more is shown.
    fn write(&mut self, batch: &RecordBatch) -> Result<bool> {
        match self {
            Rows::Table(table) => Ok(table.push(batch)),
            Rows::Csv(csv) => written(csv.write(batch)).map(|()| true),
            Rows::Json(json) => written(json.write(batch)).map(|()| true),
        }
    }

    fn finish(self, console: &Console) -> Result<()> {
        match self {
            Rows::Table(table) => {
                let mut stdout = BufWriter::new(std::io::stdout());
                let shown = written(table.finish(&mut stdout))?;
                written(stdout.flush())?;
                if shown.more_rows > 0 {
                    console.note(format!("the first {} rows; `--format csv` writes all", units::show_count(shown.rows)));
                }
                if shown.hidden_columns > 0 {
                    let hidden = units::count(shown.hidden_columns as u64, "column does", "columns do");
                    console.note(format!("{hidden} not fit the terminal; select fewer, or `--format csv`"));
                }
                Ok(())
            }
            Rows::Csv(csv) => written(csv.finish()).map(drop),
            Rows::Json(json) => written(json.finish()).map(drop),
        }
    }
}
