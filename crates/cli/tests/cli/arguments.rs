//! Commands that read nothing but their arguments, and arguments that cannot be read.

use crate::place::{Place, snapshot};

#[test]
fn without_arguments_the_commands_are_listed() {
    snapshot!("no_arguments", Place::new().run(&[]));
}

#[test]
fn the_help_of_load_lists_its_flags() {
    snapshot!("load_help", Place::new().run(&["load", "--help"]));
}

#[test]
fn an_unknown_command_or_flag_is_exit_code_2() {
    snapshot!("unknown_command", Place::new().run(&["laod", "a.csv"]));
    snapshot!("unknown_flag", Place::new().run(&["load", "a.csv", "--tabel", "x"]));
    snapshot!("unknown_flag_json", Place::new().run(&["load", "a.csv", "--tabel", "x", "--json"]));
    snapshot!("bad_memory", Place::new().run(&["load", "a.csv", "--memory", "a lot"]));
}

#[test]
fn a_destination_of_a_later_version_is_refused_and_nothing_is_written() {
    let place = Place::with(&[("a.csv", "a\n1\n")]);
    snapshot!("bucket_destination", place.run(&["load", "a.csv", "--to", "gs://bucket/shop"]));
    snapshot!("bucket_destination_json", place.run(&["load", "a.csv", "--to", "s3://bucket/shop", "--json"]));
    snapshot!("no_dataset", place.run(&["load", "a.csv", "--to", "warehouse/my-shop"]));
    assert!(!place.has(".longshore") && !place.has("warehouse"));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let place = Place::with(&[("a.csv", "a\n1\n"), ("bad.json", "[{\"name\": \"id\",\n \"type\": }]")]);
    snapshot!("type_twice", place.run(&["load", "a.csv", "--type", "a=STRING", "--type", "a=INT64"]));
    snapshot!("schema_not_json", place.run(&["load", "a.csv", "--schema", "bad.json"]));
    snapshot!("schema_missing", place.run(&["load", "a.csv", "--schema", "none.json"]));
    snapshot!("stop_without_max", place.run(&["load", "a.csv", "--stop-on-max"]));
}

#[test]
fn a_code_is_explained_and_an_unknown_one_names_the_nearest() {
    snapshot!("explain", Place::new().run(&["explain", "type_mismatch"]));
    snapshot!("explain_json", Place::new().run(&["explain", "type_mismatch", "--json"]));
    let said = Place::new().run(&["explain", "type_mismach"]);
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    assert!(
        said.stderr.starts_with("error: the code `type_mismach` is not known\n\nhint: did you mean `type_mismatch`? known: ")
    );
}

#[test]
fn every_code_that_the_reference_lists_can_be_explained() {
    let place = Place::new();
    place.good(&["reference", "pages"]);
    let page = std::fs::read_to_string(place.path().join("pages/codes.md")).expect("a page");
    let codes: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert!(codes.len() > 30 && codes.contains(&"bug") && codes.contains(&"row_too_short"));
    for code in [codes[0], codes[codes.len() / 2], codes[codes.len() - 1]] {
        assert!(place.good(&["explain", code]).stdout.starts_with(code));
    }
}

#[test]
fn a_connector_describes_its_settings() {
    snapshot!("describe_files", Place::new().run(&["describe", "files"]));
    snapshot!("describe_delta_json", Place::new().run(&["describe", "delta", "--json"]));
    snapshot!("describe_unknown", Place::new().run(&["describe", "postgres"]));
}

#[test]
fn shells_get_their_completions() {
    for (shell, sign) in [("bash", "complete -F _longshore"), ("zsh", "#compdef longshore"), ("fish", "complete -c longshore")] {
        let said = Place::new().good(&["completions", shell]);
        assert!(said.stdout.contains(sign), "{shell}");
    }
    assert_eq!(Place::new().run(&["completions", "tcsh"]).code, 2);
}

#[test]
fn a_variable_stands_for_a_flag_and_the_flag_wins() {
    let place = Place::new();
    let say = |value: &str, args: &[&str]| {
        let mut command = place.command(args);
        command.env("LONGSHORE_JSON", value);
        place.said(command.output().expect("runs"))
    };
    assert!(say("true", &["explain", "bug"]).stdout.starts_with('{'));
    assert!(say("0", &["explain", "bug"]).stdout.starts_with("bug\n"));
    assert!(say("0", &["explain", "bug", "--json"]).stdout.starts_with('{'));
}

#[test]
fn init_writes_files_and_never_overwrites_them() {
    let place = Place::new();
    snapshot!("init", place.run(&["init", "demo"]));
    place.write("demo/readings.yaml", "mine");
    snapshot!("init_again", place.run(&["init", "demo"]));
    assert_eq!(std::fs::read_to_string(place.path().join("demo/readings.yaml")).expect("there"), "mine");
}
