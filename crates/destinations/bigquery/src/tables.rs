//! The tables of the dataset, by REST.

use std::sync::Arc;

use longshore_core::Result;
use longshore_core::schema::TableSchema;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::columns;
use crate::error::{Failure, codes, destination};
use crate::quota::{Quota, Spent};
use crate::rest::Rest;

/// Names that begin like this are ours.
pub(crate) const OURS: &str = "_longshore";

/// The table and the partition of a name such as `orders$20240131`, which names one partition of a table.
/// Source: <https://cloud.google.com/bigquery/docs/managing-partitioned-table-data>
pub(crate) fn split_name(name: &str) -> (&str, Option<&str>) {
    match name.split_once('$') {
        Some((table, partition)) => (table, Some(partition)),
        None => (name, None),
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Tables {
    rest: Rest,
    pub(crate) quota: Quota,
    pub(crate) project: String,
    pub(crate) dataset: String,
    location: Arc<OnceCell<String>>,
}

/// A table as BigQuery describes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Remote(pub(crate) Value);

impl Remote {
    /// When it was made: what tells it from another table of the same name.
    pub(crate) fn born(&self) -> String {
        let text = |value: &Value| value.as_str().map(str::to_owned).or_else(|| value.as_i64().map(|n| n.to_string()));
        text(&self.0["creationTime"]).unwrap_or_default()
    }

    pub(crate) fn fields(&self) -> Vec<Value> {
        self.0["schema"]["fields"].as_array().cloned().unwrap_or_default()
    }

    pub(crate) fn schema(&self, table: &str) -> Result<TableSchema> {
        columns::from_rest(table, &self.fields())
    }

    /// `TABLE`, `VIEW`, `EXTERNAL` ...
    pub(crate) fn kind(&self) -> &str {
        self.0["type"].as_str().unwrap_or("TABLE")
    }

    /// The columns of its primary key; none if it has none.
    pub(crate) fn key(&self) -> Vec<String> {
        let columns = self.0["tableConstraints"]["primaryKey"]["columns"].as_array();
        columns.into_iter().flatten().filter_map(|column| column.as_str().map(str::to_owned)).collect()
    }

    pub(crate) fn etag(&self) -> Option<&str> {
        self.0["etag"].as_str()
    }
}

impl Tables {
    pub(crate) fn new(rest: Rest, project: &str, dataset: &str) -> Self {
        let quota = Quota::of(rest.server(), project, dataset);
        Self { rest, quota, project: project.to_owned(), dataset: dataset.to_owned(), location: Arc::default() }
    }

    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/bigquery/v2/projects/{}/datasets/{}{rest}", self.project, self.dataset)
    }

    /// The name of a table for the Storage Write API.
    pub(crate) fn resource_name(&self, table: &str) -> String {
        format!("projects/{}/datasets/{}/tables/{}", self.project, self.dataset, split_name(table).0)
    }

    /// The name of a table in SQL, quoted.
    pub(crate) fn sql_name(&self, table: &str) -> String {
        format!("`{}.{}.{}`", self.project, self.dataset, split_name(table).0)
    }

    /// Where the dataset lies, asked once.
    ///
    /// Errors: `bigquery_dataset_missing`.
    pub(crate) async fn location(&self) -> Result<&str> {
        let ask = || async {
            let doing = format!("datasets.get {}", self.dataset);
            match self.rest.get(&doing, &self.path(""), &[]).await {
                Ok(dataset) => Ok(dataset["location"].as_str().unwrap_or("US").to_owned()),
                Err(Failure::Refused(refusal)) if refusal.is_missing() => Err(self.dataset_missing()),
                Err(failure) => Err(failure.into()),
            }
        };
        self.location.get_or_try_init(ask).await.map(String::as_str)
    }

    fn dataset_missing(&self) -> longshore_core::error::Error {
        destination(codes::DATASET_MISSING, format!("there is no dataset {}:{}", self.project, self.dataset))
            .with_retry(longshore_core::error::Retry::AfterFix)
            .hint(format!("make it with `bq mk --location=EU {}:{}`, where EU is the place you want", self.project, self.dataset))
    }

    /// The table, `None` if there is none in a dataset that exists.
    pub(crate) async fn get(&self, table: &str) -> Result<Option<Remote>> {
        let table = split_name(table).0;
        let doing = format!("tables.get {table}");
        match self.rest.get(&doing, &self.path(&format!("/tables/{table}")), &[]).await {
            Ok(resource) => Ok(Some(Remote(resource))),
            Err(Failure::Refused(refusal)) if refusal.is_missing() => self.location().await.map(|_| None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Makes a table. If it is there already (a lost answer, another worker) that one is the answer.
    pub(crate) async fn insert(&self, table: &str, resource: &Value) -> Result<Remote> {
        let doing = format!("tables.insert {table}");
        match self.quota.spend(Spent::Change(table), self.rest.post(&doing, &self.path("/tables"), resource)).await {
            Ok(resource) => Ok(Remote(resource)),
            Err(Failure::Refused(refusal)) if refusal.exists() => self.get(table).await?.ok_or_else(|| refusal.into()),
            Err(Failure::Refused(refusal)) if refusal.is_missing() => {
                self.location().await?;
                Err(refusal.into())
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Changes these properties of a table and nothing else of it. `Err` with 412 if it changed since `etag`.
    pub(crate) async fn patch(&self, table: &str, change: &Value, etag: Option<&str>) -> Result<Remote, Failure> {
        let doing = format!("tables.patch {table}");
        let path = self.path(&format!("/tables/{table}"));
        Ok(Remote(self.quota.spend(Spent::Change(table), self.rest.patch(&doing, &path, change, etag)).await?))
    }

    /// Removes a table; one that is not there is fine.
    pub(crate) async fn delete(&self, table: &str) -> Result<()> {
        let doing = format!("tables.delete {table}");
        Ok(self.rest.delete(&doing, &self.path(&format!("/tables/{table}"))).await?)
    }

    /// The names of all tables.
    pub(crate) async fn list(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut query = vec![("maxResults", "1000")];
            if let Some(token) = &token {
                query.push(("pageToken", token));
            }
            let page = self.rest.get("tables.list", &self.path("/tables"), &query).await?;
            let tables = page["tables"].as_array().cloned().unwrap_or_default();
            names.extend(tables.iter().filter_map(|table| table["tableReference"]["tableId"].as_str().map(str::to_owned)));
            token = page["nextPageToken"].as_str().filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                return Ok(names);
            }
        }
    }

    pub(crate) fn rest(&self) -> &Rest {
        &self.rest
    }
}
