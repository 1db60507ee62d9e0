//! `longshore completions`: what a shell needs to complete our command line.

use std::io::Write as _;

use clap::CommandFactory as _;
use clap_complete::aot::{Shell, generate};
use longshore_core::error::Result;

use crate::args::{Cli, CompletionsArgs};
use crate::console::written;
use crate::exit;

/// Writes the script to stdout.
pub fn run(args: &CompletionsArgs) -> Result<u8> {
    let shell = match args.shell.as_str() {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "longshore", &mut script);
    written(std::io::stdout().lock().write_all(&script))?;
    Ok(exit::DONE)
}
