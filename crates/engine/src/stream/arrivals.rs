//! Deliveries on their way through the lanes.

use std::sync::{Arc, PoisonError};

use futures::stream::{BoxStream, StreamExt, poll_fn};
use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use longshore_core::lanes::in_lanes;
use longshore_core::stream::{Arrival, Decode, Decoded, Delivery, Tables};
use tokio::sync::mpsc;

use super::reader::Arrived;
use super::tables::Shared;

/// A delivery after its lane, with the state of the tables that it was decoded for.
pub(crate) struct Arrivee {
    pub(crate) generation: u64,
    pub(crate) what: What,
}

/// What a worker deals with.
pub(crate) enum What {
    Delivery(Delivery, Result<Decoded>, u64),
    CaughtUp,
    Rebalance,
    /// The source failed. It is read again after a rewind.
    Failed(Error),
}

/// Arrivals in order, decoded on lanes.
pub(crate) fn decoded(
    mut arrivals: mpsc::Receiver<Arrived>,
    shared: Shared,
    lanes: usize,
) -> BoxStream<'static, Result<Arrivee>> {
    let arrivals = poll_fn(move |cx| arrivals.poll_recv(cx)).map(Ok).boxed();
    in_lanes(arrivals, lanes, move |Arrived { generation, arrival }| {
        let what = match arrival {
            Ok(Arrival::Delivery(delivery)) => {
                let snapshot = shared.read().unwrap_or_else(PoisonError::into_inner).clone();
                let decoded = delivery.decode.decode(&snapshot.tables);
                What::Delivery(delivery, decoded, snapshot.version)
            }
            Ok(Arrival::CaughtUp) => What::CaughtUp,
            Ok(Arrival::Rebalance) => What::Rebalance,
            Err(error) => What::Failed(error),
        };
        Ok(Arrivee { generation, what })
    })
}

/// Decodes once more.
pub(crate) async fn on_a_thread(decode: Arc<dyn Decode>, tables: Tables) -> Result<Result<Decoded>> {
    tokio::task::spawn_blocking(move || decode.decode(&tables))
        .await
        .map_err(|e| Error::new(Kind::Bug, code::BUG, "decoding panicked").caused_by(e))
}
