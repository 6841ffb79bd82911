//! `CREATE MAPPING`: Hazelcast's grammar, with `WATERMARK FOR` in the column list.
//!
//! ```text
//! CREATE [OR REPLACE] [EXTERNAL] MAPPING [IF NOT EXISTS] name [EXTERNAL NAME ext]
//!   [( column type [EXTERNAL NAME "path"], … [, WATERMARK FOR column AS column - INTERVAL …] )]
//!   { [CONNECTOR] TYPE t | DATA CONNECTION dc } [OBJECT TYPE ot] [OPTIONS ('k' = 'v', …)]
//! ```

use datafusion::sql::sqlparser::{
    ast,
    parser::{Parser, ParserError},
    tokenizer::Token,
};

use super::source::{expect_end, expect_word, take_word, take_words};

/// CREATE MAPPING as written.
#[derive(Debug, Clone)]
pub struct CreateMapping {
    /// OR REPLACE.
    pub or_replace: bool,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Name.
    pub name: ast::ObjectName,
    /// EXTERNAL NAME.
    pub external_name: Option<ast::ObjectName>,
    /// Columns; empty means that they are inferred.
    pub columns: Vec<MappingColumn>,
    /// WATERMARK FOR column AS expression.
    pub watermark: Option<(ast::Ident, ast::Expr)>,
    /// TYPE.
    pub connector: Option<ast::Ident>,
    /// DATA CONNECTION.
    pub data_connection: Option<ast::Ident>,
    /// OBJECT TYPE.
    pub object_type: Option<ast::Ident>,
    /// OPTIONS as written, repeated keys included.
    pub options: Vec<(ast::Expr, ast::Expr)>,
}

/// A column of a mapping.
#[derive(Debug, Clone)]
pub struct MappingColumn {
    /// Name.
    pub name: ast::Ident,
    /// Type.
    pub data_type: ast::DataType,
    /// EXTERNAL NAME.
    pub external_name: Option<String>,
}

/// After `CREATE [OR REPLACE] [EXTERNAL] MAPPING`.
pub fn parse_create(
    parser: &mut Parser<'_>,
    or_replace: bool,
) -> Result<CreateMapping, ParserError> {
    let if_not_exists = take_words(parser, &["IF", "NOT", "EXISTS"]);
    let name = parser.parse_object_name(false)?;
    let external_name = match take_words(parser, &["EXTERNAL", "NAME"]) {
        true => Some(parser.parse_object_name(false)?),
        false => None,
    };
    let (mut columns, mut watermark) = (Vec::new(), None);
    if parser.consume_token(&Token::LParen) {
        loop {
            if take_words(parser, &["WATERMARK", "FOR"]) {
                let column = parser.parse_identifier()?;
                expect_word(parser, "AS")?;
                if watermark.replace((column, parser.parse_expr()?)).is_some() {
                    return Err(ParserError::ParserError(
                        "multiple WATERMARK clauses are not allowed".to_owned(),
                    ));
                }
            } else {
                columns.push(parse_column(parser)?);
            }
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen)?;
    }
    let mut mapping = CreateMapping {
        or_replace,
        if_not_exists,
        name,
        external_name,
        columns,
        watermark,
        connector: None,
        data_connection: None,
        object_type: None,
        options: Vec::new(),
    };
    if take_words(parser, &["DATA", "CONNECTION"]) {
        mapping.data_connection = Some(parser.parse_identifier()?);
    } else {
        let _ = take_word(parser, "CONNECTOR");
        expect_word(parser, "TYPE")?;
        mapping.connector = Some(parser.parse_identifier()?);
    }
    if take_words(parser, &["OBJECT", "TYPE"]) {
        mapping.object_type = Some(parser.parse_identifier()?);
    }
    if take_word(parser, "OPTIONS") {
        mapping.options = parse_options(parser)?;
    }
    expect_end(parser)?;
    Ok(mapping)
}

fn parse_column(parser: &mut Parser<'_>) -> Result<MappingColumn, ParserError> {
    let name = parser.parse_identifier()?;
    let data_type = parser.parse_data_type()?;
    let external_name = match take_words(parser, &["EXTERNAL", "NAME"]) {
        true => Some(parser.parse_object_name(false)?.0.iter().map(part_text).collect::<Vec<_>>()),
        false => None,
    };
    Ok(MappingColumn { name, data_type, external_name: external_name.map(|parts| parts.join(".")) })
}

fn part_text(part: &ast::ObjectNamePart) -> String {
    part.as_ident().map_or_else(|| part.to_string(), |ident| ident.value.clone())
}

/// `( key = value, … )` as expressions: which are allowed is for the statement to say.
pub fn parse_options(parser: &mut Parser<'_>) -> Result<Vec<(ast::Expr, ast::Expr)>, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let mut options = Vec::new();
    if parser.consume_token(&Token::RParen) {
        return Ok(options);
    }
    loop {
        // Prefixes only, or `'k' = 'v'` would be read as one comparison.
        let key = parser.parse_prefix()?;
        parser.expect_token(&Token::Eq)?;
        options.push((key, parser.parse_expr()?));
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen)?;
    Ok(options)
}
