//! The source passes the list that every source must pass.

use std::sync::Arc;

use longshore_files::FilesSource;
use longshore_files::config::FilesConfig;
use longshore_store::MemoryStore;
use longshore_testkit::source_conformance::{Scene, check_all};

/// Files of one kind, some of whose records do not fit.
fn scene(folder: &std::path::Path, ending: &str, records: u64) -> Scene {
    let mut config =
        FilesConfig { path: vec![folder.join(format!("*.{ending}")).display().to_string()], ..FilesConfig::default() };
    config.types.insert("n".into(), "INT64".into());
    if ending != "xml" {
        config.table = Some("t".into());
    }
    let source = FilesSource::new(config, folder.join("spool")).expect("a source");
    Scene { source: Arc::new(source), ledger: Arc::new(MemoryStore::new()), pipeline: "p".into(), records }
}

fn write(folder: &std::path::Path) -> u64 {
    const RECORDS: u64 = 40_000;
    std::fs::create_dir_all(folder.join("spool")).expect("a folder");
    for file in 0..2 {
        let (mut json, mut csv, mut xml) = (String::new(), String::from("id,n\n"), String::from("<all><rows>"));
        for i in 0..RECORDS {
            let n = if i % 1_000 == 7 { "oops".to_owned() } else { i.to_string() };
            json.push_str(&format!("{{\"id\":\"{file}-{i}\",\"n\":\"{n}\",\"more\":[{i},7]}}\n"));
            csv.push_str(&format!("7,{n}\n"));
            xml.push_str(&format!("<row id=\"{file}-{i}\"><n>{n}</n><tag>a</tag><tag>b</tag></row>\n"));
        }
        xml.push_str("</rows></all>");
        for (ending, text) in [("json", json), ("csv", csv), ("xml", xml)] {
            std::fs::write(folder.join(format!("{file}.{ending}")), text).expect("a file");
        }
    }
    2 * RECORDS
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_format_pass_the_list_of_sources() {
    let folder = tempfile::tempdir().expect("a folder");
    let records = write(folder.path());
    for ending in ["json", "csv", "xml"] {
        check_all(|| scene(folder.path(), ending, records)).await;
    }
}
