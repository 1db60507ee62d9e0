//! The one door to the warehouse's files.
//!
//! Paths are relative to the warehouse and separated by `/`. Everything blocks: callers run it on a blocking thread. The
//! library's object store never syncs local files, so what must survive a power cut goes through here. Buckets will be
//! another [`Io`] behind [`Storage::open`]; nothing else of this crate knows where the files are.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_core::Result;

use crate::error::{codes, config, destination, io as io_error};

/// What [`Faults`] are asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A whole file is read.
    Read,
    /// A file's size is looked up.
    Stat,
    /// A folder is listed.
    List,
    /// A file is created only if it is absent: a log entry.
    PutIfAbsent,
    /// A data file is created.
    Create,
    /// Bytes are written to a data file.
    Write,
    /// A data file is synced.
    SyncFile,
    /// A folder is synced.
    SyncDir,
    /// A folder is made.
    MakeDir,
    /// A file is removed.
    Delete,
}

/// Makes steps fail, for tests. Called on blocking threads.
pub trait Faults: Send + Sync {
    /// Asked before a step; with an error the step is not done.
    fn before(&self, step: Step, path: &str) -> io::Result<()>;
    /// Asked after a step has been done; an error is a lost answer.
    fn after(&self, step: Step, path: &str) -> io::Result<()>;
}

/// A file's size and what changes when it is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub size: u64,
    pub tag: String,
}

/// A file found by listing.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub path: String,
    pub size: u64,
    pub age: std::time::Duration,
}

/// A file being written.
pub(crate) trait Sink: Write + Send {
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A place that keeps files.
trait Io: Send + Sync {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;
    fn stat(&self, path: &str) -> io::Result<Option<Stat>>;
    fn list(&self, dir: &str, recursive: bool) -> io::Result<Vec<Listed>>;
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> io::Result<bool>;
    fn create(&self, path: &str) -> io::Result<Box<dyn Sink>>;
    fn make_dirs(&self, dir: &str) -> io::Result<()>;
    fn sync_file(&self, path: &str) -> io::Result<()>;
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    fn delete(&self, path: &str) -> io::Result<()>;
    fn delete_empty_dir(&self, dir: &str) -> io::Result<()>;
}

/// The warehouse's files. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Storage {
    io: Arc<dyn Io>,
    root: PathBuf,
}

impl Storage {
    /// Opens the folder at `path`, which need not exist yet. Errors: `delta_scheme` for an address that is no folder,
    /// `delta_no_put_if_absent` for a file system on which two writers could overwrite each other. Leaves nothing behind.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let root = local_path(path)?;
        probe(&root)?;
        Ok(Self { io: Arc::new(LocalFolder { root: root.clone() }), root })
    }

    /// The same files with steps that fail when `faults` says so.
    pub(crate) fn with_faults(self, faults: Arc<dyn Faults>) -> Self {
        Self { io: Arc::new(Faulty { io: self.io, faults }), root: self.root }
    }

    /// The address of a path, for people and for the library.
    pub(crate) fn address(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A whole file; `None` if there is none.
    pub(crate) fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.io.read(path).map_err(|e| self.failed("read", path, e))
    }

    /// Size and identity of a file; `None` if there is none.
    pub(crate) fn stat(&self, path: &str) -> Result<Option<Stat>> {
        self.io.stat(path).map_err(|e| self.failed("look up", path, e))
    }

    /// The files of a folder in order of their paths, those of its folders too if `recursive`. A folder that does not
    /// exist has none.
    pub(crate) fn list(&self, dir: &str, recursive: bool) -> Result<Vec<Listed>> {
        let mut files = self.io.list(dir, recursive).map_err(|e| self.failed("list", dir, e))?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Creates a file with these bytes, whole and synced, unless it exists: `false`. Its folder is not synced yet.
    pub(crate) fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<bool> {
        self.io.put_if_absent(path, bytes).map_err(|e| self.failed("create", path, e))
    }

    /// Creates a file to be written piece by piece, and its folders.
    pub(crate) fn create(&self, path: &str) -> Result<Box<dyn Sink>> {
        if let Some((dir, _)) = path.rsplit_once('/') {
            self.make_dirs(dir)?;
        }
        self.io.create(path).map_err(|e| self.failed("create", path, e))
    }

    /// Makes a folder and those above it, durably.
    pub(crate) fn make_dirs(&self, dir: &str) -> Result<()> {
        self.io.make_dirs(dir).map_err(|e| self.failed("make the folder", dir, e))
    }

    /// Makes a file durable that somebody else wrote.
    pub(crate) fn sync_file(&self, path: &str) -> Result<()> {
        self.io.sync_file(path).map_err(|e| self.failed("sync", path, e))
    }

    /// Makes the names in a folder durable.
    pub(crate) fn sync_dir(&self, dir: &str) -> Result<()> {
        self.io.sync_dir(dir).map_err(|e| self.failed("sync the folder", dir, e))
    }

    /// Makes the names of a folder and of all folders above it durable, up to the one that the warehouse is in: a crash
    /// may have come between making one of them and syncing it.
    pub(crate) fn sync_up(&self, dir: &str) -> Result<()> {
        let mut dir = dir;
        while !dir.is_empty() {
            self.sync_dir(dir)?;
            dir = dir.rsplit_once('/').map_or("", |(above, _)| above);
        }
        self.sync_dir("")?;
        self.sync_dir("..")
    }

    /// Removes a file; one that is gone already is fine.
    pub(crate) fn delete(&self, path: &str) -> Result<()> {
        self.io.delete(path).map_err(|e| self.failed("remove", path, e))
    }

    /// Removes a folder if it is empty.
    pub(crate) fn delete_empty_dir(&self, dir: &str) -> Result<()> {
        self.io.delete_empty_dir(dir).map_err(|e| self.failed("remove the folder", dir, e))
    }

    fn failed(&self, doing: &str, path: &str, error: io::Error) -> longshore_core::Error {
        io_error(doing, &self.address(path).display().to_string(), error)
    }
}

/// The local folder that an address names.
fn local_path(path: &Path) -> Result<PathBuf> {
    let text = path.to_string_lossy();
    let local = match text.split_once("://") {
        None => path.to_owned(),
        Some(("file", _)) => url::Url::parse(&text)
            .ok()
            .and_then(|url| url.to_file_path().ok())
            .ok_or_else(|| config(codes::SCHEME, format!("{text} is not the address of a local folder")))?,
        Some((scheme, _)) => {
            return Err(config(codes::SCHEME, format!("cannot keep Delta tables at {text}: {scheme}:// is not supported yet"))
                .hint("give a local folder, for example `warehouse`"));
        }
    };
    if local.as_os_str().is_empty() {
        return Err(
            config(codes::SCHEME, "the path of the warehouse is empty").hint("give a local folder, for example `warehouse`")
        );
    }
    std::path::absolute(&local).map_err(|e| io_error("find", &local.display().to_string(), e))
}

/// Checks that a hard link to a taken name fails, in the nearest folder that exists: what we make below it is on the same
/// file system.
fn probe(root: &Path) -> Result<()> {
    let Some(dir) = root.ancestors().find(|dir| dir.is_dir()) else {
        return Err(config(codes::SCHEME, format!("no folder above {} exists", root.display())));
    };
    let name = uuid::Uuid::new_v4().simple().to_string();
    let (first, second) = (dir.join(format!(".longshore-probe-{name}-1")), dir.join(format!(".longshore-probe-{name}-2")));
    let outcome = (|| {
        File::create_new(&first)?.sync_all()?;
        Ok::<_, io::Error>((fs::hard_link(&first, &second), fs::hard_link(&first, &second)))
    })();
    // Best effort: a probe left behind is hidden, empty and harms nothing.
    let _ = fs::remove_file(&first);
    let _ = fs::remove_file(&second);
    let refused = |why: &str| {
        destination(codes::NO_PUT_IF_ABSENT, format!("the file system of {} {why}", dir.display()))
            .with_retry(longshore_core::error::Retry::AfterFix)
            .hint("choose a folder on a local disk; two writers could overwrite each other's commits here")
    };
    match outcome {
        Ok((Ok(()), Err(again))) if again.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Ok((Ok(()), _)) => Err(refused("does not notice that a name is taken")),
        Ok((Err(e), _)) if e.kind() == io::ErrorKind::StorageFull => Err(io_error("write to", &dir.display().to_string(), e)),
        Ok((Err(e), _)) => Err(refused("has no hard links").caused_by(e)),
        Err(e) => Err(io_error("write to", &dir.display().to_string(), e)),
    }
}

struct LocalFolder {
    root: PathBuf,
}

impl LocalFolder {
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Sink for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// `None` where there is no such file.
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

impl Io for LocalFolder {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        if_there(fs::read(self.at(path)))
    }

    fn stat(&self, path: &str) -> io::Result<Option<Stat>> {
        let Some(metadata) = if_there(fs::metadata(self.at(path)))? else { return Ok(None) };
        let changed = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        Ok(Some(Stat { size: metadata.len(), tag: format!("{}-{changed}-{}", inode(&metadata), metadata.len()) }))
    }

    fn list(&self, dir: &str, recursive: bool) -> io::Result<Vec<Listed>> {
        let mut files = Vec::new();
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            let Some(entries) = if_there(fs::read_dir(self.at(&dir)))? else { continue };
            for entry in entries {
                let entry = entry?;
                // Names that are no text are not ours.
                let Ok(name) = entry.file_name().into_string() else { continue };
                let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                // A file may go between the listing and the look.
                let Some(metadata) = if_there(entry.metadata())? else { continue };
                if metadata.is_file() {
                    let age = metadata.modified()?.elapsed().unwrap_or_default();
                    files.push(Listed { path, size: metadata.len(), age });
                } else if metadata.is_dir() && recursive {
                    open.push(path);
                }
            }
        }
        Ok(files)
    }

    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> io::Result<bool> {
        let target = self.at(path);
        let dir = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let temporary = dir.join(format!("{TEMPORARY}{}", uuid::Uuid::new_v4().simple()));
        let outcome = (|| {
            let mut file = File::create_new(&temporary)?;
            file.write_all(bytes)?;
            // Before the name exists: an entry that can be seen is whole.
            file.sync_all()?;
            match fs::hard_link(&temporary, &target) {
                Ok(()) => Ok(true),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(e) => Err(e),
            }
        })();
        // Best effort: the sweep removes what is left of it.
        let _ = fs::remove_file(&temporary);
        outcome
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(File::create(self.at(path))?))
    }

    fn make_dirs(&self, dir: &str) -> io::Result<()> {
        let target = self.at(dir);
        let missing: Vec<&Path> = target.ancestors().take_while(|dir| !dir.is_dir()).collect();
        for dir in missing.into_iter().rev() {
            match fs::create_dir(dir) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
                Err(e) => return Err(e),
            }
            if let Some(parent) = dir.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(())
    }

    fn sync_file(&self, path: &str) -> io::Result<()> {
        File::open(self.at(path))?.sync_all()
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.at(dir))?.sync_all()
    }

    fn delete(&self, path: &str) -> io::Result<()> {
        if_there(fs::remove_file(self.at(path))).map(|_| ())
    }

    fn delete_empty_dir(&self, dir: &str) -> io::Result<()> {
        match if_there(fs::remove_dir(self.at(dir))) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

/// How the names of files begin that `put_if_absent` links from.
pub(crate) const TEMPORARY: &str = ".longshore-tmp-";

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_metadata: &fs::Metadata) -> u64 {
    0
}

/// An [`Io`] whose steps fail when somebody says so.
struct Faulty {
    io: Arc<dyn Io>,
    faults: Arc<dyn Faults>,
}

impl Faulty {
    fn step<T>(&self, step: Step, path: &str, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.faults.before(step, path)?;
        let value = act()?;
        self.faults.after(step, path)?;
        Ok(value)
    }
}

impl Io for Faulty {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.step(Step::Read, path, || self.io.read(path))
    }
    fn stat(&self, path: &str) -> io::Result<Option<Stat>> {
        self.step(Step::Stat, path, || self.io.stat(path))
    }
    fn list(&self, dir: &str, recursive: bool) -> io::Result<Vec<Listed>> {
        self.step(Step::List, dir, || self.io.list(dir, recursive))
    }
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> io::Result<bool> {
        self.step(Step::PutIfAbsent, path, || self.io.put_if_absent(path, bytes))
    }
    fn create(&self, path: &str) -> io::Result<Box<dyn Sink>> {
        let sink = self.step(Step::Create, path, || self.io.create(path))?;
        Ok(Box::new(FaultySink { sink, faults: self.faults.clone(), path: path.to_owned() }))
    }
    fn make_dirs(&self, dir: &str) -> io::Result<()> {
        self.step(Step::MakeDir, dir, || self.io.make_dirs(dir))
    }
    fn sync_file(&self, path: &str) -> io::Result<()> {
        self.step(Step::SyncFile, path, || self.io.sync_file(path))
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.step(Step::SyncDir, dir, || self.io.sync_dir(dir))
    }
    fn delete(&self, path: &str) -> io::Result<()> {
        self.step(Step::Delete, path, || self.io.delete(path))
    }
    fn delete_empty_dir(&self, dir: &str) -> io::Result<()> {
        self.step(Step::Delete, dir, || self.io.delete_empty_dir(dir))
    }
}

struct FaultySink {
    sink: Box<dyn Sink>,
    faults: Arc<dyn Faults>,
    path: String,
}

impl Write for FaultySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.faults.before(Step::Write, &self.path)?;
        let written = self.sink.write(bytes)?;
        self.faults.after(Step::Write, &self.path)?;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl Sink for FaultySink {
    fn sync(&mut self) -> io::Result<()> {
        self.faults.before(Step::SyncFile, &self.path)?;
        self.sink.sync()?;
        self.faults.after(Step::SyncFile, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_of_two_puts_wins_and_nothing_temporary_stays() {
        let folder = tempfile::tempdir().expect("folder");
        let storage = Storage::open(folder.path()).expect("opens");
        storage.make_dirs("a/b").expect("makes");
        assert!(storage.put_if_absent("a/b/x", b"first").expect("puts"));
        assert!(!storage.put_if_absent("a/b/x", b"second").expect("is refused"));
        assert_eq!(storage.read("a/b/x").expect("reads").expect("there"), b"first");
        assert_eq!(storage.list("", true).expect("lists").len(), 1);
    }

    #[test]
    fn opening_a_warehouse_that_is_not_there_leaves_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        Storage::open(&folder.path().join("not/yet")).expect("opens");
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 0);
    }

    #[test]
    fn a_bucket_is_refused_by_name() {
        for address in ["gs://bucket/warehouse", "s3://bucket/w", "http://x/y"] {
            let error = Storage::open(Path::new(address)).err().expect("refused");
            assert_eq!((error.code(), error.kind()), ("delta_scheme", longshore_core::error::Kind::Config));
        }
        let folder = tempfile::tempdir().expect("folder");
        assert!(Storage::open(Path::new(&format!("file://{}", folder.path().display()))).is_ok());
    }

    #[test]
    fn a_full_disk_needs_a_person_and_a_broken_one_is_tried_again() {
        use longshore_core::error::Retry;
        let error = |kind: io::ErrorKind| io_error("write", "x", kind.into());
        assert_eq!(
            (error(io::ErrorKind::StorageFull).code(), error(io::ErrorKind::StorageFull).retry()),
            ("disk_full", Retry::AfterFix)
        );
        assert_eq!(error(io::ErrorKind::PermissionDenied).retry(), Retry::AfterFix);
        assert_eq!(error(io::ErrorKind::Other).retry(), Retry::Backoff);
    }
}
