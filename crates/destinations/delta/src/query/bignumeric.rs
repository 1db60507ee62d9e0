//! BIGNUMERIC out of its canonical text.
//!
//! Arrow's own cast refuses values with more than 76 digits, and BIGNUMERIC has some with 77. They fit into the 256 bits of
//! a decimal all the same: its lowest and highest are BIGNUMERIC's. Comparing and sorting look at the bits alone.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal256Builder};
use arrow::datatypes::{DataType, i256};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// Digits that a decimal claims.
const PRECISION: u8 = 76;
/// Digits after the point.
const SCALE: i8 = 38;

/// The Arrow type of a BIGNUMERIC in queries.
pub(super) const BIGNUMERIC: DataType = DataType::Decimal256(PRECISION, SCALE);

/// The function `bignumeric(text)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BigNumeric {
    signature: Signature,
}

impl Default for BigNumeric {
    fn default() -> Self {
        let texts = vec![DataType::Utf8View, DataType::Utf8, DataType::LargeUtf8];
        Self { signature: Signature::uniform(1, texts, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for BigNumeric {
    fn name(&self) -> &str {
        "bignumeric"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(BIGNUMERIC)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let scalar = matches!(args.args.as_slice(), [ColumnarValue::Scalar(_)]);
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [texts] = arrays.as_slice() else {
            return Err(DataFusionError::Execution("bignumeric takes one argument".into()));
        };
        let values = match texts.data_type() {
            DataType::Utf8View => read(texts.as_string_view().iter())?,
            DataType::Utf8 => read(texts.as_string::<i32>().iter())?,
            DataType::LargeUtf8 => read(texts.as_string::<i64>().iter())?,
            other => return Err(DataFusionError::Execution(format!("bignumeric takes text, not {other}"))),
        };
        if scalar {
            return Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&values, 0)?));
        }
        Ok(ColumnarValue::Array(values))
    }
}

fn read<'a>(texts: impl ExactSizeIterator<Item = Option<&'a str>>) -> DataFusionResult<ArrayRef> {
    let mut builder = Decimal256Builder::with_capacity(texts.len()).with_data_type(BIGNUMERIC);
    for text in texts {
        match text {
            None => builder.append_null(),
            Some(text) => builder.append_value(parse(text).ok_or_else(|| {
                DataFusionError::Execution("a text is not a BIGNUMERIC: digits with at most 38 of them after the point".into())
            })?),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// The value times 10^38; `None` if it is not one.
pub(super) fn parse(text: &str) -> Option<i256> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let only_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() && !digits.contains('0') {
        return None;
    }
    if !only_digits(whole) || !only_digits(fraction) || fraction.len() > 38 {
        return None;
    }
    let digits = format!("{}{fraction:0<38}", whole.trim_start_matches('0'));
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(i256::ZERO);
    }
    if digits.len() > 77 {
        return None;
    }
    i256::from_string(&format!("{sign}{digits}"))
}
