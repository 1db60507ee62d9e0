//! What the file ledger says about a file: landed, changed, or new.

use std::collections::BTreeMap;

use longshore_core::commit::{CommitNumber, Landing};

use crate::config::FilesConfig;
use crate::input::Version;

/// The lines of the ledger that a file needs: the tables that were named, or the one for whatever is found in it.
pub fn required(config: &FilesConfig) -> Vec<String> {
    match &config.table {
        Some(table) => vec![table.clone()],
        None if !config.records.is_empty() => config.records.keys().cloned().collect(),
        None => vec![Landing::WHOLE.to_owned()],
    }
}

/// The commit that this version of the file landed with, if every required line knows it by size and time: it is then
/// skipped without being read.
pub fn known_unread(landings: &[Landing], required: &[String], version: &Version) -> Option<CommitNumber> {
    known(landings, required, |landing| landing.size == version.size && landing.version == version.modified)
}

/// The commit that these bytes landed with from this file, if every required line knows them.
pub fn known_by_digest(landings: &[Landing], required: &[String], digest: &str) -> Option<CommitNumber> {
    known(landings, required, |landing| landing.digest == digest)
}

fn known(landings: &[Landing], required: &[String], same: impl Fn(&Landing) -> bool) -> Option<CommitNumber> {
    let mut last = None;
    for table in required {
        let landing = landings.iter().find(|landing| landing.table == *table && same(landing))?;
        last = last.max(Some(landing.n));
    }
    last
}

/// Whether a table has these bytes of the file already.
pub fn has(landings: &[Landing], table: &str, digest: &str) -> bool {
    landings.iter().any(|landing| landing.table == table && landing.digest == digest && !landing.refused)
}

/// The commits of the file's last landings, 0 where there was none.
pub fn before(landings: &[Landing], tables: impl IntoIterator<Item = String>) -> BTreeMap<String, CommitNumber> {
    let last = |table: &str| landings.iter().find(|landing| landing.table == table).map_or(0, |landing| landing.n);
    tables.into_iter().map(|table| (table.clone(), last(&table))).collect()
}

/// A warning if an earlier version of the file landed: its rows stay.
pub fn changed(landings: &[Landing], required: &[String], address: &str, digest: &str) -> Option<String> {
    let earlier = landings.iter().filter(|landing| required.contains(&landing.table) && landing.digest != digest);
    let (rows, n) = earlier.fold((0, 0), |(rows, n), landing| (rows + landing.rows, landing.n.max(n)));
    (n > 0).then(|| {
        let rows = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
        format!(
            "{address} has changed since commit {n}: the {rows} of that version remain, and the new content is appended whole"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landing(table: &str, digest: &str, n: CommitNumber) -> Landing {
        Landing {
            table: table.into(),
            address: "/a".into(),
            size: 10,
            version: "7".into(),
            digest: digest.into(),
            rows: 4,
            rejects: 0,
            refused: false,
            n,
            run: "r".into(),
            records: None,
        }
    }

    fn tables(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_file_is_known_only_if_every_required_table_knows_it() {
        let version = Version { size: 10, modified: "7".into(), inode: 1 };
        let landings = [landing("a", "d", 3), landing("b", "d", 5)];
        assert_eq!(known_unread(&landings, &tables(&["a", "b"]), &version), Some(5));
        assert_eq!(known_unread(&landings, &tables(&["a", "c"]), &version), None);
        assert_eq!(known_unread(&landings, &tables(&[Landing::WHOLE]), &version), None);
        let other = Version { modified: "8".into(), ..version.clone() };
        assert_eq!(known_unread(&landings, &tables(&["a"]), &other), None);
        assert_eq!(known_by_digest(&landings, &tables(&["a"]), "d"), Some(3));
        assert_eq!(known_by_digest(&landings, &tables(&["a"]), "e"), None);
        assert_eq!(known_unread(&landings, &tables(&["a"]), &Version { size: 11, ..version }), None);
    }

    #[test]
    fn changed_content_is_told_with_the_rows_that_remain() {
        let landings = [landing("a", "d", 3), landing("b", "d", 5)];
        let text = changed(&landings, &tables(&["a", "b"]), "/a", "e").expect("changed");
        assert!(text.contains("commit 5") && text.contains("8 rows"), "{text}");
        assert_eq!(changed(&landings, &tables(&["a"]), "/a", "d"), None);
        assert_eq!(changed(&landings, &tables(&["c"]), "/a", "e"), None);
    }

    #[test]
    fn a_table_has_the_bytes_unless_they_were_refused() {
        let mut refused = landing("a", "d", 3);
        assert!(has(std::slice::from_ref(&refused), "a", "d"));
        refused.refused = true;
        assert!(!has(&[refused], "a", "d"));
    }

    #[test]
    fn named_tables_are_required_and_everything_without_names() {
        let mut config = FilesConfig::default();
        assert_eq!(required(&config), [Landing::WHOLE]);
        config.records = BTreeMap::from([("b".into(), "/b".into()), ("a".into(), "/a".into())]);
        assert_eq!(required(&config), ["a", "b"]);
        config.table = Some("t".into());
        assert_eq!(required(&config), ["t"]);
        assert_eq!(before(&[landing("a", "d", 3)], tables(&["a", "b"])), BTreeMap::from([("a".into(), 3), ("b".into(), 0)]));
    }
}
