//! Fields of STRUCTs, found without case where their type is known.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::functions::core::get_field;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess};
use datafusion::prelude::lit;
use longshore_core::error::Error;

use super::error::{codes, known_names, usage};

/// Plans `column.field` and `column['field']`. What cannot be found is kept, since the planner drops the reason.
#[derive(Debug, Default)]
pub(super) struct StructFields {
    problem: Mutex<Option<Error>>,
}

impl StructFields {
    /// Why a field could not be found, once.
    pub(super) fn take_problem(&self) -> Option<Error> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The field of a STRUCT that a name means.
    fn find<'a>(&self, fields: &'a Fields, name: &str, owner: &str) -> DataFusionResult<&'a Arc<Field>> {
        let lower = name.to_lowercase();
        let found: Vec<&Arc<Field>> = fields.iter().filter(|field| field.name().to_lowercase() == lower).collect();
        match found.as_slice() {
            [one] => Ok(one),
            [] => {
                let known: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
                let error = usage(codes::QUERY_UNKNOWN_COLUMN, format!("there is no field {name} in {owner}"));
                Err(self.keep(error.hint(known_names("fields", name, &known))))
            }
            twins => {
                let twins: Vec<&str> = twins.iter().map(|field| field.name().as_str()).collect();
                let message = format!("{name} could be {} of {owner}, which differ only by case", twins.join(" or "));
                Err(self
                    .keep(usage(codes::QUERY_UNKNOWN_COLUMN, message).hint("get_field(STRUCT, 'NAME') takes the name exactly")))
            }
        }
    }

    fn not_a_struct(&self, field: &Field, wanted: &str) -> DataFusionError {
        let name = field.name();
        let (is, hint) = match field.data_type() {
            DataType::List(_) | DataType::LargeList(_) => {
                ("an ARRAY", format!("take one element, as in {name}[1]['{wanted}'], or one row for each with unnest({name})"))
            }
            _ => ("no STRUCT", format!("leave out .{wanted}")),
        };
        self.keep(usage(codes::QUERY_UNKNOWN_COLUMN, format!("{name} is {is} and has no field {wanted}")).hint(hint))
    }

    fn keep(&self, error: Error) -> DataFusionError {
        let text = error.to_string();
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        DataFusionError::Plan(text)
    }
}

impl ExprPlanner for StructFields {
    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> DataFusionResult<PlannerResult<Vec<Expr>>> {
        let mut expr = Expr::Column(Column::from((qualifier, field)));
        let mut at = field.clone();
        for name in nested_names {
            let DataType::Struct(fields) = at.data_type() else {
                return Err(self.not_a_struct(&at, name));
            };
            let found = Arc::clone(self.find(fields, name, at.name())?);
            expr = get_field().call(vec![expr, lit(found.name().clone())]);
            at = found.as_ref().clone();
        }
        Ok(PlannerResult::Planned(expr))
    }

    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> DataFusionResult<PlannerResult<RawFieldAccessExpr>> {
        if let GetFieldAccess::NamedStructField { name } = &access.field_access
            && let Some(Some(wanted)) = name.try_as_str()
            && let Ok(DataType::Struct(fields)) = access.expr.get_type(schema)
        {
            let owner = match &access.expr {
                Expr::Column(column) => column.name.clone(),
                _ => "the STRUCT".to_owned(),
            };
            let found = self.find(&fields, wanted, &owner)?.name().clone();
            return Ok(PlannerResult::Planned(get_field().call(vec![access.expr, lit(found)])));
        }
        Ok(PlannerResult::Original(access))
    }
}
