//! `cargo x try`: the first five minutes, as a person would type them.

use std::path::Path;
use std::process::Command;

use crate::{Outcome, Workspace};

const LOAD: &[&str] = &["load", "examples/shop/*.xml", "--to", "warehouse/shop"];
const QUERY: &[&str] = &[
    "query",
    "select CompanyName, count(*) as orders, sum(o.ShipInfo['Freight']) as freight \
     from shop.orders o join shop.customers c on o.CustomerID = c.CustomerID \
     group by CompanyName order by freight desc",
];

/// Builds, loads the examples, queries them. A second call finds the files landed and loads nothing.
pub fn run(workspace: &Workspace) -> Outcome {
    let binary = workspace.binary()?;
    longshore(workspace, &binary, LOAD)?;
    longshore(workspace, &binary, QUERY)?;
    println!("\nThe binary is {}", binary.display());
    Ok(())
}

fn longshore(workspace: &Workspace, binary: &Path, args: &[&str]) -> Outcome {
    let quoted: Vec<String> =
        args.iter().map(|arg| if arg.contains(' ') { format!("\"{arg}\"") } else { (*arg).to_owned() }).collect();
    println!("\n$ longshore {}", quoted.join(" "));
    crate::run(Command::new(binary).args(args).current_dir(&workspace.root))
}
