//! Refuses what would be computed wrongly: arithmetic on BIGNUMERIC, whose results can need more bits than there are.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};
use longshore_core::Result;
use longshore_core::error::Error;

use super::bignumeric::BIGNUMERIC;
use super::error::{codes, from_datafusion, usage};
use super::names::Seen;
use super::session::CATALOG;

/// Functions that hand values on, or only compare them.
const SAFE: &[&str] = &[
    "count",
    "min",
    "max",
    "first_value",
    "last_value",
    "nth_value",
    "array_agg",
    "approx_distinct",
    "lag",
    "lead",
    "coalesce",
    "nullif",
    "greatest",
    "least",
    "nvl",
    "nvl2",
    "make_array",
    "struct",
    "named_struct",
    "get_field",
    "arrow_typeof",
    "array_element",
    "any_value",
    "range",
    "unnest",
    "grouping",
];

/// Errors: `unsupported_arithmetic`, naming the cast to write.
pub(super) fn arithmetic(plan: &LogicalPlan) -> Result<()> {
    let mut refused: Option<Error> = None;
    let walked = plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Some(error) = check(expr, &schema) {
                    refused = Some(error);
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    match (refused, walked) {
        (Some(error), _) => Err(error),
        (None, Ok(_)) => Ok(()),
        (None, Err(error)) => Err(from_datafusion(error, &Seen::default())),
    }
}

fn check(expr: &Expr, schema: &DFSchema) -> Option<Error> {
    let (what, args): (String, Vec<&Expr>) = match expr {
        Expr::BinaryExpr(binary) if is_arithmetic(binary.op) => {
            (format!("the operator {}", binary.op), vec![binary.left.as_ref(), binary.right.as_ref()])
        }
        Expr::ScalarFunction(function) => (function.name().to_owned(), function.args.iter().collect()),
        Expr::AggregateFunction(aggregate) => (aggregate.func.name().to_owned(), aggregate.params.args.iter().collect()),
        Expr::WindowFunction(window) => (window.fun.name().to_owned(), window.params.args.iter().collect()),
        _ => return None,
    };
    if SAFE.contains(&what.as_str()) {
        return None;
    }
    // An operand whose type is not known yet is somebody else's error.
    let big = args.into_iter().find(|arg| arg.get_type(schema).is_ok_and(|data_type| data_type == BIGNUMERIC))?;
    let name = match big {
        Expr::Column(column) => column.name.clone(),
        other => other.to_string().replace(&format!("{CATALOG}."), ""),
    };
    Some(
        usage(codes::UNSUPPORTED_ARITHMETIC, format!("{what} does not take the BIGNUMERIC {name}"))
            .hint(format!("cast it: CAST({name} AS DECIMAL(38, 9)) is NUMERIC, CAST({name} AS DOUBLE) is approximate")),
    )
}

fn is_arithmetic(operator: Operator) -> bool {
    matches!(operator, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo)
}

/// That a plan writes nothing, whatever its text looked like.
pub(super) fn reads_only(plan: &LogicalPlan) -> Result<()> {
    let found = plan.exists(|node| {
        let writes = matches!(node, LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_));
        Ok::<_, DataFusionError>(writes)
    });
    match found {
        Ok(false) => Ok(()),
        Ok(true) => Err(super::statement::refused("this")),
        Err(error) => Err(from_datafusion(error, &Seen::default())),
    }
}
