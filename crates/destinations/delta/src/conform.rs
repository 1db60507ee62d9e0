//! Arrays of a batch in the types that a table's columns have in Parquet, exactly or not at all.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use longshore_core::{Error, Result};

use crate::error::{codes, destination, first_line};

/// `array` as `target`. Types of Longshore's own tables pass untouched; narrower types of other programs' tables are cast
/// and compared. Errors: `delta_value_does_not_fit`.
pub(crate) fn conform(array: &ArrayRef, target: &DataType, column: &str) -> Result<ArrayRef> {
    let broken = |e: arrow::error::ArrowError| {
        destination(codes::VALUE_DOES_NOT_FIT, format!("column {column} does not fit its table: {}", first_line(e)))
    };
    match (array.data_type(), target) {
        (from, to) if from == to => Ok(array.clone()),
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let source = array.as_struct();
            let children = fields
                .iter()
                .map(|field| match find(source, field.name()) {
                    Some(child) => conform(child, field.data_type(), &format!("{column}.{}", field.name())),
                    None => Ok(new_null_array(field.data_type(), array.len())),
                })
                .collect::<Result<Vec<_>>>()?;
            let made = StructArray::try_new_with_length(fields.clone(), children, source.nulls().cloned(), array.len());
            Ok(Arc::new(made.map_err(broken)?))
        }
        (DataType::List(_), DataType::List(element)) => {
            let source: &ListArray = array.as_list();
            let values = conform(source.values(), element.data_type(), column)?;
            let made = ListArray::try_new(element.clone(), source.offsets().clone(), values, source.nulls().cloned());
            Ok(Arc::new(made.map_err(broken)?))
        }
        _ => exact_cast(array, target, column),
    }
}

fn find<'a>(source: &'a StructArray, name: &str) -> Option<&'a ArrayRef> {
    let position = source.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name))?;
    source.columns().get(position)
}

/// Casts and casts back: what does not return as it was does not fit.
fn exact_cast(array: &ArrayRef, target: &DataType, column: &str) -> Result<ArrayRef> {
    let misfit = || does_not_fit(column, target);
    let lossy = CastOptions { safe: true, ..CastOptions::default() };
    let cast = cast_with_options(array, target, &lossy).map_err(|e| misfit().caused_by(e))?;
    let exact = match (array.data_type(), target) {
        // Canonical text has no trailing zeros, so the text alone tells how many digits the value needs.
        (DataType::Utf8, DataType::Decimal128(_, scale)) => {
            let scale = usize::try_from(*scale).unwrap_or(0);
            let digits = |text: &str| text.rsplit_once('.').map_or(0, |(_, fraction)| fraction.len());
            array.as_string::<i32>().iter().flatten().all(|text| digits(text) <= scale)
                && array.logical_null_count() == cast.logical_null_count()
        }
        _ => {
            let back = cast_with_options(&cast, array.data_type(), &lossy).map_err(|e| misfit().caused_by(e))?;
            let same: BooleanArray =
                arrow::compute::kernels::cmp::not_distinct(&back, array).map_err(|e| misfit().caused_by(e))?;
            same.false_count() == 0
        }
    };
    if exact { Ok(cast) } else { Err(misfit()) }
}

fn does_not_fit(column: &str, target: &DataType) -> Error {
    destination(codes::VALUE_DOES_NOT_FIT, format!("a value of column {column} cannot be kept exactly as {target}"))
        .with_retry(longshore_core::error::Retry::AfterFix)
        .hint("another program gave the column a narrow type; load into another table, or widen it there")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Float64Array, Int64Array, StringArray};

    fn fits(array: impl Array + 'static, target: &DataType) -> bool {
        let array: ArrayRef = Arc::new(array);
        match conform(&array, target, "c") {
            Ok(cast) => {
                assert_eq!(cast.data_type(), target);
                assert_eq!(cast.logical_null_count(), array.logical_null_count());
                true
            }
            Err(error) => {
                assert_eq!(error.code(), "delta_value_does_not_fit");
                false
            }
        }
    }

    #[test]
    fn integers_fit_narrow_columns_only_within_their_range() {
        assert!(fits(Int64Array::from(vec![Some(1), None, Some(i64::from(i32::MIN))]), &DataType::Int32));
        assert!(!fits(Int64Array::from(vec![1, 1 << 31]), &DataType::Int32));
        assert!(!fits(Int64Array::from(vec![128]), &DataType::Int8));
    }

    #[test]
    fn floats_fit_only_if_no_digit_is_lost() {
        assert!(fits(Float64Array::from(vec![0.5, f64::NAN, f64::INFINITY]), &DataType::Float32));
        assert!(!fits(Float64Array::from(vec![0.1]), &DataType::Float32));
    }

    #[test]
    fn decimals_are_never_rounded() {
        let numeric = |v: i128| Decimal128Array::from(vec![v]).with_precision_and_scale(38, 9).expect("valid");
        assert!(fits(numeric(1_500_000_000), &DataType::Decimal128(10, 2)));
        assert!(!fits(numeric(1_505_000_000), &DataType::Decimal128(10, 2)));
        assert!(!fits(numeric(10i128.pow(9) * 10i128.pow(9)), &DataType::Decimal128(10, 2)));
        assert!(fits(StringArray::from(vec![Some("1.5"), None, Some("-3")]), &DataType::Decimal128(38, 18)));
        assert!(!fits(StringArray::from(vec!["1.505"]), &DataType::Decimal128(38, 2)));
        assert!(!fits(StringArray::from(vec!["123456789"]), &DataType::Decimal128(5, 2)));
    }
}
