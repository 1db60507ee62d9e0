//! Finds the tables that a query reads, and writes their full names into it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, Query, Select, SetExpr, TableFactor, VisitMut, VisitorMut, With,
};
use longshore_core::error::{Error, Place};

use super::catalog::{self, Part, TableInfo};
use super::session::CATALOG;
use super::statement::refused;

/// Visits a query: each table that is no common table expression becomes `CATALOG.DATASET.TABLE` in its true spelling.
/// Breaks with `unknown_table`, or `query_read_only` for a part that would write.
pub(super) struct Relations<'a> {
    known: &'a [TableInfo],
    /// The tables named, each once, in order.
    pub named: Vec<TableInfo>,
    /// Common table expressions in scope, innermost last, in lower case.
    scope: Vec<String>,
    /// WITH clauses that are visited by hand, taken out of their queries meanwhile.
    taken: Vec<(Option<With>, usize)>,
    /// The next relation is a table function's name.
    function: bool,
}

impl<'a> Relations<'a> {
    pub(super) fn new(known: &'a [TableInfo]) -> Self {
        Self { known, named: Vec::new(), scope: Vec::new(), taken: Vec::new(), function: false }
    }

    /// The visible table of a name, written as the query has it.
    pub(super) fn find(&self, name: &ObjectName) -> Result<TableInfo, Error> {
        let idents: Vec<&Ident> = name.0.iter().filter_map(ObjectNamePart::as_ident).collect();
        let parts: Vec<Part> =
            idents.iter().map(|ident| Part { text: ident.value.clone(), quoted: ident.quote_style.is_some() }).collect();
        catalog::find(self.known, &parts).cloned().map_err(|error| match idents.first().map(|ident| ident.span.start) {
            Some(start) if start.line > 0 => {
                error.at(Place { file: "query".into(), line: Some(start.line), column: Some(start.column) })
            }
            _ => error,
        })
    }
}

fn broken<C>(error: Error) -> ControlFlow<Error, C> {
    ControlFlow::Break(error)
}

/// The part of a query's body that would write.
fn writes(body: &SetExpr) -> Option<&'static str> {
    match body {
        SetExpr::Insert(_) => Some("INSERT"),
        SetExpr::Update(_) => Some("UPDATE"),
        SetExpr::Delete(_) => Some("DELETE"),
        SetExpr::Merge(_) => Some("MERGE"),
        SetExpr::SetOperation { left, right, .. } => writes(left).or_else(|| writes(right)),
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) | SetExpr::Table(_) => None,
    }
}

impl VisitorMut for Relations<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        if let Some(what) = writes(&query.body) {
            return broken(refused(what));
        }
        if !query.locks.is_empty() {
            return broken(refused("SELECT ... FOR UPDATE"));
        }
        let before = self.scope.len();
        let mut with = query.with.take();
        if let Some(with) = &mut with {
            let name = |ident: &Ident| ident.value.to_lowercase();
            if with.recursive {
                self.scope.extend(with.cte_tables.iter().map(|cte| name(&cte.alias.name)));
            }
            for cte in &mut with.cte_tables {
                // Not in its own scope: `WITH t AS (SELECT * FROM t)` reads the table t.
                VisitMut::visit(&mut cte.query, self)?;
                if !with.recursive {
                    self.scope.push(name(&cte.alias.name));
                }
            }
        }
        self.taken.push((with, before));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        if let Some((with, before)) = self.taken.pop() {
            query.with = with;
            self.scope.truncate(before);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        if select.into.is_some() { broken(refused("SELECT INTO")) } else { ControlFlow::Continue(()) }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        self.function = match factor {
            TableFactor::Table { args, .. } => args.is_some(),
            TableFactor::Function { .. } => true,
            _ => false,
        };
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Error> {
        if std::mem::take(&mut self.function) {
            return ControlFlow::Continue(());
        }
        if let [ObjectNamePart::Identifier(one)] = relation.0.as_slice()
            && self.scope.contains(&one.value.to_lowercase())
        {
            return ControlFlow::Continue(());
        }
        let found = match self.find(relation) {
            Ok(found) => found,
            Err(error) => return broken(error),
        };
        let path = [CATALOG, &found.dataset, &found.table];
        *relation = ObjectName::from(path.map(|part| Ident::with_quote('"', part)).to_vec());
        if !self.named.contains(&found) {
            self.named.push(found);
        }
        ControlFlow::Continue(())
    }
}
