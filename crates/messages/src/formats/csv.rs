//! One row of delimited text a message.

use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use longshore_core::schema::TableSchema;
use longshore_files::csv::CsvFormat;

use super::{Columns, Reader, Unread};
use crate::config::CsvConfig;
use crate::error::SEVERAL_RECORDS;
use crate::fault::Fault;
use crate::sheet::Sheet;

/// Rows of known columns.
pub(crate) struct Csv {
    columns: Vec<String>,
    format: CsvFormat,
}

impl Csv {
    /// Errors: `config` if no columns are given, one is given twice, or the delimiter or quote is none.
    pub fn new(config: &CsvConfig) -> Result<Self> {
        let refused = |what: String| {
            Err(Error::new(Kind::Config, code::CONFIG, what).hint("name them in order, as in `csv: {columns: [id, name]}`"))
        };
        if config.columns.is_empty() {
            return refused("`csv.columns` is missing: messages have no header that would name their columns".to_owned());
        }
        for (at, column) in config.columns.iter().enumerate() {
            if column.is_empty() || config.columns[..at].contains(column) {
                return refused(format!("`csv.columns`: {column:?} is empty, or there twice"));
            }
        }
        let of_files = longshore_files::config::CsvConfig {
            delimiter: config.delimiter.clone(),
            null: config.null.clone(),
            quote: config.quote.clone(),
            jagged: config.jagged,
            ..Default::default()
        };
        let format = CsvFormat::of_rows(&config.columns, &of_files)
            .map_err(|e| e.hint("a single character, as in `csv: {delimiter: ';'}`, or `tab`"))?;
        Ok(Self { columns: config.columns.clone(), format })
    }
}

impl Reader for Csv {
    fn read(&self, content: &[u8], sheet: &mut Sheet) -> Result<u32, Unread> {
        let names = sheet.names(&self.columns);
        let (row, end) = self.format.row(content, &names, &mut sheet.tape).map_err(|bad| Fault {
            code: bad.code,
            reason: bad.reason,
            field: None,
        })?;
        if content[end..].iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            return Err(
                Fault::new(SEVERAL_RECORDS, "the message holds several rows; with `format: csv` a message is one row").into()
            );
        }
        Ok(row)
    }

    fn columns(&self, _contents: &mut dyn Iterator<Item = &[u8]>) -> Result<Columns> {
        Ok(Columns::Some(TableSchema::default()))
    }
}
