//! One budget for each project, shared by everything in this process that writes there.
//!
//! BigQuery limits how often things may be done, by table and by project. A budget holds work back before it runs into a limit that is known;
//! and if BigQuery says that a limit is reached, everybody who would spend from the same budget waits, not only the one who was told.
//! Other processes spend, too, so refusals come all the same.
//!
//! Source: <https://cloud.google.com/bigquery/quotas>

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use longshore_core::error::{Error, Kind, code};
use longshore_core::retry::Patience;
use tokio::time::Instant;

use crate::error::Failure;

/// The wait after a first refusal that names none; doubles with each one that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// So long after a budget was opened again, a refusal is a new first one.
const CALM: Duration = Duration::from_secs(60);

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Spent<'a> {
    /// A stream of the project: 10,000 an hour, and slow beyond some forty a second.
    Stream,
    /// So many bytes to streams of the project: 300 MB a second, the least of all regions.
    Append(u32),
    /// A load job for a table: 1,500 a day, of 100,000 in the project.
    Load(&'a str),
    /// A change of a table's description: 5 in 10 seconds.
    Change(&'a str),
    /// A query or another job: no limit that could be planned for.
    Job,
}

/// So much at once, and so much again each second.
struct Limit {
    name: String,
    most: f64,
    each_second: f64,
}

impl Spent<'_> {
    fn amount(self) -> f64 {
        match self {
            Spent::Append(bytes) => f64::from(bytes),
            _ => 1.0,
        }
    }

    fn limits(self, dataset: &str) -> Vec<Limit> {
        const DAY: f64 = 86_400.0;
        let limit = |name: String, most: f64, each_second: f64| Limit { name, most, each_second };
        match self {
            // Half of the hour's may be spent at once: fifty tables that are begun together need a hundred.
            Spent::Stream => {
                vec![limit("new streams".into(), 40.0, 40.0), limit("new streams in an hour".into(), 5_000.0, 5_000.0 / 3600.0)]
            }
            Spent::Append(_) => vec![limit("bytes to streams".into(), 600e6, 300e6)],
            Spent::Load(table) => vec![
                limit(format!("load jobs of table {dataset}.{table}"), 1_500.0, 1_500.0 / DAY),
                limit("load jobs".into(), 100_000.0, 100_000.0 / DAY),
            ],
            Spent::Change(table) => vec![limit(format!("changes of table {dataset}.{table}"), 5.0, 0.5)],
            Spent::Job => vec![limit("jobs".into(), f64::INFINITY, 0.0)],
        }
    }
}

/// What is left of one limit.
struct Bucket {
    left: f64,
    at: Instant,
    /// BigQuery has said that the limit is reached: nobody spends before then.
    closed_until: Option<Instant>,
    refusals: u32,
}

impl Bucket {
    fn full(limit: &Limit, now: Instant) -> Self {
        Self { left: limit.most, at: now, closed_until: None, refusals: 0 }
    }

    /// Takes so much, or says how long until there is so much.
    fn wait(&mut self, limit: &Limit, amount: f64, now: Instant) -> Option<Duration> {
        self.left = limit.most.min(self.left + limit.each_second * now.duration_since(self.at).as_secs_f64());
        self.at = now;
        if let Some(until) = self.closed_until.filter(|until| *until > now) {
            return Some(until - now);
        }
        // What is larger than all there may be takes all there is.
        let missing = amount.min(limit.most) - self.left;
        (missing > 0.0).then(|| Duration::from_secs_f64((missing / limit.each_second).max(0.001)))
    }

    fn refused(&mut self, asked: Option<Duration>, now: Instant) -> Duration {
        if self.closed_until.is_some_and(|until| now > until + CALM) {
            self.refusals = 0;
        }
        let pause = asked.unwrap_or_else(|| FIRST_PAUSE.saturating_mul(1 << self.refusals.min(10)).min(LONGEST_PAUSE));
        self.refusals += 1;
        self.closed_until = self.closed_until.max(Some(now + pause));
        pause
    }
}

type Buckets = Arc<Mutex<HashMap<String, Bucket>>>;

/// The budget of a project.
#[derive(Clone)]
pub(crate) struct Quota {
    buckets: Buckets,
    /// Whose tables are meant.
    dataset: Arc<str>,
    patience: Arc<Mutex<Patience>>,
}

impl std::fmt::Debug for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Quota")
    }
}

impl Quota {
    /// The budget of this project of this server; tables are those of the dataset.
    pub(crate) fn of(server: &str, project: &str, dataset: &str) -> Self {
        static ALL: LazyLock<Mutex<HashMap<String, Buckets>>> = LazyLock::new(Mutex::default);
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = all.entry(format!("{server}/{project}")).or_default().clone();
        Self { buckets, dataset: dataset.into(), patience: Arc::default() }
    }

    /// Says where waits are told and what ends them.
    pub(crate) fn attend(&self, patience: &Patience) {
        *self.patience.lock().unwrap_or_else(PoisonError::into_inner) = patience.clone();
    }

    pub(crate) fn patience(&self) -> Patience {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until this may be spent, then spends it by the call. A refusal for a reached limit closes the budget for everybody, and
    /// says how long.
    ///
    /// Errors besides those of the call: `interrupted` if the wait was ended.
    pub(crate) async fn spend<T>(&self, what: Spent<'_>, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.take(what).await?;
        match call.await {
            Err(Failure::Refused(mut refusal)) if refusal.is_quota() => {
                refusal.retry_after = Some(self.refused(what, refusal.retry_after));
                Err(Failure::Refused(refusal))
            }
            answer => answer,
        }
    }

    /// Waits until this may be spent, and counts it.
    ///
    /// Errors: `interrupted`.
    pub(crate) async fn take(&self, what: Spent<'_>) -> longshore_core::Result<()> {
        while let Some((wait, name)) = self.try_take(what) {
            let why = || format!("the quota of {name} is used up");
            if !self.patience().wait(wait, why).await {
                return Err(Error::new(Kind::Interrupted, code::INTERRUPTED, format!("stopped while {}", why())));
            }
        }
        Ok(())
    }

    /// Counts it, or says how long to wait for what.
    fn try_take(&self, what: Spent<'_>) -> Option<(Duration, String)> {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = what.limits(&self.dataset);
        for limit in &limits {
            let bucket = buckets.entry(limit.name.clone()).or_insert_with(|| Bucket::full(limit, now));
            if let Some(wait) = bucket.wait(limit, what.amount(), now) {
                return Some((wait, limit.name.clone()));
            }
        }
        for limit in limits {
            if let Some(bucket) = buckets.get_mut(&limit.name) {
                bucket.left -= what.amount().min(limit.most);
            }
        }
        None
    }

    /// BigQuery says that a limit is reached. It does not say which: the narrowest is closed. Returns for how long.
    pub(crate) fn refused(&self, what: Spent<'_>, asked: Option<Duration>) -> Duration {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(limit) = what.limits(&self.dataset).into_iter().next() else { return FIRST_PAUSE };
        buckets.entry(limit.name.clone()).or_insert_with(|| Bucket::full(&limit, now)).refused(asked, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_known_to_be_limited_is_held_back_by_table() {
        let quota = Quota::of("here", "held-back", "d");
        let begin = Instant::now();
        for _ in 0..7 {
            quota.take(Spent::Change("a")).await.expect("waits");
        }
        assert_eq!(begin.elapsed().as_secs_f64().round(), 4.0, "five at once, then one in two seconds");
        quota.take(Spent::Change("b")).await.expect("another table");
        assert_eq!(begin.elapsed().as_secs_f64().round(), 4.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_streams_are_there_in_seconds_and_no_hour_sees_more_than_ten_thousand() {
        let quota = Quota::of("here", "streams", "d");
        let begin = Instant::now();
        for _ in 0..100 {
            quota.take(Spent::Stream).await.expect("waits");
        }
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        let mut streams = 100;
        while begin.elapsed() < Duration::from_secs(3600) {
            quota.take(Spent::Stream).await.expect("waits");
            streams += 1;
        }
        assert!((9_900..=10_001).contains(&streams), "{streams}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_holds_back_everybody_who_shares_the_budget_and_is_told() {
        let (one, two) = (Quota::of("here", "shared", "d"), Quota::of("here", "shared", "d"));
        let other = Quota::of("there", "shared", "d");
        assert_eq!(one.refused(Spent::Load("t"), Some(Duration::from_secs(40))), Duration::from_secs(40));
        let begin = Instant::now();
        other.take(Spent::Load("t")).await.expect("another server");
        two.take(Spent::Load("u")).await.expect("another table");
        Quota::of("here", "shared", "e").take(Spent::Load("t")).await.expect("another dataset");
        assert_eq!(begin.elapsed(), Duration::ZERO);
        two.take(Spent::Load("t")).await.expect("waits");
        assert_eq!(begin.elapsed(), Duration::from_secs(40));
        let pauses: Vec<u64> = (0..10).map(|_| one.refused(Spent::Job, None).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(one.refused(Spent::Job, None).as_secs(), 1, "long after the last one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_to_stop_ends_the_wait() {
        let quota = Quota::of("here", "stopped", "d");
        let patience = Patience::default();
        patience.stop.request();
        quota.attend(&patience);
        quota.refused(Spent::Stream, Some(Duration::from_secs(1000)));
        let error = quota.take(Spent::Stream).await.expect_err("stopped");
        assert_eq!(error.kind(), Kind::Interrupted);
    }
}
