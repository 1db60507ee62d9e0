//! The columns of a result: their names as people expect them, their BigQuery types.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Expr, Query, Select, SelectItem, SetExpr};
use longshore_core::schema::{Field, Mode, TYPE_KEY, TableSchema, Type};

/// What the outermost SELECT says of its columns, as it was written.
#[derive(Debug, Default)]
pub(super) struct Labels(Vec<Label>);

#[derive(Debug)]
enum Label {
    /// The name is given.
    Given(String),
    /// A column, or a field of one: the last part of its path.
    Column(String),
    /// Something computed: its text.
    Computed(String),
    /// Any number of columns.
    Star,
}

impl Labels {
    /// Reads them off a statement, before its names are rewritten.
    pub(super) fn of(statement: &Statement) -> Self {
        match statement {
            Statement::Statement(sql) => match sql.as_ref() {
                ast::Statement::Query(query) => select(query).map(Self::of_select).unwrap_or_default(),
                _ => Self::default(),
            },
            _ => Self::default(),
        }
    }

    fn of_select(select: &Select) -> Self {
        let label = |item: &SelectItem| match item {
            SelectItem::ExprWithAlias { alias, .. } => Label::Given(alias.value.clone()),
            SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Label::Column(ident.value.clone()),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(idents)) => {
                Label::Column(idents.last().map_or(String::new(), |ident| ident.value.clone()))
            }
            // `unnest` of a STRUCT makes several columns.
            SelectItem::UnnamedExpr(Expr::Function(function)) if function.name.to_string().eq_ignore_ascii_case("unnest") => {
                Label::Star
            }
            SelectItem::UnnamedExpr(expr) => Label::Computed(expr.to_string()),
            SelectItem::ExprWithAliases { .. } | SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => Label::Star,
        };
        Self(select.projection.iter().map(label).collect())
    }

    /// The label of column `i` of `count`: those before and after one star can be told, those of a star are named by their
    /// tables.
    fn of_column(&self, i: usize, count: usize) -> Option<&Label> {
        let stars = self.0.iter().filter(|label| matches!(label, Label::Star)).count();
        match stars {
            0 if self.0.len() == count => self.0.get(i),
            1 => {
                let star = self.0.iter().position(|label| matches!(label, Label::Star))?;
                let after = self.0.len() - star - 1;
                if i < star {
                    self.0.get(i)
                } else if i + after >= count {
                    self.0.get(self.0.len() - (count - i))
                } else {
                    None
                }
            }
            _ => None,
        }
    }

    fn name(&self, i: usize, count: usize, planned: &str) -> String {
        match self.of_column(i, count) {
            Some(Label::Given(name) | Label::Computed(name)) => name.clone(),
            // A path in one pair of backticks.
            Some(Label::Column(path)) if path.rsplit('.').next().is_some_and(|last| planned.eq_ignore_ascii_case(last)) => {
                planned.to_owned()
            }
            // The plan knows the spelling of the table; of a field it is within the last brackets.
            Some(Label::Column(last)) if !planned.eq_ignore_ascii_case(last) => {
                let field = planned.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')).map(|(_, field)| field);
                field.filter(|field| field.eq_ignore_ascii_case(last)).map_or_else(|| last.clone(), str::to_owned)
            }
            _ => planned.to_owned(),
        }
    }
}

fn select(query: &Query) -> Option<&Select> {
    let mut body = query.body.as_ref();
    loop {
        match body {
            SetExpr::Select(select) => return Some(select),
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(query) => body = query.body.as_ref(),
            _ => return None,
        }
    }
}

/// The schema of a result, named and typed, and the same as BigQuery describes it.
pub(super) fn columns(planned: &Schema, labels: &Labels) -> (SchemaRef, TableSchema) {
    let count = planned.fields().len();
    let fields: Vec<ArrowField> = planned
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| truthful(field).with_name(labels.name(i, count, field.name())))
        .collect();
    let schema = Schema::new(fields);
    let columns = TableSchema::new(schema.fields().iter().map(|field| describe(field)).collect());
    (Arc::new(schema), columns)
}

/// The field without a type in its metadata that its values do not have any more: metadata outlives casts.
fn truthful(field: &ArrowField) -> ArrowField {
    let mut metadata = field.metadata().clone();
    let value = match field.data_type() {
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => element.data_type(),
        other => other,
    };
    let value = match value {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    if !matches!(value, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        metadata.remove(TYPE_KEY);
    }
    field.clone().with_metadata(metadata)
}

/// A column as BigQuery has it; the nearest type for what it has not.
pub(super) fn describe(field: &ArrowField) -> Field {
    let field = truthful(field);
    if let Ok(schema) = TableSchema::from_arrow(&Schema::new(vec![field.clone()]))
        && let Some(column) = schema.fields.into_iter().next()
    {
        return column;
    }
    let (element, repeated) = match field.data_type() {
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => (element.as_ref(), true),
        _ => (&field, false),
    };
    let mode = match (repeated, field.is_nullable()) {
        (true, _) => Mode::Repeated,
        (false, true) => Mode::Nullable,
        (false, false) => Mode::Required,
    };
    Field::new(field.name(), nearest(element.data_type())).with_mode(mode)
}

fn nearest(data_type: &DataType) -> Type {
    match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, None) => Type::DateTime,
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => Type::Timestamp,
        DataType::Time32(_) | DataType::Time64(_) => Type::Time,
        DataType::Interval(_) | DataType::Duration(_) => Type::Interval,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            Type::BigNumeric
        }
        DataType::Dictionary(_, value) => describe(&ArrowField::new("", value.as_ref().clone(), true)).type_,
        DataType::Struct(fields) => Type::Struct(fields.iter().map(|field| describe(field)).collect()),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) | DataType::Map(..) => Type::Json,
        _ => Type::String,
    }
}
