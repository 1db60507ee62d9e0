//! The `txn` actions of a table. The library answers for one application only, and here all are wanted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

#[derive(serde::Deserialize)]
struct Line {
    txn: Option<Txn>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Txn {
    app_id: String,
    version: i64,
}

/// Application -> number, as of `version`: out of the last checkpoint and the entries after it.
pub(super) fn read(log: &Path, version: u64) -> io::Result<BTreeMap<String, i64>> {
    let mut entries: Vec<(u64, PathBuf)> = Vec::new();
    // Version -> files. A checkpoint may be in several, and a part that is missing is found by who opens the table.
    let mut checkpoints: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    for entry in std::fs::read_dir(log)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let mut pieces = name.split('.');
        let Some(at) = pieces.next().filter(|p| p.len() == 20).and_then(|p| p.parse::<u64>().ok()) else { continue };
        if at > version {
            continue;
        }
        match pieces.next() {
            Some("json") if pieces.next().is_none() => entries.push((at, path)),
            Some("checkpoint") => checkpoints.entry(at).or_default().push(path),
            _ => {}
        }
    }
    entries.sort();
    let mut marks = BTreeMap::new();
    let mut first = 0;
    if let Some((at, files)) = checkpoints.pop_last() {
        first = at + 1;
        for file in files {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("parquet") => read_parquet(&file, &mut marks)?,
                _ => read_json(&file, &mut marks)?,
            }
        }
    }
    for (_, path) in entries.into_iter().filter(|(at, _)| *at >= first) {
        read_json(&path, &mut marks)?;
    }
    Ok(marks)
}

fn read_json(path: &Path, marks: &mut BTreeMap<String, i64>) -> io::Result<()> {
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        if let Some(txn) = serde_json::from_str::<Line>(&line)?.txn {
            marks.insert(txn.app_id, txn.version);
        }
    }
    Ok(())
}

fn read_parquet(path: &Path, marks: &mut BTreeMap<String, i64>) -> io::Result<()> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?).map_err(io::Error::other)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["txn.appId", "txn.version"]);
    for batch in builder.with_projection(mask).build().map_err(io::Error::other)? {
        let batch = batch.map_err(io::Error::other)?;
        let Some(txn) = batch.column_by_name("txn").and_then(|column| column.as_struct_opt()) else { continue };
        let apps = txn.column_by_name("appId").and_then(|column| column.as_string_opt::<i32>());
        let versions = txn.column_by_name("version").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (Some(apps), Some(versions)) = (apps, versions) else { continue };
        for row in 0..txn.len() {
            if txn.is_valid(row) && apps.is_valid(row) && versions.is_valid(row) {
                marks.insert(apps.value(row).to_owned(), versions.value(row));
            }
        }
    }
    Ok(())
}
