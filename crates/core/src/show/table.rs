//! A table for people, as wide as their terminal.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::column::Column;

/// What stands between two columns.
const GAP: &str = " │ ";
const GAP_WIDTH: usize = 3;
/// The narrowest that a column is made.
const NARROWEST: usize = 6;
/// Text that is longer than this is never shown whole, however wide the terminal: it bounds what is kept.
const LONGEST: usize = 1_000;

/// Keeps the first rows of a result and writes them as a table with aligned columns.
///
/// Numbers stand to the right. NULL is `NULL`. Control characters are escaped (`\n`, `\u{1b}`), so that a value can
/// neither break a line nor command the terminal. A column that does not fit ends in `…`; columns that do not fit at all
/// are left out at the end. Widths count characters.
pub struct TableWriter {
    schema: SchemaRef,
    max_rows: usize,
    width: Option<usize>,
    rows: Vec<Vec<String>>,
    more_rows: u64,
}

/// What became of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableShown {
    /// Rows in the table.
    pub rows: u64,
    /// Rows that were pushed beyond the limit.
    pub more_rows: u64,
    /// Columns that did not fit.
    pub hidden_columns: usize,
}

impl TableWriter {
    /// A table of at most `max_rows` rows and `width` characters (`None`: as wide as it gets).
    pub fn new(schema: SchemaRef, max_rows: usize, width: Option<usize>) -> Self {
        Self { schema, max_rows, width, rows: Vec::new(), more_rows: 0 }
    }

    /// Takes the rows of a batch whose columns stand as in the schema. False once the table is full and rows were left
    /// over: whoever does not need their number can stop.
    pub fn push(&mut self, batch: &RecordBatch) -> bool {
        let taken = batch.num_rows().min(self.max_rows - self.rows.len());
        let fields = self.schema.fields().iter().zip(batch.columns());
        let columns: Vec<Column<'_>> = fields.map(|(field, array)| Column::new(field, array)).collect();
        for row in 0..taken {
            let cells = columns.iter().map(|column| {
                let mut text = String::new();
                if column.text(row, &mut text) { printable(&text) } else { "NULL".to_owned() }
            });
            self.rows.push(cells.collect());
        }
        self.more_rows += (batch.num_rows() - taken) as u64;
        self.more_rows == 0
    }

    /// Writes the table.
    pub fn finish(self, out: &mut dyn Write) -> io::Result<TableShown> {
        let names: Vec<String> = self.schema.fields().iter().map(|field| printable(field.name())).collect();
        let right: Vec<bool> = self.schema.fields().iter().map(|field| Column::is_number(field)).collect();
        let wanted: Vec<usize> = names
            .iter()
            .enumerate()
            .map(|(i, name)| self.rows.iter().map(|row| length(&row[i])).chain([length(name)]).max().unwrap_or(0))
            .collect();
        let widths = fit(&wanted, self.width);
        let hidden_columns = wanted.len() - widths.len();

        if !names.is_empty() {
            write_line(out, &names, &widths, &right, hidden_columns > 0)?;
            let mut rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
            rule.extend((hidden_columns > 0).then(|| "─".to_owned()));
            writeln!(out, "{}", rule.join("─┼─"))?;
        }
        for row in &self.rows {
            write_line(out, row, &widths, &right, hidden_columns > 0)?;
        }
        out.flush()?;
        Ok(TableShown { rows: self.rows.len() as u64, more_rows: self.more_rows, hidden_columns })
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// The text on one line, without characters that a terminal would obey.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(LONGEST));
    for (i, c) in text.chars().enumerate() {
        if i == LONGEST {
            shown.push('…');
            break;
        }
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            // Besides control characters, those that turn the direction of the text around them.
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                shown.extend(c.escape_unicode());
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Widths of the columns that fit, from the left: the widest give way first.
fn fit(wanted: &[usize], width: Option<usize>) -> Vec<usize> {
    let Some(width) = width else { return wanted.to_vec() };
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP_WIDTH * widths.len().saturating_sub(1);
    if total(wanted) <= width {
        return wanted.to_vec();
    }
    let least = |widths: &[usize]| total(&widths.iter().map(|w| (*w).min(NARROWEST)).collect::<Vec<_>>());
    let mut kept = wanted.len();
    // Left-out columns are told by a last `…`.
    let room = |kept: usize| if kept == wanted.len() { width } else { width.saturating_sub(GAP_WIDTH + 1) };
    while kept > 1 && least(&wanted[..kept]) > room(kept) {
        kept -= 1;
    }
    let room = room(kept).saturating_sub(GAP_WIDTH * (kept - 1));
    // The largest width that all columns may have so that they fit; what is left over goes to the first that want it.
    let used = |limit: usize| wanted[..kept].iter().map(|w| (*w).min(limit)).sum::<usize>();
    let mut limit = NARROWEST;
    while limit < room && used(limit + 1) <= room {
        limit += 1;
    }
    let mut spare = room.saturating_sub(used(limit));
    let widths = wanted[..kept].iter().map(|&wanted| {
        let extra = wanted.saturating_sub(limit).min(spare);
        spare -= extra;
        wanted.min(limit) + extra
    });
    widths.collect()
}

fn write_line(out: &mut dyn Write, cells: &[String], widths: &[usize], right: &[bool], cut: bool) -> io::Result<()> {
    let mut line = String::new();
    for (i, (cell, &width)) in cells.iter().zip(widths).enumerate() {
        if i > 0 {
            line.push_str(GAP);
        }
        let length = length(cell);
        let padding = " ".repeat(width.saturating_sub(length));
        if right[i] {
            line.push_str(&padding);
        }
        if length > width {
            line.extend(cell.chars().take(width.saturating_sub(1)));
            line.push('…');
        } else {
            line.push_str(cell);
        }
        if !right[i] {
            line.push_str(&padding);
        }
    }
    if cut {
        line.push_str(GAP);
        line.push('…');
    }
    writeln!(out, "{}", line.trim_end())
}
