//! Rows that were staged before a column of their table was widened.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use longshore_core::Result;
use longshore_core::schema::{Field, Mode, TableSchema, Type};
use longshore_core::schema_arrow::field_to_arrow;
use longshore_core::show::value_to_text;

use crate::rows::encoding;

/// The columns of `staged`, each with the type that it has in `now`, if that is a wider one.
pub(crate) fn widened(staged: &TableSchema, now: &TableSchema) -> TableSchema {
    let field = |field: &Field| match now.field(&field.name) {
        Some(wider) if is_wider(&field.type_, &wider.type_) && field.mode != Mode::Repeated && wider.mode != Mode::Repeated => {
            Field { type_: wider.type_.clone(), ..field.clone() }
        }
        _ => field.clone(),
    };
    TableSchema::new(staged.fields.iter().map(field).collect())
}

fn is_wider(from: &Type, to: &Type) -> bool {
    matches!((from, to), (Type::Int64, Type::Numeric | Type::BigNumeric | Type::Float64) | (Type::Numeric, Type::BigNumeric))
}

/// A batch with the columns of `to`, which are as wide as its own or wider; the same batch if nothing is wider.
pub(crate) fn fit(batch: RecordBatch, to: &TableSchema) -> Result<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    let mut changed = false;
    for (column, field) in columns.iter_mut().zip(&mut fields) {
        let Some(wanted) = to.field(field.name()).filter(|wanted| needs(column.data_type(), &wanted.type_)) else { continue };
        *column = wider(column, field, &wanted.type_)?;
        *field = Arc::new(field_to_arrow(wanted));
        changed = true;
    }
    if !changed {
        return Ok(batch);
    }
    RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns).map_err(encoding)
}

fn needs(has: &DataType, wanted: &Type) -> bool {
    match has {
        DataType::Int64 => is_wider(&Type::Int64, wanted),
        DataType::Decimal128(..) => is_wider(&Type::Numeric, wanted),
        _ => false,
    }
}

fn wider(column: &ArrayRef, field: &arrow::datatypes::Field, to: &Type) -> Result<ArrayRef> {
    if *to != Type::BigNumeric {
        return arrow::compute::cast(column, &longshore_core::schema_arrow::type_to_arrow(to)).map_err(encoding);
    }
    // Carried as text.
    let texts = (0..column.len()).map(|row| match column.data_type() {
        DataType::Int64 => column.is_valid(row).then(|| column.as_primitive::<Int64Type>().value(row).to_string()),
        _ => value_to_text(field, column, row).filter(|_| column.as_primitive_opt::<Decimal128Type>().is_some()),
    });
    Ok(Arc::new(StringArray::from_iter(texts)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::from_objects;
    use serde_json::json;

    #[test]
    fn numbers_keep_their_value_in_wider_columns_and_all_else_stays() {
        let schema = |types: [Type; 4]| {
            TableSchema::new(["a", "b", "c", "s"].into_iter().zip(types).map(|(name, type_)| Field::new(name, type_)).collect())
        };
        let old = schema([Type::Int64, Type::Int64, Type::Numeric, Type::String]);
        let now = schema([Type::Numeric, Type::BigNumeric, Type::BigNumeric, Type::Int64]);
        let wanted = schema([Type::Numeric, Type::BigNumeric, Type::BigNumeric, Type::String]);
        assert_eq!(widened(&old, &now), wanted);
        let rows = [json!({"a": "9223372036854775807", "b": "-7", "c": "1.50", "s": "x"}), json!({})];
        let batch = from_objects(&old, &rows).expect("reads");
        assert_eq!(fit(batch.clone(), &old).expect("fits"), batch);
        assert_eq!(fit(batch, &wanted).expect("fits"), from_objects(&wanted, &rows).expect("reads"));
        let doubles = schema([Type::Float64, Type::Int64, Type::Numeric, Type::String]);
        let batch = from_objects(&old, &[json!({"a": "12"})]).expect("reads");
        assert_eq!(fit(batch, &doubles).expect("fits"), from_objects(&doubles, &[json!({"a": "12"})]).expect("reads"));
    }
}
