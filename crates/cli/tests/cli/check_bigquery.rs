//! `check` of a pipeline into BigQuery, against a server of our own: who asks, what is there, what is permitted, what it costs.

use longshore_fakes::bigquery::{FakeBigQuery, Fault, Rule};
use serde_json::{Value, json};

use crate::cloud::server;
use crate::place::{Place, Said, snapshot};

const READER: &str = "storage.objects.list";
const STREAMING: [&str; 2] = ["bigquery.tables.updateData", "bigquery.tables.getData"];
const OF_BUCKET: [&str; 5] =
    ["storage.buckets.get", "storage.objects.create", "storage.objects.get", READER, "storage.objects.delete"];

/// A folder with a pipeline, and a server where it lands.
struct Scene {
    place: Place,
    server: FakeBigQuery,
    _runtime: tokio::runtime::Runtime,
}

impl Scene {
    /// `settings` stand in the destination, `more` below it.
    fn new(settings: &str, more: &str) -> Self {
        let (server, runtime) = server("shop");
        let scene = Self { place: Place::with(&[("orders.csv", "id,at\n1,2024-05-01\n")]), server, _runtime: runtime };
        scene.pipeline(settings, more);
        scene
    }

    fn pipeline(&self, settings: &str, more: &str) {
        let at = self.server.rest();
        let destination = format!("type: bigquery, project: acme, dataset: shop, endpoint: '{at}', write_endpoint: '{at}'");
        let destination = format!("{destination}, storage_endpoint: '{at}', anonymous: true{settings}");
        let pipeline = format!(
            "pipeline: orders\nsource: {{type: files, path: '*.csv', table: orders}}\ndestination: {{{destination}}}\n{more}"
        );
        self.place.write("p.yaml", &pipeline);
    }

    /// After a run, which made the tables, and with a second file.
    fn ran(settings: &str, more: &str) -> Self {
        let scene = Self::new(settings, more);
        scene.place.good(&["run", "p.yaml"]);
        scene.place.write("more.csv", "id,at\n2,2024-05-02\n");
        scene
    }

    fn check(&self) -> Said {
        self.place.run(&["check", "p.yaml", "--json"])
    }

    /// The program's words, with the server's port replaced.
    fn shown(&self) -> Said {
        let Said { code, stdout, stderr } = self.place.run(&["check", "p.yaml"]);
        Said { code, stdout: stdout.replace(&self.server.rest(), "[SERVER]"), stderr }
    }
}

/// The subjects with a verdict.
fn subjects(said: &Said, verdict: &str) -> Vec<String> {
    let found = said.objects().into_iter().filter(|object| object["verdict"] == verdict);
    found.map(|object| object["check"].as_str().expect("a subject").to_owned()).collect()
}

fn finding(said: &Said, subject: &str) -> Value {
    said.objects().into_iter().find(|object| object["check"] == subject).unwrap_or_else(|| panic!("no {subject} in {said}"))
}

const LOAD_JOBS: &str = ", staging: 'gs://landing/staging'";

#[test]
fn where_everything_is_granted_all_is_fine_and_nothing_is_changed() {
    let scene = Scene::new(LOAD_JOBS, "");
    snapshot!("check_bigquery", scene.shown());
    assert_eq!(scene.server.tables("shop"), [] as [String; 0], "nothing is made");
    assert_eq!(scene.server.jobs(), [] as [Value; 0], "nothing is run");
    scene.place.good(&["run", "p.yaml"]);
    scene.place.write("more.csv", "id,at,note\n2,2024-05-02,new\n");
    let said = scene.check();
    assert_eq!(said.code, 0, "{said}");
    assert_eq!((subjects(&said, "wrong").len(), subjects(&said, "unknown").len()), (0, 0), "{said}");
    assert!(subjects(&said, "fine").contains(&"bigquery.tables.update".to_owned()), "a column would be added: {said}");
    assert!(!subjects(&said, "fine").contains(&"bigquery.tables.create".to_owned()), "every table is there: {said}");
    assert_eq!(scene.server.row_count("shop", "orders"), 1);
}

#[test]
fn each_permission_that_is_denied_is_the_one_that_is_missing() {
    let always = ["bigquery.jobs.create", "bigquery.datasets.get", "bigquery.tables.get", "bigquery.tables.list"];
    let cases: [(&str, &str, Vec<&str>); 3] = [
        (LOAD_JOBS, "", [&always[..], &STREAMING, &OF_BUCKET, &["bigquery.tables.update"]].concat()),
        ("", "", [&always[..], &STREAMING, &["bigquery.tables.update"]].concat()),
        ("", "write: truncate\n", [&always[..], &STREAMING, &["bigquery.tables.create", "bigquery.tables.delete"]].concat()),
    ];
    for (settings, more, permissions) in cases {
        let scene = Scene::ran(settings, more);
        scene.place.write("more.csv", "id,at,note\n2,2024-05-02,new\n");
        for permission in permissions {
            scene.server.deny(&[permission]);
            let said = scene.check();
            assert_eq!((said.code, subjects(&said, "wrong")), (5, vec![permission.to_owned()]), "{settings} {more}: {said}");
            let hint = finding(&said, permission)["hint"].as_str().expect("a hint").to_owned();
            assert!(hint.starts_with("grant `roles/"), "{hint}");
        }
        scene.server.deny(&[]);
        assert_eq!(scene.check().code, 0);
    }
}

#[test]
fn a_table_that_cannot_be_made_is_found_out_before_the_first_run() {
    let scene = Scene::new("", "");
    scene.server.deny(&["bigquery.tables.create"]);
    let said = scene.check();
    assert_eq!((said.code, subjects(&said, "wrong")), (5, vec!["bigquery.tables.create".to_owned()]), "{said}");
    assert!(finding(&said, "bigquery.tables.create")["words"].as_str().is_some_and(|words| words.contains("dataset acme:shop")));
}

#[test]
fn what_is_missing_stands_beside_what_is_there_with_the_role_to_grant() {
    let scene = Scene::new("", "");
    scene.server.deny(&["bigquery.jobs.create", "bigquery.tables.updateData"]);
    snapshot!("check_bigquery_missing", scene.shown());
}

#[test]
fn what_nobody_can_tell_before_a_table_is_there_is_unknown_and_no_reason_to_stop() {
    let scene = Scene::new("", "");
    scene.server.deny(&STREAMING);
    let said = scene.check();
    assert_eq!((said.code, subjects(&said, "unknown")), (0, STREAMING.map(str::to_owned).to_vec()), "{said}");
    let words = finding(&said, STREAMING[0])["words"].to_string();
    assert!(words.contains("shop.orders, shop._longshore"), "{words}");
}

#[test]
fn what_the_project_does_not_tell_the_tables_do() {
    let scene = Scene::ran("", "");
    let told_by_tables = |denied: &[&str]| {
        scene.server.clear_rules();
        let forbidden = Fault::refuse(403, "forbidden", "Cloud Resource Manager API has not been used in project acme");
        scene.server.arm(Rule::on("projects.testIamPermissions", forbidden));
        scene.server.deny(denied);
        scene.server.forget_requests();
        scene.check()
    };
    let said = told_by_tables(&[]);
    assert_eq!((said.code, subjects(&said, "unknown").len()), (0, 0), "{said}");
    assert_eq!(finding(&said, STREAMING[0])["words"], "granted on tables shop.orders, shop._longshore");
    let said = told_by_tables(&STREAMING[..1]);
    assert_eq!((said.code, subjects(&said, "wrong")), (5, vec![STREAMING[0].to_owned()]), "{said}");
    assert_eq!(finding(&said, STREAMING[0])["words"], "not granted on tables shop.orders, shop._longshore");
    assert!(
        scene.server.requests().iter().all(|line| !line.contains("DELETE")),
        "nobody has to try: {:?}",
        scene.server.requests()
    );
}

#[test]
fn a_server_that_tests_no_permissions_is_asked_by_dry_runs() {
    let scene = Scene::ran("", "");
    let untold = |denied: &[&str]| {
        scene.server.clear_rules();
        for method in ["projects.testIamPermissions", "tables.testIamPermissions"] {
            scene.server.arm(Rule::on(method, Fault::refuse(501, "notImplemented", "not served")).times(9));
        }
        scene.server.deny(denied);
        scene.check()
    };
    let said = untold(&[]);
    assert_eq!((said.code, subjects(&said, "unknown").len()), (0, 0), "{said}");
    for permission in STREAMING {
        let said = untold(&[permission]);
        assert!(subjects(&said, "wrong").contains(&permission.to_owned()), "{said}");
        assert_eq!(said.code, 5);
    }
    assert_eq!(scene.server.row_count("shop", "orders"), 1, "a dry run deletes nothing");
}

#[test]
fn a_dataset_or_bucket_that_is_not_there_is_said_with_all_that_can_be_said() {
    let scene = Scene::new(LOAD_JOBS.replace("landing", "nowhere").as_str(), "");
    let said = scene.check();
    assert_eq!((said.code, subjects(&said, "wrong")), (5, vec!["bucket".to_owned()]), "{said}");
    scene.pipeline(LOAD_JOBS, "");
    let text = std::fs::read_to_string(scene.place.path().join("p.yaml")).expect("written");
    scene.place.write("p.yaml", &text.replace("dataset: shop", "dataset: shoop"));
    let said = scene.check();
    assert_eq!((said.code, subjects(&said, "wrong")), (5, vec!["dataset".to_owned()]), "{said}");
    assert!(finding(&said, "dataset")["hint"].as_str().is_some_and(|hint| hint.contains("bq mk")), "{said}");
    let fine = subjects(&said, "fine");
    assert!(["bigquery.jobs.create", READER, "cost"].iter().all(|known| fine.contains(&(*known).to_owned())), "{said}");
    assert!(said.objects().iter().all(|object| object["table"].is_null()), "no plan for tables of no dataset: {said}");
    assert!(said.objects().iter().any(|object| object["action"] == "load"), "the inputs are told: {said}");
}

#[test]
fn a_bucket_at_another_place_is_found_before_anything_is_staged() {
    let scene = Scene::new(LOAD_JOBS, "");
    scene.server.create_bucket("landing", "US");
    let said = scene.check();
    assert_eq!((said.code, subjects(&said, "wrong")), (5, vec!["bucket".to_owned()]), "{said}");
    let words = finding(&said, "bucket")["words"].clone();
    assert_eq!(words, "the bucket landing lies in US and the dataset in EU");
    assert_eq!(scene.server.objects(), [] as [String; 0]);
}

#[test]
fn who_is_refused_or_meets_nobody_is_told_so_without_a_plan() {
    let scene = Scene::new("", "");
    scene.server.require_token(Some("a token"));
    let said = scene.check();
    assert_eq!((said.code, subjects(&said, "wrong")), (5, vec!["credentials".to_owned()]), "{said}");
    assert_eq!(finding(&said, "identity")["words"], "nobody: no credentials are sent");
    let text = std::fs::read_to_string(scene.place.path().join("p.yaml")).expect("written");
    // Nobody listens there.
    scene.place.write("p.yaml", &text.replace(&scene.server.rest(), "http://127.0.0.1:1"));
    let said = scene.check();
    assert_eq!((said.code, subjects(&said, "wrong")), (5, vec!["server".to_owned()]), "{said}");
    let words = finding(&said, "server")["words"].as_str().expect("words").to_owned();
    assert!(words.starts_with("datasets.get shop: no answer from BigQuery: ") && words.len() < 120, "{words}");
    assert_eq!(subjects(&said, "unknown"), [] as [String; 0], "nothing is told twice");
    assert!(finding(&said, "cost")["numbers"]["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{said}");
}

#[test]
fn a_table_that_refuses_the_rows_is_wrong_and_the_others_are_planned() {
    let scene = Scene::ran("", "");
    scene.pipeline("", "write: empty\n");
    let said = scene.check();
    assert_eq!((said.code, subjects(&said, "wrong")), (5, vec!["table orders".to_owned()]), "{said}");
    assert_eq!(finding(&said, "table orders")["words"], "table orders holds rows");
    assert!(finding(&said, "bigquery.tables.getData")["words"].as_str().is_some_and(|words| words.contains("acme")), "{said}");
}

#[test]
fn costs_are_in_the_answer_as_numbers_too() {
    let scene = Scene::ran("", "write: truncate\n");
    let said = scene.check();
    let cost = finding(&said, "cost");
    let numbers = &cost["numbers"];
    assert_eq!(numbers["bytes"], json!(std::fs::metadata(scene.place.path().join("more.csv")).expect("there").len() * 2));
    assert!(numbers["query_bytes"].as_u64() > numbers["bytes"].as_u64(), "MERGE reads the table, too: {cost}");
    assert!(numbers["loading_usd"].as_f64().is_some_and(|usd| usd > 0.0), "{cost}");
    assert!(cost["hint"].as_str().is_some_and(|hint| hint.contains("list prices")), "{cost}");
}
