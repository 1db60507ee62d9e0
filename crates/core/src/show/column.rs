//! A column of a batch, taken apart once so that each of its values is shown without looking at types again.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, OffsetSizeTrait};
use arrow::array::{BinaryArray, BinaryViewArray, FixedSizeBinaryArray, LargeBinaryArray};
use arrow::array::{BooleanArray, LargeStringArray, StringArray, StringViewArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Field, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType,
    IntervalUnit, IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Number, Value};

use super::{push_json_string, scalar};
use crate::schema::{TYPE_KEY, Type};

/// The largest integer that a double holds with all its neighbours: beyond it JSON readers lose digits.
const EXACT_IN_DOUBLE: u64 = 1 << 53;

/// How the text of a scalar stands in JSON.
enum Shape {
    /// As it is: a number, true, false.
    Bare,
    /// In quotes.
    Quoted,
    /// It is JSON already, if it can be read as such.
    Document,
}

/// What writes the text of one row of a scalar column.
type Write<'a> = Box<dyn Fn(usize, &mut String) -> Shape + 'a>;

/// A column that is ready to be shown.
pub(super) struct Column<'a> {
    array: &'a dyn Array,
    cells: Cells<'a>,
}

enum Cells<'a> {
    Scalar(Write<'a>),
    Struct(Vec<(&'a str, Column<'a>)>),
    List {
        offsets: Offsets<'a>,
        values: Box<Column<'a>>,
    },
    /// A type that is shown as another one: its values, cast.
    Owned {
        array: ArrayRef,
        field: Field,
    },
    Null,
}

enum Offsets<'a> {
    Small(&'a [i32]),
    Large(&'a [i64]),
    Fixed(usize),
}

impl Offsets<'_> {
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        // Offsets of an Arrow list are never negative.
        let at = |offset: i64| usize::try_from(offset).unwrap_or_default();
        match self {
            Offsets::Small(offsets) => at(offsets[row].into())..at(offsets[row + 1].into()),
            Offsets::Large(offsets) => at(offsets[row])..at(offsets[row + 1]),
            Offsets::Fixed(size) => row * size..(row + 1) * size,
        }
    }
}

impl<'a> Column<'a> {
    /// Takes a column apart; `field` names its text-carried types.
    pub(super) fn new(field: &Field, array: &'a dyn Array) -> Self {
        Self { array, cells: cells(carried_type(field).as_ref(), field, array) }
    }

    /// Appends the text of a row; false, with nothing appended, for NULL.
    pub(super) fn text(&self, row: usize, out: &mut String) -> bool {
        if self.array.is_null(row) {
            return false;
        }
        match &self.cells {
            Cells::Scalar(write) => _ = write(row, out),
            Cells::Owned { array, field } => return Column::new(field, array).text(row, out),
            Cells::Null => return false,
            Cells::Struct(_) | Cells::List { .. } => self.write_json(row, out),
        }
        true
    }

    /// Appends a row as compact JSON, on one line.
    pub(super) fn write_json(&self, row: usize, out: &mut String) {
        if self.array.is_null(row) {
            out.push_str("null");
            return;
        }
        match &self.cells {
            Cells::Null => out.push_str("null"),
            Cells::Owned { array, field } => Column::new(field, array).write_json(row, out),
            Cells::Scalar(write) => write_scalar_json(write, row, out),
            Cells::Struct(children) => {
                out.push('{');
                for (i, (name, child)) in children.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    push_json_string(name, out);
                    out.push(':');
                    child.write_json(row, out);
                }
                out.push('}');
            }
            Cells::List { offsets, values } => {
                out.push('[');
                for (i, element) in offsets.range(row).enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    values.write_json(element, out);
                }
                out.push(']');
            }
        }
    }

    /// A row as a JSON value.
    pub(super) fn json(&self, row: usize) -> Value {
        if self.array.is_null(row) {
            return Value::Null;
        }
        match &self.cells {
            Cells::Null => Value::Null,
            Cells::Owned { array, field } => Column::new(field, array).json(row),
            Cells::Scalar(write) => {
                let mut text = String::new();
                match write(row, &mut text) {
                    Shape::Bare => bare(&text),
                    Shape::Quoted => Value::String(text),
                    Shape::Document => serde_json::from_str(&text).unwrap_or(Value::String(text)),
                }
            }
            Cells::Struct(children) => {
                let fields = children.iter().map(|(name, child)| ((*name).to_owned(), child.json(row)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
            Cells::List { offsets, values } => Value::Array(offsets.range(row).map(|i| values.json(i)).collect()),
        }
    }

    /// Whether its values are numbers, which a table aligns to the right.
    pub(super) fn is_number(field: &Field) -> bool {
        let data_type = field.data_type();
        data_type.is_numeric() || matches!(carried_type(field), Some(Type::BigNumeric))
    }
}

fn write_scalar_json(write: &Write<'_>, row: usize, out: &mut String) {
    // Most values need no quotes: they are written in place, and taken back if they do.
    let start = out.len();
    let shape = write(row, out);
    if matches!(shape, Shape::Bare) {
        return;
    }
    let text = out.split_off(start);
    match shape {
        Shape::Document if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() => {
            // Line breaks of a valid document stand between its tokens only.
            out.extend(text.trim().chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
        }
        Shape::Bare | Shape::Quoted | Shape::Document => push_json_string(&text, out),
    }
}

fn bare(text: &str) -> Value {
    if let Ok(value) = text.parse::<bool>() {
        return Value::Bool(value);
    }
    if let Ok(value) = text.parse::<i64>() {
        return Value::Number(value.into());
    }
    text.parse().ok().and_then(Number::from_f64).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn carried_type(field: &Field) -> Option<Type> {
    field.metadata().get(TYPE_KEY).and_then(|name| name.parse().ok())
}

fn cells<'a>(carried: Option<&Type>, field: &Field, array: &'a dyn Array) -> Cells<'a> {
    match array.data_type() {
        DataType::Null => Cells::Null,
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let children = fields.iter().zip(array.columns());
            // The hint's own children know more than the array's, where there are any of that name.
            let hints = match field.data_type() {
                DataType::Struct(hints) => hints.clone(),
                _ => fields.clone(),
            };
            Cells::Struct(
                children
                    .map(|(own, column)| {
                        let hint = hints.iter().find(|hint| hint.name() == own.name()).unwrap_or(own);
                        (own.name().as_str(), Column::new(hint, column))
                    })
                    .collect(),
            )
        }
        DataType::List(element) => list(carried, field, element, array.as_list::<i32>(), Offsets::Small),
        DataType::LargeList(element) => list(carried, field, element, array.as_list::<i64>(), Offsets::Large),
        DataType::FixedSizeList(element, size) => {
            let list: &FixedSizeListArray = array.as_fixed_size_list();
            let values = Box::new(element_column(carried, field, element, list.values()));
            Cells::List { offsets: Offsets::Fixed(usize::try_from(*size).unwrap_or_default()), values }
        }
        DataType::Map(entries, _) => {
            let map = array.as_map();
            let values = Box::new(Column::new(entries, map.entries()));
            Cells::List { offsets: Offsets::Small(map.value_offsets()), values }
        }
        other => match same_values_as(other) {
            Some(target) => match arrow::compute::cast(array, &target) {
                Ok(array) => Cells::Owned { field: Field::new("", target, true).with_metadata(field.metadata().clone()), array },
                Err(_) => Cells::Scalar(fallback(array)),
            },
            None => Cells::Scalar(scalar(carried, array)),
        },
    }
}

/// Encodings of values that have a plain form.
fn same_values_as(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Dictionary(_, value) => Some(value.as_ref().clone()),
        DataType::RunEndEncoded(_, value) => Some(value.data_type().clone()),
        DataType::ListView(element) => Some(DataType::List(Arc::clone(element))),
        DataType::LargeListView(element) => Some(DataType::LargeList(Arc::clone(element))),
        _ => None,
    }
}

fn list<'a, O: OffsetSizeTrait>(
    carried: Option<&Type>,
    field: &Field,
    element: &Field,
    list: &'a GenericListArray<O>,
    offsets: impl FnOnce(&'a [O]) -> Offsets<'a>,
) -> Cells<'a> {
    let values = Box::new(element_column(carried, field, element, list.values()));
    Cells::List { offsets: offsets(list.value_offsets()), values }
}

/// An ARRAY's elements. Its type stands in the metadata of the array's field, not of the element's.
fn element_column<'a>(carried: Option<&Type>, field: &Field, element: &Field, values: &'a ArrayRef) -> Column<'a> {
    let hint = match field.data_type() {
        DataType::List(hint) | DataType::LargeList(hint) | DataType::FixedSizeList(hint, _) => hint.as_ref(),
        _ => element,
    };
    let own = carried_type(hint);
    Column { array: values.as_ref(), cells: cells(own.as_ref().or(carried), hint, values.as_ref()) }
}

fn scalar<'a>(carried: Option<&Type>, array: &'a dyn Array) -> Write<'a> {
    match array.data_type() {
        DataType::Boolean => {
            let values: &BooleanArray = array.as_boolean();
            Box::new(move |row, out| {
                out.push_str(if values.value(row) { "true" } else { "false" });
                Shape::Bare
            })
        }
        DataType::Int8 => integer::<Int8Type>(array),
        DataType::Int16 => integer::<Int16Type>(array),
        DataType::Int32 => integer::<Int32Type>(array),
        DataType::Int64 => integer::<Int64Type>(array),
        DataType::UInt8 => integer::<UInt8Type>(array),
        DataType::UInt16 => integer::<UInt16Type>(array),
        DataType::UInt32 => integer::<UInt32Type>(array),
        DataType::UInt64 => integer::<UInt64Type>(array),
        DataType::Float16 => float::<Float16Type>(array, |value| (f64::from(value), f64::from(value).to_string())),
        DataType::Float32 => float::<Float32Type>(array, |value| (f64::from(value), format!("{value:?}"))),
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            Box::new(move |row, out| {
                let value = values.value(row);
                scalar::push_float(value, out);
                if value.is_finite() { Shape::Bare } else { Shape::Quoted }
            })
        }
        DataType::Decimal32(_, scale) => decimal::<Decimal32Type>(array, *scale),
        DataType::Decimal64(_, scale) => decimal::<Decimal64Type>(array, *scale),
        DataType::Decimal128(_, scale) => decimal::<Decimal128Type>(array, *scale),
        DataType::Decimal256(_, scale) => decimal::<Decimal256Type>(array, *scale),
        DataType::Utf8 => {
            let values: &StringArray = array.as_string();
            text(carried, move |row| values.value(row))
        }
        DataType::LargeUtf8 => {
            let values: &LargeStringArray = array.as_string();
            text(carried, move |row| values.value(row))
        }
        DataType::Utf8View => {
            let values: &StringViewArray = array.as_string_view();
            text(carried, move |row| values.value(row))
        }
        DataType::Binary => {
            let values: &BinaryArray = array.as_binary();
            bytes(move |row| values.value(row))
        }
        DataType::LargeBinary => {
            let values: &LargeBinaryArray = array.as_binary();
            bytes(move |row| values.value(row))
        }
        DataType::BinaryView => {
            let values: &BinaryViewArray = array.as_binary_view();
            bytes(move |row| values.value(row))
        }
        DataType::FixedSizeBinary(_) => {
            let values: &FixedSizeBinaryArray = array.as_fixed_size_binary();
            bytes(move |row| values.value(row))
        }
        _ => calendar(array),
    }
}

fn calendar(array: &dyn Array) -> Write<'_> {
    match array.data_type() {
        DataType::Date32 => quoted::<Date32Type>(array, |days, out| scalar::push_date(days.into(), out)),
        DataType::Date64 => quoted::<Date64Type>(array, |millis, out| scalar::push_date(millis.div_euclid(86_400_000), out)),
        DataType::Time32(TimeUnit::Second) => {
            quoted::<Time32SecondType>(array, |v, out| scalar::push_time(i64::from(v) * 1_000_000_000, out))
        }
        DataType::Time32(_) => quoted::<Time32MillisecondType>(array, |v, out| scalar::push_time(i64::from(v) * 1_000_000, out)),
        DataType::Time64(TimeUnit::Nanosecond) => quoted::<Time64NanosecondType>(array, scalar::push_time),
        DataType::Time64(_) => quoted::<Time64MicrosecondType>(array, |v, out| scalar::push_time(v.saturating_mul(1_000), out)),
        DataType::Timestamp(unit, zone) => {
            let zone = if zone.is_some() { "Z" } else { "" };
            match unit {
                TimeUnit::Second => instant::<TimestampSecondType>(array, 1, zone),
                TimeUnit::Millisecond => instant::<TimestampMillisecondType>(array, 1_000, zone),
                TimeUnit::Microsecond => instant::<TimestampMicrosecondType>(array, 1_000_000, zone),
                TimeUnit::Nanosecond => instant::<TimestampNanosecondType>(array, 1_000_000_000, zone),
            }
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            quoted::<IntervalYearMonthType>(array, |months, out| scalar::push_interval(months.into(), 0, 0, out))
        }
        DataType::Interval(IntervalUnit::DayTime) => quoted::<IntervalDayTimeType>(array, |v, out| {
            scalar::push_interval(0, v.days.into(), i128::from(v.milliseconds) * 1_000_000, out);
        }),
        DataType::Interval(IntervalUnit::MonthDayNano) => quoted::<IntervalMonthDayNanoType>(array, |v, out| {
            scalar::push_interval(v.months.into(), v.days.into(), v.nanoseconds.into(), out);
        }),
        DataType::Duration(TimeUnit::Second) => duration::<DurationSecondType>(array, 1_000_000_000),
        DataType::Duration(TimeUnit::Millisecond) => duration::<DurationMillisecondType>(array, 1_000_000),
        DataType::Duration(TimeUnit::Microsecond) => duration::<DurationMicrosecondType>(array, 1_000),
        DataType::Duration(TimeUnit::Nanosecond) => duration::<DurationNanosecondType>(array, 1),
        _ => fallback(array),
    }
}

fn integer<T: ArrowPrimitiveType>(array: &dyn Array) -> Write<'_>
where
    T::Native: std::fmt::Display + TryInto<i128>,
{
    let values = array.as_primitive::<T>();
    Box::new(move |row, out| {
        let value = values.value(row);
        // Writing to a String cannot fail.
        _ = write!(out, "{value}");
        match value.try_into() {
            Ok(wide) if wide.unsigned_abs() <= u128::from(EXACT_IN_DOUBLE) => Shape::Bare,
            _ => Shape::Quoted,
        }
    })
}

fn float<'a, T: ArrowPrimitiveType>(array: &'a dyn Array, show: impl Fn(T::Native) -> (f64, String) + 'a) -> Write<'a> {
    let values = array.as_primitive::<T>();
    Box::new(move |row, out| {
        let (value, shortest) = show(values.value(row));
        if value.is_finite() {
            out.push_str(&shortest);
            return Shape::Bare;
        }
        scalar::push_float(value, out);
        Shape::Quoted
    })
}

fn decimal<T: ArrowPrimitiveType>(array: &dyn Array, scale: i8) -> Write<'_>
where
    T::Native: std::fmt::Display,
{
    let values = array.as_primitive::<T>();
    Box::new(move |row, out| {
        scalar::push_decimal(&values.value(row).to_string(), scale, out);
        Shape::Quoted
    })
}

fn quoted<'a, T: ArrowPrimitiveType>(array: &'a dyn Array, push: impl Fn(T::Native, &mut String) + 'a) -> Write<'a> {
    let values = array.as_primitive::<T>();
    Box::new(move |row, out| {
        push(values.value(row), out);
        Shape::Quoted
    })
}

fn instant<'a, T: ArrowPrimitiveType<Native = i64>>(array: &'a dyn Array, per_second: i64, zone: &'static str) -> Write<'a> {
    quoted::<T>(array, move |value, out| {
        scalar::push_date_time(value, per_second, out);
        out.push_str(zone);
    })
}

fn duration<T: ArrowPrimitiveType<Native = i64>>(array: &dyn Array, nanos: i128) -> Write<'_> {
    quoted::<T>(array, move |value, out| scalar::push_interval(0, 0, i128::from(value) * nanos, out))
}

fn text<'a>(carried: Option<&Type>, value: impl Fn(usize) -> &'a str + 'a) -> Write<'a> {
    match carried {
        Some(Type::Json) => Box::new(move |row, out| {
            out.push_str(value(row));
            Shape::Document
        }),
        Some(Type::Time) => Box::new(move |row, out| {
            scalar::push_time_text(value(row), out);
            Shape::Quoted
        }),
        _ => Box::new(move |row, out| {
            out.push_str(value(row));
            Shape::Quoted
        }),
    }
}

fn bytes<'a>(value: impl Fn(usize) -> &'a [u8] + 'a) -> Write<'a> {
    Box::new(move |row, out| {
        scalar::push_base64(value(row), out);
        Shape::Quoted
    })
}

/// What Arrow makes of a type that no BigQuery type corresponds to.
fn fallback(array: &dyn Array) -> Write<'_> {
    let options = FormatOptions::new();
    match ArrayFormatter::try_new(array, &options) {
        Ok(formatter) => Box::new(move |row, out| {
            _ = write!(out, "{}", formatter.value(row));
            Shape::Quoted
        }),
        Err(_) => Box::new(|_, out| {
            out.push('?');
            Shape::Quoted
        }),
    }
}
