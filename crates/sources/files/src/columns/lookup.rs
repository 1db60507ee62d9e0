//! Which column a key of the input belongs to.

use hashbrown::HashMap;
use longshore_core::schema::Field;

/// Keys to columns: by the name at the source, then by the column's own name, then without regard to case if that leaves one.
#[derive(Debug, Clone, Default)]
pub struct Lookup {
    source: HashMap<Box<str>, u32>,
    own: HashMap<Box<str>, u32>,
    /// `None` where several columns differ by case only.
    without_case: HashMap<Box<str>, Option<u32>>,
}

impl Lookup {
    /// The names of these columns.
    pub fn new(fields: &[Field]) -> Self {
        let mut lookup = Self::default();
        let source_name = |field: &Field| field.original_name.clone().unwrap_or_else(|| field.name.clone());
        for (field, at) in fields.iter().zip(0u32..) {
            lookup.source.entry(source_name(field).into()).or_insert(at);
        }
        for (field, at) in fields.iter().zip(0u32..) {
            lookup.own.entry(field.name.as_str().into()).or_insert(at);
            let lower = source_name(field).to_lowercase();
            lookup.without_case.entry(lower.into()).and_modify(|found| *found = None).or_insert(Some(at));
        }
        // A schema written by hand may use a column's own name in another case.
        for (field, at) in fields.iter().zip(0u32..) {
            lookup.without_case.entry(field.name.to_lowercase().into()).or_insert(Some(at));
        }
        lookup
    }

    /// The column of a key.
    pub fn find(&self, key: &str) -> Option<usize> {
        self.find_how(key).map(|(at, _)| at)
    }

    /// The column of a key, and whether the key is the very name that the column has at the source.
    pub fn find_how(&self, key: &str) -> Option<(usize, bool)> {
        if let Some(&at) = self.source.get(key) {
            return Some((at as usize, true));
        }
        let own = self.own.get(key).copied();
        let found = own.or_else(|| self.without_case.get(key.to_lowercase().as_str()).copied().flatten());
        // A key that no table takes as it is, met by a column that was made from such a key by hand.
        let found = found.or_else(|| {
            let name = longshore_core::names::column_name(key);
            if name == key { None } else { self.own.get(name.as_str()).copied() }
        });
        found.map(|at| (at as usize, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_core::schema::Type;

    fn field(name: &str, original: Option<&str>) -> Field {
        let mut field = Field::new(name, Type::String);
        field.original_name = original.map(str::to_owned);
        field
    }

    #[test]
    fn the_name_at_the_source_wins_then_the_own_name_then_case_is_ignored() {
        let lookup = Lookup::new(&[field("id", None), field("ID_2", Some("ID")), field("Name", None), field("o_d", Some("o-d"))]);
        assert_eq!(lookup.find("id"), Some(0));
        assert_eq!(lookup.find("ID"), Some(1));
        assert_eq!(lookup.find("Id"), None, "two columns differ by case only");
        assert_eq!(lookup.find("NAME"), Some(2));
        assert_eq!(lookup.find("o-d"), Some(3));
        assert_eq!(lookup.find("o_d"), Some(3));
        assert_eq!(lookup.find("other"), None);
    }

    #[test]
    fn a_schema_by_hand_takes_a_key_whose_name_it_uses() {
        let lookup = Lookup::new(&[field("order_date", None)]);
        assert_eq!(lookup.find("order-date"), Some(0));
    }
}
