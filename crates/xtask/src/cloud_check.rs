//! `cargo x cloud-check PROJECT`: what only Google's cloud can show, checked in a project of somebody's own.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{Outcome, Workspace};

const USAGE: &str = "cargo x cloud-check PROJECT [--bucket NAME] [--location EU] [--yes]";
const TESTS: [&str; 7] = ["test", "--package", "longshore-bigquery", "--test", "write", "--", "cloud::"];
/// One at a time, with what they print; those that need a project are left out otherwise.
const HOW: [&str; 3] = ["--ignored", "--nocapture", "--test-threads=1"];

/// What to check where.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    project: String,
    bucket: Option<String>,
    location: String,
    yes: bool,
}

/// Says what it will do, asks, does it, and sums it up. An error if anything differs from what Longshore relies on.
pub fn run(workspace: &Workspace, arguments: &[&str]) -> Outcome {
    let settings = Settings::read(arguments)?;
    print!("{}", settings.announcement());
    if !settings.yes && !agreed()? {
        return Err("nothing was done".into());
    }
    let binary = workspace.binary()?;
    crate::run(workspace.cargo().args(&TESTS[..5]).arg("--no-run"))?;
    let begin = Instant::now();
    let (sheet, passed) = checks(workspace, &settings, &binary)?;
    let summary = summary(&settings, &version(workspace), &sheet, begin.elapsed().as_secs());
    let file = workspace.target.join("cloud-check.md");
    std::fs::write(&file, &summary).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    println!("\n{summary}");
    println!(
        "This is in {}, too. Read it through, then paste it into an issue: what held helps as much as what differs.",
        file.display()
    );
    let differing = sheet.iter().filter(|row| outcome(row) == "DIFFERS").count();
    match (passed, sheet.is_empty()) {
        (true, false) => Ok(()),
        (_, true) => Err("no check was run; what cargo says above is why".into()),
        (false, false) => Err(format!("{differing} things differ from what Longshore relies on: they stand above")),
    }
}

impl Settings {
    fn read(arguments: &[&str]) -> Outcome<Self> {
        let mut settings = Self { project: String::new(), bucket: None, location: "US".into(), yes: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().map(|value| (*value).to_owned()).ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
            match *argument {
                "--bucket" => settings.bucket = Some(value()?.trim_start_matches("gs://").to_owned()),
                "--location" => settings.location = value()?,
                "--yes" => settings.yes = true,
                project if settings.project.is_empty() && !project.starts_with('-') => settings.project = project.to_owned(),
                other => return Err(format!("`{other}` is not understood\n{USAGE}")),
            }
        }
        if settings.project.is_empty() { Err(format!("a project is missing\n{USAGE}")) } else { Ok(settings) }
    }

    /// What will happen, what it costs and what it needs.
    fn announcement(&self) -> String {
        let (project, location) = (&self.project, &self.location);
        let bucket = match &self.bucket {
            Some(bucket) => format!("  files in gs://{bucket}, below folders of those names, which must lie in {location}\n"),
            None => "  no files: LOAD JOBS ARE NOT CHECKED without --bucket NAME\n".to_owned(),
        };
        let storage_role = match &self.bucket {
            Some(bucket) => format!("  roles/storage.objectAdmin and roles/storage.legacyBucketReader on gs://{bucket}\n"),
            None => String::new(),
        };
        format!(
            "In project {project} this makes, one after the other, and removes again:
  some 150 datasets `longshore_check_...` in {location}, with small tables that go after a day in any case
{bucket}and asks some thousands of small queries. It takes about an hour.

It costs about ten cents at list prices (a query counts 10 MB of $6.25 a TiB), and nothing within the free amounts of a month.

You must be logged in (`gcloud auth application-default login`), and have:
  roles/bigquery.user on the project (datasets of one's own, jobs)
{storage_role}The APIs bigquery and bigquerystorage must be enabled.
"
        )
    }
}

fn agreed() -> Outcome<bool> {
    print!("\nGo on? [y/N] ");
    std::io::stdout().flush().map_err(|e| e.to_string())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|e| format!("no answer could be read: {e}"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Runs the checks, shows what they print, and keeps the rows of their sheets. Whether all passed.
fn checks(workspace: &Workspace, settings: &Settings, binary: &Path) -> Outcome<(Vec<String>, bool)> {
    let mut command = workspace.cargo();
    command.args(TESTS).args(HOW).stdout(Stdio::piped());
    command.env("LONGSHORE_CLOUD_PROJECT", &settings.project).env("LONGSHORE_CLOUD_LOCATION", &settings.location);
    command.env("LONGSHORE_CLOUD_BUCKET", settings.bucket.as_deref().unwrap_or_default());
    command.env("LONGSHORE_CLOUD_BINARY", binary);
    let mut child = command.spawn().map_err(|e| format!("the checks could not be started: {e}"))?;
    let output = child.stdout.take().ok_or("the checks have no output")?;
    let mut sheet = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|e| format!("the checks' output cannot be read: {e}"))?;
        println!("{line}");
        if cells(&line).len() == 5 {
            sheet.push(line);
        }
    }
    let status = child.wait().map_err(|e| format!("the checks' end cannot be seen: {e}"))?;
    Ok((sheet, status.success()))
}

/// The cells of a row of a sheet: check, outcome, what, words, time. Other lines have none.
fn cells(line: &str) -> Vec<&str> {
    let row = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"));
    row.map(|row| row.split(" | ").map(str::trim).collect()).unwrap_or_default()
}

fn outcome(row: &str) -> &str {
    cells(row).get(1).copied().unwrap_or_default()
}

/// All sheets as one table, with what differs at the top.
fn summary(settings: &Settings, version: &str, sheet: &[String], seconds: u64) -> String {
    let count = |wanted: &str| sheet.iter().filter(|row| outcome(row) == wanted).count();
    let bucket = if settings.bucket.is_some() { "with a bucket" } else { "without a bucket: load jobs are not checked" };
    let mut text = format!(
        "## Cloud check\n\nLongshore {version}, location {}, {bucket}, {} minutes: {} ok, {} differ, {} told, {} not checked.\n\n",
        settings.location,
        seconds / 60,
        count("ok"),
        count("DIFFERS"),
        count("told"),
        count("NOT CHECKED"),
    );
    text += "| check | outcome | what | in words | time |\n|---|---|---|---|---|\n";
    for wanted in ["DIFFERS", "NOT CHECKED", "told", "ok"] {
        for row in sheet.iter().filter(|row| outcome(row) == wanted) {
            text += row;
            text.push('\n');
        }
    }
    text
}

/// The commit that was checked, as far as git tells it.
fn version(workspace: &Workspace) -> String {
    let mut git = Command::new("git");
    let asked = git.args(["describe", "--always", "--dirty"]).current_dir(&workspace.root).stderr(Stdio::null()).output();
    let told = asked.ok().filter(|output| output.status.success());
    told.map_or_else(|| env!("CARGO_PKG_VERSION").to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_a_project_and_says_what_is_wrong_with_the_rest() {
        let read = Settings::read(&["acme", "--bucket", "gs://landing", "--location", "EU", "--yes"]).expect("is understood");
        let expected = Settings { project: "acme".into(), bucket: Some("landing".into()), location: "EU".into(), yes: true };
        assert_eq!(read, expected);
        for wrong in [&[][..], &["--yes"], &["acme", "--bucket"], &["acme", "other"], &["acme", "--no"]] {
            assert!(Settings::read(wrong).is_err_and(|why| why.contains("cargo x cloud-check PROJECT")), "{wrong:?}");
        }
    }

    #[test]
    fn without_a_bucket_it_says_loudly_what_is_not_checked() {
        let said = |arguments: &[&str]| Settings::read(arguments).expect("is understood").announcement();
        assert!(said(&["acme"]).contains("LOAD JOBS ARE NOT CHECKED"));
        assert!(said(&["acme", "--bucket", "b"]).contains("roles/storage.objectAdmin"));
    }

    #[test]
    fn the_summary_begins_with_what_differs() {
        let lines = [
            "| a | ok | x |  | 0.1 s |",
            "| b | DIFFERS | y | is 1, and 2 was expected | 2.0 s |",
            "test cloud::a ... ok",
            "| a table | of another kind |",
        ];
        let sheet: Vec<String> = lines.iter().filter(|line| cells(line).len() == 5).map(|line| (*line).to_owned()).collect();
        assert_eq!(sheet.len(), 2);
        let text = summary(&Settings::read(&["acme"]).expect("is understood"), "0.1", &sheet, 60);
        let rows: Vec<&str> = text.lines().filter(|line| cells(line).len() == 5).collect();
        assert_eq!(rows[1..], [lines[1], lines[0]], "{text}");
        assert!(text.contains("1 ok, 1 differ"), "{text}");
        assert!(!text.contains("acme"), "whose project it was is nobody's business");
    }
}
