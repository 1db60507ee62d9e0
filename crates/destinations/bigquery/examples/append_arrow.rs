//! The benchmark of staging rows for BigQuery: sends invented orders to a server and says as JSON what that took.
//! Run by `cargo x bench`.
//!
//! `append_arrow --server URL --method METHOD [--megabytes N] [--batch-rows N]` stages rows at a server (`null_bigquery`);
//! `append_arrow --encode-only ...` turns the same rows into Arrow messages and digests them, which is what staging must do at
//! least, and sends them nowhere; `append_arrow --write FILE ...` writes the pool of rows for other clients, as an Arrow stream.

use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    Array as _, ArrayRef, BooleanArray, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::ipc::writer::StreamWriter;
use futures::StreamExt as _;
use longshore_bigquery::BigQueryDestination;
use longshore_bigquery::config::{BigQueryConfig, Method};
use longshore_core::batch::Rows;
use longshore_core::commit::{AttemptId, Contract, WriteDisposition};
use longshore_core::destination::{Destination as _, Mode, SchemaChange};
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::table_options::TableOptions;
use serde_json::json;

// What Longshore itself runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of rows that differ. They are sent over and over: more than a processor's caches hold, and little beside the limit of memory.
const POOL_BYTES: u64 = 32_000_000;
const TABLE: &str = "orders";

#[tokio::main]
async fn main() -> Result<(), Error> {
    let options = Options::read(std::env::args().skip(1))?;
    let work = Work::new(&options)?;
    if let Some(path) = &options.write {
        return write(&work.pool, path);
    }
    let (start, sent_bytes) = if options.encode_only {
        (Usage::now()?, encode(&work)?)
    } else {
        let destination = BigQueryDestination::open_dataset(&options.config()?, &std::env::temp_dir())?;
        prepare(&destination).await?;
        (Usage::now()?, stage(&destination, &work).await?)
    };
    let took = Usage::now()?.since(&start);
    println!(
        "{}",
        json!({
            "batches": work.batches, "rows": work.rows, "arrow_bytes": work.bytes, "sent_bytes": sent_bytes, "wall_seconds": took.wall.as_secs_f64(),
            "cpu_seconds": took.cpu_seconds, "peak_mib": peak_mib()?,
        })
    );
    Ok(())
}

struct Options {
    server: String,
    method: String,
    megabytes: u64,
    batch_rows: usize,
    encode_only: bool,
    write: Option<String>,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Error> {
        let mut options = Self {
            server: String::new(),
            method: "storage_write_pending".to_owned(),
            megabytes: 1000,
            // About what one chunk of a file makes.
            batch_rows: 8192,
            encode_only: false,
            write: None,
        };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--server" => options.server = value()?,
                "--method" => options.method = value()?,
                "--megabytes" => options.megabytes = value()?.parse()?,
                "--batch-rows" => options.batch_rows = value()?.parse()?,
                "--encode-only" => options.encode_only = true,
                "--write" => options.write = Some(value()?),
                _ => return Err(format!("{name} is not known").into()),
            }
        }
        Ok(options)
    }

    fn config(&self) -> Result<BigQueryConfig, Error> {
        let method: Method = serde_json::from_value(json!(self.method))?;
        let server = Some(self.server.clone());
        Ok(BigQueryConfig {
            project: "bench".to_owned(),
            dataset: "bench".to_owned(),
            method,
            anonymous: true,
            endpoint: server.clone(),
            write_endpoint: server.clone(),
            storage_endpoint: server,
            staging: (method == Method::LoadJob).then(|| "gs://bench/staging".to_owned()),
            ..BigQueryConfig::default()
        })
    }
}

/// What is to be sent: so many batches, those of the pool in turn.
struct Work {
    pool: Vec<RecordBatch>,
    batches: usize,
    rows: u64,
    /// What the values take in memory, without room that stands free.
    bytes: u64,
}

impl Work {
    fn new(options: &Options) -> Result<Self, Error> {
        let mut random = Random(7);
        let (mut pool, mut pool_bytes) = (Vec::new(), 0);
        while pool_bytes < POOL_BYTES {
            let first = pool.len() * options.batch_rows;
            let batch = orders(&mut random, first, options.batch_rows)?;
            pool_bytes += size(&batch)?;
            pool.push(batch);
        }
        let (mut batches, mut rows, mut bytes) = (0, 0, 0);
        while bytes < options.megabytes * 1_000_000 {
            let batch = &pool[batches % pool.len()];
            (batches, rows, bytes) = (batches + 1, rows + batch.num_rows() as u64, bytes + size(batch)?);
        }
        Ok(Self { pool, batches, rows, bytes })
    }

    fn each(&self) -> impl Iterator<Item = RecordBatch> + Send + use<> {
        let pool = self.pool.clone();
        (0..self.batches).map(move |i| pool[i % pool.len()].clone())
    }
}

fn size(batch: &RecordBatch) -> Result<u64, Error> {
    let sizes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size());
    Ok(sizes.sum::<Result<usize, _>>()? as u64)
}

/// The columns of the orders that the other benchmarks load.
fn columns() -> TableSchema {
    let column = |(name, type_)| Field::new(name, type_);
    let columns = [
        ("id", Type::Int64),
        ("customer", Type::String),
        ("at", Type::DateTime),
        ("via", Type::Int64),
        ("freight", Type::Numeric),
        ("name", Type::String),
        ("address", Type::String),
        ("city", Type::String),
        ("zip", Type::String),
        ("paid", Type::Bool),
    ];
    TableSchema::new(columns.map(column).into())
}

/// So many invented orders.
fn orders(random: &mut Random, first: usize, count: usize) -> Result<RecordBatch, Error> {
    const SECONDS_OF_1995_TO_2025: u64 = 978_307_200;
    const FIRST_SECOND_OF_1995: i64 = 788_918_400;
    let ids: Int64Array = (first..first + count).map(|id| i64::try_from(id).ok()).collect();
    let customers: StringArray = (0..count).map(|_| Some(format!("C{:05}", random.below(100_000)))).collect();
    let seconds = (0..count).map(|_| Some(FIRST_SECOND_OF_1995 + random.below(SECONDS_OF_1995_TO_2025).cast_signed()));
    let at: TimestampMicrosecondArray = seconds.map(|second| second.map(|second| second * 1_000_000)).collect();
    let via: Int64Array = (0..count).map(|_| Some(1 + random.below(3).cast_signed())).collect();
    // Cents, as NUMERIC with nine digits behind the point.
    let freight: Decimal128Array = (0..count).map(|_| Some(i128::from(random.below(10_000_000)) * 10_000_000)).collect();
    let mut words = |words: usize| (0..count).map(|_| Some(random.words(words))).collect::<StringArray>();
    let (names, addresses) = (words(3), words(4));
    let cities: StringArray = (0..count).map(|_| (random.below(20) > 0).then(|| random.words(1))).collect();
    let zips: StringArray = (0..count).map(|_| Some((10_000 + random.below(90_000)).to_string())).collect();
    let paid: BooleanArray = (0..count).map(|_| Some(random.below(2) == 1)).collect();
    let columns_: Vec<ArrayRef> = vec![
        Arc::new(ids),
        Arc::new(customers),
        Arc::new(at),
        Arc::new(via),
        Arc::new(freight.with_precision_and_scale(38, 9)?),
        Arc::new(names),
        Arc::new(addresses),
        Arc::new(cities),
        Arc::new(zips),
        Arc::new(paid),
    ];
    Ok(RecordBatch::try_new(columns().to_arrow(), columns_)?)
}

/// The same numbers in every run. Source: <https://prng.di.unimi.it/splitmix64.c>
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn words(&mut self, count: usize) -> String {
        const WORDS: [&str; 12] =
            ["harbour", "crane", "pier", "cargo", "tide", "anchor", "rope", "sail", "lantern", "barge", "gull", "mast"];
        const ENDINGS: [&str; 4] = ["", "s", "ing", "ed"];
        let mut text = String::new();
        for i in 0..count {
            text += if i > 0 { " " } else { "" };
            text += WORDS[self.below(12) as usize];
            text += ENDINGS[self.below(4) as usize];
        }
        text
    }
}

async fn prepare(destination: &BigQueryDestination) -> Result<(), Error> {
    let change = SchemaChange {
        table: TABLE.to_owned(),
        wanted: columns(),
        contract: Contract::Evolve,
        disposition: WriteDisposition::Append,
        options: TableOptions::default(),
    };
    let plan = destination.prepare(&change, Mode::Apply).await?;
    if plan.schema == columns() { Ok(()) } else { Err("the server has a table of other columns".into()) }
}

/// Stages all rows; returns the bytes that were sent.
async fn stage(destination: &BigQueryDestination, work: &Work) -> Result<u64, Error> {
    let batches = futures::stream::iter(work.each().map(|batch| Ok(Rows::Plain(batch)))).boxed();
    let attempt = AttemptId(format!("bench-{}", std::process::id()));
    let staged = destination.stage(&attempt, TABLE, &columns(), WriteDisposition::Append, batches).await?;
    if staged.committable.rows == work.rows && staged.refused.is_empty() {
        return Ok(staged.committable.bytes);
    }
    Err(format!("{} rows of {} were staged", staged.committable.rows, work.rows).into())
}

/// Makes and digests the messages of all rows; returns their bytes.
fn encode(work: &Work) -> Result<u64, Error> {
    let mut writer = StreamWriter::try_new(Vec::new(), &columns().to_arrow())?;
    writer.get_mut().clear();
    let (mut bytes, mut digest) = (0, blake3::Hasher::new());
    for batch in work.each() {
        writer.write(&batch)?;
        let message = std::mem::take(writer.get_mut());
        bytes += message.len() as u64;
        digest.update(&message);
    }
    // So that the digest is not left out for being of no use.
    std::hint::black_box(digest.finalize());
    Ok(bytes)
}

fn write(pool: &[RecordBatch], path: &str) -> Result<(), Error> {
    let mut writer = StreamWriter::try_new(BufWriter::new(File::create(path)?), &columns().to_arrow())?;
    for batch in pool {
        writer.write(batch)?;
    }
    Ok(writer.finish()?)
}

/// What this process has used.
struct Usage {
    at: Instant,
    cpu_seconds: f64,
}

/// What it used in between.
struct Took {
    wall: Duration,
    cpu_seconds: f64,
}

impl Usage {
    fn now() -> Result<Self, Error> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        // The name of the program, in brackets, may hold spaces. Behind it the 12th and 13th are user and system time.
        let (_, rest) = stat.rsplit_once(") ").ok_or("/proc/self/stat has another form")?;
        let ticks: Vec<u64> = rest.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        // Linux counts in hundredths of a second there, whatever its own clock does.
        Ok(Self { at: Instant::now(), cpu_seconds: ticks.iter().sum::<u64>() as f64 / 100.0 })
    }

    fn since(&self, start: &Self) -> Took {
        Took { wall: self.at - start.at, cpu_seconds: self.cpu_seconds - start.cpu_seconds }
    }
}

/// The most memory that was resident at once, the pool included; in MiB.
fn peak_mib() -> Result<u64, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("/proc/self/status has no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}
