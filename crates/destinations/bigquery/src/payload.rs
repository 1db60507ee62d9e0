//! Payloads of dead letters that no cell holds: files beside the store.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use longshore_core::Result;
use longshore_core::batch::Payload;
use longshore_core::commit::AttemptId;

use crate::error::{codes, destination};

const PIECE: u64 = 1 << 20;

/// The folder of an attempt's payloads. Ids of any form make one tame name.
pub(crate) fn folder(state: &Path, attempt: &AttemptId) -> PathBuf {
    state.join("payloads").join(&blake3::hash(attempt.0.as_bytes()).to_hex()[..32])
}

/// Copies a payload durably; returns its address and BLAKE3. Removes the source if it is temporary. Blocks.
pub(crate) fn keep(state: &Path, attempt: &AttemptId, id: &str, payload: &Payload) -> Result<(String, String)> {
    let folder = folder(state, attempt);
    let path = folder.join(&blake3::hash(id.as_bytes()).to_hex()[..32]);
    let failed = |e: std::io::Error| {
        destination(codes::IO, format!("the payload of a dead letter could not be kept at {}", path.display())).caused_by(e)
    };
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let part = path.with_extension("part");
    let digest = copy(payload, &part).map_err(failed)?;
    std::fs::rename(&part, &path).map_err(failed)?;
    for ancestor in folder.ancestors().take(3) {
        File::open(ancestor).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    if let Payload::File { path: source, temporary: true, .. } = payload {
        // Best effort: its owner cleans up its folder of temporary files.
        let _ = std::fs::remove_file(source);
    }
    let address = std::path::absolute(&path).map_err(failed)?;
    Ok((address.display().to_string(), digest))
}

fn copy(payload: &Payload, to: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut target = File::create(to)?;
    match payload {
        Payload::Inline(bytes) => {
            hasher.update(bytes);
            target.write_all(bytes)?;
        }
        Payload::File { path, offset, length, .. } => {
            let mut source = File::open(path)?;
            source.seek(SeekFrom::Start(*offset))?;
            let mut rest = *length;
            let mut piece = Vec::new();
            while rest > 0 {
                piece.clear();
                let read = Read::by_ref(&mut source).take(rest.min(PIECE)).read_to_end(&mut piece)?;
                if read == 0 {
                    return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the file ends before the payload does"));
                }
                hasher.update(&piece);
                target.write_all(&piece)?;
                rest -= read as u64;
            }
        }
    }
    target.sync_all()?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Removes the payloads of an attempt; returns their bytes. Blocks.
pub(crate) fn sweep(state: &Path, attempt: &AttemptId) -> Result<u64> {
    let folder = folder(state, attempt);
    let failed =
        |e: std::io::Error| destination(codes::IO, format!("payloads in {} could not be removed", folder.display())).caused_by(e);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(0) };
    let bytes = entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum();
    std::fs::remove_dir_all(&folder).map_err(failed)?;
    Ok(bytes)
}
