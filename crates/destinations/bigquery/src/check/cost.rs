//! What a run costs, by Google's list prices.

use longshore_core::inspection::Finding;
use longshore_core::show;
use serde_json::json;

use crate::config::Method;

/// List prices of the US multi-region, in US dollars: where they stand, and when they were looked up.
mod prices {
    pub(super) const SOURCE: &str = "https://cloud.google.com/bigquery/pricing";
    pub(super) const FOUND: &str = "November 2026";
    /// A gibibyte by Storage Write, whatever the stream.
    pub(super) const STORAGE_WRITE_GIB: f64 = 0.025;
    /// Of which so many tebibytes are free in a month.
    pub(super) const STORAGE_WRITE_FREE_TIB: u64 = 2;
    /// 200 MB by `insertAll`; a row counts as 1 kB at least.
    pub(super) const INSERT_ALL_200_MB: f64 = 0.01;
    /// A tebibyte that a query reads, on demand.
    pub(super) const QUERY_TIB: f64 = 6.25;
    /// A gibibyte of a table for a month: active, logical.
    pub(super) const STORAGE_GIB_MONTH: f64 = 0.02;
}

/// Load jobs that a table takes in a day, failed ones included.
/// Source: <https://cloud.google.com/bigquery/quotas#load_jobs>
const LOAD_JOBS_A_DAY: u32 = 1_500;

const GIB: f64 = (1u64 << 30) as f64;
const TIB: f64 = (1u64 << 40) as f64;

/// What a run would move.
pub(super) struct Cost {
    pub(super) method: Method,
    /// What it would read: about what it would load.
    pub(super) bytes: u64,
    /// The tables that get their rows by MERGE.
    pub(super) merged: Vec<Merged>,
}

/// A table that gets its rows by MERGE.
pub(super) struct Merged {
    pub(super) table: String,
    /// What is in it, if that could be found out.
    pub(super) bytes: Option<u64>,
}

impl Cost {
    pub(super) fn finding(&self) -> Finding {
        if self.bytes == 0 {
            return Finding::fine("cost", "nothing to load").number("bytes", 0).number("loading_usd", 0.0);
        }
        let gib = self.bytes as f64 / GIB;
        let (loading, mut words) = self.loading(gib);
        let keeping = gib * prices::STORAGE_GIB_MONTH;
        let mut finding = Finding::fine("cost", "").number("bytes", self.bytes).number("loading_usd", json!(loading));
        if !self.merged.is_empty() {
            // It reads the new rows, too.
            let read = self.bytes + self.merged.iter().filter_map(|merged| merged.bytes).sum::<u64>();
            let querying = read as f64 / TIB * prices::QUERY_TIB;
            words += &format!("; {} for MERGE, which reads {} on demand", dollars(querying), show::bytes(read));
            let unknown: Vec<&str> =
                self.merged.iter().filter(|merged| merged.bytes.is_none()).map(|merged| merged.table.as_str()).collect();
            if !unknown.is_empty() {
                words += &format!(" and the rows of {}", unknown.join(", "));
            }
            finding = finding.number("query_bytes", read).number("query_usd", json!(querying));
        }
        finding.words = format!("about {} {words}; {} a month to keep it", show::bytes(self.bytes), dollars(keeping));
        let hint =
            format!("list prices of the US as found in {}; they differ elsewhere and change: {}", prices::FOUND, prices::SOURCE);
        finding.number("storage_usd_a_month", json!(keeping)).hint(hint)
    }

    fn loading(&self, gib: f64) -> (f64, String) {
        match self.method {
            Method::LoadJob => (0.0, "by load jobs: no charge for loading".to_owned()),
            Method::InsertAll => {
                let usd = self.bytes as f64 / (200 << 20) as f64 * prices::INSERT_ALL_200_MB;
                (usd, format!("by insertAll: {}, more if rows are smaller than 1 kB", dollars(usd)))
            }
            Method::Auto | Method::StorageWrite | Method::StorageWriteDefault | Method::StorageWritePending => {
                let usd = gib * prices::STORAGE_WRITE_GIB;
                let free = prices::STORAGE_WRITE_FREE_TIB;
                (usd, format!("by Storage Write: {} once the month's free {free} TiB are used up", dollars(usd)))
            }
        }
    }
}

/// How many load jobs a run takes of those that there are.
pub(super) fn quota() -> Finding {
    let most = format!("{},{:03}", LOAD_JOBS_A_DAY / 1_000, LOAD_JOBS_A_DAY % 1_000);
    let words = format!("a load job for each table and commit; a table takes {most} a day, failed ones included");
    Finding::fine("quota", words).number("load_jobs_a_table_and_day", LOAD_JOBS_A_DAY)
}

/// Money for people: cents, and nothing finer.
fn dollars(usd: f64) -> String {
    if usd < 0.01 { "less than USD 0.01".to_owned() } else { format!("about USD {usd:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A_GIB: u64 = 1 << 30;

    fn of(method: Method, bytes: u64, merged: Vec<Merged>) -> Finding {
        Cost { method, bytes, merged }.finding()
    }

    #[test]
    fn load_jobs_cost_nothing_but_keeping_the_rows() {
        let cost = of(Method::LoadJob, A_GIB + A_GIB / 5, Vec::new());
        assert_eq!(cost.words, "about 1.2 GiB by load jobs: no charge for loading; about USD 0.02 a month to keep it");
        assert_eq!((&cost.numbers["loading_usd"], &cost.numbers["bytes"]), (&json!(0.0), &json!(1_288_490_188)));
        assert!(cost.hint.is_some_and(|hint| hint.contains("list prices of the US")));
    }

    #[test]
    fn streams_are_paid_for_once_the_free_part_is_used_up() {
        let words = "about 40.0 GiB by Storage Write: about USD 1.00 once the month's free 2 TiB are used up; about USD 0.80 a month to keep it";
        for method in [Method::StorageWrite, Method::StorageWriteDefault, Method::StorageWritePending] {
            assert_eq!(of(method, 40 * A_GIB, Vec::new()).words, words);
        }
        let cost = of(Method::InsertAll, 40 * A_GIB, Vec::new());
        let words =
            "about 40.0 GiB by insertAll: about USD 2.05, more if rows are smaller than 1 kB; about USD 0.80 a month to keep it";
        assert_eq!(cost.words, words);
    }

    #[test]
    fn a_merge_reads_the_table_and_the_new_rows() {
        let merged = |bytes| Merged { table: "orders".into(), bytes };
        let cost = of(Method::StorageWrite, A_GIB, vec![merged(Some(1023 * A_GIB))]);
        assert!(cost.words.contains("; about USD 6.25 for MERGE, which reads 1.0 TiB on demand; "), "{}", cost.words);
        assert_eq!((&cost.numbers["query_bytes"], &cost.numbers["query_usd"]), (&json!(1u64 << 40), &json!(6.25)));
        let cost = of(Method::StorageWrite, A_GIB, vec![merged(None)]);
        assert!(cost.words.contains("reads 1.0 GiB on demand and the rows of orders"), "{}", cost.words);
    }

    #[test]
    fn what_is_hardly_anything_is_not_shown_as_zero() {
        assert!(of(Method::StorageWrite, 10, Vec::new()).words.ends_with("less than USD 0.01 a month to keep it"));
        assert_eq!(of(Method::StorageWrite, 0, Vec::new()).words, "nothing to load");
    }
}
