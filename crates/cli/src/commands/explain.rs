//! `longshore explain`: what a code means.

use longshore_core::error::{Code, Error, Kind, Result, code};
use serde_json::json;

use crate::args::ExplainArgs;
use crate::console::Console;
use crate::exit;
use crate::pipeline::conform::nearest;

/// Every code that somebody may meet, in order of name.
pub fn all() -> Vec<Code> {
    let mut codes = longshore_connectors::codes();
    codes.extend(longshore_engine::CODES);
    codes.extend(longshore_store::error::ALL);
    codes.sort_by_key(|code| code.name);
    codes
}

/// Explains one code.
pub fn run(console: &Console, args: &ExplainArgs) -> Result<u8> {
    let codes = all();
    let Some(found) = codes.iter().find(|code| code.name == args.code) else {
        let names: Vec<&str> = codes.iter().map(|code| code.name).collect();
        let hint = match nearest(&args.code, &names) {
            Some(near) => format!("did you mean `{near}`? known: {}", names.join(", ")),
            None => format!("known: {}", names.join(", ")),
        };
        return Err(Error::new(Kind::Usage, code::USAGE, format!("the code `{}` is not known", args.code)).hint(hint));
    };
    if console.json {
        console.object(&json!({"code": found.name, "explanation": found.explanation}))?;
    } else {
        console.data(format!("{}\n\n{}", found.name, found.explanation))?;
    }
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_declared_once() {
        let codes = all();
        for pair in codes.windows(2) {
            assert_ne!(pair[0].name, pair[1].name, "declared twice");
        }
    }
}
