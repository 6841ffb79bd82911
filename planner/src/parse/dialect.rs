//! The SQL dialect: PostgreSQL's, plus what a streaming query needs to say in an argument list.
//! It says it *is* PostgreSQL (`dialect()`), or sqlparser would lose that dialect's own syntax.
//!
//! Three things are added:
//! - `TABLE t` and `TABLE (query)` as an expression, for `TUMBLE(TABLE t, …)`; they become the
//!   subquery `(SELECT * FROM t)`, a real query node, so that names in it are resolved as usual;
//! - `TABLE(IMPOSE_ORDER(…))` at the same place;
//! - `FOR SYSTEM_TIME AS OF …` behind a table name.

use std::any::TypeId;

use datafusion::sql::sqlparser::{
    ast::{Expr, Query, SetExpr, TableFactor},
    dialect::{Dialect, PostgreSqlDialect, Precedence},
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::Token,
};

/// PostgreSQL's dialect with table arguments and `FOR SYSTEM_TIME`.
#[derive(Debug, Clone, Copy, Default)]
pub struct TidewaterDialect;

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

impl Dialect for TidewaterDialect {
    fn dialect(&self) -> TypeId {
        POSTGRES.dialect()
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        if is_table_argument(parser) {
            parser.next_token();
            return Some(parse_table_argument(parser));
        }
        POSTGRES.parse_prefix(parser)
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRES.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        POSTGRES.is_identifier_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        POSTGRES.is_reserved_for_identifier(keyword)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        POSTGRES.is_custom_operator_part(ch)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        POSTGRES.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }

    fn supports_unicode_string_literal(&self) -> bool {
        POSTGRES.supports_unicode_string_literal()
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        POSTGRES.supports_filter_during_aggregation()
    }

    fn supports_group_by_expr(&self) -> bool {
        POSTGRES.supports_group_by_expr()
    }

    fn allow_extract_custom(&self) -> bool {
        POSTGRES.allow_extract_custom()
    }

    fn allow_extract_single_quotes(&self) -> bool {
        POSTGRES.allow_extract_single_quotes()
    }

    fn supports_create_index_with_clause(&self) -> bool {
        POSTGRES.supports_create_index_with_clause()
    }

    fn supports_explain_with_utility_options(&self) -> bool {
        POSTGRES.supports_explain_with_utility_options()
    }

    fn supports_listen_notify(&self) -> bool {
        POSTGRES.supports_listen_notify()
    }

    fn supports_factorial_operator(&self) -> bool {
        POSTGRES.supports_factorial_operator()
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        POSTGRES.supports_bitwise_shift_operators()
    }

    fn supports_comment_on(&self) -> bool {
        POSTGRES.supports_comment_on()
    }

    fn supports_load_extension(&self) -> bool {
        POSTGRES.supports_load_extension()
    }

    fn supports_named_fn_args_with_colon_operator(&self) -> bool {
        POSTGRES.supports_named_fn_args_with_colon_operator()
    }

    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        // A name is an identifier. With expressions for names every argument would be parsed twice,
        // and calls inside calls 2^depth times.
        false
    }

    fn supports_empty_projections(&self) -> bool {
        POSTGRES.supports_empty_projections()
    }

    fn supports_nested_comments(&self) -> bool {
        POSTGRES.supports_nested_comments()
    }

    fn supports_string_escape_constant(&self) -> bool {
        POSTGRES.supports_string_escape_constant()
    }

    fn supports_numeric_literal_underscores(&self) -> bool {
        POSTGRES.supports_numeric_literal_underscores()
    }

    fn supports_array_typedef_with_brackets(&self) -> bool {
        POSTGRES.supports_array_typedef_with_brackets()
    }

    fn supports_geometric_types(&self) -> bool {
        POSTGRES.supports_geometric_types()
    }

    fn supports_set_names(&self) -> bool {
        POSTGRES.supports_set_names()
    }

    fn supports_alter_column_type_using(&self) -> bool {
        POSTGRES.supports_alter_column_type_using()
    }

    fn supports_notnull_operator(&self) -> bool {
        POSTGRES.supports_notnull_operator()
    }

    fn supports_interval_options(&self) -> bool {
        POSTGRES.supports_interval_options()
    }

    fn supports_insert_table_alias(&self) -> bool {
        POSTGRES.supports_insert_table_alias()
    }

    fn supports_create_table_like_parenthesized(&self) -> bool {
        POSTGRES.supports_create_table_like_parenthesized()
    }

    fn supports_select_wildcard_with_alias(&self) -> bool {
        // PostgreSQL's grammar has no alias there: `SELECT * FORM t` is a mistake at FORM.
        false
    }

    fn supports_comma_separated_trim(&self) -> bool {
        POSTGRES.supports_comma_separated_trim()
    }

    fn supports_xml_expressions(&self) -> bool {
        POSTGRES.supports_xml_expressions()
    }

    fn supports_comment_optimizer_hint(&self) -> bool {
        POSTGRES.supports_comment_optimizer_hint()
    }
}

/// Whether the next token is an unquoted TABLE: a reserved word, so it starts no other expression.
fn is_table_argument(parser: &Parser) -> bool {
    matches!(&parser.peek_token_ref().token,
        Token::Word(word) if word.keyword == Keyword::TABLE && word.quote_style.is_none())
}

/// What follows TABLE in an argument list: a name, `(query)` or `(function(…))`.
fn parse_table_argument(parser: &mut Parser) -> Result<Expr, ParserError> {
    if parser.consume_token(&Token::LParen) {
        let starts_query = matches!(&parser.peek_token_ref().token,
            Token::LParen | Token::Word(_) if is_query_start(&parser.peek_token_ref().token));
        let query = if starts_query {
            parser.parse_query()?
        } else {
            let expr = parser.parse_expr()?;
            select_all_from(TableFactor::TableFunction { expr, alias: None })?
        };
        parser.expect_token(&Token::RParen)?;
        return Ok(Expr::Subquery(query));
    }
    let name = parser.parse_object_name(false)?;
    let mut query = select_all_from_any()?;
    if let TableFactor::Table { name: placeholder, .. } = relation_of(&mut query)? {
        *placeholder = name;
    }
    Ok(Expr::Subquery(query))
}

fn is_query_start(token: &Token) -> bool {
    match token {
        Token::LParen => true,
        Token::Word(word) => {
            matches!(word.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES)
        }
        _ => false,
    }
}

/// `SELECT * FROM factor`.
fn select_all_from(factor: TableFactor) -> Result<Box<Query>, ParserError> {
    let mut query = select_all_from_any()?;
    *relation_of(&mut query)? = factor;
    Ok(query)
}

/// `SELECT * FROM x`, to put another relation into.
fn select_all_from_any() -> Result<Box<Query>, ParserError> {
    Parser::new(&POSTGRES).try_with_sql("SELECT * FROM x")?.parse_query()
}

fn relation_of(query: &mut Query) -> Result<&mut TableFactor, ParserError> {
    if let SetExpr::Select(select) = query.body.as_mut()
        && let Some(from) = select.from.first_mut()
    {
        return Ok(&mut from.relation);
    }
    Err(ParserError::ParserError("a table argument must be a name or a query".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(sql: &str) -> String {
        let statements = Parser::parse_sql(&TidewaterDialect, sql).expect(sql);
        statements[0].to_string()
    }

    #[test]
    fn table_argument_becomes_a_subquery() {
        assert_eq!(
            round_trip(
                "SELECT * FROM TABLE(TUMBLE(TABLE \"T\", DESCRIPTOR(ts), INTERVAL '1' SECOND))"
            ),
            "SELECT * FROM TABLE(TUMBLE((SELECT * FROM \"T\"), DESCRIPTOR(ts), INTERVAL '1' SECOND))"
        );
        assert_eq!(
            round_trip("SELECT * FROM hop(TABLE (SELECT a FROM s.t), DESCRIPTOR(ts), 2, 1) AS h"),
            "SELECT * FROM hop((SELECT a FROM s.t), DESCRIPTOR(ts), 2, 1) AS h"
        );
    }

    #[test]
    fn nested_table_function_is_an_argument() {
        assert_eq!(
            round_trip(
                "SELECT * FROM TABLE(TUMBLE(TABLE(IMPOSE_ORDER(TABLE t, DESCRIPTOR(a), 1)), DESCRIPTOR(a), 2))"
            ),
            "SELECT * FROM TABLE(TUMBLE((SELECT * FROM TABLE(IMPOSE_ORDER((SELECT * FROM t), DESCRIPTOR(a), 1))), DESCRIPTOR(a), 2))"
        );
    }

    #[test]
    fn named_table_argument_parses() {
        let sql = "SELECT * FROM TABLE(TUMBLE(input => TABLE t, time_col => DESCRIPTOR(ts), window_size => INTERVAL '1' SECOND))";
        assert!(round_trip(sql).contains("input => (SELECT * FROM t)"));
    }

    #[test]
    fn nested_calls_are_parsed_once() {
        let sql = format!("SELECT {}1{}", "abs(".repeat(24), ")".repeat(24));
        assert_eq!(round_trip(&sql), sql);
    }

    #[test]
    fn system_time_parses_before_an_alias() {
        let text =
            round_trip("SELECT * FROM s JOIN t FOR SYSTEM_TIME AS OF PROCTIME() AS x ON s.k = x.k");
        assert!(text.contains("FOR SYSTEM_TIME AS OF PROCTIME()"), "{text}");
    }

    #[test]
    fn postgres_syntax_is_kept() {
        for sql in ["SELECT 5 !", "SELECT a::int, b->>'x', ARRAY[1]", "SELECT x FROM t ORDER BY 1"]
        {
            assert!(Parser::parse_sql(&TidewaterDialect, sql).is_ok(), "{sql}");
        }
    }
}
