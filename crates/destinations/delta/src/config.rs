//! The settings of the `delta` destination.

use std::path::PathBuf;

/// Delta Lake tables in a folder: the warehouse that Longshore carries inside itself.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeltaConfig {
    /// The warehouse folder; a table is at `PATH/DATASET/TABLE`.
    pub path: PathBuf,
    /// The dataset.
    #[serde(default = "main_dataset")]
    pub dataset: String,
}

fn main_dataset() -> String {
    "main".to_owned()
}
