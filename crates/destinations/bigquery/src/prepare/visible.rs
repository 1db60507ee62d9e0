//! Waiting until columns are known where rows are written.
//!
//! A change of a table's columns reaches the servers that take rows some time after the table itself shows it. Rows that are sent
//! before would be refused as a whole.
//!
//! Source: <https://cloud.google.com/bigquery/docs/write-api-streaming#update_the_data_schema>

use std::time::Duration;

use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as api;
use longshore_core::Result;
use longshore_core::error::Retry;
use longshore_core::retry::Patience;
use longshore_core::schema::{Field, TableSchema, Type};
use tokio::time::Instant;

use super::widen::widens;
use crate::error::{Failure, codes, destination};
use crate::tables::Tables;
use crate::write::StorageWrite;

use api::table_field_schema::Type as ApiType;

const LONGEST: Duration = Duration::from_secs(600);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Returns when the table's default stream has all these columns, or says nothing about columns.
///
/// Errors: `bigquery_table_changed` after ten minutes, or if it was asked to stop.
pub(super) async fn wait(
    tables: &Tables,
    write: &StorageWrite,
    patience: &Patience,
    table: &str,
    schema: &TableSchema,
) -> Result<()> {
    let stream = format!("{}/streams/_default", tables.resource_name(table));
    let until = Instant::now() + LONGEST;
    let mut pause = FIRST_WAIT;
    loop {
        match write.get(&stream).await {
            Ok(stream) if stream.table_schema.as_ref().is_none_or(|known| all_known(&known.fields, &schema.fields)) => {
                return Ok(());
            }
            // Whether it may be asked or not, rows will tell.
            Err(Failure::Refused(_)) => return Ok(()),
            Ok(_) | Err(Failure::Lost(_)) => {}
        }
        let why = || format!("table {table} does not show its new columns yet where rows are written");
        let late = Instant::now() >= until;
        if late || !patience.wait(pause, why).await {
            let retry = if late { Retry::AfterFix } else { Retry::Backoff };
            return Err(destination(codes::CHANGED, why()).with_retry(retry).hint("run again in a few minutes"));
        }
        pause = (pause * 2).min(LONGEST_WAIT);
    }
}

fn all_known(known: &[api::TableFieldSchema], fields: &[Field]) -> bool {
    fields.iter().all(|field| {
        let same = known.iter().find(|known| known.name.eq_ignore_ascii_case(&field.name));
        same.is_some_and(|known| !is_narrower(known.r#type(), &field.type_) && all_known(&known.fields, field.children()))
    })
}

fn is_narrower(known: ApiType, now: &Type) -> bool {
    match known {
        ApiType::Int64 => widens(&Type::Int64, now),
        ApiType::Numeric => widens(&Type::Numeric, now),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, type_: ApiType, fields: Vec<api::TableFieldSchema>) -> api::TableFieldSchema {
        api::TableFieldSchema { name: name.into(), r#type: type_ as i32, fields, ..Default::default() }
    }

    #[test]
    fn columns_are_known_when_each_is_there_as_wide_as_it_is() {
        let inner = Field::new("s", Type::Struct(vec![Field::new("x", Type::Int64)]));
        let fields = [Field::new("N", Type::Numeric), inner];
        let of = |n: ApiType, inner: Vec<api::TableFieldSchema>| [known("n", n, Vec::new()), known("s", ApiType::Struct, inner)];
        let x = || vec![known("x", ApiType::Int64, Vec::new())];
        assert!(all_known(&of(ApiType::Numeric, x()), &fields));
        assert!(!all_known(&of(ApiType::Int64, x()), &fields), "not widened yet");
        assert!(!all_known(&of(ApiType::Numeric, Vec::new()), &fields), "a field is missing");
    }
}
