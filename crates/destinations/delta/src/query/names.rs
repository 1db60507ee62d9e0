//! Names match without case.
//!
//! DataFusion compares names exactly. So each name gets one spelling for the whole query, the one of the first table column
//! that has it, and every mention of it is rewritten to that. Tables whose columns are spelled otherwise are read through
//! a projection that renames them. (Delta does not take columns that differ only by case in one table.) Fields of STRUCTs are matched later, where their type is known ([`super::nested`]).

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Cte, ExcludeSelectItem, Expr, Ident, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, OneOrManyWithParens, Query,
    RenameSelectItem, Select, SelectItem, SelectItemQualifiedWildcardKind, TableAlias, TableFactor, TableWithJoins, Value,
    VisitorMut, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Location;
use longshore_core::error::{Error, Place};

/// Where names stand in a query.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<String, Location>);

impl Seen {
    /// The first mention of a name.
    pub(super) fn place(&self, name: &str) -> Option<Place> {
        let at = self.0.get(&name.to_lowercase()).filter(|at| at.line > 0)?;
        Some(Place { file: "query".into(), line: Some(at.line), column: Some(at.column) })
    }
}

/// The spellings of a query's names.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Lower case -> the spelling that is used.
    spelling: HashMap<String, String>,
}

impl Names {
    /// Makes a name known. The first spelling counts: add the columns of the tables before anything else.
    pub(super) fn add(&mut self, name: &str) {
        self.spelling.entry(name.to_lowercase()).or_insert_with(|| name.to_owned());
    }

    /// The spelling that stands for a name in this query.
    pub(super) fn spelled(&self, name: &str) -> String {
        self.spelling.get(&name.to_lowercase()).cloned().unwrap_or_else(|| name.to_owned())
    }

    fn knows(&self, name: &str) -> bool {
        self.spelling.contains_key(&name.to_lowercase())
    }
}

/// Visits a query, either to make the names that it defines known, or to rewrite every name to its spelling. Never breaks.
pub(super) struct Speller<'a> {
    names: &'a mut Names,
    rewrite: bool,
    /// Where names stand.
    pub seen: Seen,
}

impl<'a> Speller<'a> {
    /// Makes aliases and other defined names known.
    pub(super) fn collecting(names: &'a mut Names) -> Self {
        Self { names, rewrite: false, seen: Seen::default() }
    }

    /// Rewrites every name.
    pub(super) fn rewriting(names: &'a mut Names) -> Self {
        Self { names, rewrite: true, seen: Seen::default() }
    }

    fn define(&mut self, ident: &mut Ident) {
        if self.rewrite {
            ident.value = self.names.spelled(&ident.value);
            ident.quote_style = Some('"');
        } else {
            self.names.add(&ident.value);
        }
    }

    fn refer(&mut self, ident: &mut Ident) {
        if self.rewrite && !ident.value.starts_with('@') {
            self.seen.0.entry(ident.value.to_lowercase()).or_insert(ident.span.start);
            ident.value = self.names.spelled(&ident.value);
            ident.quote_style = Some('"');
        }
    }

    fn refer_path(&mut self, path: &mut ObjectName) {
        for part in &mut path.0 {
            if let ObjectNamePart::Identifier(ident) = part {
                self.refer(ident);
            }
        }
    }

    fn alias(&mut self, alias: &mut Option<TableAlias>) {
        if let Some(alias) = alias {
            self.define(&mut alias.name);
            alias.columns.iter_mut().for_each(|column| self.define(&mut column.name));
        }
    }

    fn wildcard(&mut self, options: &mut WildcardAdditionalOptions) {
        if let Some(exclude) = &mut options.opt_exclude {
            self.exclude(exclude);
        }
        if let Some(except) = &mut options.opt_except {
            self.refer(&mut except.first_element);
            except.additional_elements.iter_mut().for_each(|ident| self.refer(ident));
        }
        if let Some(replace) = &mut options.opt_replace {
            replace.items.iter_mut().for_each(|item| self.refer(&mut item.column_name));
        }
        let renamed = match &mut options.opt_rename {
            Some(RenameSelectItem::Single(one)) => std::slice::from_mut(one),
            Some(RenameSelectItem::Multiple(many)) => many.as_mut_slice(),
            None => &mut [],
        };
        for item in renamed {
            self.refer(&mut item.ident);
            self.define(&mut item.alias);
        }
    }

    fn exclude(&mut self, exclude: &mut ExcludeSelectItem) {
        match exclude {
            ExcludeSelectItem::Single(path) => self.refer_path(path),
            ExcludeSelectItem::Multiple(paths) => paths.iter_mut().for_each(|path| self.refer_path(path)),
        }
    }

    fn joins(&mut self, from: &mut TableWithJoins) {
        for join in &mut from.joins {
            if let Some(JoinConstraint::Using(columns)) = constraint(&mut join.join_operator) {
                columns.iter_mut().for_each(|column| self.refer_path(column));
            }
        }
    }

    /// A path within one pair of backticks: `` `shop.orders`.id ``.
    fn split_paths(&self, idents: &[Ident]) -> Vec<Ident> {
        let mut split = Vec::with_capacity(idents.len());
        for ident in idents {
            if ident.quote_style == Some('`') && ident.value.contains('.') && !self.names.knows(&ident.value) {
                split.extend(ident.value.split('.').map(|part| Ident { value: part.to_owned(), ..ident.clone() }));
            } else {
                split.push(ident.clone());
            }
        }
        split
    }
}

fn constraint(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(c)
        | JoinOperator::Inner(c)
        | JoinOperator::Left(c)
        | JoinOperator::LeftOuter(c)
        | JoinOperator::Right(c)
        | JoinOperator::RightOuter(c)
        | JoinOperator::FullOuter(c)
        | JoinOperator::CrossJoin(c)
        | JoinOperator::Semi(c)
        | JoinOperator::LeftSemi(c)
        | JoinOperator::RightSemi(c)
        | JoinOperator::Anti(c)
        | JoinOperator::LeftAnti(c)
        | JoinOperator::RightAnti(c)
        | JoinOperator::StraightJoin(c)
        | JoinOperator::AsOf { constraint: c, .. } => Some(c),
        JoinOperator::CrossApply
        | JoinOperator::OuterApply
        | JoinOperator::ArrayJoin
        | JoinOperator::LeftArrayJoin
        | JoinOperator::InnerArrayJoin => None,
    }
}

/// A number with an exponent is a FLOAT64; other literals with a point are exact decimals.
fn float_literal(value: &Value) -> Option<Expr> {
    let Value::Number(text, _) = value else { return None };
    if !text.contains(['e', 'E']) {
        return None;
    }
    let cast = format!("CAST('{text}' AS DOUBLE)");
    Parser::new(&GenericDialect {}).try_with_sql(&cast).and_then(|mut parser| parser.parse_expr()).ok()
}

impl VisitorMut for Speller<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        for Cte { alias, .. } in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            self.define(&mut alias.name);
            alias.columns.iter_mut().for_each(|column| self.define(&mut column.name));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        for item in &mut select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => self.define(alias),
                SelectItem::ExprWithAliases { aliases, .. } => aliases.iter_mut().for_each(|alias| self.define(alias)),
                SelectItem::Wildcard(options) => self.wildcard(options),
                SelectItem::QualifiedWildcard(kind, options) => {
                    if let SelectItemQualifiedWildcardKind::ObjectName(path) = kind {
                        self.refer_path(path);
                    }
                    self.wildcard(options);
                }
                SelectItem::UnnamedExpr(_) => {}
            }
        }
        if let Some(exclude) = &mut select.exclude {
            self.exclude(exclude);
        }
        select.from.iter_mut().for_each(|from| self.joins(from));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.joins(table_with_joins);
                self.alias(alias);
            }
            TableFactor::UNNEST { alias, with_offset_alias, .. } => {
                self.alias(alias);
                with_offset_alias.iter_mut().for_each(|ident| self.define(ident));
            }
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::Pivot { alias, .. }
            | TableFactor::Unpivot { alias, .. } => self.alias(alias),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Error> {
        // Functions in FROM have names too, which nothing defines: those stay as they are.
        let known = relation.0.iter().filter_map(ObjectNamePart::as_ident).all(|ident| self.names.knows(&ident.value));
        if self.rewrite && known {
            for part in &mut relation.0 {
                if let ObjectNamePart::Identifier(ident) = part {
                    self.define(ident);
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Identifier(ident) if self.rewrite => {
                let parts = self.split_paths(std::slice::from_ref(ident));
                if parts.len() > 1 {
                    *expr = Expr::CompoundIdentifier(parts);
                    return self.pre_visit_expr(expr);
                }
                self.refer(ident);
            }
            Expr::CompoundIdentifier(idents) if self.rewrite => {
                *idents = self.split_paths(idents);
                idents.iter_mut().for_each(|ident| self.refer(ident));
            }
            Expr::Value(value) if self.rewrite => {
                if let Some(float) = float_literal(&value.value) {
                    *expr = float;
                }
            }
            Expr::Lambda(lambda) => match &mut lambda.params {
                OneOrManyWithParens::One(one) => self.define(&mut one.name),
                OneOrManyWithParens::Many(many) => many.iter_mut().for_each(|one| self.define(&mut one.name)),
            },
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
