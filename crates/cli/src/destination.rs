//! DEST on the command line: a dataset.

use std::path::{Component, Path, PathBuf};

use longshore_core::error::{Error, Kind, Result, code};

/// Where `load` lands unless `--to` says otherwise.
pub const DEFAULT: &str = "warehouse/main";
/// The folder of a DEST that names only a dataset.
pub const FOLDER: &str = "warehouse";

/// A dataset in a warehouse folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The warehouse folder, as written.
    pub folder: PathBuf,
    /// The dataset's name.
    pub name: String,
}

impl Dataset {
    /// Reads DEST: `FOLDER/DATASET`, or `DATASET` alone for `warehouse/DATASET`.
    ///
    /// Errors: `Config` for a place that this version cannot write to; `Usage` for what is no dataset.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(Error::new(Kind::Config, code::CONFIG, format!("{scheme}:// destinations are not in this version"))
                .with("destination", text)
                .hint("this version writes to a local folder: `--to warehouse/shop`"));
        }
        let path = text.trim_end_matches('/');
        let (folder, name) = match path.rsplit_once('/') {
            Some(("", name)) => ("/", name),
            Some((folder, name)) => (folder, name),
            None => (FOLDER, path),
        };
        if !is_name(name) {
            return Err(Error::new(Kind::Usage, code::USAGE, format!("`{text}` does not name a dataset")).hint(
                "a destination is FOLDER/DATASET, such as warehouse/shop; a dataset's name has letters, digits and `_` only",
            ));
        }
        Ok(Self { folder: PathBuf::from(folder), name: name.to_owned() })
    }

    /// The same for every way to write this place: absolute, without `.`, `..` and links.
    pub fn identity(&self) -> Result<String> {
        Ok(absolute(&self.folder)?.join(&self.name).display().to_string())
    }

    /// For people: as written, with the folder.
    pub fn shown(&self) -> String {
        self.folder.join(&self.name).display().to_string()
    }
}

/// A name that SQL takes without quotes.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// An absolute path without `.`, `..` and symbolic links, for a path that need not exist yet.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    let failed = |e: std::io::Error| {
        Error::new(Kind::Config, code::CONFIG, format!("{} cannot be made an absolute path", path.display())).caused_by(e)
    };
    let full = std::path::absolute(path).map_err(failed)?;
    let mut known = PathBuf::new();
    for component in full.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                known.pop();
            }
            other => {
                known.push(other);
                // Links are followed one by one, so that `..` after a link leaves the place it points to.
                if let Ok(real) = known.canonicalize() {
                    known = real;
                }
            }
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_folder_and_a_dataset() {
        let parse = |text: &str| Dataset::parse(text).map(|d| (d.folder.display().to_string(), d.name)).map_err(|e| e.kind());
        assert_eq!(parse("warehouse/shop"), Ok(("warehouse".into(), "shop".into())));
        assert_eq!(parse("shop"), Ok(("warehouse".into(), "shop".into())));
        assert_eq!(parse("/data/lake/shop/"), Ok(("/data/lake".into(), "shop".into())));
        assert_eq!(parse("./shop"), Ok((".".into(), "shop".into())));
        for scheme in ["gs://bucket/shop", "s3://bucket/shop", "bigquery://acme/shop"] {
            assert_eq!(parse(scheme), Err(Kind::Config));
        }
        for wrong in ["", "/", "warehouse/my-shop", "warehouse/..", "2nd"] {
            assert_eq!(parse(wrong), Err(Kind::Usage), "{wrong}");
        }
    }

    #[test]
    fn every_way_to_write_one_place_is_one_identity() {
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().canonicalize().expect("exists");
        std::fs::create_dir(real.join("lake")).expect("made");
        std::os::unix::fs::symlink(real.join("lake"), real.join("link")).expect("linked");
        let identity = |text: String| Dataset::parse(&text).and_then(|d| d.identity()).expect("a place");
        let base = real.display();
        let expected = format!("{base}/lake/shop");
        assert_eq!(identity(format!("{base}/lake/shop")), expected);
        assert_eq!(identity(format!("{base}/./link/shop/")), expected);
        assert_eq!(identity(format!("{base}/none/../lake/shop")), expected);
    }
}
