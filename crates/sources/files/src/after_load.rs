//! What is done to a file once its commit is complete: moved, deleted, or put among the files that cannot be read.
//!
//! It acts only on the bytes that were loaded. The file is first renamed to a name of its own, then its digest is compared;
//! if it is another file by now, it is put back. Nothing is deleted before a copy of it is verified and durable. Each step finds
//! what the one before left, so that all of it can be repeated after a crash anywhere.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use longshore_core::error::{Error, Kind, Result, Retry};
use longshore_core::event::Events;
use longshore_core::failpoint;

use crate::config::{AfterLoad, FilesConfig};
use crate::error::AFTER_LOAD_FAILED;
use crate::input::digest;
use crate::split::{FileSplit, Refusal};

/// What to do, as the journal keeps it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Todo {
    files: Vec<FileTodo>,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct FileTodo {
    path: PathBuf,
    digest: String,
    size: u64,
    action: Action,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Delete,
    /// To this folder.
    Move(PathBuf),
    /// To this folder, with the reason beside it.
    DeadLetter(PathBuf, Refusal),
}

/// What stands beside a file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Reason {
    file: PathBuf,
    digest: String,
    code: String,
    reason: String,
    line: Option<u64>,
    column: Option<u64>,
    run: String,
    time: chrono::DateTime<chrono::Utc>,
}

/// What is to be done for these files; `None` for nothing. `rejected` are those that turned out bad while they were read.
pub(crate) fn plan(
    config: &FilesConfig,
    files: impl Iterator<Item = FileSplit>,
    rejected: &BTreeMap<String, Refusal>,
) -> Option<serde_json::Value> {
    let files = files.filter(|file| !file.spooled).filter_map(|file| {
        let look = file.look?;
        let action = match look.refused.or_else(|| rejected.get(&file.address).cloned()) {
            Some(refusal) => Action::DeadLetter(config.dead_letter_dir.clone()?, refusal),
            None => match config.after_load {
                AfterLoad::Keep => return None,
                AfterLoad::Delete => Action::Delete,
                AfterLoad::Move => Action::Move(config.move_to.clone()?),
            },
        };
        Some(FileTodo { path: file.path, digest: look.digest, size: file.version.size, action })
    });
    let mut todo = Todo { files: files.collect() };
    for file in &mut todo.files {
        // A later run may stand in another folder.
        if let Action::Move(folder) | Action::DeadLetter(folder, _) = &mut file.action {
            *folder = std::path::absolute(&*folder).unwrap_or_else(|_| folder.clone());
        }
    }
    if todo.files.is_empty() { None } else { serde_json::to_value(todo).ok() }
}

/// Does it. Errors: `after_load_failed`; what is done stays done, and a repeated call goes on.
pub(crate) fn act(what: &serde_json::Value, run: &str, events: &Events) -> Result<()> {
    let todo: Todo = serde_json::from_value(what.clone()).map_err(|e| {
        Error::new(Kind::Source, AFTER_LOAD_FAILED, "the journal's record of what to do with the files cannot be read")
            .caused_by(e)
    })?;
    for file in &todo.files {
        let failed = |e: io::Error| {
            Error::new(Kind::Source, AFTER_LOAD_FAILED, format!("{} cannot be put away after loading", file.path.display()))
                .with_retry(Retry::AfterFix)
                .hint("its rows are safe; the next run tries again")
                .caused_by(e)
        };
        let Some(claimed) = claim(file, events).map_err(failed)? else { continue };
        put_away(file, &claimed, run).map_err(failed)?;
    }
    Ok(())
}

/// Takes the file under a name of its own, if it is the one that was loaded.
fn claim(file: &FileTodo, events: &Events) -> io::Result<Option<PathBuf>> {
    let claimed = claimed_name(file);
    if !claimed.try_exists()? {
        // A file of another size is another file: it need not be touched.
        match std::fs::metadata(&file.path) {
            Ok(metadata) if metadata.len() == file.size => {}
            Ok(_) => {
                events.warn(format!("{} has changed since it was loaded, so it stays where it is", file.path.display()));
                return Ok(None);
            }
            // An earlier try was through with it, or somebody removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        std::fs::rename(&file.path, &claimed)?;
    }
    if digest(&claimed).map_err(io::Error::other)? == file.digest {
        return Ok(Some(claimed));
    }
    events.warn(match place(&claimed, &file.path)? {
        true => {
            std::fs::remove_file(&claimed)?;
            format!("{} has changed since it was loaded, so it stays where it is", file.path.display())
        }
        // Somebody has written the name anew meanwhile.
        false => format!("{} has changed since it was loaded: one version is now {}", file.path.display(), claimed.display()),
    });
    Ok(None)
}

fn claimed_name(file: &FileTodo) -> PathBuf {
    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
    file.path.with_file_name(format!(".{name}.longshore-{}", short(&file.digest)))
}

fn put_away(file: &FileTodo, claimed: &Path, run: &str) -> io::Result<()> {
    match &file.action {
        Action::Delete => {}
        Action::Move(folder) => {
            std::fs::create_dir_all(folder)?;
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            for number in 0u32.. {
                let target = folder.join(if number == 0 { name.to_string() } else { numbered(&file.path, &file.digest, number) });
                if put(claimed, &target, &file.digest)? {
                    break;
                }
            }
        }
        Action::DeadLetter(folder, refusal) => {
            std::fs::create_dir_all(folder)?;
            for number in 1u32.. {
                let target = folder.join(numbered(&file.path, &file.digest, number));
                if explain(file, &target, refusal, run)? && put(claimed, &target, &file.digest)? {
                    break;
                }
            }
        }
    }
    std::fs::remove_file(claimed)?;
    sync_folder(claimed)
}

/// `stem-digest-number.ending`: a name that no other file's content leads to.
fn numbered(path: &Path, digest: &str, number: u32) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, ending) = name.split_once('.').filter(|(stem, _)| !stem.is_empty()).unwrap_or((&name, ""));
    let dot = if ending.is_empty() { "" } else { "." };
    format!("{stem}-{}-{number}{dot}{ending}", short(digest))
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Writes the reason beside where the file will be. False if that name is another file's.
fn explain(file: &FileTodo, target: &Path, refusal: &Refusal, run: &str) -> io::Result<bool> {
    let path = target.with_file_name(format!("{}.reason.json", target.file_name().unwrap_or_default().to_string_lossy()));
    let reason = Reason {
        file: file.path.clone(),
        digest: file.digest.clone(),
        code: refusal.code.clone(),
        reason: refusal.reason.clone(),
        line: refusal.place.line,
        column: refusal.place.column,
        run: run.to_owned(),
        time: chrono::Utc::now(),
    };
    let text = serde_json::to_vec_pretty(&reason)?;
    // Complete under its name or not at all.
    let draft = path.with_extension(format!("json.{}-{}", std::process::id(), short(&file.digest)));
    std::fs::write(&draft, text)?;
    File::open(&draft)?.sync_all()?;
    let placed = place(&draft, &path)?;
    std::fs::remove_file(&draft)?;
    sync_folder(&path)?;
    if placed {
        return Ok(true);
    }
    // An earlier try of ours, for this file, that may not have come further?
    let known: Option<Reason> = serde_json::from_slice(&std::fs::read(&path)?).ok();
    Ok(known.is_some_and(|known| known.file == reason.file && known.digest == reason.digest))
}

/// Makes `target` a durable copy of the claimed file. True if it is one now, or was one; false if it is another file.
fn put(claimed: &Path, target: &Path, expected: &str) -> io::Result<bool> {
    if target.try_exists()? {
        return Ok(digest(target).map_err(io::Error::other)? == expected);
    }
    match std::fs::hard_link(claimed, target) {
        Ok(()) => {
            sync_folder(target)?;
            failpoint::hit("acknowledge.copied");
            return Ok(true);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return put(claimed, target, expected),
        // Another file system, or one without links: a copy.
        Err(_) => {}
    }
    let draft = target.with_file_name(format!(".{}.part", target.file_name().unwrap_or_default().to_string_lossy()));
    std::fs::copy(claimed, &draft)?;
    File::open(&draft)?.sync_all()?;
    if digest(&draft).map_err(io::Error::other)? != expected {
        return Err(io::Error::other(format!("the copy at {} differs from the file", draft.display())));
    }
    let placed = place(&draft, target)?;
    std::fs::remove_file(&draft)?;
    if !placed {
        return put(claimed, target, expected);
    }
    sync_folder(target)?;
    failpoint::hit("acknowledge.copied");
    Ok(true)
}

/// Gives a file a second name unless that is taken. True if it has it.
fn place(from: &Path, to: &Path) -> io::Result<bool> {
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // No links here: a copy under a name that was free a moment ago.
        Err(_) if !to.try_exists()? => {
            let mut target = File::options().write(true).create_new(true).open(to)?;
            io::copy(&mut File::open(from)?, &mut target)?;
            target.sync_all().map(|()| true)
        }
        Err(error) => Err(error),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
