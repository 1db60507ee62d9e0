//! Work on an ordered stream by several threads at once, results in the stream's order.

use futures::stream::{BoxStream, StreamExt};

use crate::error::{Error, Kind, Result, code};

/// Applies `work` to each item on `lanes` threads. Results come in the order of the items; at most `lanes` items are in
/// work or done and not yet taken. An error of the stream is passed on in its place; a panic of `work` becomes a `bug`.
pub fn in_lanes<T, R, F>(items: BoxStream<'static, Result<T>>, lanes: usize, work: F) -> BoxStream<'static, Result<R>>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(T) -> Result<R> + Clone + Send + 'static,
{
    items
        .map(move |item| {
            let work = work.clone();
            async move {
                let item = item?;
                tokio::task::spawn_blocking(move || work(item))
                    .await
                    .map_err(|e| Error::new(Kind::Bug, code::BUG, "a lane panicked").caused_by(e))?
            }
        })
        // Started as soon as they are polled: `buffered` polls all of its futures whenever one is ready.
        .buffered(lanes.max(1))
        .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_come_in_order_and_errors_in_their_place() {
        let items = futures::stream::iter((0..100u64).map(Ok)).boxed();
        let slow_first = |i: u64| {
            std::thread::sleep(std::time::Duration::from_micros((100 - i) * 10));
            Ok(i)
        };
        let results: Vec<u64> = in_lanes(items, 4, slow_first).map(|r| r.expect("fine")).collect().await;
        assert_eq!(results, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_panic_in_a_lane_is_an_error() {
        let items = futures::stream::iter([Ok(1)]).boxed();
        let mut results = in_lanes::<i32, (), _>(items, 1, |_| panic!("on purpose"));
        assert_eq!(results.next().await.expect("one").expect_err("panicked").code(), "bug");
    }
}
