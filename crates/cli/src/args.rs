//! The command line. Every flag has an environment variable of its own; where a flag may be given several times, the variable
//! holds one value a line.

mod files;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use longshore_core::commit::{Contract, WriteDisposition};

pub use self::files::{AfterLoadArg, FileArgs, table_and_rest, twice, unique};
use crate::{destination, units};

/// Lands files in Delta Lake tables, exactly once, and keeps the books.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Where the books are kept (runs, commits, what was landed): a folder, or postgres://USER@HOST/DATABASE, which several machines share.
    #[arg(long, global = true, value_name = "PATH", env = "LONGSHORE_HOME", default_value = ".longshore", hide_env = true)]
    pub store: PathBuf,
    /// Write JSON lines to stdout; an error is one JSON object on stderr.
    #[arg(long, global = true, env = "LONGSHORE_JSON", value_parser = FalseyValueParser::new(), hide_env = true)]
    pub json: bool,
    /// Say only what is asked for, warnings and errors.
    #[arg(long, short, global = true, env = "LONGSHORE_QUIET", value_parser = FalseyValueParser::new(), hide_env = true)]
    pub quiet: bool,
    /// No colours; also with NO_COLOR.
    #[arg(long, global = true, env = "LONGSHORE_NO_COLOR", value_parser = FalseyValueParser::new(), hide_env = true)]
    pub no_color: bool,
    /// What to log on stderr, such as `info` or `longshore_files=debug,warn`.
    #[arg(long, global = true, value_name = "FILTER", env = "LONGSHORE_LOG", default_value = "off", hide_env = true)]
    pub log: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Land files in tables; no configuration needed.
    Load(Box<LoadArgs>),
    /// Run a pipeline file once.
    Run(RunArgs),
    /// Run every pipeline file of a folder: endless ones all the time, others at their schedules.
    ///
    /// The folder is followed as its files change, what fails is started again, and HTTP tells how all of it is. SIGTERM stops it gracefully.
    Serve(ServeArgs),
    /// Say what a run of a pipeline file would do, may do and costs; change nothing.
    ///
    /// The exit code is 5 if something is missing at the destination.
    Check(CheckArgs),
    /// Look at files: the tables, columns and types in them, as a pipeline file to start from.
    Discover(Box<FileArgs>),
    /// Ask the warehouse in SQL; read-only.
    Query(QueryArgs),
    /// The history of runs.
    Runs {
        /// What to do with it.
        #[command(subcommand)]
        action: Option<RunsAction>,
    },
    /// The records that did not fit.
    DeadLetters {
        /// What to do with them.
        #[command(subcommand)]
        action: Option<DeadLettersAction>,
    },
    /// Compare the books with the tables; changes nothing without --apply.
    Repair(RepairArgs),
    /// Write a pipeline file with comments, and a file for it to load.
    Init(InitArgs),
    /// Describe a connector's settings, or a table.
    Describe(DescribeArgs),
    /// Say what an error or reason code means and what to do.
    Explain(ExplainArgs),
    /// Write the completions of a shell to stdout.
    Completions(CompletionsArgs),
    /// Write the reference pages.
    #[command(hide = true)]
    Reference(ReferenceArgs),
}

/// `load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// What to load.
    #[command(flatten)]
    pub files: FileArgs,
    /// The dataset to land in: FOLDER/DATASET, DATASET alone for warehouse/DATASET, or bigquery://PROJECT/DATASET.
    #[arg(help_heading = "Landing", long, alias = "output", value_name = "DEST", env = "LONGSHORE_TO", default_value = destination::DEFAULT, hide_env = true)]
    pub to: String,
    /// What becomes of the rows that a table has.
    #[arg(help_heading = "Landing", long, env = "LONGSHORE_WRITE", default_value = "append", value_parser = word::<WriteDisposition>(&["append", "truncate", "empty"]), hide_env = true)]
    pub write: WriteDisposition,
    /// The column to partition a new table by; a time by its UTC day. May be repeated.
    #[arg(
        help_heading = "Landing",
        long,
        value_name = "[TABLE=]COLUMN",
        env = "LONGSHORE_PARTITION_BY",
        value_delimiter = '\n',
        hide_env = true
    )]
    pub partition_by: Vec<String>,
    /// What may happen to a table's columns when records do not match them.
    #[arg(help_heading = "Landing", long, env = "LONGSHORE_CONTRACT", default_value = "evolve", value_parser = word::<Contract>(&["evolve", "freeze", "ignore"]), hide_env = true)]
    pub contract: Contract,
    /// With more dead letters than this, end with exit code 6.
    #[arg(help_heading = "Landing", long, value_name = "N", env = "LONGSHORE_MAX_DEAD_LETTERS", hide_env = true)]
    pub max_dead_letters: Option<u64>,
    /// Stop then, with nothing of that commit published.
    #[arg(help_heading = "Landing", long, requires = "max_dead_letters", env = "LONGSHORE_STOP_ON_MAX", value_parser = FalseyValueParser::new(), hide_env = true)]
    pub stop_on_max: bool,
    /// A folder that files which cannot be read are moved to, each with a reason beside it.
    #[arg(
        help_heading = "Landing",
        long,
        alias = "dead_letter_dir",
        value_name = "DIR",
        env = "LONGSHORE_DEAD_LETTER_DIR",
        hide_env = true
    )]
    pub dead_letter_dir: Option<PathBuf>,
    /// What happens to a file once it has landed: keep, move=DIR or delete.
    #[arg(
        help_heading = "Landing",
        long,
        value_name = "ACTION",
        env = "LONGSHORE_AFTER_LOAD",
        default_value = "keep",
        hide_env = true
    )]
    pub after_load: AfterLoadArg,
    /// How it runs.
    #[command(flatten)]
    pub limits: Limits,
}

/// How a run uses the machine, and what it waits for.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Running")]
pub struct Limits {
    /// What buffers may hold.
    #[arg(long, value_name = "BYTES", env = "LONGSHORE_MEMORY", default_value = "256MiB", value_parser = units::memory, hide_env = true)]
    pub memory: u64,
    /// Decoders at once; as many as there are cores if not given.
    #[arg(long, value_name = "N", env = "LONGSHORE_LANES", value_parser = clap::value_parser!(u16).range(1..=1024), hide_env = true)]
    pub lanes: Option<u16>,
    /// How long to wait for another process that runs the same pipeline.
    #[arg(long, value_name = "TIME", env = "LONGSHORE_WAIT", default_value = "60s", value_parser = units::duration, hide_env = true)]
    pub wait: Duration,
    /// Write to tables that another store keeps the books of.
    #[arg(long, env = "LONGSHORE_JOIN", value_parser = FalseyValueParser::new(), hide_env = true)]
    pub join: bool,
}

/// A pipeline file and its variables.
#[derive(Debug, Clone, Args)]
pub struct PipelineArgs {
    /// The pipeline file.
    #[arg(value_name = "PIPELINE.yaml")]
    pub file: PathBuf,
    /// A variable of the file: `${KEY}` becomes VALUE. May be repeated.
    #[arg(long = "param", value_name = "KEY=VALUE", env = "LONGSHORE_PARAM", value_delimiter = '\n', value_parser = files::pair, hide_env = true)]
    pub params: Vec<(String, String)>,
    /// The logical time of the run, for `${run_time}` and `${run_date}`: RFC 3339, or a date; now if not given.
    #[arg(long, value_name = "TIME", env = "LONGSHORE_RUN_TIME", value_parser = files::time, hide_env = true)]
    pub run_time: Option<chrono::DateTime<chrono::Utc>>,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Which pipeline.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Read everything again, whatever landed before, and replace the tables in the same commit.
    #[arg(long, env = "LONGSHORE_FULL_REFRESH", value_parser = FalseyValueParser::new(), hide_env = true)]
    pub full_refresh: bool,
    /// End when everything that an endless source has now has landed.
    #[arg(long, env = "LONGSHORE_UNTIL_IDLE", value_parser = FalseyValueParser::new(), hide_env = true)]
    pub until_idle: bool,
    /// How it runs.
    #[command(flatten)]
    pub limits: Limits,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The folder of pipeline files: *.yaml and *.yml.
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    /// Where /healthz, /readyz, /metrics and /api answer; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", env = "LONGSHORE_LISTEN", default_value = "127.0.0.1:8650", hide_env = true)]
    pub listen: String,
    /// How each pipeline runs.
    #[command(flatten)]
    pub limits: Limits,
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Which pipeline.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
}

/// `query`.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// One SELECT, EXPLAIN, SHOW or DESCRIBE.
    #[arg(value_name = "SQL")]
    pub sql: String,
    /// The warehouse folder.
    #[command(flatten)]
    pub warehouse: WarehouseArgs,
    /// How to write rows; a table on a terminal and CSV into a pipe if not given.
    #[arg(long, env = "LONGSHORE_QUERY_FORMAT", value_parser = word::<QueryFormat>(&["table", "csv", "json"]), hide_env = true)]
    pub format: Option<QueryFormat>,
}

/// How `query` writes rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryFormat {
    /// For people.
    Table,
    /// Comma-separated, with a header.
    Csv,
    /// JSON lines.
    Json,
}

/// The warehouse folder.
#[derive(Debug, Clone, Args)]
pub struct WarehouseArgs {
    /// The warehouse folder.
    #[arg(long = "warehouse", value_name = "DIR", env = "LONGSHORE_WAREHOUSE", default_value = destination::FOLDER, hide_env = true)]
    pub folder: PathBuf,
    /// A dataset to look into instead, which may be in BigQuery.
    #[arg(long, value_name = "DEST", env = "LONGSHORE_ON", hide_env = true)]
    pub on: Option<String>,
}

/// `runs`.
#[derive(Debug, Subcommand)]
pub enum RunsAction {
    /// The newest runs.
    List {
        /// Of this pipeline only.
        #[arg(long, env = "LONGSHORE_PIPELINE", hide_env = true)]
        pipeline: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N", env = "LONGSHORE_LIMIT", default_value_t = 20, hide_env = true)]
        limit: usize,
    },
    /// One run: what it read, what it committed, and that every record is accounted for.
    Show {
        /// Its id, or the beginning of it.
        #[arg(value_name = "RUN")]
        run: String,
    },
    /// The events of one run.
    Logs {
        /// Its id, or the beginning of it.
        #[arg(value_name = "RUN")]
        run: String,
    },
    /// Ask a run to stop: it commits what is whole.
    Cancel {
        /// Its id, or the beginning of it.
        #[arg(value_name = "RUN")]
        run: String,
    },
    /// Copy the books into tables, to be asked in SQL beside the data: runs, events, receipts, dead letters.
    Export(Box<ExportArgs>),
}

/// `runs export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The dataset whose tables `longshore_runs`, `longshore_run_events`, `longshore_receipts` and `longshore_dead_letter_index` are
    /// replaced: FOLDER/DATASET, DATASET alone for warehouse/DATASET, or bigquery://PROJECT/DATASET.
    #[arg(long, value_name = "DEST", env = "LONGSHORE_TO", default_value = destination::DEFAULT, hide_env = true)]
    pub to: String,
    /// How it runs.
    #[command(flatten)]
    pub limits: Limits,
}

/// `dead-letters`.
#[derive(Debug, Subcommand)]
pub enum DeadLettersAction {
    /// The open ones, oldest first.
    List(DeadLetterArgs),
    /// Some of them whole, payload included.
    Show {
        /// Their ids.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        /// The warehouse folder.
        #[command(flatten)]
        warehouse: WarehouseArgs,
    },
    /// Land some after all: as they are, or corrected.
    Replay(Box<ReplayArgs>),
    /// Give some up: they stay in the table, but are no longer open.
    Drop {
        /// Their ids.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
}

/// Which dead letters.
#[derive(Debug, Clone, Default, Args)]
pub struct DeadLetterArgs {
    /// Of this pipeline only.
    #[arg(long, env = "LONGSHORE_PIPELINE", hide_env = true)]
    pub pipeline: Option<String>,
    /// Of this run only.
    #[arg(long, env = "LONGSHORE_RUN", hide_env = true)]
    pub run: Option<String>,
    /// With this reason code only.
    #[arg(long, env = "LONGSHORE_CODE", hide_env = true)]
    pub code: Option<String>,
    /// In this state.
    #[arg(long, env = "LONGSHORE_STATE", default_value = "open", value_parser = PossibleValuesParser::new(["open", "replayed", "dropped", "any"]), hide_env = true)]
    pub state: String,
    /// At most so many; 0 for all.
    #[arg(long, value_name = "N", env = "LONGSHORE_LIMIT", default_value_t = 100, hide_env = true)]
    pub limit: usize,
}

/// `dead-letters replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Their ids.
    #[arg(value_name = "ID", required_unless_present_any = ["from", "pipeline", "run", "code", "all"])]
    pub ids: Vec<String>,
    /// Corrected ones: lines such as `dead-letters show ID --json` writes, with `payload` or `table` edited. Without an ID or another
    /// choice, all of these are replayed.
    #[arg(long, value_name = "FILE", env = "LONGSHORE_FROM", hide_env = true)]
    pub from: Option<PathBuf>,
    /// Into this table, whatever they name.
    #[arg(long, value_name = "TABLE", env = "LONGSHORE_TABLE", hide_env = true)]
    pub table: Option<String>,
    /// Open ones of this pipeline only.
    #[arg(long, env = "LONGSHORE_PIPELINE", hide_env = true)]
    pub pipeline: Option<String>,
    /// Open ones of this run only.
    #[arg(long, env = "LONGSHORE_RUN", hide_env = true)]
    pub run: Option<String>,
    /// Open ones with this reason code only.
    #[arg(long, env = "LONGSHORE_CODE", hide_env = true)]
    pub code: Option<String>,
    /// All open ones.
    #[arg(long, env = "LONGSHORE_ALL", value_parser = FalseyValueParser::new(), conflicts_with = "ids", hide_env = true)]
    pub all: bool,
    /// The pipeline file that they are of, if they are not of `load`: it says where they land.
    #[arg(long, value_name = "PIPELINE.yaml", env = "LONGSHORE_PIPELINE_FILE", hide_env = true)]
    pub pipeline_file: Option<PathBuf>,
    /// What may happen to a table's columns when records do not match them; a pipeline file says it itself.
    #[arg(long, env = "LONGSHORE_CONTRACT", default_value = "evolve", value_parser = word::<Contract>(&["evolve", "freeze", "ignore"]), hide_env = true)]
    pub contract: Contract,
    /// How it runs.
    #[command(flatten)]
    pub limits: Limits,
}

/// `repair`.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// A dataset (what `load` wrote to it), or a pipeline file.
    #[arg(value_name = "DEST|PIPELINE.yaml")]
    pub target: String,
    /// Make the books agree with the tables.
    #[arg(long, env = "LONGSHORE_APPLY", value_parser = FalseyValueParser::new(), hide_env = true)]
    pub apply: bool,
    /// Give up the rows that wait for this table; may be repeated. Only with `--apply` it is done.
    #[arg(long, value_name = "TABLE", env = "LONGSHORE_GIVE_UP", value_delimiter = '\n', hide_env = true)]
    pub give_up: Vec<String>,
}

/// `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The folder to write to.
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
}

/// `describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// A connector, DATASET.TABLE, or a table.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The warehouse folder.
    #[command(flatten)]
    pub warehouse: WarehouseArgs,
}

/// `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The code, such as type_mismatch.
    #[arg(value_name = "CODE")]
    pub code: String,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL", value_parser = PossibleValuesParser::new(["bash", "zsh", "fish"]))]
    pub shell: String,
}

/// `reference`.
#[derive(Debug, Args)]
pub struct ReferenceArgs {
    /// The folder to write to.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// One of these words, read as serde reads it.
fn word<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: serde::de::DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| serde_json::from_value::<T>(serde_json::Value::String(word)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn visit(command: &clap::Command, parent: &str, found: &mut Vec<(String, String, Option<String>)>) {
        let path = format!("{parent} {}", command.get_name());
        for argument in command.get_arguments().filter(|a| !a.is_positional()) {
            let id = argument.get_id().to_string();
            if id != "help" && id != "version" {
                let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
                found.push((path.clone(), id, variable));
            }
        }
        for inner in command.get_subcommands() {
            visit(inner, &path, found);
        }
    }

    #[test]
    fn every_flag_has_a_variable_and_no_command_uses_one_twice() {
        let command = Cli::command();
        command.clone().debug_assert();
        let mut found = Vec::new();
        visit(&command, "", &mut found);
        assert!(found.len() > 40);
        let mut taken = std::collections::BTreeSet::new();
        for (command, flag, variable) in found {
            let variable = variable.unwrap_or_else(|| panic!("{command} --{flag} has no variable"));
            assert!(variable.starts_with("LONGSHORE_"), "{variable}");
            assert!(taken.insert((command.clone(), variable.clone())), "{command} uses {variable} twice");
        }
    }
}
