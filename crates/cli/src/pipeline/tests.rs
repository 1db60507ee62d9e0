use super::*;

const WHOLE: &str = "\
pipeline: orders
source:
  type: files
  path: landing/${day}/*.xml
  records: {customers: /Root/Customers/Customer, orders: /Root/Orders/Order}
destination:
  type: delta
  path: warehouse
  dataset: shop
tables:
  orders: {partition_by: OrderDate, schema: freeze}
  '*': {schema: ignore}
write: truncate
dead_letters: {table: _dead_letters, max: 100}
schedule: {cron: '0 3 * * *', time_zone: Europe/Oslo}
";

fn read(text: &str) -> Result<PipelineFile> {
    let parameters = BTreeMap::from([("day".to_owned(), "2024-05-01".to_owned())]);
    PipelineFile::parse("p.yaml", text, &Variables::new(parameters))
}

fn refused(text: &str) -> String {
    match read(text) {
        Ok(_) => panic!("should be refused"),
        Err(error) => {
            assert_eq!(error.kind(), Kind::Config);
            error.to_string()
        }
    }
}

#[test]
fn a_whole_pipeline_file_is_read() {
    let file = read(WHOLE).expect("reads");
    assert_eq!(file.pipeline.name, "orders");
    assert_eq!(file.pipeline.inputs, ["landing/2024-05-01/*.xml"]);
    assert_eq!(file.pipeline.destination, "warehouse/shop");
    assert_eq!(file.pipeline.contract("orders"), Contract::Freeze);
    assert_eq!(file.pipeline.contract("customers"), Contract::Ignore);
    assert_eq!(file.pipeline.options("orders"), TableOptions::by_day("OrderDate"));
    assert_eq!(file.pipeline.options("customers"), TableOptions::default());
    assert_eq!(file.pipeline.disposition, WriteDisposition::Truncate);
    assert_eq!(file.pipeline.max_dead_letters, Some(100));
    assert!(!file.pipeline.stop_on_max && file.scheduled);
    assert_eq!(file.source.settings["records"]["orders"], "/Root/Orders/Order");
}

#[test]
fn what_is_missing_or_unknown_is_said_with_its_place() {
    assert_eq!(refused("pipeline: a\n"), "p.yaml:1:1: `source` is missing");
    let text = WHOLE.replace("  type: files\n", "");
    assert_eq!(refused(&text), "p.yaml:3:3: `source` has no `type`");
    let text = WHOLE.replace("type: files", "type: fils");
    assert_eq!(refused(&text), "p.yaml:3:9: the source `fils` is not known");
    let text = WHOLE.replace("type: delta", "type: files");
    assert_eq!(refused(&text), "p.yaml:7:9: the destination `files` is not known");
    let text = WHOLE.replace("dataset:", "datset:");
    assert_eq!(refused(&text), "p.yaml:9:3: in `destination`, the key `datset` is not known");
    let text = WHOLE.replace("tables:", "table:");
    assert_eq!(refused(&text), "p.yaml:10:1: the key `table` is not known");
    let text = WHOLE.replace("schema: freeze", "schema: frozen");
    assert_eq!(refused(&text), "p.yaml:11:45: for `tables.orders.schema`, `frozen` is not known");
    let text = WHOLE.replace("max: 100", "max: many");
    assert_eq!(refused(&text), "p.yaml:14:43: `dead_letters.max` must be a whole number, not a text");
    let text = WHOLE.replace("_dead_letters,", "rejects,");
    assert_eq!(refused(&text), "p.yaml:14:23: in this version dead letters are kept in the table `_dead_letters`");
    let text = WHOLE.replace("pipeline: orders", "pipeline: my orders");
    assert_eq!(refused(&text), "p.yaml:1:11: a pipeline's name has letters, digits, `_`, `-` and `.` only");
    let text = WHOLE.replace("${day}", "${month}");
    assert_eq!(refused(&text), "p.yaml:4:9: the variable `month` is not set");
}
