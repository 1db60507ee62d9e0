//! CSV as RFC 4180 has it, with line feeds.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use super::column::Column;

/// Writes batches as CSV: a header, then a line a row. A value is quoted only where it has to be; the empty string is
/// quoted too, since nothing between two commas is NULL.
pub struct CsvWriter<W> {
    out: W,
    schema: SchemaRef,
    line: String,
}

impl<W: Write> CsvWriter<W> {
    /// Writes the header. `schema` names the columns and their types.
    pub fn new(mut out: W, schema: SchemaRef) -> io::Result<Self> {
        let mut line = String::new();
        header(&schema, &mut line);
        out.write_all(line.as_bytes())?;
        Ok(Self { out, schema, line })
    }

    /// Writes the rows of a batch whose columns stand as in the schema.
    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let fields = self.schema.fields().iter().zip(batch.columns());
        let columns: Vec<Column<'_>> = fields.map(|(field, array)| Column::new(field, array)).collect();
        let mut cell = String::new();
        for row in 0..batch.num_rows() {
            self.line.clear();
            for (i, column) in columns.iter().enumerate() {
                if i > 0 {
                    self.line.push(',');
                }
                cell.clear();
                if column.text(row, &mut cell) {
                    push_cell(&cell, &mut self.line);
                }
            }
            self.line.push('\n');
            self.out.write_all(self.line.as_bytes())?;
        }
        Ok(())
    }

    /// Flushes and gives back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

fn header(schema: &Schema, line: &mut String) {
    for (i, field) in schema.fields().iter().enumerate() {
        if i > 0 {
            line.push(',');
        }
        push_cell(field.name(), line);
    }
    line.push('\n');
}

fn push_cell(cell: &str, line: &mut String) {
    if !cell.is_empty() && !cell.contains([',', '"', '\n', '\r']) {
        line.push_str(cell);
        return;
    }
    line.push('"');
    for (i, part) in cell.split('"').enumerate() {
        if i > 0 {
            line.push_str("\"\"");
        }
        line.push_str(part);
    }
    line.push('"');
}
