//! SQL on a dataset, for reading.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::{BoxStream, StreamExt};
use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use longshore_core::schema::TableSchema;
use serde_json::Value;

use crate::config::BigQueryConfig;
use crate::credentials::Identity;
use crate::error::{Failure, Refusal, codes, destination};
use crate::rest::Rest;
use crate::tables::{OURS, Tables};
use crate::{cells, columns, jobs};

/// A dataset that is read.
pub struct Reader {
    tables: Tables,
}

/// An answer: its columns, and its rows as they come.
pub struct Answer {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows, page by page.
    pub stream: BoxStream<'static, Result<RecordBatch>>,
}

impl Reader {
    /// Reads the settings; asks nobody yet.
    pub fn open(config: &BigQueryConfig) -> Result<Self> {
        let rest = Rest::new(config.rest(), Identity::new(config)?)?;
        Ok(Self { tables: Tables::new(rest, &config.project, &config.dataset) })
    }

    /// The names of the tables, without those that only Longshore needs.
    pub async fn tables(&self) -> Result<Vec<String>> {
        let mut names = self.tables.list().await?;
        names.retain(|name| !name.starts_with(OURS));
        Ok(names)
    }

    /// Runs one query in BigQuery's own dialect. A table without a dataset is looked for in this one.
    ///
    /// Errors: `usage` for what would change something, `bigquery_query` with BigQuery's words.
    pub async fn query(&self, sql: &str) -> Result<Answer> {
        only_reads(sql)?;
        let first = jobs::Page::first(&self.tables, "query", sql).await.map_err(refused)?;
        let fields = first.fields();
        let schema = columns::from_rest("the answer", &fields)?;
        if schema.fields.len() != fields.len() {
            return Err(destination(codes::UNSUPPORTED, "the answer has a column of a type that cannot be shown")
                .hint("cast it to STRING in the query"));
        }
        let arrow = schema.to_arrow();
        let pages = futures::stream::try_unfold((self.tables.clone(), schema, Some(first)), next);
        Ok(Answer { schema: arrow, stream: pages.boxed() })
    }

    /// The name of a table in SQL.
    pub fn sql_name(&self, table: &str) -> String {
        self.tables.sql_name(table)
    }
}

type Pages = (Tables, TableSchema, Option<jobs::Page>);

async fn next((tables, schema, page): Pages) -> Result<Option<(RecordBatch, Pages)>> {
    let Some(page) = page else { return Ok(None) };
    let batch = cells::batch(&schema, page.rows())?;
    let following = page.following(&tables, "query").await?;
    Ok(Some((batch, (tables, schema, following))))
}

fn refused(failure: Failure) -> Error {
    match failure {
        Failure::Refused(Refusal { status: 400, message, .. }) => Error::new(Kind::Usage, codes::QUERY, message),
        Failure::Refused(refusal) if refusal.is_missing() => Error::new(Kind::Usage, codes::QUERY, refusal.message),
        failure => failure.into(),
    }
}

/// Refuses what is not one SELECT. BigQuery would run a script of many statements.
fn only_reads(sql: &str) -> Result<()> {
    let bare = without_texts(sql);
    let statements: Vec<&str> = bare.split(';').map(str::trim).filter(|statement| !statement.is_empty()).collect();
    let [statement] = statements.as_slice() else {
        return Err(Error::new(Kind::Usage, code::USAGE, "a query is one statement"));
    };
    let word = statement.trim_start_matches(['(', ' ', '\n', '\t', '\r']).split(|c: char| !c.is_ascii_alphabetic()).next();
    match word.map(str::to_ascii_uppercase).as_deref() {
        Some("SELECT" | "WITH" | "FROM") => Ok(()),
        _ => Err(Error::new(Kind::Usage, code::USAGE, "`query` only reads: SELECT or WITH ... SELECT")
            .hint("change tables of BigQuery with `bq query`")),
    }
}

/// SQL with a space in place of each comment, text and quoted name.
fn without_texts(sql: &str) -> String {
    let mut bare = String::new();
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("--") || c == '#' {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(quote) = ["'''", "\"\"\"", "'", "\"", "`"].into_iter().find(|quote| rest.starts_with(quote)) {
            quoted(rest, quote)
        } else {
            bare.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        bare.push(' ');
        rest = &rest[skipped..];
    }
    bare
}

/// The length of a quoted text at the beginning, its quotes included.
fn quoted(text: &str, quote: &str) -> usize {
    let mut at = quote.len();
    while at < text.len() {
        if text[at..].starts_with(quote) {
            return at + quote.len();
        }
        let mut following = text[at..].chars();
        let escaped = following.next() == Some('\\');
        at += text[at..].chars().take(if escaped { 2 } else { 1 }).map(char::len_utf8).sum::<usize>();
    }
    text.len()
}

/// Rows as objects, for the few that commands look up.
pub async fn objects(answer: Answer) -> Result<Vec<serde_json::Map<String, Value>>> {
    let Answer { schema, mut stream } = answer;
    let mut rows = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let cells = schema.fields().iter().zip(batch.columns());
            let shown =
                cells.map(|(field, column)| (field.name().clone(), longshore_core::show::value_to_json(field, column, row)));
            rows.push(shown.collect());
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_select_passes() {
        for sql in [
            "select 1",
            "(SELECT 1)",
            "with a as (select 1) select * from a;",
            "-- it; drops\nselect ';' as `a;b`",
            "/* x; */ SELECT 'it\\';s'",
        ] {
            only_reads(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
        for sql in [
            "",
            "drop table t",
            "select 1; drop table t",
            "BEGIN select 1; END",
            "insert into t select 1",
            "call p()",
            "'select'",
        ] {
            assert_eq!(only_reads(sql).expect_err(sql).kind(), Kind::Usage);
        }
    }
}
