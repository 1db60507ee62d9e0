//! Rows that come in as Arrow: Storage Write requests, Parquet files, and the results of queries.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Decimal256Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt64Type,
};
use longshore_core::schema::{Field, Mode, TYPE_KEY, Type};

use super::cell::{self, Cell, Row};

/// What decides which Arrow types a column takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A request or a file: the documented type of each column, and nothing that merely could be read as such.
    Written,
    /// The result of a query of our own engine: texts and other numbers are read as the column's type.
    Computed,
}

/// Why rows cannot be read at all.
pub(crate) enum Mismatch {
    /// Columns that the table has not.
    Unknown(Vec<String>),
    /// A column of a wrong type, or a REQUIRED one that is not there.
    Invalid(String),
}

/// The rows, each read or refused on its own.
pub(crate) type Rows = Vec<Result<Row, String>>;

type Read<'a> = Box<dyn Fn(usize) -> Result<Cell, String> + 'a>;

/// Reads the rows of a batch into the columns of a table.
pub(crate) fn rows(fields: &[Field], batch: &RecordBatch, source: Source) -> Result<Rows, Mismatch> {
    let schema = batch.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let readers = readers(fields, &names, batch.columns(), source)?;
    Ok((0..batch.num_rows()).map(|row| readers.iter().map(|read| read(row)).collect()).collect())
}

fn readers<'a>(fields: &'a [Field], names: &[&str], columns: &[ArrayRef], source: Source) -> Result<Vec<Read<'a>>, Mismatch> {
    let lower: HashMap<String, usize> = names.iter().enumerate().map(|(i, name)| (name.to_lowercase(), i)).collect();
    let known = |name: &&&str| fields.iter().any(|field| field.name.eq_ignore_ascii_case(name));
    let unknown: Vec<String> = names.iter().filter(|name| !known(name)).map(|name| (*name).to_owned()).collect();
    if !unknown.is_empty() {
        return Err(Mismatch::Unknown(unknown));
    }
    let reader = |field: &'a Field| -> Result<Read<'a>, Mismatch> {
        let Some(at) = lower.get(&field.name.to_lowercase()) else {
            let absent = cell::missing(field).map_err(Mismatch::Invalid)?;
            return Ok(Box::new(move |_| Ok(absent.clone())));
        };
        let read = column(field, columns[*at].clone(), source)?;
        Ok(Box::new(move |row| {
            let cell = read(row)?;
            cell::check(field, &cell)?;
            Ok(cell)
        }))
    };
    fields.iter().map(reader).collect()
}

fn column<'a>(field: &'a Field, array: ArrayRef, source: Source) -> Result<Read<'a>, Mismatch> {
    if field.mode == Mode::Repeated {
        return lists(field, &array, source);
    }
    let read = element(field, array.clone(), source)?;
    Ok(Box::new(move |row| if array.is_null(row) { Ok(Cell::Null) } else { read(row) }))
}

fn lists<'a>(field: &'a Field, array: &ArrayRef, source: Source) -> Result<Read<'a>, Mismatch> {
    let list = match array.data_type() {
        DataType::List(_) => array.clone(),
        DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            cast(array, &DataType::List(element.clone())).map_err(|_| wrong(field, array.data_type()))?
        }
        other => return Err(wrong(field, other)),
    };
    let list = list.as_list::<i32>().clone();
    let values = list.values().clone();
    let read = element(field, values.clone(), source)?;
    Ok(Box::new(move |row| {
        if list.is_null(row) {
            return Ok(Cell::List(Vec::new()));
        }
        let at = |offset: i32| usize::try_from(offset).expect("offsets of a list are not negative");
        let range = at(list.value_offsets()[row])..at(list.value_offsets()[row + 1]);
        range.map(|i| if values.is_null(i) { Ok(Cell::Null) } else { read(i) }).collect::<Result<_, _>>().map(Cell::List)
    }))
}

fn wrong(field: &Field, found: &DataType) -> Mismatch {
    Mismatch::Invalid(format!("Field {} of type {} cannot be read from the Arrow type {found}.", field.name, field.type_.name()))
}

/// What reads one value that is not null.
fn element<'a>(field: &'a Field, array: ArrayRef, source: Source) -> Result<Read<'a>, Mismatch> {
    let computed = source == Source::Computed;
    let mismatch = |found: &DataType| Err(wrong(field, found));
    let to = |target: DataType| cast(&array, &target).map_err(|_| wrong(field, array.data_type()));
    let type_ = &field.type_;
    match (type_, array.data_type()) {
        (Type::Struct(fields), DataType::Struct(arrow_fields)) => return structs(fields, arrow_fields, &array, source),
        (Type::String, text) if is_text(text) => {}
        (Type::Json | Type::Geography, text) if is_text(text) => {}
        (type_, text) if computed && is_text(text) => {
            let type_ = type_.clone();
            let values = to(DataType::Utf8)?;
            return Ok(Box::new(move |row| cell::from_text(&type_, values.as_string::<i32>().value(row))));
        }
        (Type::Bytes, found) if found.is_binary() => {
            let values = to(DataType::Binary)?;
            return Ok(Box::new(move |row| Ok(Cell::Bytes(values.as_binary::<i32>().value(row).to_vec()))));
        }
        (Type::Bool, DataType::Boolean) => return Ok(Box::new(move |row| Ok(Cell::Bool(array.as_boolean().value(row))))),
        (Type::Int64, DataType::UInt64) => {
            return Ok(Box::new(move |row| {
                let value = array.as_primitive::<UInt64Type>().value(row);
                i64::try_from(value).map(Cell::Int).map_err(|_| format!("INT64 out of range: {value}"))
            }));
        }
        (Type::Int64, found) if found.is_integer() => {
            let values = to(DataType::Int64)?;
            return Ok(Box::new(move |row| Ok(Cell::Int(values.as_primitive::<Int64Type>().value(row)))));
        }
        (Type::Float64, found) if found.is_floating() || computed && found.is_numeric() => {
            let values = to(DataType::Float64)?;
            return Ok(Box::new(move |row| {
                let values: &Float64Array = values.as_primitive();
                Ok(Cell::Float(values.value(row)))
            }));
        }
        (Type::Numeric | Type::BigNumeric, found) if found.is_decimal() || computed && found.is_numeric() => {
            return decimals(field, &array);
        }
        (Type::Date, DataType::Date32) => {
            return Ok(Box::new(move |row| Ok(Cell::Days(array.as_primitive::<Date32Type>().value(row)))));
        }
        (Type::Date, DataType::Date64) => {
            return Ok(Box::new(move |row| {
                let millis = array.as_primitive::<Date64Type>().value(row);
                let exact = millis.rem_euclid(86_400_000) == 0;
                let days = i32::try_from(millis.div_euclid(86_400_000)).ok().filter(|_| exact);
                days.map(Cell::Days).ok_or_else(|| format!("not a day: {millis} ms"))
            }));
        }
        (Type::Time, DataType::Time32(_) | DataType::Time64(_)) => {
            let values = to(DataType::Time64(TimeUnit::Nanosecond))?;
            return Ok(Box::new(move |row| {
                let nanos = values.as_primitive::<Time64NanosecondType>().value(row);
                let valid = nanos % 1_000 == 0 && (0..86_400_000_000_000).contains(&nanos);
                if valid { Ok(Cell::Text(cell::time_text(nanos / 1_000))) } else { Err(format!("not a TIME: {nanos} ns")) }
            }));
        }
        // A TIMESTAMP has a zone and a DATETIME has none.
        (Type::Timestamp, DataType::Timestamp(_, zone)) if zone.is_some() || computed => return instants(array),
        (Type::DateTime, DataType::Timestamp(_, zone)) if zone.is_none() || computed => return instants(array),
        (Type::Interval, DataType::Interval(IntervalUnit::MonthDayNano)) => {
            return Ok(Box::new(move |row| {
                let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
                if value.nanoseconds % 1_000 != 0 {
                    return Err(format!("not an INTERVAL: {} ns", value.nanoseconds));
                }
                let micros = value.nanoseconds / 1_000;
                Ok(Cell::Text(cell::interval_text(value.months.into(), value.days.into(), micros)))
            }));
        }
        (_, DataType::Null) => return Ok(Box::new(|_| Ok(Cell::Null))),
        (_, found) => return mismatch(found),
    }
    let type_ = type_.clone();
    let values = to(DataType::Utf8)?;
    Ok(Box::new(move |row| cell::from_text(&type_, values.as_string::<i32>().value(row))))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn structs<'a>(
    fields: &'a [Field],
    arrow_fields: &arrow::datatypes::Fields,
    array: &ArrayRef,
    source: Source,
) -> Result<Read<'a>, Mismatch> {
    let names: Vec<&str> = arrow_fields.iter().map(|field| field.name().as_str()).collect();
    let readers = readers(fields, &names, array.as_struct().columns(), source)?;
    Ok(Box::new(move |row| readers.iter().map(|read| read(row)).collect::<Result<_, _>>().map(Cell::Struct)))
}

fn decimals<'a>(field: &'a Field, array: &ArrayRef) -> Result<Read<'a>, Mismatch> {
    let numeric = field.type_ == Type::Numeric;
    let read = move |digits: String, scale: i8| {
        let text = match usize::try_from(scale) {
            Ok(scale) => cell::decimal_text(&digits, scale),
            Err(_) => format!("{digits}{}", "0".repeat(usize::from(scale.unsigned_abs()))),
        };
        if numeric { cell::numeric(&text) } else { cell::big_numeric(&text) }
    };
    let array = array.clone();
    match array.data_type().clone() {
        DataType::Decimal128(_, scale) => {
            Ok(Box::new(move |row| read(array.as_primitive::<Decimal128Type>().value(row).to_string(), scale)))
        }
        DataType::Decimal256(_, scale) => {
            Ok(Box::new(move |row| read(array.as_primitive::<Decimal256Type>().value(row).to_string(), scale)))
        }
        other => {
            // Smaller decimals and computed numbers go by way of their text.
            let values = cast(&array, &DataType::Utf8).map_err(|_| wrong(field, &other))?;
            Ok(Box::new(move |row| {
                let text = values.as_string::<i32>().value(row);
                if numeric { cell::numeric(text) } else { cell::big_numeric(text) }
            }))
        }
    }
}

fn instants<'a>(array: ArrayRef) -> Result<Read<'a>, Mismatch> {
    let DataType::Timestamp(unit, _) = array.data_type().clone() else { unreachable!("the caller looked") };
    let out_of_range = |value: i64| format!("timestamp out of range: {value}");
    Ok(Box::new(move |row| {
        let micros = match unit {
            TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row).checked_mul(1_000_000),
            TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row).checked_mul(1_000),
            TimeUnit::Microsecond => Some(array.as_primitive::<TimestampMicrosecondType>().value(row)),
            TimeUnit::Nanosecond => {
                let nanos = array.as_primitive::<TimestampNanosecondType>().value(row);
                (nanos % 1_000 == 0).then_some(nanos / 1_000)
            }
        };
        micros.map(Cell::Micros).ok_or_else(|| out_of_range(row as i64))
    }))
}

/// The type that a column of a query's result has: what its metadata says, else what its Arrow type is nearest to.
pub(crate) fn result_field(field: &arrow::datatypes::Field) -> Field {
    let (mode, data_type) = match field.data_type() {
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            (Mode::Repeated, element.data_type())
        }
        other => (Mode::Nullable, other),
    };
    let carried = field.metadata().get(TYPE_KEY).and_then(|name| name.parse::<Type>().ok());
    let type_ = match (carried, data_type) {
        (Some(type_), text) if is_text(text) => type_,
        (_, DataType::Struct(fields)) => Type::Struct(fields.iter().map(|field| result_field(field)).collect()),
        (_, DataType::Boolean) => Type::Bool,
        (_, found) if found.is_binary() => Type::Bytes,
        (_, DataType::UInt64) => Type::Numeric,
        (_, found) if found.is_integer() => Type::Int64,
        (_, found) if found.is_floating() => Type::Float64,
        (_, DataType::Decimal256(_, _)) => Type::BigNumeric,
        (_, DataType::Decimal128(_, scale)) if *scale > 9 => Type::BigNumeric,
        (_, found) if found.is_decimal() => Type::Numeric,
        (_, DataType::Date32 | DataType::Date64) => Type::Date,
        (_, DataType::Time32(_) | DataType::Time64(_)) => Type::Time,
        (_, DataType::Timestamp(_, None)) => Type::DateTime,
        (_, DataType::Timestamp(_, Some(_))) => Type::Timestamp,
        (_, DataType::Interval(_)) => Type::Interval,
        _ => Type::String,
    };
    Field::new(field.name(), type_).with_mode(mode)
}
