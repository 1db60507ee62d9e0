//! What `0.1` is: a FLOAT64, unless it meets a decimal.
//!
//! The parser is told to read it as a decimal, since the digits of a BIGNUMERIC would be lost otherwise. DataFusion on its
//! own would then compare FLOAT64 columns as decimals, which have no place for `1e20` or NaN.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

/// The plan with decimal literals as FLOAT64 where nothing beside them is a decimal, nor are they cast.
pub(super) fn settle(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    if !any(&plan)? {
        return Ok(plan);
    }
    let settled = plan.transform_up_with_subqueries(|node| {
        // The rows of VALUES have been given common types already.
        if matches!(node, LogicalPlan::Values(_)) {
            return Ok(Transformed::no(node));
        }
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|expr| within(expr, &schema))?;
            Ok(expr.update_data(|expr| name.restore(as_float(&expr).unwrap_or(expr))))
        })?;
        node.map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(settled.data)
}

fn any(plan: &LogicalPlan) -> DataFusionResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found = found || expr.exists(|expr| Ok(as_float(expr).is_some()))?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(found)
}

/// Settles the literals right below an expression.
fn within(expr: Expr, schema: &DFSchema) -> DataFusionResult<Transformed<Expr>> {
    if matches!(expr, Expr::Cast(_) | Expr::TryCast(_)) {
        return Ok(Transformed::no(expr));
    }
    let mut decimal_beside = false;
    expr.apply_children(|child| {
        let is_decimal = || child.get_type(schema).is_ok_and(|data_type| data_type.is_decimal());
        decimal_beside = decimal_beside || (as_float(child).is_none() && is_decimal());
        Ok(TreeNodeRecursion::Continue)
    })?;
    if decimal_beside {
        return Ok(Transformed::no(expr));
    }
    expr.map_children(|child| {
        Ok(match as_float(&child) {
            Some(float) => Transformed::yes(float),
            None => Transformed::no(child),
        })
    })
}

/// A literal with digits after the point, as the nearest FLOAT64.
fn as_float(expr: &Expr) -> Option<Expr> {
    let Expr::Literal(value, metadata) = expr else { return None };
    let text = match value {
        ScalarValue::Decimal128(Some(digits), _, scale) if *scale > 0 => format!("{digits}e-{scale}"),
        ScalarValue::Decimal256(Some(digits), _, scale) if *scale > 0 => format!("{digits}e-{scale}"),
        _ => return None,
    };
    Some(Expr::Literal(ScalarValue::Float64(Some(text.parse().ok()?)), metadata.clone()))
}
