//! Which files a list of paths, patterns and folders means.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use longshore_core::error::{Error, Kind, Result};
use longshore_core::event::Events;
use longshore_core::names::table_name;

use crate::error::{FILE_DENIED, FILE_MISSING};
use crate::input::{Version, denied};

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Names it in the ledger: its absolute, canonical path; for standard input `stdin:NAME`, or `stdin`.
    pub address: String,
    /// Where its bytes are.
    pub path: PathBuf,
    /// What it is now.
    pub version: Version,
    /// The table that its records go to if nothing else says so.
    pub table: String,
    /// Whether it is a copy of standard input.
    pub spooled: bool,
}

/// Finds the files, each once, in the order of `inputs`, and in the order of their names within one. Names that begin
/// with `.` or `_` are passed over in folders and patterns. `spool` is the folder for standard input, `name` its name.
///
/// A pattern or folder without files is a warning. Errors: `file_missing` naming all files that are not there; `file_denied`.
pub fn list(inputs: &[String], spool: &Path, name: Option<&str>, events: &Events) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        if input == "-" {
            found.push(standard_input(&mut io::stdin().lock(), spool, name)?);
        } else if path.is_dir() {
            let mut files = Vec::new();
            walk(path, &mut files)?;
            if files.is_empty() {
                events.warn(format!("the folder {input} holds no files"));
            }
            let many = files.len() > 1;
            let folder = std::fs::canonicalize(path).map_err(|e| denied(path, "looked at", e))?;
            for file in files {
                found.push(one(&file, many.then_some(folder.as_path()))?);
            }
        } else if path.exists() {
            found.push(one(path, None)?);
        } else if is_pattern(input) {
            let files = matches(input)?;
            if files.is_empty() {
                events.warn(format!("no file matches {input}"));
            }
            for file in &files {
                let folder = file.parent();
                let many = files.iter().filter(|other| other.parent() == folder).take(2).count() > 1;
                // The folder of a bare name is the working directory.
                let real =
                    |folder: &Path| std::fs::canonicalize(if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
                let folder = folder.filter(|_| many).map(real).transpose();
                let folder = folder.map_err(|e| denied(file, "looked at", e))?;
                found.push(one(file, folder.as_deref())?);
            }
        } else {
            missing.push(input.as_str());
        }
    }
    if !missing.is_empty() {
        let what = format!("{} {} not exist", missing.join(", "), if missing.len() == 1 { "does" } else { "do" });
        return Err(Error::new(Kind::Source, FILE_MISSING, what).hint("nothing was loaded"));
    }
    let mut seen = BTreeSet::new();
    found.retain(|file| seen.insert(file.address.clone()));
    Ok(found)
}

fn one(path: &Path, folder: Option<&Path>) -> Result<Found> {
    let path = std::fs::canonicalize(path).map_err(|e| denied(path, "looked at", e))?;
    let Some(address) = path.to_str().map(str::to_owned) else {
        let what = format!("the name of {} is not UTF-8", path.display());
        return Err(Error::new(Kind::Source, FILE_DENIED, what).hint("rename it"));
    };
    let name = folder.and_then(Path::file_name).map_or_else(|| stem(&path), |name| name.to_string_lossy().into_owned());
    Ok(Found { address, version: Version::of(&path)?, path, table: table_name(&name), spooled: false })
}

/// A file's name without its ending, and without that of its compression.
pub fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = [".gz", ".zst", ".zstd", ".gzip"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem.to_owned(),
        _ => name.to_owned(),
    }
}

fn is_pattern(input: &str) -> bool {
    input.contains(['*', '?', '['])
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    let bad = |e: glob::PatternError| {
        Error::new(Kind::Usage, longshore_core::error::code::USAGE, format!("{pattern} is not a pattern")).caused_by(e)
    };
    let options = glob::MatchOptions { require_literal_leading_dot: true, require_literal_separator: true, ..Default::default() };
    let mut files = Vec::new();
    for entry in glob::glob_with(pattern, options).map_err(bad)? {
        let path = entry.map_err(|e| {
            let path = e.path().to_path_buf();
            denied(&path, "listed", e.into())
        })?;
        if !path.is_dir() && !is_passed_over(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut paths: Vec<PathBuf> = entries.map_err(|e| denied(folder, "listed", e))?.iter().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if is_passed_over(&path) {
            continue;
        }
        // A link to a folder could lead back here.
        if path.is_dir() {
            if !path.is_symlink() {
                walk(&path, files)?;
            }
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn is_passed_over(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(['.', '_']))
}

/// Copies standard input to a file, since it has to be read more than once.
pub fn standard_input(input: &mut dyn io::Read, spool: &Path, name: Option<&str>) -> Result<Found> {
    std::fs::create_dir_all(spool).map_err(|e| denied(spool, "made", e))?;
    let (path, mut file) = (0u32..)
        .find_map(|i| {
            let path = spool.join(format!("stdin-{}-{i}", std::process::id()));
            match File::options().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                result => Some(result.map(|file| (path.clone(), file)).map_err(|e| denied(&path, "made", e))),
            }
        })
        .unwrap_or_else(|| unreachable!("there are more numbers than files"))?;
    io::copy(input, &mut file).map_err(|e| denied(&path, "written", e))?;
    let address = name.map_or("stdin".to_owned(), |name| format!("stdin:{name}"));
    Ok(Found { address, version: Version::of(&path)?, path, table: table_name(name.unwrap_or("stdin")), spooled: true })
}

#[cfg(test)]
mod tests;
