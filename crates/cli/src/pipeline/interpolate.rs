//! `${NAME}` in the values of a pipeline file.

use std::collections::BTreeMap;

use longshore_core::error::{Place, Result};

use super::conform::nearest;
use super::yaml::{Content, Node, invalid};

/// What `${NAME}` may name: parameters of the run first, then the environment.
pub struct Variables {
    parameters: BTreeMap<String, String>,
    environment: fn(&str) -> Option<String>,
}

impl Variables {
    /// These parameters over the environment.
    pub fn new(parameters: BTreeMap<String, String>) -> Self {
        Self { parameters, environment: |name| std::env::var(name).ok() }
    }

    fn get(&self, name: &str) -> Option<String> {
        self.parameters.get(name).cloned().or_else(|| (self.environment)(name))
    }

    /// Replaces every `${NAME}` and `${NAME:-DEFAULT}` below a node; `$${` stands for `${`. The document is parsed before, so
    /// that no value of a variable can add keys. Errors: an unknown variable, with its place.
    pub fn fill(&self, node: &mut Node) -> Result<()> {
        match &mut node.content {
            Content::Scalar { text, .. } => {
                if text.contains("${") {
                    *text = self.replaced(text, &node.place)?;
                }
                Ok(())
            }
            Content::List(items) => items.iter_mut().try_for_each(|item| self.fill(item)),
            Content::Map(entries) => entries.iter_mut().try_for_each(|(_, value)| self.fill(value)),
        }
    }

    fn replaced(&self, text: &str, place: &Place) -> Result<String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            if rest[..start].ends_with('$') {
                out.push_str(&rest[..start]);
                out.push('{');
                rest = &rest[start + 2..];
                continue;
            }
            out.push_str(&rest[..start]);
            let inner = &rest[start + 2..];
            let end =
                inner.find('}').ok_or_else(|| invalid(place.clone(), "`${` without `}`").hint("write `$${` for `${` itself"))?;
            let (name, default) = match inner[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&inner[..end], None),
            };
            let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !named {
                return Err(invalid(place.clone(), format!("`${{{name}}}` does not name a variable")));
            }
            match self.get(name).filter(|value| default.is_none() || !value.is_empty()).or_else(|| default.map(str::to_owned)) {
                Some(value) => out.push_str(&value),
                None => return Err(self.unknown(name, place)),
            }
            rest = &inner[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn unknown(&self, name: &str, place: &Place) -> longshore_core::Error {
        let known: Vec<&str> = self.parameters.keys().map(String::as_str).collect();
        let like = nearest(name, &known).map_or_else(String::new, |near| format!("did you mean `${{{near}}}`? "));
        invalid(place.clone(), format!("the variable `{name}` is not set"))
            .hint(format!("{like}it was looked for in `--param` and in the environment; `${{{name}:-text}}` gives a default"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml::parse;
    use super::*;

    fn filled(text: &str) -> Result<Node> {
        let parameters = [("day", "2024-05-01"), ("empty", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let variables =
            Variables { parameters: parameters.into(), environment: |name| (name == "BUCKET").then(|| "landing: x".to_owned()) };
        let mut node = parse("p.yaml", text).expect("YAML");
        variables.fill(&mut node).map(|()| node)
    }

    #[test]
    fn variables_come_from_parameters_then_the_environment_then_the_default() {
        let node = filled("a: ${day}/${BUCKET}\nb: ${none:-x}${empty:-y}${empty}\nc: $${day} and $5\n").expect("filled");
        let text = |key: &str| match &node.get(key).expect("there").content {
            Content::Scalar { text, .. } => text.clone(),
            _ => panic!("a text"),
        };
        assert_eq!(text("a"), "2024-05-01/landing: x");
        assert_eq!(text("b"), "xy");
        assert_eq!(text("c"), "${day} and $5");
    }

    #[test]
    fn an_unknown_variable_is_an_error_with_its_place() {
        let error = filled("a:\n  - ${dya}\n").expect_err("unknown");
        assert_eq!(error.to_string(), "p.yaml:2:5: the variable `dya` is not set");
        assert!(error.hint_text().expect("a hint").starts_with("did you mean `${day}`?"));
        assert!(filled("a: ${day\n").is_err());
        assert!(filled("a: ${2x}\n").is_err());
    }
}
