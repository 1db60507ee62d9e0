//! JSON lines.

use std::collections::HashSet;
use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::column::Column;
use super::push_json_string;

/// Writes batches as JSON lines: one object a row, its keys in the order of the columns. A column whose name is taken
/// already gets `_2`, so that no reader drops one of the two.
pub struct JsonWriter<W> {
    out: W,
    schema: SchemaRef,
    /// What stands before each value: `{"a":`, `,"b":`.
    keys: Vec<String>,
    line: String,
}

impl<W: Write> JsonWriter<W> {
    /// `schema` names the columns and their types.
    pub fn new(out: W, schema: SchemaRef) -> Self {
        let mut taken: HashSet<String> = HashSet::new();
        let mut keys = Vec::with_capacity(schema.fields().len());
        for (i, field) in schema.fields().iter().enumerate() {
            let mut name = field.name().clone();
            let mut number = 2;
            while !taken.insert(name.clone()) {
                name = format!("{}_{number}", field.name());
                number += 1;
            }
            let mut key = String::from(if i == 0 { "{" } else { "," });
            push_json_string(&name, &mut key);
            key.push(':');
            keys.push(key);
        }
        Self { out, schema, keys, line: String::new() }
    }

    /// Writes the rows of a batch whose columns stand as in the schema.
    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let fields = self.schema.fields().iter().zip(batch.columns());
        let columns: Vec<Column<'_>> = fields.map(|(field, array)| Column::new(field, array)).collect();
        for row in 0..batch.num_rows() {
            self.line.clear();
            for (key, column) in self.keys.iter().zip(&columns) {
                self.line.push_str(key);
                column.write_json(row, &mut self.line);
            }
            self.line.push_str(if columns.is_empty() { "{}\n" } else { "}\n" });
            self.out.write_all(self.line.as_bytes())?;
        }
        Ok(())
    }

    /// What is written to.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Flushes and gives back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}
