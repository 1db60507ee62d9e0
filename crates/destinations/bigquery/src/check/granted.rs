//! Whether permissions are granted. Cloud Resource Manager tells what is granted on the whole project; a table that is there tells
//! what is granted on it; and BigQuery looks at permissions in dry runs. What none of them tells is not known.

use std::collections::BTreeMap;

use longshore_core::inspection::{Finding, Verdict};

use super::needs::{self, JOBS_CREATE, TABLES_CREATE, TABLES_GET, TABLES_GET_DATA, TABLES_LIST, TABLES_UPDATE_DATA, role};
use super::test_permissions;
use crate::error::Failure;
use crate::jobs;
use crate::rest::Rest;
use crate::tables::{OURS, Tables};

/// Whether a table is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    Yes,
    No,
    /// We may not know.
    Denied,
    Unknown,
}

/// What was asked, and what the answers were.
pub(super) struct Asked<'a> {
    tables: &'a Tables,
    /// Where the dataset is, if that is known.
    pub(super) location: Option<&'a str>,
    /// The tables that were looked at.
    pub(super) there: BTreeMap<String, There>,
    /// All permissions that a table may be asked for.
    pub(super) asked_for: Vec<&'static str>,
    /// What is granted on the whole project.
    on_project: Vec<String>,
    /// What is granted on each table; nothing if nobody tells.
    on_table: BTreeMap<String, Option<Vec<String>>>,
    /// Whether we may make jobs.
    jobs: bool,
}

impl<'a> Asked<'a> {
    pub(super) fn new(tables: &'a Tables, location: Option<&'a str>) -> Self {
        Self {
            tables,
            location,
            there: BTreeMap::new(),
            asked_for: Vec::new(),
            on_project: Vec::new(),
            on_table: BTreeMap::new(),
            jobs: false,
        }
    }

    /// Asks what is granted on the project. Where that API is not switched on, or not served, nothing is known to be.
    /// Source: <https://cloud.google.com/resource-manager/reference/rest/v1/projects/testIamPermissions>
    pub(super) async fn project(&mut self, manager: &Rest, permissions: &[&'static str]) {
        let path = format!("/v1/projects/{}", self.tables.project);
        let granted = test_permissions(manager, "projects.testIamPermissions", &path, permissions).await;
        self.on_project = granted.unwrap_or_default();
    }

    /// Whether a table is there, by asking for it.
    pub(super) async fn there(&self, table: &str) -> There {
        let path = self.tables.path(&format!("/tables/{table}"));
        match self.tables.rest().get(&format!("tables.get {table}"), &path, &[]).await {
            Ok(_) => There::Yes,
            Err(Failure::Refused(refusal)) if refusal.is_missing() => There::No,
            Err(Failure::Refused(refusal)) if refusal.is_denied() => There::Denied,
            Err(_) => There::Unknown,
        }
    }

    /// Whether we may make jobs: that is granted on a project only, and a dry run needs it as a real one does.
    pub(super) async fn jobs(&mut self) -> Finding {
        let granted = if self.has(JOBS_CREATE) { Some(true) } else { self.dry_run(JOBS_CREATE, "SELECT 1").await };
        self.jobs = granted == Some(true);
        self.finding(JOBS_CREATE, granted, &self.project_name())
    }

    /// Whether the tables can be listed, by listing one.
    pub(super) async fn list(&self) -> Finding {
        let listed = self.tables.rest().get("tables.list", &self.tables.path("/tables"), &[("maxResults", "1")]).await;
        let granted = told(TABLES_LIST, listed.map(drop));
        self.finding(TABLES_LIST, granted, &self.dataset_name())
    }

    /// What was seen when the dataset was asked for.
    pub(super) fn seen(&self, permission: &'static str, seen: bool) -> Finding {
        self.finding(permission, Some(seen), &self.dataset_name())
    }

    /// Whether tables can be asked for, as they were.
    pub(super) fn get(&self, tables: &[String]) -> Finding {
        let granted = |table: &String| match self.there.get(table) {
            Some(There::Yes | There::No) => Some(true),
            Some(There::Denied) => Some(false),
            Some(There::Unknown) | None => None,
        };
        let answers: Vec<(String, Option<bool>)> = tables.iter().map(|table| (table.clone(), granted(table))).collect();
        self.of_tables(TABLES_GET, &answers)
    }

    /// Whether tables can be made.
    pub(super) async fn create(&self) -> Finding {
        let statement = || format!("CREATE TABLE {} (x INT64)", self.tables.sql_name(&format!("{OURS}_check")));
        let granted = if self.has(TABLES_CREATE) { Some(true) } else { self.try_statement(TABLES_CREATE, &statement()).await };
        self.finding(TABLES_CREATE, granted, &self.dataset_name())
    }

    /// Whether something is granted on tables that a run makes for itself: they have what the dataset has, as the table of marks does.
    pub(super) async fn on_tables_to_come(&mut self, permission: &'static str) -> Finding {
        let granted = if self.has(permission) { Some(true) } else { self.on_table(permission, OURS).await };
        self.finding(permission, granted, &self.dataset_name())
    }

    /// Whether something is granted on each of these tables.
    pub(super) async fn on_tables(&mut self, permission: &'static str, tables: &[String]) -> Finding {
        let mut answers = Vec::new();
        for table in tables {
            let granted = if self.has(permission) { Some(true) } else { self.on_table(permission, table).await };
            answers.push((table.clone(), granted));
        }
        self.of_tables(permission, &answers)
    }

    fn has(&self, permission: &str) -> bool {
        self.on_project.iter().any(|granted| granted == permission)
    }

    async fn on_table(&mut self, permission: &'static str, table: &str) -> Option<bool> {
        if self.there.get(table) != Some(&There::Yes) {
            return None;
        }
        if !self.on_table.contains_key(table) {
            let path = self.tables.path(&format!("/tables/{table}"));
            let doing = format!("tables.testIamPermissions {table}");
            let granted = test_permissions(self.tables.rest(), &doing, &path, &self.asked_for).await;
            self.on_table.insert(table.to_owned(), granted.ok());
        }
        if let Some(Some(granted)) = self.on_table.get(table) {
            return Some(granted.iter().any(|granted| granted == permission));
        }
        let name = self.tables.sql_name(table);
        match permission {
            TABLES_GET_DATA => self.try_statement(permission, &format!("SELECT 1 FROM {name} LIMIT 0")).await,
            TABLES_UPDATE_DATA => self.try_statement(permission, &format!("DELETE FROM {name} WHERE FALSE")).await,
            _ => None,
        }
    }

    /// What a dry run tells of a permission, if we may make jobs at all.
    async fn try_statement(&self, permission: &'static str, sql: &str) -> Option<bool> {
        if self.jobs { self.dry_run(permission, sql).await } else { None }
    }

    async fn dry_run(&self, permission: &'static str, sql: &str) -> Option<bool> {
        told(permission, jobs::dry_run(self.tables, self.location, "dry run", sql).await.map(drop))
    }

    fn project_name(&self) -> String {
        format!("project {}", self.tables.project)
    }

    fn dataset_name(&self) -> String {
        format!("dataset {}:{}", self.tables.project, self.tables.dataset)
    }

    fn of_tables(&self, permission: &'static str, answers: &[(String, Option<bool>)]) -> Finding {
        let named = |wanted: Option<bool>| -> Vec<&str> {
            answers.iter().filter(|(_, granted)| *granted == wanted).map(|(table, _)| table.as_str()).collect()
        };
        match (named(Some(false)).as_slice(), named(None).as_slice()) {
            ([], []) => self.finding(permission, Some(true), &self.tables_name(&named(Some(true)))),
            ([], unknown) => self.finding(permission, None, &self.tables_name(unknown)),
            (lacking, _) => self.finding(permission, Some(false), &self.tables_name(lacking)),
        }
    }

    /// A few tables by their names.
    fn tables_name(&self, tables: &[&str]) -> String {
        const NAMED: usize = 3;
        let full: Vec<String> = tables.iter().take(NAMED).map(|table| format!("{}.{table}", self.tables.dataset)).collect();
        let more = if tables.len() > NAMED { format!(" and {} more", tables.len() - NAMED) } else { String::new() };
        format!("{} {}{more}", if tables.len() == 1 { "table" } else { "tables" }, full.join(", "))
    }

    fn finding(&self, permission: &'static str, granted: Option<bool>, place: &str) -> Finding {
        let on = if permission == JOBS_CREATE { self.project_name() } else { self.dataset_name() };
        let role = role(permission);
        match granted {
            Some(true) if self.has(permission) => Finding::fine(permission, format!("granted on {}", self.project_name())),
            Some(true) => Finding::fine(permission, format!("granted on {place}")),
            Some(false) => lacking(permission, place, &on),
            None => Finding::new(permission, Verdict::Unknown, format!("cannot be told yet for {place}"))
                .hint(format!("`{role}` on {on} has it")),
        }
    }
}

/// A permission that is not granted, with the role that has it.
pub(super) fn lacking(permission: &'static str, place: &str, on: &str) -> Finding {
    let hint = format!("grant `{}` on {on}", needs::role(permission));
    Finding::new(permission, Verdict::Wrong, format!("not granted on {place}")).hint(hint)
}

/// What a call tells of the permission that it needs. A refusal that names another one tells nothing of this one.
fn told(permission: &str, answer: Result<(), Failure>) -> Option<bool> {
    match answer {
        Ok(()) => Some(true),
        Err(Failure::Refused(refusal)) if refusal.is_denied() => {
            let names_another = refusal.message.contains("bigquery.") && !refusal.message.contains(permission);
            if names_another { None } else { Some(false) }
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Refusal;

    #[test]
    fn only_a_refusal_for_this_permission_says_that_it_is_not_granted() {
        let refused = |status, reason: &str, message: &str| {
            let refusal =
                Refusal { doing: String::new(), status, reason: reason.into(), message: message.into(), retry_after: None };
            told(TABLES_UPDATE_DATA, Err(Failure::Refused(refusal)))
        };
        assert_eq!(told(TABLES_UPDATE_DATA, Ok(())), Some(true));
        assert_eq!(refused(403, "accessDenied", "Permission bigquery.tables.updateData denied on table t"), Some(false));
        assert_eq!(refused(403, "accessDenied", "User does not have permission to query table t"), Some(false));
        assert_eq!(refused(403, "accessDenied", "Permission bigquery.tables.getData denied on table t"), None);
        assert_eq!(refused(403, "rateLimitExceeded", "Exceeded rate limits"), None);
        assert_eq!(refused(400, "invalidQuery", "a filter is required"), None);
    }
}
