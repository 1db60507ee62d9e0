//! A Delta table as DataFusion reads it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNode;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

/// The longest IN list that is handed down.
const LONGEST_LIST: usize = 100;

/// The library's provider without the filters that it cannot bear: it takes an IN list apart into a chain of ORs, and walks
/// that with a stack frame for each element. Such a filter is applied above the scan instead.
#[derive(Debug)]
pub(super) struct Provider(pub Arc<dyn TableProvider>);

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        self.0.table_type()
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.0.scan(session, projection, filters, limit).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let too_long =
            |filter: &&Expr| filter.exists(|expr| Ok(matches!(expr, Expr::InList(list) if list.list.len() > LONGEST_LIST)));
        let mut answers = Vec::with_capacity(filters.len());
        for filter in filters {
            answers.push(if too_long(filter)? {
                TableProviderFilterPushDown::Unsupported
            } else {
                // One filter, one answer.
                let answer = self.0.supports_filters_pushdown(&[*filter])?;
                answer.into_iter().next().unwrap_or(TableProviderFilterPushDown::Unsupported)
            });
        }
        Ok(answers)
    }
}
