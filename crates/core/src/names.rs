//! Names of columns and tables: what a destination takes, made from what a source has.

use std::collections::HashSet;

/// The longest column name.
pub const MAX_NAME: usize = 300;

/// A column name of a source as a destination takes it: what is outside `[A-Za-z0-9_]` becomes `_`, a leading digit gets
/// `_` before it, at most [`MAX_NAME`] characters, never empty. Case is kept.
pub fn column_name(original: &str) -> String {
    let mut name: String =
        original.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).take(MAX_NAME).collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
        name.truncate(MAX_NAME);
    }
    name
}

/// A table name: as a column's, in lower snake case (`CustomerOrders` -> `customer_orders`).
pub fn table_name(original: &str) -> String {
    let chars: Vec<char> = column_name(original).chars().collect();
    let mut name = String::with_capacity(chars.len() + 4);
    for (i, &c) in chars.iter().enumerate() {
        let after_lower = i > 0 && (chars[i - 1].is_ascii_lowercase() || chars[i - 1].is_ascii_digit());
        let before_lower = i > 0 && chars[i - 1].is_ascii_uppercase() && chars.get(i + 1).is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase() && (after_lower || before_lower) {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name.truncate(MAX_NAME);
    name
}

/// Hands out names that are unique without regard to case: a twin gets `_2`, the next `_3`.
#[derive(Debug, Default)]
pub struct Unique(HashSet<String>);

impl Unique {
    /// `name` if it is free, else with the first number that is.
    pub fn take(&mut self, name: &str) -> String {
        if self.0.insert(name.to_ascii_lowercase()) {
            return name.to_owned();
        }
        (2u64..)
            .map(|i| {
                let suffix = format!("_{i}");
                let kept = &name[..name.len().min(MAX_NAME - suffix.len())];
                format!("{kept}{suffix}")
            })
            .find(|candidate| self.0.insert(candidate.to_ascii_lowercase()))
            .unwrap_or_else(|| unreachable!("there are more numbers than names"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_names_keep_case_and_lose_what_no_table_takes() {
        assert_eq!(column_name("OrderDate"), "OrderDate");
        assert_eq!(column_name("order-date (UTC)"), "order_date__UTC_");
        assert_eq!(column_name("2nd"), "_2nd");
        assert_eq!(column_name(""), "_");
        assert_eq!(column_name("größe"), "gr__e");
        assert_eq!(column_name(&"9".repeat(400)).len(), MAX_NAME);
    }

    #[test]
    fn table_names_are_lower_snake_case() {
        assert_eq!(table_name("Customers"), "customers");
        assert_eq!(table_name("CustomerOrders"), "customer_orders");
        assert_eq!(table_name("HTTPServer2Log"), "http_server2_log");
        assert_eq!(table_name("my-file.v2"), "my_file_v2");
    }

    #[test]
    fn case_twins_get_a_number() {
        let mut unique = Unique::default();
        assert_eq!(["a", "A", "a_2", "a"].map(|n| unique.take(n)), ["a", "A_2", "a_2_2", "a_3"]);
    }
}
