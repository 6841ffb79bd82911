//! One statement of a query string: what kind it is, and which parser reads it.
//!
//! ```text
//! text ─ tokens ─ cut at `;` ─→ first words ─┬─ ours (mapping, job, copy, session …)
//!                                            └─ sqlparser (queries, INSERT, CREATE TABLE …)
//! ```

use std::{ops::ControlFlow, sync::Arc};

use datafusion::sql::sqlparser::{
    ast::{self, Statement as Ast, visit_expressions},
    parser::{Parser, ParserError},
    tokenizer::{Token, TokenWithSpan},
};

use super::{
    copy::{self, CopyDirection, CopyStatement},
    emit, fold,
    job::{self, AlterJob, CreateJob, ExportJob},
    mapping::{self, CreateMapping},
    session,
    source::{Source, expect_end, take_word, take_words, word},
    unbuilt,
    upkeep::{self, Upkeep},
};
use crate::{Error, Result, SqlType, plan::SessionStatement, planner::Statement};

/// What a statement is.
#[derive(Debug, Clone)]
pub enum StatementKind {
    /// SELECT, VALUES, TABLE, WITH.
    Query(Box<ast::Query>),
    /// INSERT INTO, SINK INTO.
    Insert {
        /// As written.
        insert: Box<ast::Insert>,
        /// SINK INTO: replaces rows of the same key.
        is_sink: bool,
    },
    /// UPDATE.
    Update(Box<ast::Update>),
    /// DELETE.
    Delete(Box<ast::Delete>),
    /// TRUNCATE.
    Truncate(Box<ast::Truncate>),
    /// CREATE TABLE.
    CreateTable(Box<ast::CreateTable>),
    /// ALTER TABLE.
    AlterTable(Box<ast::AlterTable>),
    /// VACUUM, ANALYZE.
    Upkeep(Upkeep),
    /// CREATE VIEW.
    CreateView(Box<ast::CreateView>),
    /// CREATE MAPPING.
    CreateMapping(Box<CreateMapping>),
    /// CREATE JOB.
    CreateJob(Box<CreateJob>),
    /// ALTER JOB.
    AlterJob(String, AlterJob),
    /// CREATE SNAPSHOT, DROP JOB … WITH SNAPSHOT.
    ExportJob(ExportJob),
    /// DROP TABLE, MAPPING, VIEW, JOB, SNAPSHOT.
    Drop {
        /// Which.
        kind: DropKind,
        /// IF EXISTS.
        if_exists: bool,
        /// Names.
        names: Vec<ast::ObjectName>,
        /// CASCADE: the views that read them go, too.
        cascade: bool,
    },
    /// SHOW TABLES and its kin.
    ShowObjects(ShowObjects),
    /// SHOW name; SHOW ALL is the name `all`.
    ShowSetting(String),
    /// EXPLAIN.
    Explain {
        /// The statement.
        statement: Box<Statement>,
        /// VERBOSE.
        is_verbose: bool,
    },
    /// EXPLAIN ANALYZE JOB: the job's name.
    ExplainJob(String),
    /// COPY.
    Copy(Box<CopyStatement>),
    /// What the server's session does.
    Session(SessionStatement),
}

/// What DROP drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropKind {
    /// DROP TABLE.
    Table,
    /// DROP MAPPING.
    Mapping,
    /// DROP VIEW.
    View,
    /// DROP JOB.
    Job,
    /// DROP SNAPSHOT.
    Snapshot,
}

/// What SHOW lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShowObjects {
    /// SHOW TABLES.
    Tables,
    /// SHOW MAPPINGS.
    Mappings,
    /// SHOW VIEWS.
    Views,
    /// SHOW JOBS.
    Jobs,
    /// SHOW SNAPSHOTS.
    Snapshots,
}

/// Splits and parses a query string.
pub fn parse(sql: &str) -> Result<Vec<Statement>> {
    let (source, tokens) = Source::tokens(sql)?;
    let mut statements = Vec::new();
    for tokens in tokens.split(|token| token.token == Token::SemiColon) {
        if tokens.iter().any(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)) {
            statements.push(parse_one(&source, tokens)?);
        }
    }
    Ok(statements)
}

/// A lone expression: a column's DEFAULT as it stands in the catalog.
pub fn parse_expression(sql: &str) -> Result<ast::Expr> {
    let (source, tokens) = Source::tokens(sql)?;
    run(&source, &tokens, |parser| {
        let expression = parser.parse_expr()?;
        expect_end(parser)?;
        Ok(expression)
    })
}

/// A lone query: a view's text as it stands in the catalog.
pub fn parse_query(sql: &str) -> Result<Box<ast::Query>> {
    let (source, tokens) = Source::tokens(sql)?;
    match parse_one(&source, &tokens)?.kind.as_ref() {
        StatementKind::Query(query) => Ok(query.clone()),
        _ => Err(Error::new("42601", "a query was expected")),
    }
}

fn run<T>(
    source: &Source<'_>,
    tokens: &[TokenWithSpan],
    parse: impl FnOnce(&mut Parser<'static>) -> Result<T, ParserError>,
) -> Result<T> {
    let mut parser = source.parser(tokens);
    parse(&mut parser).map_err(|error| source.parser_error(error, tokens))
}

fn parse_one(source: &Source<'_>, tokens: &[TokenWithSpan]) -> Result<Statement> {
    let tokens: Vec<TokenWithSpan> = tokens
        .iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_)))
        .cloned()
        .collect();
    // The text is the statement's name in the cache of plans: all of it.
    let sql = source.text(&tokens).to_owned();
    let emit = emit::split(source, &tokens)?.map(|emit| (emit.from, emit.query.to_vec()));
    let (changes_from, tokens) = match emit {
        Some((from, query)) => (Some(from), query),
        None => (None, tokens),
    };
    let words: Vec<String> =
        tokens.iter().take(6).map(|token| word(token).unwrap_or_default()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    unbuilt::refuse(&words)?;
    // Those hold statements that are looked at by themselves.
    let is_job = matches!(words.as_slice(), ["CREATE", "JOB", ..]);
    if !is_job && !matches!(words[0], "EXPLAIN" | "COPY" | "PREPARE" | "DECLARE") {
        emit::refuse(&tokens)?;
    }
    let kind = match words.as_slice() {
        ["EXPLAIN", ..] => parse_explain(source, &tokens)?,
        ["COPY", ..] => parse_copy(source, &tokens[1..])?,
        ["PREPARE", ..] => parse_prepare(source, &tokens[1..])?,
        ["DECLARE", ..] => parse_declare(source, &tokens[1..])?,
        ["CREATE", "JOB", ..] => parse_job(source, &tokens[2..])?,
        ["CREATE", "OR", "REPLACE", "JOB", ..] => {
            return Err(Error::new("42601", "OR REPLACE is not supported for CREATE JOB"));
        }
        ["SINK", "INTO", ..] => parse_sink(source, &tokens)?,
        _ => match run(source, &tokens, |parser| parse_ours(parser, &words))? {
            Some(kind) => kind,
            None => {
                let ast = run(source, &tokens, |parser| {
                    let ast = parser.parse_statement()?;
                    expect_end(parser)?;
                    Ok(ast)
                })?;
                of_ast(ast, &words)?
            }
        },
    };
    let mut kind = evaluate_execute(kind)?;
    if let Some(from) = changes_from {
        match &mut kind {
            StatementKind::Query(query) => emit::follow(query, from)?,
            StatementKind::Insert { insert, .. } if insert.source.is_some() => {
                insert.source.iter_mut().try_for_each(|query| emit::follow_in_job(query, from))?;
            }
            _ => return Err(emit::unsupported("this form of statement")),
        }
    }
    let start = tokens.first().map_or(1, |token| source.position(token.span.start)) - 1;
    Ok(Statement { sql, start, kind: Arc::new(kind) })
}

/// The statements that sqlparser does not know, or knows otherwise; `None` for all others.
fn parse_ours(
    parser: &mut Parser<'_>,
    words: &[&str],
) -> Result<Option<StatementKind>, ParserError> {
    let skip = |parser: &mut Parser<'_>, count: usize| {
        for _ in 0..count {
            parser.next_token();
        }
    };
    use SessionStatement as S;
    let session = |statement| Ok(Some(StatementKind::Session(statement)));
    match words {
        ["CREATE", "MAPPING", ..] | ["CREATE", "EXTERNAL", "MAPPING", ..] => {
            skip(parser, if words[1] == "MAPPING" { 2 } else { 3 });
            let mapping = mapping::parse_create(parser, false)?;
            Ok(Some(StatementKind::CreateMapping(Box::new(mapping))))
        }
        ["CREATE", "OR", "REPLACE", "MAPPING", ..]
        | ["CREATE", "OR", "REPLACE", "EXTERNAL", "MAPPING", ..] => {
            skip(parser, if words[3] == "MAPPING" { 4 } else { 5 });
            let mapping = mapping::parse_create(parser, true)?;
            Ok(Some(StatementKind::CreateMapping(Box::new(mapping))))
        }
        ["CREATE", "SNAPSHOT", ..] => {
            skip(parser, 2);
            Ok(Some(StatementKind::ExportJob(job::parse_create_snapshot(parser, false)?)))
        }
        ["CREATE", "OR", "REPLACE", "SNAPSHOT", ..] => {
            skip(parser, 4);
            Ok(Some(StatementKind::ExportJob(job::parse_create_snapshot(parser, true)?)))
        }
        ["DROP", "MAPPING" | "JOB" | "SNAPSHOT", ..] | ["DROP", "EXTERNAL", "MAPPING", ..] => {
            skip(parser, if words[1] == "EXTERNAL" { 3 } else { 2 });
            let kind = match words[1] {
                "JOB" => DropKind::Job,
                "SNAPSHOT" => DropKind::Snapshot,
                _ => DropKind::Mapping,
            };
            parse_drop(parser, kind).map(Some)
        }
        ["ALTER", "JOB", ..] => {
            skip(parser, 2);
            let (name, action) = job::parse_alter(parser)?;
            Ok(Some(StatementKind::AlterJob(fold(&name), action)))
        }
        ["SHOW", ..] => {
            skip(parser, 1);
            parse_show(parser).map(Some)
        }
        ["VACUUM" | "ANALYZE" | "ANALYSE", ..] => {
            skip(parser, 1);
            let upkeep = upkeep::parse(parser, words[0] == "VACUUM")?;
            Ok(Some(StatementKind::Upkeep(upkeep)))
        }
        ["TABLE", ..] => {
            skip(parser, 1);
            let name = parser.parse_object_name(false)?;
            expect_end(parser)?;
            let sql = format!("SELECT * FROM {name}");
            let query = Parser::new(&super::TidewaterDialect).try_with_sql(&sql)?.parse_query()?;
            Ok(Some(StatementKind::Query(query)))
        }
        ["SET", ..] => {
            skip(parser, 1);
            session(session::parse_set(parser)?)
        }
        ["RESET" | "DISCARD", ..] => {
            skip(parser, 1);
            session(session::parse_reset(parser, words[0] == "DISCARD")?)
        }
        ["BEGIN", ..] => {
            skip(parser, 1);
            let _ = take_word(parser, "WORK") || take_word(parser, "TRANSACTION");
            session(session::parse_modes(parser, S::Begin)?)
        }
        ["START", "TRANSACTION", ..] => {
            skip(parser, 2);
            session(session::parse_modes(parser, S::Begin)?)
        }
        ["COMMIT" | "END", ..] => {
            skip(parser, 1);
            session(session::parse_end_of_block(parser, S::Commit)?)
        }
        ["ROLLBACK" | "ABORT", ..] if !words.contains(&"TO") => {
            skip(parser, 1);
            session(session::parse_end_of_block(parser, S::Rollback)?)
        }
        ["SAVEPOINT" | "RELEASE" | "ROLLBACK", ..] => {
            Err(ParserError::ParserError("SAVEPOINT is not supported".to_owned()))
        }
        ["EXECUTE", ..] => {
            skip(parser, 1);
            let (name, values) = session::parse_execute(parser)?;
            // The constants' texts are put in by `evaluate_execute`, which can refuse in detail.
            let values = values.iter().map(|value| Some(value.to_string())).collect();
            session(S::Execute { name, values })
        }
        ["DEALLOCATE", ..] => {
            skip(parser, 1);
            let _ = take_word(parser, "PREPARE");
            session(S::Deallocate(session::parse_name_or_all(parser)?))
        }
        ["FETCH" | "MOVE", ..] => {
            skip(parser, 1);
            session(session::parse_fetch(parser, words[0] == "MOVE")?)
        }
        ["CLOSE", ..] => {
            skip(parser, 1);
            session(S::Close(session::parse_name_or_all(parser)?))
        }
        ["UNLISTEN", ..] => {
            skip(parser, 1);
            if !parser.consume_token(&Token::Mul) {
                return Err(ParserError::ParserError("LISTEN is not supported".to_owned()));
            }
            expect_end(parser)?;
            session(S::Nothing("UNLISTEN"))
        }
        _ => Ok(None),
    }
}

/// Texts of the constants of EXECUTE, read again from the expressions they were written as.
fn evaluate_execute(kind: StatementKind) -> Result<StatementKind> {
    let StatementKind::Session(SessionStatement::Execute { name, values }) = kind else {
        return Ok(kind);
    };
    let values = values
        .iter()
        .map(|text| {
            let expression = parse_expression(text.as_deref().unwrap_or("NULL"))?;
            session::constant_text(&expression)
        })
        .collect::<Result<_>>()?;
    Ok(StatementKind::Session(SessionStatement::Execute { name, values }))
}

fn parse_drop(parser: &mut Parser<'_>, kind: DropKind) -> Result<StatementKind, ParserError> {
    let if_exists = take_words(parser, &["IF", "EXISTS"]);
    let names = parser.parse_comma_separated(|parser| parser.parse_object_name(false))?;
    if kind == DropKind::Job && take_word(parser, "WITH") {
        return job::parse_drop_with(parser, names, if_exists).map(StatementKind::ExportJob);
    }
    let cascade = take_word(parser, "CASCADE");
    if !cascade {
        let _ = take_word(parser, "RESTRICT");
    }
    expect_end(parser)?;
    Ok(StatementKind::Drop { kind, if_exists, names, cascade })
}

fn parse_show(parser: &mut Parser<'_>) -> Result<StatementKind, ParserError> {
    let _ = take_word(parser, "EXTERNAL");
    let objects = [
        ("TABLES", ShowObjects::Tables),
        ("MAPPINGS", ShowObjects::Mappings),
        ("VIEWS", ShowObjects::Views),
        ("JOBS", ShowObjects::Jobs),
        ("SNAPSHOTS", ShowObjects::Snapshots),
    ];
    for (word, kind) in objects {
        if take_word(parser, word) {
            expect_end(parser)?;
            return Ok(StatementKind::ShowObjects(kind));
        }
    }
    for refused in ["MEMBERS", "TYPES", "RESOURCES", "DATA"] {
        if take_word(parser, refused) {
            return Err(ParserError::ParserError(format!("SHOW {refused} is not supported")));
        }
    }
    let name = if take_words(parser, &["TIME", "ZONE"]) {
        "timezone".to_owned()
    } else if take_words(parser, &["TRANSACTION", "ISOLATION", "LEVEL"]) {
        "transaction_isolation".to_owned()
    } else {
        session::setting_name(parser)?
    };
    expect_end(parser)?;
    Ok(StatementKind::ShowSetting(name))
}

fn parse_explain(source: &Source<'_>, tokens: &[TokenWithSpan]) -> Result<StatementKind> {
    let mut at = 1;
    let mut is_verbose = false;
    loop {
        let next = tokens.get(at).and_then(word);
        match next.as_deref() {
            Some("VERBOSE") => is_verbose = true,
            Some("ANALYZE") if tokens.get(at + 1).and_then(word).as_deref() == Some("JOB") => {
                return run(source, &tokens[at + 2..], |parser| {
                    let name = parser.parse_identifier()?;
                    expect_end(parser)?;
                    Ok(StatementKind::ExplainJob(fold(&name)))
                });
            }
            Some("ANALYZE") => return Err(Error::unsupported("EXPLAIN ANALYZE is not supported")),
            Some("PLAN") => {}
            Some("FOR") => {}
            _ => break,
        }
        at += 1;
    }
    if tokens.get(at).is_some_and(|token| token.token == Token::LParen)
        && !matches!(
            tokens.get(at + 1).and_then(word).as_deref(),
            Some("SELECT" | "WITH" | "VALUES" | "TABLE") | None
        )
    {
        let close = matching_paren(tokens, at).ok_or_else(|| source.syntax_error(tokens.last()))?;
        for option in tokens[at + 1..close].split(|token| token.token == Token::Comma) {
            let name = option.first().and_then(word).unwrap_or_default();
            let value = option.get(1).and_then(word).unwrap_or_default();
            let is_on = !matches!(value.as_str(), "OFF" | "FALSE");
            match name.as_str() {
                "VERBOSE" => is_verbose = is_on,
                "COSTS" | "SUMMARY" | "ANALYZE" | "BUFFERS" | "TIMING" | "SETTINGS" | "WAL"
                    if !is_on => {}
                "COSTS" => {}
                "FORMAT" if value == "TEXT" => {}
                _ => {
                    return Err(Error::unsupported(format!(
                        "EXPLAIN option {} is not supported",
                        source.text(option)
                    )));
                }
            }
        }
        at = close + 1;
    }
    if at >= tokens.len() {
        return Err(source.syntax_error(None));
    }
    let statement = Box::new(parse_one(source, &tokens[at..])?);
    Ok(StatementKind::Explain { statement, is_verbose })
}

fn parse_copy(source: &Source<'_>, tokens: &[TokenWithSpan]) -> Result<StatementKind> {
    let (direction, tail) = if tokens.first().is_some_and(|token| token.token == Token::LParen) {
        let close = matching_paren(tokens, 0).ok_or_else(|| source.syntax_error(None))?;
        let query = parse_one(source, &tokens[1..close])?;
        let is_query = matches!(query.kind.as_ref(), StatementKind::Query(_));
        if !is_query {
            return Err(Error::unsupported("COPY takes a query, not a statement that writes"));
        }
        (CopyDirection::Out(Box::new(query)), &tokens[close + 1..])
    } else {
        let at = at_keyword(tokens, &["FROM", "TO"])
            .ok_or_else(|| source.syntax_error(tokens.last()))?;
        let copy::CopyTable { table, columns } = run(source, &tokens[..at], |parser| {
            let table = copy::parse_table(parser)?;
            expect_end(parser)?;
            Ok(table)
        })?;
        (CopyDirection::In { table, columns }, &tokens[at..])
    };
    let (is_in, written) = run(source, tail, copy::parse_tail)?;
    let options = copy::options(&written)?;
    let direction = match (is_in, direction) {
        (true, CopyDirection::Out(_)) => return Err(source.syntax_error(tail.first())),
        (false, CopyDirection::In { table, columns }) => {
            let columns: Vec<_> = columns.iter().map(ToString::to_string).collect();
            let columns = if columns.is_empty() { "*".to_owned() } else { columns.join(", ") };
            let query = format!("SELECT {columns} FROM {table}");
            let query = parse(&query)?.pop().ok_or_else(|| source.syntax_error(None))?;
            CopyDirection::Out(Box::new(query))
        }
        (_, direction) => direction,
    };
    Ok(StatementKind::Copy(Box::new(CopyStatement { direction, options })))
}

fn parse_prepare(source: &Source<'_>, tokens: &[TokenWithSpan]) -> Result<StatementKind> {
    let at = at_keyword(tokens, &["AS"]).ok_or_else(|| source.syntax_error(tokens.last()))?;
    let (name, types) = run(source, &tokens[..at], session::parse_prepare_head)?;
    let types = types.iter().map(SqlType::of_ast).collect::<Result<_>>()?;
    let statement = Box::new(parse_tail(source, &tokens[at + 1..])?);
    Ok(StatementKind::Session(SessionStatement::Prepare { name, types, statement }))
}

fn parse_declare(source: &Source<'_>, tokens: &[TokenWithSpan]) -> Result<StatementKind> {
    let at = at_keyword(tokens, &["FOR"]).ok_or_else(|| source.syntax_error(tokens.last()))?;
    let (name, is_hold) = run(source, &tokens[..at], session::parse_declare_head)?;
    let statement = Box::new(parse_tail(source, &tokens[at + 1..])?);
    Ok(StatementKind::Session(SessionStatement::Declare { name, statement, is_hold }))
}

fn parse_job(source: &Source<'_>, tokens: &[TokenWithSpan]) -> Result<StatementKind> {
    let Some(at) = at_keyword(tokens, &["AS"]) else {
        // What stands in the place of AS is what is wrong.
        run(source, tokens, job::parse_create_head)?;
        return Err(source.syntax_error(None));
    };
    let head = run(source, &tokens[..at], job::parse_create_head);
    let (if_not_exists, name, options) = head.map_err(|error| {
        // The head ends before this AS, so this is what should not be there yet.
        let is_cut_short = error.message == source.syntax_error(None).message;
        if is_cut_short { source.syntax_error(tokens.get(at)) } else { error }
    })?;
    let statement = parse_tail(source, &tokens[at + 1..])?;
    if !matches!(statement.kind.as_ref(), StatementKind::Insert { .. }) {
        return Err(Error::new("42601", "a job is an INSERT INTO or SINK INTO statement"));
    }
    let statement = Box::new(statement);
    Ok(StatementKind::CreateJob(Box::new(CreateJob { if_not_exists, name, options, statement })))
}

fn parse_sink(source: &Source<'_>, tokens: &[TokenWithSpan]) -> Result<StatementKind> {
    let mut tokens = tokens.to_vec();
    if let Some(first) = tokens.first_mut() {
        first.token = Token::make_keyword("INSERT");
    }
    let ast = run(source, &tokens, |parser| {
        let ast = parser.parse_statement()?;
        expect_end(parser)?;
        Ok(ast)
    })?;
    match of_ast(ast, &["SINK"])? {
        StatementKind::Insert { insert, .. } if insert.on.is_none() => {
            Ok(StatementKind::Insert { insert, is_sink: true })
        }
        _ => Err(Error::new("42601", "SINK INTO takes no ON CONFLICT")),
    }
}

fn parse_tail(source: &Source<'_>, tokens: &[TokenWithSpan]) -> Result<Statement> {
    if tokens.is_empty() {
        return Err(source.syntax_error(None));
    }
    parse_one(source, tokens)
}

/// sqlparser's statements by kind; those that are not built are refused by name.
fn of_ast(ast: Ast, words: &[&str]) -> Result<StatementKind> {
    Ok(match ast {
        Ast::Query(query) => {
            refuse_into(&query)?;
            StatementKind::Query(query)
        }
        Ast::Insert(insert) => StatementKind::Insert { insert: Box::new(insert), is_sink: false },
        Ast::Update(update) => StatementKind::Update(Box::new(update)),
        Ast::Delete(delete) => StatementKind::Delete(Box::new(delete)),
        Ast::Truncate(truncate) => StatementKind::Truncate(Box::new(truncate)),
        Ast::CreateTable(create) => StatementKind::CreateTable(Box::new(create)),
        Ast::AlterTable(alter) => StatementKind::AlterTable(Box::new(alter)),
        Ast::CreateView(create) => StatementKind::CreateView(Box::new(create)),
        Ast::Drop { object_type, if_exists, names, cascade, purge, temporary, .. } => {
            let kind = match object_type {
                ast::ObjectType::Table => DropKind::Table,
                ast::ObjectType::View => DropKind::View,
                other => {
                    return Err(Error::unsupported(format!("DROP {other} is not supported")));
                }
            };
            if purge || temporary {
                return Err(Error::unsupported("this form of DROP is not supported"));
            }
            StatementKind::Drop { kind, if_exists, names, cascade }
        }
        _ => {
            let words: Vec<_> =
                words.iter().take(2).filter(|word| !word.is_empty()).copied().collect();
            return Err(Error::unsupported(format!("{} is not supported", words.join(" "))));
        }
    })
}

/// SELECT … INTO would make a table; without this it would be ignored.
fn refuse_into(query: &ast::Query) -> Result<()> {
    match query.body.as_ref() {
        ast::SetExpr::Select(select) if select.into.is_some() => {
            Err(Error::unsupported("SELECT INTO is not supported")
                .with_hint("Use CREATE TABLE and INSERT INTO … SELECT."))
        }
        _ if !query.locks.is_empty() => {
            Err(Error::unsupported("SELECT FOR UPDATE/SHARE is not supported"))
        }
        _ => Ok(()),
    }
}

/// Position of the first of these words outside of parentheses.
fn at_keyword(tokens: &[TokenWithSpan], wanted: &[&str]) -> Option<usize> {
    let mut depth = 0_usize;
    tokens.iter().position(|token| {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && word(token).is_some_and(|word| wanted.contains(&word.as_str()))
    })
}

/// Position of the parenthesis that closes the one at `open`.
fn matching_paren(tokens: &[TokenWithSpan], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    tokens.iter().enumerate().skip(open).find_map(|(at, token)| {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    })
}

/// Highest number of a `$n` in a statement.
pub fn parameter_count(node: &impl ast::Visit) -> usize {
    let mut count = 0;
    let _ = visit_expressions(node, |expression: &ast::Expr| {
        if let ast::Expr::Value(value) = expression
            && let ast::Value::Placeholder(name) = &value.value
            && let Some(number) = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok())
        {
            count = count.max(number);
        }
        ControlFlow::<()>::Continue(())
    });
    count
}
