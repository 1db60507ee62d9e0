//! Rows as the Storage Write API takes them: Arrow IPC messages in BigQuery's own Arrow types.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal256Builder, IntervalMonthDayNanoBuilder, ListArray, RecordBatch, StringArray, StructArray,
    Time64MicrosecondBuilder,
};
use arrow::datatypes::{
    DataType, Field as ArrowField, Fields, IntervalMonthDayNano, IntervalUnit, Schema, SchemaRef, TimeUnit, i256,
};
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use longshore_core::Result;
use longshore_core::destination::Refusal;
use longshore_core::schema::{Field, Mode, TableSchema, Type};
use longshore_core::show::value_to_json;
use serde_json::Value;

use crate::error::{bug, codes, destination};
use crate::message::{Header, Message, Piece};

/// The largest request that we send; the API's own limit is 10 MB with everything around the rows.
pub(crate) const REQUEST_BYTES: usize = 9_500_000;

/// The precision and scale of a BIGNUMERIC that every value fits, bounds included.
const BIG: (u8, i8) = (76, 38);

/// Parts of a batch, each with the number of its first row there.
pub(crate) type Runs = Vec<(u64, RecordBatch)>;

/// Turns batches of a table's columns into BigQuery's own Arrow types.
#[derive(Debug, Clone)]
pub(crate) struct Native(SchemaRef);

impl Native {
    pub(crate) fn new(schema: &TableSchema) -> Self {
        Self(Arc::new(Schema::new(schema.fields.iter().map(native_field).collect::<Vec<_>>())))
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        self.0.clone()
    }

    /// A batch in native types, in runs between the rows that have a value which its type cannot hold there. Each run comes with the
    /// number of its first row.
    pub(crate) fn batch(&self, batch: &RecordBatch) -> Result<(Runs, Vec<Refusal>)> {
        match self.convert(batch) {
            Err(error) if error.code() == codes::VALUE.name => {}
            whole => return Ok((vec![(0, whole?)], Vec::new())),
        }
        let (mut runs, mut refused) = (Vec::new(), Vec::new());
        let mut first = 0;
        for row in 0..batch.num_rows() {
            if let Err(error) = self.convert(&batch.slice(row, 1)) {
                refused.push(Refusal { row: row as u64, values: object(batch, row), reason: error.message().to_owned() });
                runs.push((first as u64, self.convert(&batch.slice(first, row - first))?));
                first = row + 1;
            }
        }
        runs.push((first as u64, self.convert(&batch.slice(first, batch.num_rows() - first))?));
        runs.retain(|(_, run)| run.num_rows() > 0);
        Ok((runs, refused))
    }

    /// A batch of almost these types, as a file gives it back, in just these.
    pub(crate) fn cast(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns =
            self.0.fields().iter().zip(batch.columns()).map(|(field, column)| arrow::compute::cast(column, field.data_type()));
        RecordBatch::try_new(self.0.clone(), columns.collect::<Result<_, _>>().map_err(encoding)?).map_err(encoding)
    }

    /// Errors: `bigquery_value`.
    fn convert(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.0.fields().iter().zip(batch.columns()).map(|(field, column)| native(column, field.data_type()));
        RecordBatch::try_new(self.0.clone(), columns.collect::<Result<_>>()?).map_err(encoding)
    }
}

/// Turns batches of one schema into messages. Each instance is for one stream.
pub(crate) struct Encoder {
    native: Native,
    writer: StreamWriter<Vec<u8>>,
    /// What the rows' connection is told first.
    pub(crate) header: Header,
}

/// A batch in requests' sizes.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    /// In order.
    pub(crate) pieces: Vec<Piece>,
    /// The rows that no request holds: which of the batch, what is in them, and why not.
    pub(crate) refused: Vec<Refusal>,
}

impl Encoder {
    pub(crate) fn new(schema: &TableSchema) -> Result<Self> {
        let native = Native::new(schema);
        let mut writer = StreamWriter::try_new(Vec::new(), &native.0).map_err(encoding)?;
        let header = Header::Arrow(std::mem::take(writer.get_mut()).into());
        Ok(Self { native, writer, header })
    }

    /// The rows of a batch in requests' sizes.
    pub(crate) fn cut(&mut self, batch: &RecordBatch) -> Result<Cut> {
        let (runs, refused) = self.native.batch(batch)?;
        let mut cut = Cut { pieces: Vec::new(), refused };
        for (first, run) in runs {
            self.halve(&run, first, &mut cut)?;
        }
        Ok(cut)
    }

    fn halve(&mut self, batch: &RecordBatch, first: u64, cut: &mut Cut) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        // Halving first what is surely too large saves encoding it in vain.
        if rows == 1 || batch.get_array_memory_size() < 2 * REQUEST_BYTES {
            let message = self.message(batch)?;
            if message.len() <= REQUEST_BYTES {
                cut.pieces.push(Piece { message: Message::Arrow(message), rows: rows as u64, first });
                return Ok(());
            }
            if rows == 1 {
                let reason = format!("a row of {} bytes does not fit a request of BigQuery's, which takes 10 MB", message.len());
                cut.refused.push(Refusal { row: first, values: object(batch, 0), reason });
                return Ok(());
            }
        }
        let half = rows / 2;
        self.halve(&compact(&batch.slice(0, half))?, first, cut)?;
        self.halve(&compact(&batch.slice(half, rows - half))?, first + half as u64, cut)
    }

    fn message(&mut self, batch: &RecordBatch) -> Result<Bytes> {
        self.writer.write(batch).map_err(encoding)?;
        Ok(std::mem::take(self.writer.get_mut()).into())
    }
}

/// A row as a JSON object, nulls left out.
pub(crate) fn object(batch: &RecordBatch, row: usize) -> Value {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns());
    let known = cells.filter(|(_, column)| column.is_valid(row));
    Value::Object(known.map(|(field, column)| (field.name().clone(), value_to_json(field, column, row))).collect())
}

/// A slice with buffers of its own, so that its size in memory is that of its rows.
fn compact(slice: &RecordBatch) -> Result<RecordBatch> {
    arrow::compute::concat_batches(&slice.schema(), [slice]).map_err(encoding)
}

pub(crate) fn encoding(error: arrow::error::ArrowError) -> longshore_core::error::Error {
    bug("rows could not be encoded for BigQuery").caused_by(error)
}

fn native_field(field: &Field) -> ArrowField {
    let data_type = native_type(&field.type_);
    match field.mode {
        Mode::Repeated => {
            let element = ArrowField::new("element", data_type, false);
            ArrowField::new(&field.name, DataType::List(Arc::new(element)), true)
        }
        mode => ArrowField::new(&field.name, data_type, mode != Mode::Required),
    }
}

/// The Arrow type in which BigQuery takes values of a type exactly.
/// Source: <https://cloud.google.com/bigquery/docs/supported-data-types>
fn native_type(type_: &Type) -> DataType {
    match type_ {
        Type::BigNumeric => DataType::Decimal256(BIG.0, BIG.1),
        Type::Time => DataType::Time64(TimeUnit::Microsecond),
        Type::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        Type::Struct(fields) => DataType::Struct(fields.iter().map(native_field).collect::<Fields>()),
        other => longshore_core::schema_arrow::type_to_arrow(other),
    }
}

/// A column in its native type.
fn native(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    // What was read back from files of ours is native already.
    if column.data_type() == to {
        return Ok(column.clone());
    }
    Ok(match to {
        DataType::List(element) => {
            let list = column.as_list::<i32>();
            let values = native(list.values(), element.data_type())?;
            Arc::new(
                ListArray::try_new(element.clone(), list.offsets().clone(), values, list.nulls().cloned()).map_err(encoding)?,
            )
        }
        DataType::Struct(fields) => {
            let structs = column.as_struct();
            let children = fields.iter().zip(structs.columns()).map(|(field, child)| native(child, field.data_type()));
            let nulls = structs.nulls().cloned();
            Arc::new(
                StructArray::try_new_with_length(fields.clone(), children.collect::<Result<_>>()?, nulls, structs.len())
                    .map_err(encoding)?,
            )
        }
        DataType::Decimal256(..) => {
            let texts = texts(column)?;
            let mut values = Decimal256Builder::with_capacity(texts.len()).with_data_type(to.clone());
            for text in texts {
                values.append_option(text.map(big_decimal).transpose()?);
            }
            Arc::new(values.finish())
        }
        DataType::Time64(_) => {
            let texts = texts(column)?;
            let mut values = Time64MicrosecondBuilder::with_capacity(texts.len());
            for text in texts {
                values.append_option(text.map(time_of_day).transpose()?);
            }
            Arc::new(values.finish())
        }
        DataType::Interval(_) => {
            let texts = texts(column)?;
            let mut values = IntervalMonthDayNanoBuilder::with_capacity(texts.len());
            for text in texts {
                values.append_option(text.map(interval).transpose()?);
            }
            Arc::new(values.finish())
        }
        _ => column.clone(),
    })
}

fn texts(column: &ArrayRef) -> Result<&StringArray> {
    column.as_string_opt::<i32>().ok_or_else(|| bug(format!("a text-carried column is {}", column.data_type())))
}

fn unreadable(what: &str, text: &str) -> longshore_core::error::Error {
    destination(codes::VALUE, format!("a value of {} characters is no {what}", text.chars().count()))
}

/// `-12.5` as its digits with 38 behind the point.
fn big_decimal(text: &str) -> Result<i256> {
    let refused = || unreadable("BIGNUMERIC", text);
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.len() > 38 {
        return Err(refused());
    }
    let unscaled = format!("{sign}{whole}{fraction:0<38}");
    // Arrow does not read the lowest number of all.
    let lowest = || (unscaled == i256::MIN.to_string()).then_some(i256::MIN);
    i256::from_string(&unscaled).or_else(lowest).ok_or_else(refused)
}

/// `HH:MM:SS.ffffff` as microseconds since midnight.
fn time_of_day(text: &str) -> Result<i64> {
    let refused = || unreadable("TIME", text);
    let part = |range: std::ops::Range<usize>| text.get(range).and_then(|part| part.parse::<i64>().ok()).ok_or_else(refused);
    let fraction = text.get(9..).unwrap_or_default();
    let micros = if fraction.is_empty() { 0 } else { format!("{fraction:0<6}").parse::<i64>().map_err(|_| refused())? };
    Ok(((part(0..2)? * 60 + part(3..5)?) * 60 + part(6..8)?) * 1_000_000 + micros)
}

/// `Y-M D H:M:S.F`, each part with a sign of its own.
fn interval(text: &str) -> Result<IntervalMonthDayNano> {
    let refused = || unreadable("INTERVAL", text);
    let mut parts = text.split(' ');
    let (Some(months), Some(days), Some(time), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(refused());
    };
    let signed = |text: &str| text.strip_prefix('-').map_or((1, text.to_owned()), |rest| (-1, rest.to_owned()));
    let (months_sign, months) = signed(months);
    let (years, months) = months.split_once('-').ok_or_else(refused)?;
    let months = years.parse::<i32>().ok().zip(months.parse::<i32>().ok()).map(|(y, m)| months_sign * (y * 12 + m));
    let (time_sign, time) = signed(time);
    let mut clock = time.split(':');
    let (Some(h), Some(m), Some(s), None) = (clock.next(), clock.next(), clock.next(), clock.next()) else {
        return Err(refused());
    };
    let (s, fraction) = s.split_once('.').unwrap_or((s, ""));
    let number = |text: &str| text.parse::<i64>().map_err(|_| refused());
    let nanos = number(&format!("{fraction:0<9}"))?;
    let seconds = (number(h)? * 60 + number(m)?) * 60 + number(s)?;
    let nanos = seconds.checked_mul(1_000_000_000).and_then(|n| n.checked_add(nanos)).ok_or_else(refused)?;
    let days = days.parse().map_err(|_| refused())?;
    Ok(IntervalMonthDayNano::new(months.ok_or_else(refused)?, days, i64::from(time_sign) * nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::ipc::reader::StreamReader;

    fn bytes_of(header: &Header, message: &Message) -> Vec<u8> {
        let (Header::Arrow(header), Message::Arrow(message)) = (header, message) else { panic!("rows in Arrow") };
        [header.as_ref(), message.as_ref()].concat()
    }

    #[test]
    fn text_carried_values_become_what_bigquery_takes() {
        assert_eq!(big_decimal("-0.5").expect("fits"), i256::from_string(&format!("-5{}", "0".repeat(37))).expect("a number"));
        let largest = "578960446186580977117854925043439539266.34992332820282019728792003956564819967";
        assert_eq!(big_decimal(largest).expect("fits"), i256::MAX);
        let lowest = "-578960446186580977117854925043439539266.34992332820282019728792003956564819968";
        assert_eq!(big_decimal(lowest).expect("fits"), i256::MIN);
        assert_eq!(time_of_day("23:59:59.999999").expect("fits"), 86_399_999_999);
        assert_eq!(time_of_day("00:00:01").expect("fits"), 1_000_000);
        assert_eq!(interval("-1-2 3 -4:5:6.5").expect("fits"), IntervalMonthDayNano::new(-14, 3, -14_706_500_000_000));
        for wrong in ["", "1-2", "1-2 3 4:5"] {
            interval(wrong).expect_err("refused");
        }
    }

    #[test]
    fn a_value_that_a_type_cannot_hold_takes_only_its_own_row_along() {
        let schema = TableSchema::new(vec![Field::new("i", Type::Interval)]);
        let long = "0-0 0 9000000:0:0";
        let column: ArrayRef = Arc::new(StringArray::from(vec![long, "0-0 1 0:0:0", "0-0 2 0:0:0", long, long, "0-0 3 0:0:0"]));
        let batch = RecordBatch::try_new(schema.to_arrow(), vec![column]).expect("a batch");
        let cut = Encoder::new(&schema).expect("an encoder").cut(&batch).expect("cut");
        assert_eq!(cut.refused.iter().map(|refused| refused.row).collect::<Vec<_>>(), [0, 3, 4]);
        assert_eq!(cut.refused[0].values, serde_json::json!({"i": long}));
        assert_eq!(cut.pieces.iter().map(|piece| (piece.first, piece.rows)).collect::<Vec<_>>(), [(1, 2), (5, 1)]);
    }

    #[test]
    fn a_batch_is_cut_into_requests_and_nothing_is_lost() {
        let schema = TableSchema::new(vec![Field::new("s", Type::String), Field::new("t", Type::Time)]);
        let long = "x".repeat(1_000_000);
        let strings: ArrayRef = Arc::new(StringArray::from(vec![long.as_str(); 25]));
        let times: ArrayRef = Arc::new(StringArray::from(vec![Some("01:00:00.000000"); 25]));
        let batch = RecordBatch::try_new(schema.to_arrow(), vec![strings, times]).expect("a batch");
        let mut encoder = Encoder::new(&schema).expect("an encoder");
        let pieces = encoder.cut(&batch).expect("cut").pieces;
        let follow = pieces.windows(2).all(|pair| pair[0].first + pair[0].rows == pair[1].first);
        assert!(pieces[0].first == 0 && follow, "{pieces:?}");
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.message.len() <= REQUEST_BYTES));
        let mut rows = 0;
        for piece in &pieces {
            let bytes = bytes_of(&encoder.header, &piece.message);
            for batch in StreamReader::try_new(bytes.as_slice(), None).expect("a stream") {
                let batch = batch.expect("a batch");
                rows += batch.num_rows();
                assert_eq!(batch.column(1).data_type(), &DataType::Time64(TimeUnit::Microsecond));
            }
        }
        assert_eq!((rows, pieces.iter().map(|piece| piece.rows).sum::<u64>()), (25, 25));
    }

    #[test]
    fn a_row_that_no_request_holds_is_refused_alone() {
        let schema = TableSchema::new(vec![Field::new("s", Type::String)]);
        let long = "y".repeat(10_000_000);
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a", long.as_str(), "b"]));
        let batch = RecordBatch::try_new(schema.to_arrow(), vec![column]).expect("a batch");
        let cut = Encoder::new(&schema).expect("an encoder").cut(&batch).expect("cut");
        assert_eq!(cut.refused.iter().map(|refused| refused.row).collect::<Vec<_>>(), [1]);
        assert_eq!(cut.refused[0].values["s"].as_str().map(str::len), Some(10_000_000));
        assert_eq!(cut.pieces.iter().map(|piece| (piece.first, piece.rows)).collect::<Vec<_>>(), [(0, 1), (2, 1)]);
    }
}
