//! API docs, and the reference pages that the binary writes about itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::{Outcome, Workspace, run};

const PAGES: &str = "docs/reference";

/// Writes the reference pages and checks the API docs.
pub fn write(workspace: &Workspace) -> Outcome {
    let pages = workspace.root.join(PAGES);
    generate(workspace, &pages)?;
    api(workspace)
}

/// The first words of pages that the binary writes. Other pages of the folder are written by people.
const WRITTEN: &str = "<!-- Written by `cargo x docs`";

/// Fails if a reference page differs from what the binary would write, or a doc link is broken.
pub fn check(workspace: &Workspace) -> Outcome {
    let fresh = workspace.target.join("reference");
    // A page of an earlier call that is no longer written must not count.
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).map_err(|e| format!("cannot empty {}: {e}", fresh.display()))?;
    }
    generate(workspace, &fresh)?;
    let (kept, wanted) = (pages(&workspace.root.join(PAGES))?, pages(&fresh)?);
    let mut stale: Vec<&String> = kept.keys().chain(wanted.keys()).filter(|name| kept.get(*name) != wanted.get(*name)).collect();
    stale.sort();
    stale.dedup();
    if !stale.is_empty() {
        let names: Vec<String> = stale.iter().map(|name| format!("{PAGES}/{name}")).collect();
        return Err(format!("stale: {}; run `cargo x docs`", names.join(", ")));
    }
    api(workspace)
}

fn api(workspace: &Workspace) -> Outcome {
    run(workspace.cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn generate(workspace: &Workspace, folder: &Path) -> Outcome {
    let binary = workspace.binary()?;
    run(Command::new(binary).arg("reference").arg(folder).current_dir(&workspace.root))
}

/// The pages that the binary wrote, by their names.
fn pages(folder: &Path) -> Outcome<BTreeMap<String, String>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(BTreeMap::new()) };
    let mut pages = BTreeMap::new();
    for entry in entries.flatten() {
        let text = std::fs::read_to_string(entry.path()).map_err(|e| format!("cannot read {}: {e}", entry.path().display()))?;
        if text.starts_with(WRITTEN) {
            pages.insert(entry.file_name().to_string_lossy().into_owned(), text);
        }
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_that_the_binary_wrote_can_be_stale() {
        let folder = std::env::temp_dir().join(format!("longshore-pages-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("written.md"), format!("{WRITTEN}; ... -->\n\n# written\n")).expect("a page");
        std::fs::write(folder.join("by-hand.md"), "# by hand\n").expect("a page");
        let names: Vec<String> = pages(&folder).expect("are read").into_keys().collect();
        std::fs::remove_dir_all(&folder).expect("our own folder");
        assert_eq!(names, ["written.md"]);
    }
}
