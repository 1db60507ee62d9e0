//! A file's bytes as UTF-8: decompressed and transcoded by what its content says, with the digest of the raw bytes.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_core::error::{Error, Kind, Place, Result, Retry};

use crate::chunks::interrupted;
use crate::cut::Input;
use crate::encoding;
use crate::error::{COMPRESSION_BROKEN, FILE_CHANGED, FILE_DENIED, FILE_MISSING};

/// How much is read at once.
const BUFFER: usize = 256 << 10;

/// Which version of a file is meant.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Version {
    /// Bytes on disk.
    pub size: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub modified: String,
    /// Its inode; 0 where there are none.
    pub inode: u64,
}

impl Version {
    /// The version that a file has now. Errors: `file_missing`, `file_denied`.
    pub fn of(path: &Path) -> Result<Self> {
        std::fs::metadata(path).map(|metadata| Self::from_metadata(&metadata)).map_err(|e| denied(path, "looked at", e))
    }

    fn from_metadata(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Self { size: metadata.len(), modified: modified.unwrap_or_default().as_nanos().to_string(), inode }
    }
}

/// The raw bytes of one pass over a file. Shared between the reader and whoever wants to know how it went.
#[derive(Clone)]
pub struct Raw(Arc<Mutex<State>>);

struct State {
    file: File,
    path: PathBuf,
    version: Version,
    hasher: Option<blake3::Hasher>,
    bytes: u64,
}

impl Raw {
    /// Opens a file. Errors: `file_missing`, `file_denied`; `file_changed` if it is not this version any more.
    pub fn open(path: &Path, version: &Version) -> Result<Self> {
        let file = File::open(path).map_err(|e| denied(path, "opened", e))?;
        let now = file.metadata().map_err(|e| denied(path, "looked at", e))?;
        if Version::from_metadata(&now) != *version {
            return Err(changed(path));
        }
        let (path, version) = (path.to_owned(), version.clone());
        Ok(Self(Arc::new(Mutex::new(State { file, path, version, hasher: Some(blake3::Hasher::new()), bytes: 0 }))))
    }

    /// Leaves out the digest: for a second look at what is hashed anyhow.
    #[must_use]
    pub fn without_digest(self) -> Self {
        self.state().hasher = None;
        self
    }

    /// Raw bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.state().bytes
    }

    /// Reads what nobody has read, and checks that the file is still the version that was opened. Returns the BLAKE3 digest of
    /// all raw bytes, hex; empty without one. Errors: `file_changed`.
    pub fn finish(&self) -> Result<String> {
        self.finish_while(|| true)
    }

    /// As [`Raw::finish`], but ends with `interrupted` as soon as it is not to go on.
    pub fn finish_while(&self, go_on: impl Fn() -> bool) -> Result<String> {
        let mut state = self.state();
        let mut buffer = Vec::new();
        while state.hasher.is_some() {
            if !go_on() {
                return Err(interrupted());
            }
            buffer.resize(BUFFER, 0);
            match state.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(unwrap(error, &state.path)),
            }
        }
        let open = state.file.metadata().map(|m| Version::from_metadata(&m)).map_err(|e| denied(&state.path, "looked at", e))?;
        // The name must still lead to this very file.
        let named = Version::of(&state.path).map_err(|_| changed(&state.path))?;
        if open != state.version || named != state.version || (state.hasher.is_some() && state.bytes != open.size) {
            return Err(changed(&state.path));
        }
        Ok(state.hasher.as_ref().map(|hasher| hasher.finalize().to_hex().to_string()).unwrap_or_default())
    }

    /// The content: decompressed, UTF-8 without byte order mark. What is broken on the way comes as an [`io::Error`] that
    /// holds an [`Error`]: `compression_broken`, `encoding_unknown`, `file_denied`.
    pub fn content(&self) -> Result<Input> {
        let path = self.state().path.clone();
        let mut raw = BufReader::with_capacity(BUFFER, self.clone());
        let head = std::io::BufRead::fill_buf(&mut raw).map_err(|e| unwrap(e, &path))?;
        let place = Place { file: path.display().to_string(), line: None, column: None };
        let plain: Input = if head.starts_with(&[0x1F, 0x8B]) {
            let decoder = flate2::bufread::MultiGzDecoder::new(raw);
            Box::new(BufReader::with_capacity(BUFFER, Decompressed { inner: decoder, raw: self.clone(), kind: "gzip", place }))
        } else if head.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
            let decoder = zstd::stream::read::Decoder::with_buffer(raw).map_err(|e| unwrap(e, &path))?;
            Box::new(BufReader::with_capacity(BUFFER, Decompressed { inner: decoder, raw: self.clone(), kind: "zstd", place }))
        } else {
            Box::new(raw)
        };
        encoding::to_utf8(plain, &path)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = loop {
            match self.file.read(buffer) {
                Ok(n) => break n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io::Error::other(denied(&self.path, "read", error))),
            }
        };
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..n]);
        }
        self.bytes += n as u64;
        Ok(n)
    }
}

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.state().read(buffer)
    }
}

/// A decompressor whose errors say where in the file they are.
struct Decompressed<R> {
    inner: R,
    raw: Raw,
    kind: &'static str,
    place: Place,
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| match error.downcast::<Error>() {
            Ok(ours) => io::Error::other(ours),
            Err(error) => {
                let early =
                    error.kind() == io::ErrorKind::UnexpectedEof || self.raw.bytes_read() == self.raw.state().version.size;
                let what = if early { "ends early or is damaged near its end" } else { "is damaged" };
                let about = self.raw.bytes_read();
                let message = format!("the {} data {what}, within its first {about} bytes", self.kind);
                let ours = Error::new(Kind::Source, COMPRESSION_BROKEN, message).at(self.place.clone()).caused_by(error);
                io::Error::other(ours)
            }
        })
    }
}

/// The first bytes of a file's content, at most so many.
pub fn head(path: &Path, version: &Version, bytes: usize) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let content = Raw::open(path, version)?.without_digest().content()?;
    content.take(bytes as u64).read_to_end(&mut head).map_err(|e| unwrap(e, path))?;
    Ok(head)
}

/// The BLAKE3 digest of a file as it is now, hex.
pub fn digest(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).map_err(|e| denied(path, "opened", e))?;
    hasher.update_reader(BufReader::with_capacity(BUFFER, file)).map_err(|e| denied(path, "read", e))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Our own error out of an error of reading.
pub(crate) fn unwrap(error: io::Error, path: &Path) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(error) => denied(path, "read", error),
    }
}

fn changed(path: &Path) -> Error {
    Error::new(Kind::Source, FILE_CHANGED, format!("{} changed while it was read", path.display()))
        .with_retry(Retry::Backoff)
        .hint("load files that are complete: write them under another name and rename them when they are")
}

/// An error of the file system.
pub(crate) fn denied(path: &Path, what: &str, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Error::new(Kind::Source, FILE_MISSING, format!("{} does not exist", path.display())).caused_by(error);
    }
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "check its permissions, and those of the folders above it",
        _ => "the system's own words are above",
    };
    Error::new(Kind::Source, FILE_DENIED, format!("{} cannot be {what}", path.display())).hint(hint).caused_by(error)
}

#[cfg(test)]
mod tests;
