//! `longshore explain`: what a code means.

use std::collections::BTreeMap;

use longshore_core::error::{Error, Kind, Result, code};
use serde_json::json;

use crate::args::ExplainArgs;
use crate::console::Console;
use crate::exit;
use crate::pipeline::conform::nearest;

/// Every code that somebody may meet, and what it means: in the few cases where a record and a query have the same fault, both.
pub fn all() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut codes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for code in longshore_connectors::codes()
        .iter()
        .chain(longshore_engine::CODES)
        .chain(longshore_store::error::ALL)
        .chain(longshore_server::CODES)
    {
        codes.entry(code.name).or_default().push(code.explanation);
    }
    codes
}

/// Explains one code.
pub fn run(console: &Console, args: &ExplainArgs) -> Result<u8> {
    let codes = all();
    let Some(meanings) = codes.get(args.code.as_str()) else {
        let names: Vec<&str> = codes.keys().copied().collect();
        let hint = match nearest(&args.code, &names) {
            Some(near) => format!("did you mean `{near}`? known: {}", names.join(", ")),
            None => format!("known: {}", names.join(", ")),
        };
        return Err(Error::new(Kind::Usage, code::USAGE, format!("the code `{}` is not known", args.code)).hint(hint));
    };
    let explanation = meanings.join("\n\n");
    if console.json {
        console.object(&json!({"code": args.code, "explanation": explanation}))?;
    } else {
        console.data(format!("{}\n\n{explanation}", args.code))?;
    }
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_part_of_the_program_declares_a_code_once() {
        for list in [longshore_engine::CODES, longshore_store::error::ALL, longshore_server::CODES] {
            let mut names: Vec<&str> = list.iter().map(|code| code.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), list.len());
        }
    }
}
