//! `CREATE JOB … AS INSERT|SINK INTO …`, `ALTER JOB`, `DROP JOB … WITH SNAPSHOT`, `CREATE SNAPSHOT`:
//! Hazelcast's grammar.

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
    /// RESUME [OPTIONS (…)].
    Resume {
        /// As written.
        options: Vec<(ast::Expr, ast::Expr)>,
    },
    /// RESTART.
    Restart,
    /// OPTIONS (…) [RESUME].
    Options {
        /// As written.
        options: Vec<(ast::Expr, ast::Expr)>,
        /// RESUME.
        resumes: bool,
    },
}

/// CREATE SNAPSHOT as written, and DROP JOB … WITH SNAPSHOT.
#[derive(Debug, Clone)]
pub struct ExportJob {
    /// Name of the snapshot.
    pub snapshot: ast::Ident,
    /// The job.
    pub job: ast::Ident,
    /// OR REPLACE.
    pub replace: bool,
    /// What becomes of the job.
    pub job_goes: JobGoes,
}

/// What becomes of a job whose snapshot is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobGoes {
    /// CREATE SNAPSHOT: it goes on.
    On,
    /// DROP JOB: it is dropped.
    Away {
        /// IF EXISTS.
        if_exists: bool,
    },
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
        let has_options = take_word(parser, "OPTIONS");
        let options = if has_options { parse_options(parser)? } else { Vec::new() };
        AlterJob::Resume { options }
    } else if take_word(parser, "RESTART") {
        AlterJob::Restart
    } else if take_word(parser, "OPTIONS") {
        let options = parse_options(parser)?;
        AlterJob::Options { options, resumes: take_word(parser, "RESUME") }
    } else {
        return parser.expected("SUSPEND, RESUME, RESTART or OPTIONS", parser.peek_token());
    };
    expect_end(parser)?;
    Ok((name, action))
}

/// After `CREATE [OR REPLACE] SNAPSHOT`.
pub fn parse_create_snapshot(
    parser: &mut Parser<'_>,
    replace: bool,
) -> Result<ExportJob, ParserError> {
    let snapshot = parser.parse_identifier()?;
    if !take_words(parser, &["FOR", "JOB"]) {
        return parser.expected("FOR JOB", parser.peek_token());
    }
    let job = parser.parse_identifier()?;
    expect_end(parser)?;
    Ok(ExportJob { snapshot, job, replace, job_goes: JobGoes::On })
}

/// After `DROP JOB … WITH`.
pub fn parse_drop_with(
    parser: &mut Parser<'_>,
    names: Vec<ast::ObjectName>,
    if_exists: bool,
) -> Result<ExportJob, ParserError> {
    if !take_word(parser, "SNAPSHOT") {
        return parser.expected("SNAPSHOT", parser.peek_token());
    }
    let snapshot = parser.parse_identifier()?;
    expect_end(parser)?;
    let job = match names.as_slice() {
        [ast::ObjectName(parts)] => parts.first().filter(|_| parts.len() == 1),
        _ => None,
    };
    let job = job.and_then(|part| part.as_ident()).cloned().ok_or_else(|| {
        ParserError::ParserError("WITH SNAPSHOT is for one job, by its name alone".to_owned())
    })?;
    let job_goes = JobGoes::Away { if_exists };
    Ok(ExportJob { snapshot, job, replace: false, job_goes })
}
