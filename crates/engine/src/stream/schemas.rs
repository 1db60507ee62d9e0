//! A folder of schema files: the tables that are to be there, and the columns that they are to have.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use longshore_core::Result;
use longshore_core::error::{Error, Kind, Place, code};
use longshore_core::schema::TableSchema;

/// The files of a folder as they were read last.
#[derive(Default)]
pub(crate) struct Schemas {
    files: BTreeMap<String, File>,
}

struct File {
    version: (SystemTime, u64),
    schema: TableSchema,
}

impl Schemas {
    /// The columns of a table, if it has a file.
    pub(crate) fn of(&self, table: &str) -> Option<&TableSchema> {
        self.files.get(table).map(|file| &file.schema)
    }

    /// Reads what is new or changed; returns the names of its tables, and why files cannot be used. What was read before stays until then.
    /// Errors: `config` if the folder itself cannot be read.
    pub(crate) fn refresh(&mut self, folder: &Path) -> Result<(Vec<String>, Vec<Error>)> {
        let failed = |e: std::io::Error| {
            Error::new(Kind::Config, code::CONFIG, format!("the folder of schemas {} cannot be read", folder.display()))
                .caused_by(e)
        };
        let (mut changed, mut wrong) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(table) = table_of(&path) else { continue };
            // A file that is just being replaced is there again at the next look.
            let Ok(metadata) = path.metadata() else { continue };
            let version = (metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len());
            if self.files.get(&table).is_some_and(|file| file.version == version) {
                continue;
            }
            match read(&path) {
                Ok(schema) => {
                    self.files.insert(table.clone(), File { version, schema });
                    changed.push(table);
                }
                Err(error) => {
                    // Told once for each version of the file.
                    if let Some(known) = self.files.get_mut(&table) {
                        known.version = version;
                    }
                    wrong.push(error);
                }
            }
        }
        Ok((changed, wrong))
    }
}

/// `orders` for `orders.json` and `orders.schema.json`.
fn table_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".schema.json").or_else(|| name.strip_suffix(".json"))?;
    (!stem.is_empty() && !stem.starts_with('.')).then(|| stem.to_owned())
}

fn read(path: &Path) -> Result<TableSchema> {
    let wrong = |what: &str| {
        let place = Place { file: path.display().to_string(), ..Place::default() };
        Error::new(Kind::Config, code::CONFIG, format!("the schema file {what}"))
            .at(place)
            .hint("a schema is BigQuery's own JSON: [{\"name\": \"id\", \"type\": \"INT64\", \"mode\": \"REQUIRED\"}, ...]")
    };
    let text = std::fs::read_to_string(path).map_err(|e| wrong("cannot be read").caused_by(e))?;
    let value = serde_json::from_str(&text).map_err(|e| wrong("is not JSON").caused_by(e))?;
    TableSchema::from_json(&value).map_err(|e| wrong("is not one").caused_by(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_new_or_changed_are_told_once_and_a_broken_one_leaves_what_was_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        let mut schemas = Schemas::default();
        write("a.json", r#"[{"name": "id", "type": "INT64"}]"#);
        write("b.schema.json", r#"[{"name": "id", "type": "STRING"}]"#);
        write("notes.txt", "not a schema");
        let (mut changed, wrong) = schemas.refresh(folder.path()).expect("a folder");
        changed.sort();
        assert_eq!((changed, wrong.len()), (vec!["a".to_owned(), "b".to_owned()], 0));
        assert!(schemas.refresh(folder.path()).expect("a folder").0.is_empty());
        write("a.json", r#"[{"name": "id", "type": "INT64"}, {"name": "more", "type": "STRING"}]"#);
        assert_eq!(schemas.refresh(folder.path()).expect("a folder").0, ["a"]);
        assert_eq!(schemas.of("a").expect("known").fields.len(), 2);
        write("a.json", "[{");
        let (changed, wrong) = schemas.refresh(folder.path()).expect("a folder");
        assert!(changed.is_empty() && wrong[0].place().expect("a place").file.ends_with("a.json"));
        assert_eq!(schemas.of("a").expect("still").fields.len(), 2);
        assert!(schemas.refresh(folder.path()).expect("a folder").1.is_empty(), "told once");
    }
}
