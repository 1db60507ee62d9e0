//! Which permissions a run needs, and on what.
//!
//! Sources: <https://cloud.google.com/bigquery/docs/access-control>, and for the methods
//! <https://cloud.google.com/bigquery/docs/write-api#required_permissions>,
//! <https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet#required_permissions>.

use crate::config::Method;
use crate::tables::OURS;

pub(super) const DATASETS_GET: &str = "bigquery.datasets.get";
pub(super) const TABLES_GET: &str = "bigquery.tables.get";
pub(super) const TABLES_LIST: &str = "bigquery.tables.list";
pub(super) const TABLES_CREATE: &str = "bigquery.tables.create";
pub(super) const TABLES_UPDATE: &str = "bigquery.tables.update";
pub(super) const TABLES_UPDATE_DATA: &str = "bigquery.tables.updateData";
pub(super) const TABLES_GET_DATA: &str = "bigquery.tables.getData";
pub(super) const TABLES_DELETE: &str = "bigquery.tables.delete";
pub(super) const JOBS_CREATE: &str = "bigquery.jobs.create";
pub(super) const BUCKETS_GET: &str = "storage.buckets.get";

const OBJECTS: [&str; 4] = ["storage.objects.create", "storage.objects.get", "storage.objects.list", "storage.objects.delete"];

/// A permission, and where it must be had.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) permission: &'static str,
    pub(super) on: On,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum On {
    Project,
    Dataset,
    /// Tables, there or to come.
    Tables(Vec<String>),
}

/// What a run would do, as far as permissions depend on it.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) targets: Vec<Target>,
    /// Whether the table of marks is there.
    pub(super) marks: bool,
    /// Whether rows wait in tables of ours, which go afterwards.
    pub(super) own_tables: bool,
}

/// A table that rows would go to.
#[derive(Debug, Default)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) there: bool,
    /// Whether its columns or options would change.
    pub(super) changes: bool,
    /// Whether its rows would be read.
    pub(super) read: bool,
}

/// What a run needs of BigQuery.
pub(super) fn of_bigquery(run: &Run) -> Vec<Need> {
    let names = |wanted: &dyn Fn(&Target) -> bool| -> Vec<String> {
        run.targets.iter().filter(|target| wanted(target)).map(|target| target.name.clone()).collect()
    };
    let with_marks = |mut tables: Vec<String>| {
        tables.push(OURS.to_owned());
        On::Tables(tables)
    };
    let need = |permission, on| Need { permission, on };
    let mut needs = vec![
        need(JOBS_CREATE, On::Project),
        need(DATASETS_GET, On::Dataset),
        need(TABLES_GET, On::Tables(names(&|_| true))),
        need(TABLES_LIST, On::Dataset),
    ];
    if run.own_tables || !run.marks || run.targets.iter().any(|target| !target.there) {
        needs.push(need(TABLES_CREATE, On::Dataset));
    }
    if run.targets.iter().any(|target| target.changes) {
        needs.push(need(TABLES_UPDATE, On::Tables(names(&|target| target.changes))));
    }
    needs.push(need(TABLES_UPDATE_DATA, with_marks(names(&|_| true))));
    // The marks are read by a query.
    needs.push(need(TABLES_GET_DATA, with_marks(names(&|target| target.read))));
    if run.own_tables {
        needs.push(need(TABLES_DELETE, On::Dataset));
    }
    needs
}

/// What a run needs of the bucket: load jobs read files there, what shows at once is sent from there, and in every case it is swept.
pub(super) fn of_bucket(method: Method, sends_changes: bool) -> Vec<&'static str> {
    match method {
        Method::LoadJob => [BUCKETS_GET].into_iter().chain(OBJECTS).collect(),
        Method::StorageWriteDefault | Method::InsertAll => OBJECTS.to_vec(),
        _ if sends_changes => OBJECTS.to_vec(),
        Method::Auto | Method::StorageWrite | Method::StorageWritePending => vec!["storage.objects.list"],
    }
}

/// The smallest predefined role that has what a run needs of the same thing; the guide to BigQuery lists the same four.
pub(super) fn role(permission: &str) -> &'static str {
    match permission {
        JOBS_CREATE => "roles/bigquery.jobUser",
        BUCKETS_GET => "roles/storage.legacyBucketReader",
        _ if permission.starts_with("storage.") => "roles/storage.objectAdmin",
        _ => "roles/bigquery.dataEditor",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(run: &Run) -> Vec<&'static str> {
        of_bigquery(run).into_iter().map(|need| need.permission).collect()
    }

    #[test]
    fn tables_are_made_changed_and_removed_only_where_a_run_does_that() {
        let there = |changes, read| Target { name: "t".into(), there: true, changes, read };
        let always = [JOBS_CREATE, DATASETS_GET, TABLES_GET, TABLES_LIST, TABLES_UPDATE_DATA, TABLES_GET_DATA];
        let of = |target, own_tables| permissions(&Run { targets: vec![target], marks: true, own_tables });
        assert_eq!(of(there(false, false), false), always);
        assert!(of(there(true, false), false).contains(&TABLES_UPDATE));
        let missing = of(Target { name: "t".into(), ..Target::default() }, false);
        assert!(missing.contains(&TABLES_CREATE) && !missing.contains(&TABLES_DELETE));
        let own = of(there(false, true), true);
        assert!(own.contains(&TABLES_CREATE) && own.contains(&TABLES_DELETE));
        assert!(permissions(&Run { targets: vec![there(false, false)], ..Run::default() }).contains(&TABLES_CREATE), "the marks");
    }

    #[test]
    fn a_table_is_read_only_where_that_is_needed_and_the_marks_always() {
        let of = |read| {
            let targets = vec![Target { name: "t".into(), there: true, changes: false, read }];
            let needs = of_bigquery(&Run { targets, marks: true, own_tables: false });
            needs.into_iter().find(|need| need.permission == TABLES_GET_DATA).expect("always").on
        };
        assert_eq!(of(false), On::Tables(vec![OURS.into()]));
        assert_eq!(of(true), On::Tables(vec!["t".into(), OURS.into()]));
    }

    #[test]
    fn a_bucket_is_needed_for_what_the_method_does_with_it() {
        assert_eq!(of_bucket(Method::LoadJob, false).len(), 5);
        assert_eq!(of_bucket(Method::InsertAll, false), OBJECTS);
        assert_eq!(of_bucket(Method::StorageWrite, true), OBJECTS);
        assert_eq!(of_bucket(Method::StorageWrite, false), ["storage.objects.list"]);
    }
}
