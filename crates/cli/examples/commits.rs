//! The benchmark of many small commits: 1,000 commits of 1,000 rows into one table, everything synced, and the time of as
//! many bare fsyncs beside it. Prints a Markdown table. Run by `cargo x bench`.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use longshore_core::event::{Observer, RunEvent};
use longshore_core::stop::Stop;
use longshore_delta::DeltaDestination;
use longshore_delta::config::DeltaConfig;
use longshore_engine::Pipeline;
use longshore_store::SqliteStore;
use longshore_testkit::memory_source::MemorySource;

const COMMITS: u64 = 1_000;
const ROWS: u64 = 1_000;
/// Durable writes of one commit: four transactions of the store; a data file, its folder, a log entry, its folder.
const SYNCS: usize = 8;

/// When each commit was complete.
#[derive(Default)]
struct Clock(Mutex<Vec<Instant>>);

impl Observer for Clock {
    fn event(&self, event: &RunEvent) {
        if matches!(event, RunEvent::Completed { .. } | RunEvent::Found { .. }) {
            self.0.lock().expect("no panic").push(Instant::now());
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: commits FOLDER")?;
    let folder = std::path::Path::new(&folder).join(format!("commits-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let store = Arc::new(SqliteStore::open(&folder.join("store")).await?);
    let source = Arc::new(MemorySource::new(store.clone(), 1, |_| false));
    for partition in 0..COMMITS {
        source.grow(&format!("{partition:06}"), ROWS);
    }
    let config = DeltaConfig { path: folder.join("warehouse"), dataset: "bench".into() };
    let destination = Arc::new(DeltaDestination::open_dataset(&config)?);
    let clock = Arc::new(Clock::default());
    let pipeline = Pipeline { name: "bench".into(), commit_splits: 1, ..Pipeline::default() };
    longshore_engine::run(store, source, destination, &pipeline, clock.clone(), Stop::default()).await?;
    let at = clock.0.lock().expect("no panic").clone();
    let mut took: Vec<Duration> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let around = |i: usize| median(took[i..i + 20].to_vec());
    let (tenth, last) = (around(10), around(took.len() - 20));
    took.sort();
    println!("| {COMMITS} commits of {ROWS} rows | p50 | p99 | around the 10th | around the last | last / 10th |");
    println!("|---|---|---|---|---|---|");
    println!(
        "| Longshore | {} | {} | {} | {} | {:.2} |",
        ms(took[took.len() / 2]),
        ms(took[took.len() * 99 / 100]),
        ms(tenth),
        ms(last),
        last.as_secs_f64() / tenth.as_secs_f64()
    );
    println!("| {SYNCS} fsyncs alone | {} | | | | |", ms(syncs(&folder)?));
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// The median time of as many fsyncs as one commit makes, each after a small write.
fn syncs(folder: &std::path::Path) -> std::io::Result<Duration> {
    let mut times = Vec::new();
    for i in 0..100 {
        let start = Instant::now();
        for j in 0..SYNCS {
            let mut file = std::fs::File::create(folder.join(format!("{i}-{j}")))?;
            file.write_all(&[b'x'; 4096])?;
            file.sync_all()?;
        }
        times.push(start.elapsed());
    }
    Ok(median(times))
}
