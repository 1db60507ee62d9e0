//! Payloads of dead letters that are too large for a table: files beside the table of dead letters.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use longshore_core::Result;
use longshore_core::batch::Payload;
use longshore_core::commit::{AttemptId, DEAD_LETTERS};
use longshore_core::error::Retry;

use crate::error::{self, codes, destination};
use crate::stage::attempt_name;
use crate::storage::{Sink, Storage};

/// The folder below the table of dead letters. Readers of Delta tables ignore names that begin with `_`.
pub(crate) const PAYLOADS: &str = "_payloads";

const PIECE: usize = 1 << 20;

/// Where a payload is kept.
pub(crate) fn path(dataset: &str, attempt: &AttemptId, id: &str) -> String {
    let attempt = attempt_name(attempt);
    let id = attempt_name(&AttemptId(id.to_owned()));
    format!("{dataset}/{DEAD_LETTERS}/{PAYLOADS}/{attempt}/{id}")
}

/// Copies a payload to `path`, durably; returns its address and BLAKE3. Removes the source if it is temporary. Blocks.
pub(crate) fn keep(storage: &Storage, path: &str, payload: &Payload) -> Result<(String, String)> {
    let address = storage.address(path).display().to_string();
    let mut sink = storage.create(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut put = |sink: &mut dyn Sink, bytes: &[u8]| {
        hasher.update(bytes);
        sink.write_all(bytes).map_err(|e| error::io("write", &address, e))
    };
    match payload {
        Payload::Inline(bytes) => put(sink.as_mut(), bytes)?,
        Payload::File { path: source, offset, length, .. } => {
            let shown = source.display().to_string();
            let failed = |e| error::io("read", &shown, e);
            let mut file = File::open(source).map_err(failed)?;
            file.seek(SeekFrom::Start(*offset)).map_err(failed)?;
            let mut rest = *length;
            let mut piece = vec![0; PIECE];
            while rest > 0 {
                let wanted = usize::try_from(rest).unwrap_or(PIECE).min(PIECE);
                let read = file.read(&mut piece[..wanted]).map_err(failed)?;
                if read == 0 {
                    let why = format!("{shown} ends {rest} bytes before the payload does");
                    return Err(destination(codes::IO, why).with_retry(Retry::Backoff));
                }
                put(sink.as_mut(), &piece[..read])?;
                rest -= read as u64;
            }
        }
    }
    sink.flush().and_then(|()| sink.sync()).map_err(|e| error::io("sync", &address, e))?;
    if let Some((folder, _)) = path.rsplit_once('/') {
        storage.sync_up(folder)?;
    }
    if let Payload::File { path: source, temporary: true, .. } = payload {
        // Best effort: its owner cleans up its folder of temporary files.
        let _ = std::fs::remove_file(source);
    }
    Ok((address, hasher.finalize().to_hex().to_string()))
}
