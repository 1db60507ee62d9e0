//! `inspect`: who we are, whether the dataset is there, which permissions a run needs and has, and what it would cost.
//!
//! Nothing is made or changed: what is not told by reading is asked by `testIamPermissions` and by dry runs.

mod cost;
mod granted;
mod needs;
mod staging;

use std::collections::BTreeMap;

use longshore_core::Result;
use longshore_core::commit::WriteDisposition;
use longshore_core::destination::{Plan, SchemaChange};
use longshore_core::error::Error;
use longshore_core::inspection::{Finding, Verdict};
use serde_json::json;

use self::cost::{Cost, Merged};
use self::granted::{Asked, There};
use self::needs::{On, Run, Target};
use crate::config::{BigQueryConfig, Changes, Method};
use crate::credentials::Identity;
use crate::error::{Failure, codes};
use crate::jobs;
use crate::rest::Rest;
use crate::stage::Shared;
use crate::tables::{OURS, split_name};

/// A look at everything that a run needs.
pub(crate) struct Inspection<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) settings: &'a BigQueryConfig,
    pub(crate) identity: &'a Identity,
    pub(crate) wanted: &'a [(SchemaChange, Plan)],
    /// What would be read.
    pub(crate) bytes: u64,
}

/// What the first call came to.
enum Contact {
    /// The dataset is there, at this place.
    Made(String),
    /// It is not.
    Missing(Error),
    /// We may not see it.
    Denied,
    /// Nobody answers, or nobody who knows us.
    Failed(Error),
}

impl Inspection<'_> {
    pub(crate) async fn run(&self) -> Result<Vec<Finding>> {
        let mut findings = vec![Finding::fine("identity", self.identity.who())];
        let contact = self.contact().await;
        let location = match &contact {
            Contact::Made(location) => {
                let words = format!("{} in {location}, by {}", self.dataset(), self.settings.rest());
                findings.push(Finding::fine("dataset", words));
                Some(location.as_str())
            }
            Contact::Missing(error) => {
                findings.push(Finding::of_error("dataset", Verdict::Wrong, error));
                None
            }
            Contact::Denied => None,
            Contact::Failed(error) => {
                let subject = if error.code() == codes::CREDENTIALS.name { "credentials" } else { "server" };
                findings.push(Finding::of_error(subject, Verdict::Wrong, error));
                findings.push(self.cost(Vec::new()).finding());
                return Ok(findings);
            }
        };
        let mut asked = Asked::new(&self.shared.tables, location);
        let merged = self.permissions(&mut asked, &contact, &mut findings).await?;
        if let Some((bucket, _)) = &self.shared.bucket {
            let needed = needs::of_bucket(self.shared.method, self.sends_changes());
            staging::look(bucket, &self.shared.tables, &needed, location.is_some(), &mut findings).await;
        }
        findings.push(self.cost(merged).finding());
        findings.extend((self.shared.method == Method::LoadJob).then(cost::quota));
        Ok(findings)
    }

    fn dataset(&self) -> String {
        format!("{}:{}", self.settings.project, self.settings.dataset)
    }

    async fn contact(&self) -> Contact {
        match self.shared.tables.location().await {
            Ok(location) => Contact::Made(location.to_owned()),
            Err(error) if error.code() == codes::DATASET_MISSING.name => Contact::Missing(error),
            Err(error) if error.code() == codes::DENIED.name => Contact::Denied,
            Err(error) => Contact::Failed(error),
        }
    }

    /// Finds out about each permission; returns what statements that replace rows would read.
    async fn permissions(&self, asked: &mut Asked<'_>, contact: &Contact, findings: &mut Vec<Finding>) -> Result<Vec<Merged>> {
        let manager = Rest::new(self.settings.manager(), self.identity.clone())?;
        if matches!(contact, Contact::Missing(_)) {
            asked.project(&manager, &[needs::JOBS_CREATE]).await;
            findings.push(asked.jobs().await);
            return Ok(Vec::new());
        }
        let seen = self.see_tables(asked).await;
        let run = self.needed(&seen);
        let needs = needs::of_bigquery(&run);
        let names: Vec<&'static str> = needs.iter().map(|need| need.permission).collect();
        asked.project(&manager, &names).await;
        // Dry runs count only for who may make jobs.
        findings.push(asked.jobs().await);
        asked.there = seen;
        asked.asked_for = names;
        for need in &needs {
            let finding = match (&need.on, need.permission) {
                (On::Project, _) => continue,
                (On::Dataset, needs::DATASETS_GET) => asked.seen(need.permission, !matches!(contact, Contact::Denied)),
                (On::Dataset, needs::TABLES_LIST) => asked.list().await,
                (On::Dataset, needs::TABLES_CREATE) => asked.create().await,
                (On::Dataset, permission) => asked.on_tables_to_come(permission).await,
                (On::Tables(tables), needs::TABLES_GET) => asked.get(tables),
                (On::Tables(tables), permission) => asked.on_tables(permission, tables).await,
            };
            findings.push(finding);
        }
        Ok(self.merged(asked).await)
    }

    /// Whether each table is there.
    async fn see_tables(&self, asked: &Asked<'_>) -> BTreeMap<String, There> {
        let mut seen = BTreeMap::new();
        for table in self.wanted.iter().map(|(change, _)| name(change)).chain([OURS]) {
            if !seen.contains_key(table) {
                seen.insert(table.to_owned(), asked.there(table).await);
            }
        }
        seen
    }

    fn needed(&self, seen: &BTreeMap<String, There>) -> Run {
        let there = |table: &str| seen.get(table) == Some(&There::Yes);
        let target = |(change, plan): &(SchemaChange, Plan)| Target {
            name: name(change).to_owned(),
            there: there(name(change)),
            changes: plan.existed && !plan.changes.is_empty(),
            // To see that it is empty, or because MERGE reads it.
            read: change.disposition == WriteDisposition::Empty || self.merges(change),
        };
        let targets: Vec<Target> = self.wanted.iter().map(target).collect();
        Run { targets, marks: there(OURS), own_tables: self.wanted.iter().any(|(change, _)| self.merges(change)) }
    }

    /// Whether the table's rows come by way of a table of ours and a MERGE.
    fn merges(&self, change: &SchemaChange) -> bool {
        let replaces = change.disposition == WriteDisposition::Truncate && self.shared.method != Method::LoadJob;
        replaces || (self.shared.changes == Changes::Merge && !change.options.key.is_empty())
    }

    /// Whether changes by key would be sent from files of ours.
    fn sends_changes(&self) -> bool {
        self.shared.changes == Changes::Cdc && self.wanted.iter().any(|(change, _)| !change.options.key.is_empty())
    }

    /// What each MERGE would read of its table.
    async fn merged(&self, asked: &Asked<'_>) -> Vec<Merged> {
        let mut merged = Vec::new();
        for (change, _) in self.wanted.iter().filter(|(change, _)| self.merges(change)) {
            let tables = &self.shared.tables;
            let bytes = match asked.there.get(name(change)) {
                Some(There::No) => Some(0),
                Some(There::Yes) => {
                    let sql = format!("SELECT * FROM {}", tables.sql_name(&change.table));
                    jobs::dry_run(tables, asked.location, "dry run of a query", &sql).await.ok()
                }
                _ => None,
            };
            merged.push(Merged { table: name(change).to_owned(), bytes });
        }
        merged
    }

    fn cost(&self, merged: Vec<Merged>) -> Cost {
        Cost { method: self.shared.method, bytes: self.bytes, merged }
    }
}

/// The table that is written, without the partition.
fn name(change: &SchemaChange) -> &str {
    split_name(&change.table).0
}

/// Those of some permissions that `testIamPermissions` says that we have, on what `path` names.
async fn test_permissions(rest: &Rest, doing: &str, path: &str, permissions: &[&'static str]) -> Result<Vec<String>, Failure> {
    let answer = rest.post(doing, &format!("{path}:testIamPermissions"), &json!({"permissions": permissions})).await?;
    Ok(crate::rest::texts(&answer["permissions"]))
}
