//! Columns of text, aligned.

/// Rows below a header, each column as wide as its widest cell; without trailing spaces. Ends without a line break.
pub fn aligned(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let lines: Vec<String> = std::iter::once(&header)
        .filter(|h| h.iter().any(|name| !name.is_empty()))
        .chain(rows)
        .map(|row| line(row, &widths))
        .collect();
    lines.join("\n")
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["größe".to_owned(), String::new()]];
        assert_eq!(aligned(&["name", "n"], &rows), "name   n\na      1\ngröße");
        assert_eq!(aligned(&["", ""], &rows), "a      1\ngröße");
    }
}
