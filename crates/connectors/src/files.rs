//! Files as a source.

use std::sync::Arc;

use longshore_files::FilesSource;
use longshore_files::config::FilesConfig;

use crate::{Declaration, Make, read};

pub(crate) const DECLARATION: Declaration = Declaration {
    name: "files",
    summary: "JSON, CSV and XML files, one by one, by pattern or by folder; gzip and zstd are recognised by content",
    capabilities: &[
        "a file lands whole or not at all, and once",
        "tables, columns and types found from the content",
        "constant memory, every core on one file",
        "standard input (`-`)",
        "files moved or deleted once they have landed",
    ],
    settings: || schemars::schema_for!(FilesConfig).to_value(),
    codes: &[longshore_files::error::ALL],
    make: Make::Source {
        open: |settings, surroundings| {
            let config: FilesConfig = read("files", settings)?;
            let source = FilesSource::new(config, surroundings.spool.clone())?;
            Ok(Arc::new(if surroundings.again { source.ignoring_ledger() } else { source }))
        },
        inputs: |settings| match &settings["path"] {
            serde_json::Value::Array(paths) => paths.iter().filter_map(|p| p.as_str()).map(str::to_owned).collect(),
            path => path.as_str().map(str::to_owned).into_iter().collect(),
        },
    },
};
