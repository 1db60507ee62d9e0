//! What a query asks for, and that it only reads.

use datafusion::sql::parser::{DFParserBuilder, ExplainStatement, Statement};
use datafusion::sql::sqlparser::ast::{self, ObjectName, ShowStatementOptions};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use longshore_core::Result;
use longshore_core::error::Error;

use super::error::{codes, from_datafusion, usage};
use super::names::Seen;

/// What a query asks for.
#[derive(Debug)]
pub(super) enum Request {
    /// Rows, or the plan for them.
    Rows(Box<Statement>),
    /// SHOW TABLES, perhaps of one dataset.
    Tables(Option<ObjectName>),
    /// SHOW DATASETS.
    Datasets,
    /// DESCRIBE or SHOW COLUMNS.
    Columns(ObjectName),
}

/// The longest chain of operators, of set operations and of joins. They nest to the left, one level each, and everything
/// that walks a plan needs stack for each level.
const LONGEST_CHAIN: usize = 200;

/// Reads the text of a query. Errors: `query_invalid`, `query_read_only`.
pub(super) fn parse(sql: &str) -> Result<Request> {
    check_chains(sql)?;
    let statements = DFParserBuilder::new(sql)
        .with_dialect(&GenericDialect {})
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|e| from_datafusion(e, &Seen::default()))?;
    let mut statements = Vec::from(statements);
    match (statements.pop(), statements.len()) {
        (Some(statement), 0) => request(statement),
        (None, _) => Err(usage(codes::QUERY_INVALID, "the query is empty").hint("for example: SELECT * FROM orders LIMIT 10")),
        (Some(_), more) => {
            let message = format!("a query is one statement, these are {}", more + 1);
            Err(usage(codes::QUERY_READ_ONLY, message).hint("run them one by one"))
        }
    }
}

/// Errors: `query_invalid` for a chain that is too long. What is no SQL passes: the parser says better what is wrong.
fn check_chains(sql: &str) -> Result<()> {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(()) };
    // A counter for each level of parentheses.
    let mut operators = vec![0usize];
    let (mut sets, mut joins) = (0usize, 0usize);
    for token in tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => operators.push(0),
            Token::RParen | Token::RBracket | Token::RBrace if operators.len() > 1 => drop(operators.pop()),
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => sets += 1,
                Keyword::JOIN => joins += 1,
                Keyword::AND | Keyword::OR | Keyword::NOT | Keyword::LIKE | Keyword::IS => count(&mut operators),
                Keyword::SELECT | Keyword::FROM | Keyword::WHERE | Keyword::WHEN | Keyword::THEN => restart(&mut operators),
                _ => {}
            },
            Token::Comma | Token::SemiColon => restart(&mut operators),
            Token::Whitespace(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::Period | Token::Word(_) => {}
            _ => count(&mut operators),
        }
        if sets.max(joins) > LONGEST_CHAIN || operators.last().is_some_and(|operators| *operators > LONGEST_CHAIN) {
            let message = format!("the query chains more than {LONGEST_CHAIN} operators");
            return Err(usage(codes::QUERY_INVALID, message).hint("x IN (...) is shorter than a chain of OR"));
        }
    }
    Ok(())
}

fn count(operators: &mut [usize]) {
    operators.iter_mut().last().into_iter().for_each(|last| *last += 1);
}

fn restart(operators: &mut [usize]) {
    operators.iter_mut().last().into_iter().for_each(|last| *last = 0);
}

fn request(statement: Statement) -> Result<Request> {
    use ast::Statement as Sql;
    let sql = match statement {
        Statement::Statement(sql) => sql,
        Statement::Explain(explain) => {
            check_explained(&explain)?;
            return Ok(Request::Rows(Box::new(Statement::Explain(explain))));
        }
        Statement::CreateExternalTable(_) => return Err(refused("CREATE EXTERNAL TABLE")),
        Statement::CopyTo(_) => return Err(refused("COPY")),
        Statement::Reset(_) => return Err(refused("RESET")),
    };
    match *sql {
        Sql::ShowTables { show_options, .. } => Ok(Request::Tables(show_in(show_options)?)),
        Sql::ShowSchemas { show_options, .. } | Sql::ShowDatabases { show_options, .. } => {
            show_in(show_options)?;
            Ok(Request::Datasets)
        }
        // The word that BigQuery uses is none of the parser's.
        Sql::ShowVariable { variable } if matches!(&variable[..], [word] if word.value.eq_ignore_ascii_case("datasets")) => {
            Ok(Request::Datasets)
        }
        Sql::ShowColumns { show_options, .. } => match show_in(show_options)? {
            Some(table) => Ok(Request::Columns(table)),
            None => Err(usage(codes::QUERY_INVALID, "SHOW COLUMNS does not say of which table")
                .hint("as in SHOW COLUMNS FROM shop.orders")),
        },
        Sql::ExplainTable { table_name, .. } => Ok(Request::Columns(table_name)),
        sql @ (Sql::Query(_) | Sql::Explain { .. }) => {
            check_reads(&sql)?;
            Ok(Request::Rows(Box::new(Statement::Statement(Box::new(sql)))))
        }
        other => Err(refused(&first_words(&other))),
    }
}

fn check_explained(explain: &ExplainStatement) -> Result<()> {
    match explain.statement.as_ref() {
        Statement::Statement(sql) => check_reads(sql),
        Statement::Explain(inner) => check_explained(inner),
        other => Err(refused(&first_word(&other.to_string()))),
    }
}

/// That a statement is a query. Statements within it are checked where relations are resolved, which visits each.
fn check_reads(sql: &ast::Statement) -> Result<()> {
    match sql {
        ast::Statement::Query(_) => Ok(()),
        ast::Statement::Explain { statement, .. } => check_reads(statement),
        other => Err(refused(&first_words(other))),
    }
}

fn first_words(sql: &ast::Statement) -> String {
    first_word(&sql.to_string())
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_uppercase()
}

/// The error for what would write.
pub(super) fn refused(what: &str) -> Error {
    usage(codes::QUERY_READ_ONLY, format!("{what} is not allowed: a query only reads"))
        .hint("allowed are SELECT, EXPLAIN, SHOW TABLES, SHOW DATASETS, SHOW COLUMNS FROM and DESCRIBE")
}

fn show_in(options: ShowStatementOptions) -> Result<Option<ObjectName>> {
    let ShowStatementOptions { show_in, starts_with, limit, limit_from, filter_position } = options;
    if starts_with.is_some() || limit.is_some() || limit_from.is_some() || filter_position.is_some() {
        return Err(usage(codes::QUERY_INVALID, "SHOW takes no filter").hint("leave it out, and filter what comes back"));
    }
    Ok(show_in.and_then(|show_in| show_in.parent_name))
}
