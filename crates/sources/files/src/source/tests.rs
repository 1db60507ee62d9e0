use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use longshore_core::batch::{Reject, Rows, Unit};
use longshore_core::budget::Budget;
use longshore_core::commit::{Contract, Landing};
use longshore_core::event::{Events, Observer, RunEvent};
use longshore_core::stop::Stop;

use super::*;
use crate::config::OnBadRecord;

/// A ledger in memory.
#[derive(Default)]
struct Ledger(Mutex<Vec<Landing>>);

#[async_trait]
impl FileLedger for Ledger {
    async fn landings(&self, _: &str, address: &str) -> Result<Vec<Landing>> {
        let all = self.0.lock().expect("not poisoned");
        let mut latest: BTreeMap<String, Landing> = BTreeMap::new();
        for landing in all.iter().filter(|landing| landing.address == address) {
            latest.insert(landing.table.clone(), landing.clone());
        }
        Ok(latest.into_values().collect())
    }

    async fn same_bytes(&self, _: &str, digest: &str, address: &str) -> Result<Option<Landing>> {
        let all = self.0.lock().expect("not poisoned");
        Ok(all.iter().find(|landing| landing.digest == digest && landing.address != address).cloned())
    }

    async fn record_paths(&self, _: &str) -> Result<Vec<serde_json::Value>> {
        let all = self.0.lock().expect("not poisoned");
        Ok(all.iter().rev().filter_map(|landing| landing.records.clone()).collect())
    }
}

#[derive(Default)]
struct Listener(Mutex<Vec<RunEvent>>);

impl Observer for Listener {
    fn event(&self, event: &RunEvent) {
        self.0.lock().expect("not poisoned").push(event.clone());
    }
}

/// A folder of files, a ledger, and what was said.
struct Desk {
    folder: tempfile::TempDir,
    ledger: Ledger,
    listener: Arc<Listener>,
    commits: Mutex<i64>,
}

/// What one load brought.
#[derive(Debug, Default)]
struct Loaded {
    rows: BTreeMap<String, Vec<String>>,
    rejects: Vec<Reject>,
    skipped: Vec<(String, String)>,
    columns: BTreeMap<String, Vec<String>>,
    acknowledge: Option<serde_json::Value>,
    partitions: Vec<String>,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, ledger: Ledger::default(), listener: Arc::default(), commits: Mutex::new(0) }
    }

    fn path(&self, name: &str) -> PathBuf {
        std::fs::canonicalize(self.folder.path()).expect("it is there").join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, content).expect("written");
        path
    }

    fn config(&self, inputs: &[&str]) -> FilesConfig {
        let path = inputs.iter().map(|input| self.path(input).display().to_string()).collect();
        FilesConfig { path, ..FilesConfig::default() }
    }

    fn context(&self) -> Context {
        Context {
            pipeline: "p".into(),
            run: "run".into(),
            budget: Budget::new(64 << 20),
            lanes: 2,
            events: Events::new(self.listener.clone()),
            stop: Stop::default(),
        }
    }

    fn source(&self, config: FilesConfig) -> FilesSource {
        FilesSource::new(config, self.path(".spool")).expect("valid settings")
    }

    fn said(&self, part: &str) -> bool {
        self.listener.0.lock().expect("not poisoned").iter().any(|event| match event {
            RunEvent::Note { text } | RunEvent::Warning { text } => text.contains(part),
            _ => false,
        })
    }

    async fn load(&self, config: FilesConfig) -> Result<Loaded> {
        self.load_with(&self.source(config)).await
    }

    /// A load as the engine does it, in one commit.
    async fn load_with(&self, source: &FilesSource) -> Result<Loaded> {
        let cx = self.context();
        let found = source.splits(&cx, &self.ledger).await?;
        let mut loaded = Loaded { skipped: found.skipped, ..Loaded::default() };
        let described = source.describe(&cx, found.splits, &self.ledger).await?;
        let target = |(table, schema): (&String, &longshore_core::schema::TableSchema)| {
            (table.clone(), Target { schema: schema.clone(), contract: Contract::Evolve })
        };
        let targets: BTreeMap<String, Target> = described.tables.iter().map(target).collect();
        for (table, schema) in &described.tables {
            let columns = schema.fields.iter().map(|field| format!("{} {field}", field.name)).collect();
            loaded.columns.insert(table.clone(), columns);
        }
        let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
        for split in &described.splits {
            let mut items = source.read(&cx, split, &targets).await?;
            let mut covered = false;
            while let Some(item) = items.next().await {
                let Item::Chunk(chunk) = item? else { panic!("files yield chunks") };
                assert!(!covered, "nothing comes behind the chunk that covers the file");
                covered = chunk.covers.is_some();
                for batch in (chunk.decode)()? {
                    *counts.entry((split.name.clone(), batch.table.clone())).or_default() += batch.rows.len() as u64;
                    if let Rows::Plain(rows) = &batch.rows {
                        loaded.rows.entry(batch.table.clone()).or_default().extend(lines(rows));
                    }
                    loaded.rejects.extend(batch.rejects);
                }
            }
            assert!(covered, "the last chunk covers the file");
        }
        let all: Vec<Split> = described.splits.iter().chain(described.refused.iter().map(|(split, _)| split)).cloned().collect();
        for split in &all {
            let Covers::Deltas(deltas) = source.covers(split) else { panic!("files have positions") };
            loaded.partitions.extend(deltas.into_iter().map(|delta| delta.partition.0));
        }
        loaded.rejects.extend(described.refused.into_iter().map(|(_, reject)| reject));
        loaded.acknowledge = source.acknowledgement(&all);
        let mut n = self.commits.lock().expect("not poisoned");
        *n += 1;
        let mut ledger = self.ledger.0.lock().expect("not poisoned");
        for landing in described.landings {
            let rows = counts.get(&(landing.address.clone(), landing.table.clone())).copied().unwrap_or(0);
            ledger.push(Landing { n: *n, rows, ..landing });
        }
        Ok(loaded)
    }
}

fn lines(rows: &arrow::array::RecordBatch) -> Vec<String> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(rows).expect("as JSON");
    writer.finish().expect("as JSON");
    let text = String::from_utf8(writer.into_inner()).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

/// The shape of document that the seed system read, with other names and values.
const GUIDE: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<Root>
  <Customers>
    <Customer CustomerID="FJORD">
      <CompanyName>Fjord &amp; Fell</CompanyName>
      <Phone>(47) 555-0101</Phone>
      <FullAddress><Address>Kai 4</Address><PostalCode>0123</PostalCode></FullAddress>
    </Customer>
    <Customer CustomerID="TUNDR">
      <CompanyName>Tundra</CompanyName>
      <Phone>(47) 555-0102</Phone>
      <Fax/>
      <FullAddress CustomerID="TUNDR"><Address>Vei 9</Address><PostalCode>9990</PostalCode></FullAddress>
    </Customer>
  </Customers>
  <Orders>
    <Order>
      <CustomerID>FJORD</CustomerID>
      <OrderDate>2024-05-06T00:00:00</OrderDate>
      <ShipInfo ShippedDate="2024-05-09T00:00:00"><ShipVia>2</ShipVia><Freight>3.35</Freight></ShipInfo>
    </Order>
    <Order>
      <CustomerID>NOBODY</CustomerID>
      <OrderDate>2024-06-01T12:30:00</OrderDate>
      <ShipInfo><ShipVia>1</ShipVia><Freight>10.50</Freight></ShipInfo>
    </Order>
  </Orders>
</Root>
"#;

#[tokio::test]
async fn a_document_of_customers_and_orders_becomes_two_typed_tables() {
    let desk = Desk::new();
    desk.write("guide.xml", GUIDE);
    let loaded = desk.load(desk.config(&["guide.xml"])).await.expect("loads");
    assert_eq!(
        loaded.columns["customers"],
        [
            "CustomerID STRING",
            "CompanyName STRING",
            "Phone STRING",
            "FullAddress STRUCT<Address STRING, PostalCode STRING, CustomerID STRING>",
            "Fax STRING",
        ]
    );
    assert_eq!(
        loaded.columns["orders"],
        ["CustomerID STRING", "OrderDate DATETIME", "ShipInfo STRUCT<ShippedDate DATETIME, ShipVia INT64, Freight NUMERIC>",]
    );
    assert_eq!(loaded.rows["customers"].len(), 2);
    assert_eq!(
        loaded.rows["customers"][0],
        r#"{"CustomerID":"FJORD","CompanyName":"Fjord & Fell","Phone":"(47) 555-0101","FullAddress":{"Address":"Kai 4","PostalCode":"0123"}}"#
    );
    assert!(loaded.rows["customers"][1].contains(r#""Fax":"""#), "an empty element is the empty string");
    assert!(loaded.rows["orders"][1].contains(r#""CustomerID":"NOBODY""#), "keys are not checked");
    assert!(loaded.rejects.is_empty());
    assert!(desk.said("customers at /Root/Customers/Customer"));
}

#[tokio::test]
async fn partial_documents_land_what_they_have() {
    let customers = GUIDE.split("<Orders>").next().expect("a part").to_owned() + "</Root>";
    let one = "<Root><Customers><Customer CustomerID='A'><Phone>1</Phone></Customer></Customers></Root>";
    let other_root = "<x:Any xmlns:x='u' xmlns='v'><Orders><Order><Id>1</Id></Order><Order><Id>2</Id></Order></Orders></x:Any>";
    let cases: [(&str, &[(&str, usize)]); 5] = [
        (&customers, &[("customers", 2)]),
        (one, &[("customers", 1)]),
        (other_root, &[("orders", 2)]),
        ("<Root><Customers>\n</Customers><Orders/></Root>", &[]),
        ("<Root>\n</Root>", &[]),
    ];
    for (document, expected) in cases {
        let desk = Desk::new();
        desk.write("f.xml", document);
        let loaded = desk.load(desk.config(&["f.xml"])).await.expect(document);
        let found: Vec<(&str, usize)> = loaded.rows.iter().map(|(table, rows)| (table.as_str(), rows.len())).collect();
        assert_eq!(found, expected, "{document}");
        assert!(loaded.rejects.is_empty());
        assert_eq!(desk.said("holds no records"), expected.is_empty());
        assert!(desk.ledger.0.lock().expect("fine").iter().any(|landing| landing.table == Landing::WHOLE), "it has landed");
    }
}

#[tokio::test]
async fn a_file_that_is_not_xml_is_refused_as_a_whole_and_the_others_land() {
    let desk = Desk::new();
    let bad = desk.write("in/a.xml", "hello world");
    let cut = desk.write("in/b.xml", &GUIDE[..GUIDE.len() - 20]);
    desk.write("in/c.xml", GUIDE);
    let loaded = desk.load(desk.config(&["in/*.xml"])).await.expect("loads");
    assert_eq!(loaded.rows["orders"].len(), 2);
    let codes: Vec<_> = loaded.rejects.iter().map(|r| (r.unit, r.code, r.place.file.as_str(), r.place.line)).collect();
    let end = GUIDE[..GUIDE.len() - 20].matches('\n').count() as u64 + 1;
    let (bad, cut) = (bad.to_str().expect("UTF-8"), cut.to_str().expect("UTF-8"));
    assert_eq!(codes, [(Unit::File, "xml_invalid", bad, Some(1)), (Unit::File, "xml_invalid", cut, Some(end))]);
    assert_eq!(loaded.partitions.len(), 5, "each refused file and each table of the good one is covered, and the whole");
}

#[tokio::test]
async fn a_document_that_is_broken_inside_of_a_late_record_is_refused_as_a_whole() {
    let desk = Desk::new();
    let good = "<i><a>1</a></i>\n".repeat(5);
    desk.write("f.xml", format!("<r>{good}<i><a></i></a>\n{good}</r>"));
    let loaded = desk.load(desk.config(&["f.xml"])).await.expect("loads");
    assert_eq!(loaded.rows.values().map(Vec::len).sum::<usize>(), 0);
    let reject = &loaded.rejects[0];
    assert_eq!((reject.unit, reject.code), (Unit::File, "xml_invalid"));
    assert_eq!((reject.place.line, reject.place.column), (Some(6), Some(7)));
}

#[tokio::test]
async fn a_bad_record_is_a_dead_letter_and_its_neighbours_land() {
    let desk = Desk::new();
    desk.write("f.xml", "<r><i a='1'/>\n<i a='2' a='3'/>\n<i a='4'/></r>");
    let loaded = desk.load(desk.config(&["f.xml"])).await.expect("loads");
    assert_eq!(loaded.rows["r"].len(), 2);
    let reject = &loaded.rejects[0];
    assert_eq!((reject.code, reject.table.as_deref(), reject.place.line), ("xml_record_invalid", Some("r"), Some(2)));
    assert!(reject.decoding.is_some());
}

#[tokio::test]
async fn with_reject_file_one_bad_record_turns_the_whole_file_away() {
    let desk = Desk::new();
    desk.write("f.xml", "<r><i a='1'/>\n<i a='2' a='3'/>\n<i a='4'/></r>");
    let config = FilesConfig {
        on_bad_record: OnBadRecord::RejectFile,
        dead_letter_dir: Some(desk.path("dead")),
        ..desk.config(&["f.xml"])
    };
    let loaded = desk.load(config).await.expect("loads");
    assert_eq!(loaded.rows.values().map(Vec::len).sum::<usize>(), 0);
    assert_eq!(loaded.rejects.len(), 1);
    assert_eq!((loaded.rejects[0].unit, loaded.rejects[0].code), (Unit::File, "file_rejected"));
    assert!(loaded.acknowledge.expect("it is moved")["files"][0]["action"]["dead_letter"].is_array());
}

#[tokio::test]
async fn a_file_that_landed_is_skipped_unread_and_a_touched_one_by_its_digest() {
    let desk = Desk::new();
    let path = desk.write("f.xml", GUIDE);
    desk.load(desk.config(&["f.xml"])).await.expect("loads");
    let again = desk.load(desk.config(&["f.xml"])).await.expect("skips");
    assert_eq!(again.skipped, [(path.display().to_string(), "already landed as commit 1".to_owned())]);
    let later = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(5_000_000_000);
    std::fs::File::options().write(true).open(&path).expect("there").set_modified(later).expect("set");
    let touched = desk.load(desk.config(&["f.xml"])).await.expect("looks");
    assert!(touched.skipped.is_empty() && touched.rows.is_empty() && touched.partitions.is_empty());
    assert!(desk.said("only its time has changed"));
}

#[tokio::test]
async fn changed_content_is_appended_whole_with_a_warning_and_a_partition_of_its_own() {
    let desk = Desk::new();
    desk.write("f.xml", GUIDE);
    let first = desk.load(desk.config(&["f.xml"])).await.expect("loads");
    desk.write("f.xml", GUIDE.replace("NOBODY", "SOMEBODY"));
    let second = desk.load(desk.config(&["f.xml"])).await.expect("loads");
    assert_eq!(second.rows["orders"].len(), 2);
    assert!(desk.said("has changed since commit 1"));
    desk.write("f.xml", GUIDE);
    let third = desk.load(desk.config(&["f.xml"])).await.expect("loads");
    let all: BTreeSet<_> = [&first, &second, &third].iter().flat_map(|loaded| loaded.partitions.clone()).collect();
    assert_eq!(all.len(), 9, "no landing covers what another one did: {all:?}");
}

#[tokio::test]
async fn the_same_bytes_elsewhere_are_loaded_with_a_warning() {
    let desk = Desk::new();
    desk.write("a.xml", GUIDE);
    desk.write("b.xml", GUIDE);
    desk.load(desk.config(&["a.xml"])).await.expect("loads");
    let second = desk.load(desk.config(&["b.xml"])).await.expect("loads");
    assert_eq!(second.rows["orders"].len(), 2);
    assert!(desk.said("has the same bytes as"));
}

#[tokio::test]
async fn only_the_tables_that_lack_a_file_are_read() {
    let desk = Desk::new();
    desk.write("f.xml", GUIDE);
    let mut config = desk.config(&["f.xml"]);
    config.records.insert("customers".into(), "/Root/Customers/Customer".into());
    let first = desk.load(config).await.expect("loads");
    assert_eq!(first.rows.keys().collect::<Vec<_>>(), ["customers"]);
    let rest = desk.load(desk.config(&["f.xml"])).await.expect("loads");
    assert_eq!(rest.rows.iter().map(|(t, rows)| (t.as_str(), rows.len())).collect::<Vec<_>>(), [("orders", 2)]);
}

#[tokio::test]
async fn a_replacing_load_reads_what_landed_before() {
    let desk = Desk::new();
    desk.write("f.xml", GUIDE);
    let first = desk.load(desk.config(&["f.xml"])).await.expect("loads");
    let again = desk.load_with(&desk.source(desk.config(&["f.xml"])).ignoring_ledger()).await.expect("loads");
    assert_eq!(again.rows, first.rows);
    assert!(again.partitions.iter().all(|partition| !first.partitions.contains(partition)));
}

#[tokio::test]
async fn one_named_table_takes_every_record() {
    let desk = Desk::new();
    desk.write("f.xml", "<r><a><x>1</x></a><a><x>2</x></a><b><x>3</x></b><b><x>4</x></b></r>");
    let config = FilesConfig { table: Some("all".into()), ..desk.config(&["f.xml"]) };
    assert_eq!(desk.load(config).await.expect("loads").rows["all"].len(), 4);
}

#[tokio::test]
async fn an_attribute_that_shares_its_name_with_a_later_element_is_told_apart_in_every_record() {
    let desk = Desk::new();
    desk.write("f.xml", "<r><i id='1'/><i><id>2</id></i></r>");
    let loaded = desk.load(desk.config(&["f.xml"])).await.expect("loads");
    assert_eq!(loaded.rows["r"], [r#"{"id_attr":1}"#, r#"{"id":2}"#]);
    desk.write("g.xml", "<r><i id='3'/><i id='4'/></r>");
    let later = desk.load(desk.config(&["g.xml"])).await.expect("loads");
    assert_eq!(later.rows["r"], [r#"{"id_attr":3}"#, r#"{"id_attr":4}"#], "it is remembered");
}

#[tokio::test]
async fn json_and_csv_are_named_after_the_file_or_the_folder_for_many() {
    let desk = Desk::new();
    desk.write("Trips.jsonl", "{\"a\":1}\n{\"a\":2}\n");
    desk.write("dayData/1.csv", "id,name\n1,x\n");
    desk.write("dayData/2.csv", "id,name\n2,y\n3,z\n");
    desk.write("dayData/_part.csv", "no\n");
    let loaded = desk.load(desk.config(&["Trips.jsonl", "dayData"])).await.expect("loads");
    let counts: Vec<(&str, usize)> = loaded.rows.iter().map(|(table, rows)| (table.as_str(), rows.len())).collect();
    assert_eq!(counts, [("day_data", 3), ("trips", 2)]);
}

#[tokio::test]
async fn an_empty_file_lands_without_rows_and_says_so() {
    let desk = Desk::new();
    desk.write("empty.csv", "");
    let loaded = desk.load(desk.config(&["empty.csv"])).await.expect("loads");
    assert!(loaded.rows.is_empty() && loaded.rejects.is_empty() && desk.said("is empty"));
    assert_eq!(desk.load(desk.config(&["empty.csv"])).await.expect("skips").skipped.len(), 1);
}

#[tokio::test]
async fn compressed_files_are_read_by_content_and_damaged_ones_refused() {
    let desk = Desk::new();
    let gzip = |text: &str| {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(text.as_bytes()).expect("compressed");
        writer.finish().expect("compressed")
    };
    let (first, second) = GUIDE.split_at(500);
    desk.write("joined.xml", [gzip(first), gzip(second)].concat());
    let whole = gzip(GUIDE);
    desk.write("short.xml.gz", &whole[..whole.len() - 12]);
    desk.write("z.bin", zstd::encode_all(GUIDE.as_bytes(), 1).expect("compressed"));
    let loaded = desk.load(desk.config(&["joined.xml", "short.xml.gz", "z.bin"])).await.expect("loads");
    assert_eq!(loaded.rows["orders"].len(), 4);
    assert_eq!(loaded.rejects.len(), 1);
    assert_eq!((loaded.rejects[0].unit, loaded.rejects[0].code), (Unit::File, "compression_broken"));
}

#[tokio::test]
async fn a_file_that_changes_between_look_and_read_is_given_up_and_may_be_tried_again() {
    let desk = Desk::new();
    desk.write("f.xml", GUIDE);
    let source = desk.source(desk.config(&["f.xml"]));
    let cx = desk.context();
    let splits = source.splits(&cx, &desk.ledger).await.expect("found").splits;
    let described = source.describe(&cx, splits.clone(), &desk.ledger).await.expect("looked at");
    desk.write("f.xml", GUIDE.replace("FJORD", "FIORD"));
    let mut items = source.read(&cx, &described.splits[0], &BTreeMap::new()).await.expect("begins");
    let mut error = None;
    while let Some(item) = items.next().await {
        error = item.err().or(error);
    }
    let error = error.expect("it changed");
    assert_eq!((error.code(), error.retry()), ("file_changed", longshore_core::error::Retry::Backoff));
    let again = source.describe(&cx, splits, &desk.ledger).await.expect("as it is now");
    assert_ne!(again.landings[0].digest, described.landings[0].digest);
}

#[tokio::test]
async fn a_request_to_stop_ends_a_file_half_way() {
    let desk = Desk::new();
    desk.write("f.xml", GUIDE);
    let source = desk.source(desk.config(&["f.xml"]));
    let cx = desk.context();
    let splits = source.splits(&cx, &desk.ledger).await.expect("found").splits;
    let described = source.describe(&cx, splits, &desk.ledger).await.expect("looked at");
    cx.stop.request();
    let mut items = source.read(&cx, &described.splits[0], &BTreeMap::new()).await.expect("begins");
    let first = items.next().await.expect("an answer");
    assert_eq!(first.err().expect("it stops").code(), "interrupted");
}

#[tokio::test]
async fn named_files_that_are_missing_are_all_named_before_anything_is_loaded() {
    let desk = Desk::new();
    desk.write("there.xml", GUIDE);
    let error = desk.load(desk.config(&["there.xml", "a.xml", "b.xml"])).await.expect_err("missing");
    assert_eq!((error.kind(), error.code()), (Kind::Source, "file_missing"));
    assert!(error.message().contains("a.xml") && error.message().contains("b.xml"), "{}", error.message());
    let nothing = desk.load(desk.config(&["*.nothing"])).await.expect("a warning only");
    assert!(nothing.rows.is_empty() && desk.said("no file matches"));
}

#[tokio::test]
async fn settings_that_contradict_one_another_are_refused() {
    let desk = Desk::new();
    let refused = |config: FilesConfig| FilesSource::new(config, PathBuf::new()).err().expect("refused").code();
    let good = desk.config(&["f"]);
    assert_eq!(refused(FilesConfig::default()), "config");
    let records = BTreeMap::from([("a".to_owned(), "/r/a".to_owned()), ("b".to_owned(), "/r/a/b".to_owned())]);
    assert_eq!(refused(FilesConfig { records: records.clone(), ..good.clone() }), "record_paths_nest");
    assert_eq!(refused(FilesConfig { records, table: Some("t".into()), ..good.clone() }), "config");
    assert_eq!(refused(FilesConfig { after_load: AfterLoad::Move, ..good }), "config");
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|e| e.expect("listed").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn refused_files_of_one_name_are_all_kept_each_with_its_reason() {
    let desk = Desk::new();
    for folder in ["in/a", "in/b", "in/c"] {
        desk.write(&format!("{folder}/f.xml"), if folder == "in/c" { "other" } else { "same" });
    }
    let config = FilesConfig { dead_letter_dir: Some(desk.path("dead")), ..desk.config(&["in"]) };
    let source = desk.source(config);
    let loaded = desk.load_with(&source).await.expect("loads");
    let what = loaded.acknowledge.expect("something to do");
    for _ in 0..2 {
        source.acknowledge(&desk.context(), &what).await.expect("moved");
    }
    let kept = names(&desk.path("dead"));
    assert_eq!(kept.len(), 6, "{kept:?}");
    let mut files: Vec<String> = Vec::new();
    for name in kept.iter().filter(|name| name.ends_with(".reason.json")) {
        let reason: serde_json::Value =
            serde_json::from_slice(&std::fs::read(desk.path("dead").join(name)).expect("there")).expect("JSON");
        assert_eq!((&reason["code"], &reason["line"], &reason["run"]), (&"xml_invalid".into(), &1.into(), &"run".into()));
        let content = std::fs::read_to_string(desk.path("dead").join(name.trim_end_matches(".reason.json"))).expect("kept");
        files.push(format!("{} {content}", reason["file"].as_str().expect("a path").rsplit('/').nth(1).expect("a folder")));
    }
    files.sort();
    assert_eq!(files, ["a same", "b same", "c other"]);
    assert!(["in/a", "in/b", "in/c"].iter().all(|folder| names(&desk.path(folder)).is_empty()));
}

#[tokio::test]
async fn standard_input_is_spooled_once_named_and_known_by_its_bytes() {
    let desk = Desk::new();
    let spool = desk.path(".spool");
    let found = listing::standard_input(&mut GUIDE.as_bytes(), &spool, Some("Daily")).expect("spooled");
    assert_eq!((found.address.as_str(), found.table.as_str()), ("stdin:Daily", "daily"));
    let cx = desk.context();
    for (name, expected) in [(Some("Daily"), [1, 0]), (None, [1, 1])] {
        let source = desk.source(FilesConfig { name: name.map(str::to_owned), path: vec!["-".into()], ..FilesConfig::default() });
        for read in expected {
            let found = listing::standard_input(&mut GUIDE.as_bytes(), &spool, name).expect("spooled");
            let split = FileSplit::new(found).write().expect("written");
            let described = source.describe(&cx, vec![split], &desk.ledger).await.expect("looked at");
            assert_eq!(described.splits.len(), read);
            assert!(source.acknowledgement(&described.splits).is_none());
            let mut ledger = desk.ledger.0.lock().expect("fine");
            ledger.extend(described.landings.into_iter().map(|landing| Landing { n: 1, ..landing }));
        }
    }
}

/// Not a test of speed, which machines differ in: prints what a load costs, all but writing. Run with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints measurements"]
async fn how_much_processor_a_load_takes() {
    let on_cpu = || {
        let text = std::fs::read_to_string("/proc/self/stat").expect("Linux tells");
        let ticks = |at: usize| text.rsplit(") ").next().and_then(|t| t.split(' ').nth(at)).and_then(|t| t.parse::<f64>().ok());
        (ticks(11).expect("user") + ticks(12).expect("system")) / 100.0
    };
    let desk = Desk::new();
    let orders = GUIDE.split("<Orders>").nth(1).and_then(|rest| rest.split("</Orders>").next()).expect("orders").repeat(100_000);
    let path = desk.write("f.xml", format!("<Root><Orders>{orders}</Orders></Root>"));
    let megabytes = std::fs::metadata(path).expect("there").len() as f64 / 1e6;
    let source = desk.source(desk.config(&["f.xml"]));
    let cx = desk.context();
    let splits = source.splits(&cx, &desk.ledger).await.expect("found").splits;
    let (before, clock) = (on_cpu(), std::time::Instant::now());
    let described = source.describe(&cx, splits, &desk.ledger).await.expect("looked at");
    let (looked, look_clock) = (on_cpu(), clock.elapsed());
    let schema = described.tables["orders"].clone();
    let targets = BTreeMap::from([("orders".to_owned(), Target { schema, contract: Contract::Evolve })]);
    let items = source.read(&cx, &described.splits[0], &targets).await.expect("begins");
    let mut decoded = longshore_core::lanes::in_lanes(items, 2, |item| match item {
        Item::Chunk(chunk) => (chunk.decode)().map(|batches| batches.iter().map(|batch| batch.rows.len()).sum::<usize>()),
        _ => Ok(0),
    });
    let mut rows = 0;
    while let Some(count) = decoded.next().await {
        rows += count.expect("decoded");
    }
    let read = on_cpu();
    println!(
        "{megabytes:.0} MB, {rows} rows; look {:.0} MB/s of processor, read {:.0} MB/s",
        megabytes / (looked - before),
        megabytes / (read - looked)
    );
    println!("wall: look {look_clock:?}, all {:?}", clock.elapsed());
    assert_eq!(rows, 200_000);
}
