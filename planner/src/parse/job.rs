//! `CREATE JOB … AS INSERT|SINK INTO …`, `ALTER JOB`, `DROP JOB`: Hazelcast's grammar.

use datafusion::sql::sqlparser::{
    ast,
    parser::{Parser, ParserError},
};

use super::{
    mapping::parse_options,
    source::{expect_end, take_word, take_words},
};
use crate::planner::Statement;

/// CREATE JOB as written.
#[derive(Debug, Clone)]
pub struct CreateJob {
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Name.
    pub name: ast::Ident,
    /// OPTIONS as written.
    pub options: Vec<(ast::Expr, ast::Expr)>,
    /// INSERT or SINK INTO.
    pub statement: Box<Statement>,
}

/// What ALTER JOB asks for.
#[derive(Debug, Clone)]
pub enum AlterJob {
    /// SUSPEND.
    Suspend,
    /// RESUME.
    Resume,
    /// RESTART.
    Restart,
    /// OPTIONS (…) [RESUME].
    Options,
}

/// IF NOT EXISTS, name, OPTIONS as written.
type JobHead = (bool, ast::Ident, Vec<(ast::Expr, ast::Expr)>);

/// After `CREATE JOB`, up to `AS`.
pub fn parse_create_head(parser: &mut Parser<'_>) -> Result<JobHead, ParserError> {
    let if_not_exists = take_words(parser, &["IF", "NOT", "EXISTS"]);
    let name = parser.parse_identifier()?;
    let options = match take_word(parser, "OPTIONS") {
        true => parse_options(parser)?,
        false => Vec::new(),
    };
    expect_end(parser)?;
    Ok((if_not_exists, name, options))
}

/// After `ALTER JOB`.
pub fn parse_alter(parser: &mut Parser<'_>) -> Result<(ast::Ident, AlterJob), ParserError> {
    let name = parser.parse_identifier()?;
    let action = if take_word(parser, "SUSPEND") {
        AlterJob::Suspend
    } else if take_word(parser, "RESUME") {
        AlterJob::Resume
    } else if take_word(parser, "RESTART") {
        AlterJob::Restart
    } else if take_word(parser, "OPTIONS") {
        parse_options(parser)?;
        let _ = take_word(parser, "RESUME");
        AlterJob::Options
    } else {
        return parser.expected("SUSPEND, RESUME, RESTART or OPTIONS", parser.peek_token());
    };
    expect_end(parser)?;
    Ok((name, action))
}
