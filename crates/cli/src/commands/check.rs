//! `longshore check`: what a run of a pipeline file would do, and whether it could.

use std::path::Path;
use std::sync::Arc;

use longshore_core::error::Result;
use longshore_core::inspection::{Finding, Verdict};
use longshore_engine::{RunPlan, plan, plan_stream};
use serde_json::{Value, json};

use super::run::read;
use super::{store_to_look_at, surroundings};
use crate::args::CheckArgs;
use crate::console::Console;
use crate::exit;
use crate::pipeline::Opened;
use crate::reporter::{Reporter, changed};
use crate::units;

/// Reads the file, looks at the inputs and the tables, and says the plan and what it needs. Changes no table and no input. The exit code
/// is that of a destination's error if something is wrong there.
pub async fn run(console: &Console, store: &Path, args: &CheckArgs) -> Result<u8> {
    let file = read(&args.pipeline)?;
    let surroundings = surroundings(store, file.pipeline.disposition);
    let source = file.open_source(&surroundings)?;
    let destination = file.open_destination(&surroundings)?;
    let books = store_to_look_at(store).await?;
    let reporter = Arc::new(Reporter::new(&console.without_events()));
    let plan = match source {
        Opened::Finite(source) => plan(books, source, destination, &file.pipeline, reporter.clone()).await?,
        Opened::Endless(source) => plan_stream(source, destination, &file.pipeline, reporter.clone()).await?,
    };
    reporter.done();
    if console.json {
        objects(console, &plan)?
    } else {
        text(console, &file.pipeline.destination, file.is_endless(), &plan)?
    }
    let wrong = plan.findings.iter().any(|finding| finding.verdict == Verdict::Wrong);
    Ok(if wrong { exit::DESTINATION } else { exit::DONE })
}

fn objects(console: &Console, plan: &RunPlan) -> Result<()> {
    for (input, bytes) in &plan.inputs {
        console.object(&json!({"input": input, "action": "load", "bytes": bytes}))?;
    }
    for (input, why) in &plan.skipped {
        console.object(&json!({"input": input, "action": "skip", "reason": why}))?;
    }
    for (input, why) in &plan.refused {
        console.object(&json!({"input": input, "action": "refuse", "reason": why}))?;
    }
    for table in &plan.tables {
        let (existed, changes) = (table.plan.existed, &table.plan.changes);
        console.object(&json!({"table": table.table, "exists": existed, "changes": changes, "schema": table.plan.schema}))?;
    }
    for finding in &plan.findings {
        console.object(&object(finding))?;
    }
    Ok(())
}

fn object(finding: &Finding) -> Value {
    let mut object = json!({"check": finding.subject, "verdict": finding.verdict, "words": finding.words});
    if let Some(hint) = &finding.hint {
        object["hint"] = json!(hint);
    }
    if !finding.numbers.is_empty() {
        object["numbers"] = json!(finding.numbers);
    }
    object
}

fn text(console: &Console, destination: &str, endless: bool, plan: &RunPlan) -> Result<()> {
    let bytes: u64 = plan.inputs.iter().map(|(_, bytes)| bytes).sum();
    if endless {
        console.data(format!("a run would read for ever, into {destination}"))?;
        plan.inputs.iter().try_for_each(|(input, _)| console.data(format!("  {input}")))?;
    } else {
        let inputs = units::count(plan.inputs.len() as u64, "input", "inputs");
        console.data(format!("a run would read {inputs}, {}, into {destination}", units::show_bytes(bytes)))?;
        for (input, bytes) in &plan.inputs {
            console.data(format!("  {input}  {}", units::show_bytes(*bytes)))?;
        }
    }
    for (input, why) in &plan.skipped {
        console.data(format!("  {input}  skipped: {why}"))?;
    }
    for (input, why) in &plan.refused {
        console.data(format!("  {input}  cannot be read: {why}"))?;
    }
    for table in &plan.tables {
        console.data(changed(&table.table, &table.plan.changes))?;
        if !table.plan.existed {
            let rows: Vec<Vec<String>> =
                table.plan.schema.fields.iter().map(|field| vec![format!("  {}", field.name), field.to_string()]).collect();
            console.data(crate::listing::aligned(&["", ""], &rows))?;
        }
    }
    if !plan.findings.is_empty() {
        console.data(findings(&plan.findings))?;
    }
    Ok(())
}

/// Findings, aligned; hints stand below the words that they belong to.
fn findings(findings: &[Finding]) -> String {
    let mut rows = Vec::new();
    for finding in findings {
        let verdict = match finding.verdict {
            Verdict::Fine => "ok",
            Verdict::Wrong => "missing",
            Verdict::Unknown => "unknown",
        };
        rows.push(vec![format!("  {verdict}"), finding.subject.clone(), finding.words.clone()]);
        rows.extend(finding.hint.iter().map(|hint| vec![String::new(), String::new(), format!("  {hint}")]));
    }
    format!("what it takes\n{}", crate::listing::aligned(&["", "", ""], &rows))
}
