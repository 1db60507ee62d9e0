//! Copies of dead letters on their way to topics and folders, beside the staging of a commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::batch::{Payload, Reject};
use longshore_core::error::{Error, Kind, code};
use longshore_core::event::Events;
use longshore_core::retry::{Patience, Policy};
use longshore_core::source::Context;
use longshore_core::stream::{LetterCopy, Letterbox};
use tokio::task::JoinSet;

/// How long a commit waits for the copies of its dead letters: the table has them all.
const WAITED_FOR: Duration = Duration::from_secs(10);

/// The letterboxes of a run, and what is on its way to them.
pub(crate) struct Copies {
    boxes: Vec<Arc<dyn Letterbox>>,
    patience: Patience,
    /// Whether it was told that copies do not arrive, and none has arrived since.
    told: Arc<AtomicBool>,
    under_way: JoinSet<()>,
}

impl Copies {
    pub(crate) fn new(boxes: Vec<Arc<dyn Letterbox>>, patience: Patience, told: Arc<AtomicBool>) -> Self {
        Self { boxes, patience, told, under_way: JoinSet::new() }
    }

    /// Sends copies of these, without waiting. A letterbox that does not take them is told of: the table has them.
    pub(crate) fn send(&mut self, cx: &Context, rejects: &[Reject]) {
        while self.under_way.try_join_next().is_some() {}
        if self.boxes.is_empty() {
            return;
        }
        let at = chrono::Utc::now();
        let copy = |reject: &Reject| LetterCopy {
            id: id(reject),
            reject: reject.clone(),
            pipeline: cx.pipeline.clone(),
            run: cx.run.clone(),
            at,
        };
        let copies: Arc<Vec<LetterCopy>> = Arc::new(rejects.iter().map(copy).collect());
        for to in &self.boxes {
            let (to, copies, patience, told) = (to.clone(), copies.clone(), self.patience.clone(), self.told.clone());
            self.under_way.spawn(async move {
                match Policy::default().run(&patience, || to.deliver(&copies)).await {
                    Ok(()) => told.store(false, Ordering::Relaxed),
                    Err(error) => tell(&told, &patience.events, &format!("to {}: {error}", to.name())),
                }
            });
        }
    }

    /// Waits until everything sent is there, or is not going to be; not for long, and not for whoever wants to leave.
    pub(crate) async fn arrived(&mut self) {
        let (stop, deadline) = (self.patience.stop.clone(), tokio::time::sleep(WAITED_FOR));
        tokio::pin!(deadline);
        while !self.under_way.is_empty() {
            tokio::select! {
                _ = self.under_way.join_next() => {}
                () = &mut deadline => break,
                () = stop.requested() => break,
            }
        }
        if !self.under_way.is_empty() {
            self.under_way.abort_all();
            tell(&self.told, &self.patience.events, "in time");
        }
    }
}

/// Tells that copies do not arrive; once until one does.
fn tell(told: &AtomicBool, events: &Events, why: &str) {
    let what = format!("copies of dead letters could not be sent {why}; the table has all of them");
    if told.swap(true, Ordering::Relaxed) {
        tracing::info!("{what}");
    } else {
        events.warn(what);
    }
}

/// The same for each dead letter of one message, whichever commit brings it.
fn id(reject: &Reject) -> String {
    let message = reject.decoding.as_ref().and_then(|decoding| decoding["pubsub"]["id"].as_str());
    let index = reject.index.to_string();
    let mut hasher = blake3::Hasher::new();
    for part in [reject.place.file.as_str(), message.unwrap_or(&index)] {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// A folder with two files for each dead letter: `ID`, its bytes, and `ID.json`, what is known about it.
pub(crate) struct FolderBox(pub(crate) PathBuf);

#[async_trait]
impl Letterbox for FolderBox {
    fn name(&self) -> String {
        format!("the folder {}", self.0.display())
    }

    async fn deliver(&self, copies: &[LetterCopy]) -> Result<()> {
        let (folder, copies) = (self.0.clone(), copies.to_vec());
        let written = tokio::task::spawn_blocking(move || copies.iter().try_for_each(|copy| write(&folder, copy)));
        let written =
            written.await.map_err(|e| Error::new(Kind::Bug, code::BUG, "copying dead letters panicked").caused_by(e))?;
        written.map_err(|e| Error::new(Kind::Source, code::CONFIG, "dead letters cannot be written to their folder").caused_by(e))
    }
}

/// The bytes first, so that whoever finds the other file finds them.
fn write(folder: &Path, copy: &LetterCopy) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let put = |name: String, bytes: &[u8]| {
        let partial = folder.join(format!(".{name}.partial"));
        std::fs::write(&partial, bytes)?;
        std::fs::rename(partial, folder.join(name))
    };
    match &copy.reject.payload {
        Payload::Inline(bytes) => put(copy.id.clone(), bytes)?,
        Payload::File { path, .. } => drop(std::fs::copy(path, folder.join(&copy.id))?),
    }
    let mut about: serde_json::Map<String, serde_json::Value> =
        copy.about().into_iter().map(|(name, value)| (name.trim_start_matches("longshore-").to_owned(), value.into())).collect();
    about.extend(copy.reject.decoding.iter().map(|decoding| ("decoding".to_owned(), (**decoding).clone())));
    put(format!("{}.json", copy.id), serde_json::Value::Object(about).to_string().as_bytes())
}
