//! Checkpoints, off the hot path: readers need not walk the whole log. Written by the library, synced by us.

use futures::FutureExt;
use futures::future::BoxFuture;
use longshore_core::Result;
use longshore_core::error::Retry;

use crate::error::{codes, destination, first_line};
use crate::log::LOG;
use crate::storage::Storage;
use crate::table::blocking;

/// Versions between two checkpoints.
pub(crate) const INTERVAL: u64 = 100;

/// Writes the checkpoint of a version. Never removes an entry.
pub(crate) fn write(storage: Storage, folder: String, version: u64) -> BoxFuture<'static, Result<()>> {
    async move {
        let address = storage.address(&folder);
        let failed = |why: String| {
            destination(codes::IO, format!("cannot write the checkpoint of version {version} of {}: {why}", address.display()))
                .with_retry(Retry::Backoff)
        };
        let url = url::Url::from_directory_path(&address).map_err(|()| failed("its path is no address".into()))?;
        let builder = deltalake::DeltaTableBuilder::from_url(url).map_err(|e| failed(first_line(e)))?;
        let table = builder.with_version(version).load().await.map_err(|e| failed(first_line(e)))?;
        deltalake::protocol::checkpoints::create_checkpoint(&table, None).await.map_err(|e| failed(first_line(e)))?;
        // The library does not sync: until here a power cut could leave a checkpoint whose name is durable and whose
        // content is not.
        blocking(move || {
            let log = format!("{folder}/{LOG}");
            storage.sync_file(&format!("{log}/{version:020}.checkpoint.parquet"))?;
            storage.sync_file(&format!("{log}/_last_checkpoint"))?;
            storage.sync_dir(&log)
        })
        .await
    }
    .boxed()
}
