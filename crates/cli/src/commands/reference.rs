//! `longshore reference`: the reference pages, from the same texts as the help. `cargo x docs` calls it.

use std::fmt::Write as _;
use std::path::Path;

use clap::CommandFactory as _;
use longshore_connectors::Declaration;
use longshore_core::error::{Error, Kind, Result, code};

use super::explain;
use crate::args::{Cli, ReferenceArgs};
use crate::console::Console;
use crate::settings::{self, Setting};
use crate::{exit, pipeline};

/// Writes one page each for the command line, pipeline files, every connector and the codes.
pub fn run(console: &Console, args: &ReferenceArgs) -> Result<u8> {
    let failed =
        |path: &Path, e| Error::new(Kind::Config, code::CONFIG, format!("{} cannot be written", path.display())).caused_by(e);
    std::fs::create_dir_all(&args.folder).map_err(|e: std::io::Error| failed(&args.folder, e))?;
    let mut pages = vec![
        ("command-line.md".to_owned(), command_line()),
        ("pipeline-file.md".to_owned(), pipeline_file()),
        ("codes.md".to_owned(), codes()),
    ];
    pages
        .extend(longshore_connectors::ALL.iter().map(|declaration| (format!("{}.md", declaration.name), connector(declaration))));
    for (name, page) in pages {
        let path = args.folder.join(name);
        std::fs::write(&path, page).map_err(|e| failed(&path, e))?;
        console.note(path.display());
    }
    Ok(exit::DONE)
}

const GENERATED: &str = "<!-- Written by `cargo x docs`; the texts are the doc comments in the code. -->\n\n";

fn command_line() -> String {
    let mut page = format!(
        "{GENERATED}# Command line\n\nEvery flag has an environment variable; the flag wins. Where a flag may be given several times, its \
         variable holds one value a line.\n\n"
    );
    let mut root = Cli::command();
    root.build();
    page += "## Everywhere\n\n";
    flags(&mut page, &root, |argument| argument.is_global_set());
    for command in root.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        section(&mut page, command, "longshore", "##");
    }
    page += "## Exit codes\n\n| code | |\n|---|---|\n";
    for (code, text) in exit::ALL {
        let _ = writeln!(page, "| {code} | {text} |");
    }
    page
}

fn section(page: &mut String, command: &clap::Command, parent: &str, level: &str) {
    let name = format!("{parent} {}", command.get_name());
    let positionals: Vec<String> = command.get_positionals().map(|argument| format!(" {argument}")).collect();
    let _ = writeln!(page, "{level} {name}\n\n`{name}{}`\n", positionals.join(""));
    if let Some(about) = command.get_about() {
        let _ = writeln!(page, "{about}.\n");
    }
    for argument in command.get_positionals() {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(page, "- `{argument}`: {help}");
    }
    if command.get_positionals().next().is_some() {
        page.push('\n');
    }
    flags(page, command, |argument| !argument.is_global_set());
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        section(page, inner, &name, "###");
    }
}

fn flags(page: &mut String, command: &clap::Command, wanted: impl Fn(&clap::Arg) -> bool) {
    let hidden = |argument: &clap::Arg| argument.is_hide_set() || matches!(argument.get_id().as_str(), "help" | "version");
    let flags: Vec<&clap::Arg> = command
        .get_opts()
        .chain(command.get_arguments().filter(|a| !a.get_action().takes_values()))
        .filter(|a| !a.is_positional() && !hidden(a) && wanted(a))
        .collect();
    if flags.is_empty() {
        return;
    }
    page.push_str("| flag | default | variable | |\n|---|---|---|---|\n");
    for flag in flags {
        let name = flag.get_long().unwrap_or_default();
        let words: Vec<String> = flag.get_possible_values().iter().map(|word| word.get_name().to_owned()).collect();
        let value = match (flag.get_action().takes_values(), words.is_empty()) {
            (false, _) => String::new(),
            (true, false) => format!(" {}", words.join(" \\| ")),
            (true, true) => {
                format!(" {}", flag.get_value_names().and_then(|names| names.first()).map_or("VALUE", |name| name.as_str()))
            }
        };
        let default: Vec<String> = if flag.get_action().takes_values() {
            flag.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect()
        } else {
            Vec::new()
        };
        let variable = flag.get_env().map_or_else(String::new, |name| format!("`{}`", name.to_string_lossy()));
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default().replace('|', "\\|");
        let _ = writeln!(page, "| `--{name}{value}` | {} | {variable} | {help} |", default.join(" "));
    }
    page.push('\n');
}

fn pipeline_file() -> String {
    let schema = pipeline::schema();
    let about = schema["description"].as_str().unwrap_or_default();
    format!("{GENERATED}# Pipeline files\n\n{about}\n\n{}", table(&settings::all(&schema)))
}

fn connector(declaration: &Declaration) -> String {
    let mut page = format!("{GENERATED}# {}\n\nA {}: {}.\n\n", declaration.name, declaration.role(), declaration.summary);
    for capability in declaration.capabilities {
        let _ = writeln!(page, "- {capability}");
    }
    let schema = (declaration.settings)();
    let _ = write!(page, "\n## Settings\n\n{}", table(&settings::all(&schema)));
    page
}

fn table(settings: &[Setting]) -> String {
    let mut page = String::from("| setting | type | default | |\n|---|---|---|---|\n");
    for setting in settings {
        let default = match (&setting.default, setting.required) {
            (Some(default), _) => format!("`{default}`"),
            (None, true) => "required".to_owned(),
            (None, false) => String::new(),
        };
        let (type_, text) = (setting.type_.replace('|', "\\|"), setting.text.replace('|', "\\|"));
        let _ = writeln!(page, "| `{}` | {type_} | {default} | {text} |", setting.name);
    }
    page
}

fn codes() -> String {
    let mut page = format!("{GENERATED}# Codes\n\nOf errors and of dead letters; `longshore explain CODE` says the same.\n");
    for (name, meanings) in explain::all() {
        let _ = write!(page, "\n## {name}\n\n{}\n", meanings.join("\n\n"));
    }
    page
}
