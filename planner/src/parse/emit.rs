//! `SELECT … FROM table [WHERE …] [LIMIT n] EMIT CHANGES [WITH (snapshot = false)]`: the query reads the
//! table's changes instead of its rows. A client is answered `_time` and `_diff`, too, unless it names
//! them; a job takes rows back, unless it names `_diff`. Every other query with it is refused by name.

use std::{collections::HashSet, ops::ControlFlow, sync::LazyLock};

use datafusion::{
    functions_aggregate::all_default_aggregate_functions,
    sql::sqlparser::{
        ast::{self, Ident, ObjectName, ObjectNamePart, SelectItem, SetExpr, visit_expressions},
        parser::{Parser, ParserError},
        tokenizer::{Token, TokenWithSpan},
    },
};
use runtime::processors::{ChangesAs, ChangesFrom};
use storage::table::{CHANGE_DIFF, CHANGE_TIME};

use super::{
    fold, object_name,
    plain::is_plain_select,
    source::{Source, expect_end, expect_word, take_word, word},
};
use crate::{
    Error, Result,
    catalog::{changes::ChangesSpec, resolve::SYSTEM_SCHEMAS},
    functions::aggregate_functions,
};

/// EMIT CHANGES at the end of a query, or of what writes its rows.
pub struct EmitChanges<'a> {
    /// The tokens of the statement before it.
    pub query: &'a [TokenWithSpan],
    /// Where they begin.
    pub from: ChangesFrom,
}

/// The statement and its EMIT CHANGES, if it ends so.
pub fn split<'a>(
    source: &Source<'_>,
    tokens: &'a [TokenWithSpan],
) -> Result<Option<EmitChanges<'a>>> {
    let first = tokens.first().and_then(word);
    let has_query = matches!(first.as_deref(), Some("SELECT" | "INSERT" | "SINK"));
    let is_emit = |pair: &[TokenWithSpan]| {
        word(&pair[0]).as_deref() == Some("EMIT") && word(&pair[1]).as_deref() == Some("CHANGES")
    };
    let Some(at) = tokens.windows(2).position(is_emit).filter(|_| has_query) else {
        return Ok(None);
    };
    let (query, options) = (&tokens[..at], &tokens[at + 2..]);
    match options.iter().find(|token| token.token != Token::EOF) {
        None => Ok(Some(EmitChanges { query, from: ChangesFrom::Rows })),
        Some(next) if word(next).as_deref() == Some("WITH") => {
            let mut parser = source.parser(options);
            let from = parse_options(&mut parser);
            let from = from.map_err(|error| source.parser_error(error, options))?;
            Ok(Some(EmitChanges { query, from }))
        }
        // Of a subquery, or no end of a query at all.
        Some(_) => Ok(None),
    }
}

/// `WITH (snapshot = false)`: where the changes begin.
fn parse_options(parser: &mut Parser<'_>) -> std::result::Result<ChangesFrom, ParserError> {
    let mut from = ChangesFrom::Rows;
    expect_word(parser, "WITH")?;
    parser.expect_token(&Token::LParen)?;
    loop {
        let name = parser.parse_identifier()?;
        let mut is_on = true;
        if parser.consume_token(&Token::Eq) {
            is_on = take_word(parser, "TRUE");
            if !is_on {
                expect_word(parser, "FALSE")?;
            }
        }
        match (fold(&name).as_str(), is_on) {
            ("snapshot", true) => from = ChangesFrom::Rows,
            ("snapshot", false) => from = ChangesFrom::Now,
            ("progress", false) => {}
            (name, _) => {
                let message = format!("option \"{name}\" of EMIT CHANGES is not supported");
                return Err(ParserError::ParserError(message));
            }
        }
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen)?;
    expect_end(parser)?;
    Ok(from)
}

/// 0A000 for EMIT CHANGES and EMIT ON WINDOW CLOSE anywhere else: they would be read as an alias.
pub fn refuse(tokens: &[TokenWithSpan]) -> Result<()> {
    let is_emit = tokens.windows(2).any(|pair| {
        word(&pair[0]).as_deref() == Some("EMIT")
            && matches!(word(&pair[1]).as_deref(), Some("CHANGES" | "ON"))
    });
    match is_emit {
        true => Err(Error::unsupported("EMIT CHANGES is not supported here")
            .with_hint("It follows SELECT … FROM one table, with WHERE and LIMIT.")),
        false => Ok(()),
    }
}

/// Makes a client's query read changes.
pub fn follow(query: &mut ast::Query, from: ChangesFrom) -> Result<()> {
    let select = followed(query, ChangesSpec { from, form: ChangesAs::Rows })?;
    for name in [CHANGE_TIME, CHANGE_DIFF] {
        if !select.projection.iter().any(|item| names(item, name)) {
            let column = ast::Expr::Identifier(Ident::new(name));
            select.projection.push(SelectItem::UnnamedExpr(column));
        }
    }
    Ok(())
}

/// Makes the query of a job read changes: as rows of their own if it asks for `_diff`, else as rows that
/// come and go.
pub fn follow_in_job(query: &mut ast::Query, from: ChangesFrom) -> Result<()> {
    let asks_for = |name: &str| match query.body.as_ref() {
        SetExpr::Select(select) => {
            select.selection.as_ref().is_some_and(|expr| has_column(expr, name))
                || select.projection.iter().any(|item| !is_wildcard(item) && names(item, name))
        }
        _ => false,
    };
    let hint = "Select _diff, too: then every change is a row of its own.";
    let form = match (asks_for(CHANGE_DIFF), asks_for(CHANGE_TIME)) {
        (true, _) => ChangesAs::Rows,
        (false, false) => ChangesAs::Weights,
        (false, true) => {
            let message = "_time without _diff in a job with EMIT CHANGES is not supported";
            return Err(Error::unsupported(message).with_hint(hint));
        }
    };
    if form == ChangesAs::Weights && query.limit_clause.is_some() {
        let message = "LIMIT in a job with EMIT CHANGES is not supported";
        return Err(Error::unsupported(message).with_hint(hint));
    }
    followed(query, ChangesSpec { from, form }).map(drop)
}

/// The SELECT of a query that reads changes now.
fn followed(query: &mut ast::Query, spec: ChangesSpec) -> Result<&mut ast::Select> {
    let is_plain = query.with.is_none()
        && query.order_by.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && query.pipe_operators.is_empty();
    let select = match query.body.as_mut() {
        SetExpr::Select(select) if is_plain && is_plain_select(select) => select,
        _ => return Err(unsupported("this form of query")),
    };
    select.projection.iter().try_for_each(check_item)?;
    if let Some(selection) = &select.selection {
        check(selection)?;
    }
    let [relation] = select.from.as_mut_slice() else {
        return Err(unsupported("other than one table"));
    };
    if !relation.joins.is_empty() {
        return Err(unsupported("a join"));
    }
    follow_table(&mut relation.relation, spec)?;
    Ok(select)
}

fn is_wildcard(item: &SelectItem) -> bool {
    !matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
}

/// Whether a column of the answer is made of the column of that name.
fn names(item: &SelectItem, name: &str) -> bool {
    let expr = match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => expr,
        _ => return true,
    };
    has_column(expr, name)
}

/// Whether an expression names a column of that name.
fn has_column(expr: &ast::Expr, name: &str) -> bool {
    let found = visit_expressions(expr, |expr: &ast::Expr| {
        let last = match expr {
            ast::Expr::Identifier(column) => Some(column),
            ast::Expr::CompoundIdentifier(parts) => parts.last(),
            _ => None,
        };
        match last.is_some_and(|column| fold(column) == name) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    found.is_break()
}

/// Puts the name of a table's changes in the place of its own, which becomes its alias.
fn follow_table(relation: &mut ast::TableFactor, spec: ChangesSpec) -> Result<()> {
    let ast::TableFactor::Table { name, alias, args: None, .. } = relation else {
        return Err(unsupported("other than one table"));
    };
    let (schema, table) = object_name(name)?;
    match schema.as_deref() {
        None | Some("public") => {}
        Some(schema) if SYSTEM_SCHEMAS.contains(&schema) => {
            return Err(unsupported("a table of the system"));
        }
        Some(schema) => {
            return Err(Error::new("3F000", format!("schema \"{schema}\" does not exist")));
        }
    }
    let quoted = |text: &str| ObjectNamePart::Identifier(Ident::with_quote('"', text));
    *name = ObjectName(vec![quoted(spec.schema()), quoted(&table)]);
    alias.get_or_insert_with(|| ast::TableAlias {
        explicit: true,
        name: Ident::with_quote('"', &table),
        columns: Vec::new(),
        at: None,
    });
    Ok(())
}

fn check_item(item: &SelectItem) -> Result<()> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => check(expr),
        _ => Ok(()),
    }
}

/// Refuses what would need more than the one row.
fn check(expr: &ast::Expr) -> Result<()> {
    static AGGREGATES: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let all = all_default_aggregate_functions().into_iter().chain(aggregate_functions());
        all.flat_map(|f| {
            f.aliases().iter().cloned().chain([f.name().to_owned()]).collect::<Vec<_>>()
        })
        .collect()
    });
    let found = visit_expressions(expr, |expr: &ast::Expr| match expr {
        ast::Expr::Subquery(_) | ast::Expr::InSubquery { .. } | ast::Expr::Exists { .. } => {
            ControlFlow::Break("a subquery")
        }
        ast::Expr::Function(call) if call.over.is_some() => ControlFlow::Break("OVER"),
        ast::Expr::Function(call) => {
            let name = call.name.0.last().and_then(ObjectNamePart::as_ident).map(fold);
            match name.is_some_and(|name| AGGREGATES.contains(&name)) {
                true => ControlFlow::Break("an aggregate"),
                false => ControlFlow::Continue(()),
            }
        }
        _ => ControlFlow::Continue(()),
    });
    match found {
        ControlFlow::Break(what) => Err(unsupported(what)),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// The refusal of EMIT CHANGES over something.
pub fn unsupported(what: &str) -> Error {
    Error::unsupported(format!("EMIT CHANGES over {what} is not supported"))
        .with_hint("It follows SELECT … FROM one table, with WHERE and LIMIT.")
}
