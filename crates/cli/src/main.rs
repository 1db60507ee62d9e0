//! The `longshore` program: arguments in, one command, an exit code out.

mod allocator;
mod args;
mod commands;
mod console;
mod destination;
mod exit;
mod flow;
mod interrupt;
mod listing;
mod pipeline;
mod reporter;
mod settings;
mod summary;
mod units;
mod warehouse;

use std::process::ExitCode;

use clap::Parser as _;
use longshore_core::error::{Error, Kind, code};

use crate::args::Cli;
use crate::console::Console;

fn main() -> ExitCode {
    allocator::set_up();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_arguments(&error),
    };
    let console = Console::new(&cli.global);
    start_log(&cli.global.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let error = Error::new(Kind::Bug, code::BUG, "the worker threads could not be started").caused_by(e);
            console.error(&error, exit::BUG);
            return ExitCode::from(exit::BUG);
        }
    };
    let code = match runtime.block_on(commands::run(cli, &console)) {
        Ok(code) => code,
        Err(error) => {
            let code = exit::of(&error);
            console.error(&error, code);
            code
        }
    };
    // A read from a terminal or a pipe cannot be taken back: waiting for it would hold up the end.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Help and version are answers; anything else is exit code 2.
fn refuse_arguments(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match error.print() {
            Ok(()) => ExitCode::from(exit::DONE),
            Err(_) => ExitCode::from(exit::BUG),
        };
    }
    // The arguments could not be read, so whether they ask for JSON is looked up by hand.
    let json = std::env::args_os().any(|arg| arg == "--json")
        || std::env::var_os("LONGSHORE_JSON").is_some_and(|v| v == "true" || v == "1");
    if json {
        let text = error.to_string();
        let message = text.strip_prefix("error: ").unwrap_or(&text).lines().next().unwrap_or_default().to_owned();
        let tip = text.lines().find_map(|line| line.trim_start().strip_prefix("tip: "));
        let hint = tip.unwrap_or("`longshore help` lists the commands and their flags");
        let usage = Error::new(Kind::Usage, code::USAGE, message).hint(hint);
        Console::plain_json().error(&usage, exit::USAGE);
    } else {
        // Nothing is left to tell it to if stderr is closed.
        let _ = error.print();
    }
    ExitCode::from(exit::USAGE)
}

/// The log of libraries, for who hunts a fault; silent unless asked for.
fn start_log(filter: &str) {
    if filter.is_empty() || filter == "off" {
        return;
    }
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(filter);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
