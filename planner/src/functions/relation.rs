//! FROM items of ours: which table factor is a call of TUMBLE, HOP, IMPOSE_ORDER, generate_series
//! or generate_stream, with or without `TABLE(…)` around it. What DataFusion would parse and then
//! ignore (TABLESAMPLE, WITH ORDINALITY, FOR SYSTEM_TIME of another time) is refused here.

use datafusion::{
    common::Result as DfResult,
    logical_expr::{
        LogicalPlan,
        planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning},
    },
    sql::sqlparser::ast::{
        self, FunctionArg, FunctionArguments, ObjectName, TableAlias, TableFactor, TableVersion,
    },
};

use super::{external, generate_series, generate_stream, hop, impose_order, keywords, tumble};
use crate::{Error, lower::StreamParts};

/// Plans FROM items of ours.
#[derive(Debug)]
pub struct StreamRelationPlanner {
    parts: StreamParts,
}

/// A call in FROM.
pub struct Call {
    /// Lower-case name without schema.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<FunctionArg>,
    /// Whether `TABLE(…)` is around it.
    pub is_in_table: bool,
    /// `AS name (columns)`.
    pub alias: Option<TableAlias>,
}

impl StreamRelationPlanner {
    /// A planner whose sources live in `parts`.
    pub fn new(parts: StreamParts) -> Self {
        Self { parts }
    }

    /// Plans a call; `None` if the function is not ours.
    fn plan_call(
        &self,
        call: &mut Call,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<Option<LogicalPlan>> {
        let arguments = std::mem::take(&mut call.arguments);
        match call.name.as_str() {
            "tumble" => tumble::plan(arguments, context).map(Some),
            "hop" => hop::plan(arguments, context).map(Some),
            "impose_order" => impose_order::plan(arguments, context).map(Some),
            "generate_stream" => generate_stream::plan(arguments, &self.parts, context).map(Some),
            "generate_series" => {
                generate_series::plan(arguments, call, &self.parts, context).map(Some)
            }
            "pg_get_keywords" if arguments.is_empty() => keywords::plan().map(Some),
            "cumulate" | "session" => {
                let message = format!("window function {} is not supported", call.name);
                let hint = "The window functions are TUMBLE and HOP.";
                Err(external(Error::unsupported(message).with_hint(hint)))
            }
            _ => {
                call.arguments = arguments;
                Ok(None)
            }
        }
    }
}

impl RelationPlanner for StreamRelationPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        refuse_ignored(&relation)?;
        let relation = strip_processing_time(relation)?;
        let Some(mut call) = Call::of(&relation) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        if let Some(plan) = self.plan_call(&mut call, context)? {
            let planned = PlannedRelation::new(plan, call.alias);
            return Ok(RelationPlanning::Planned(Box::new(planned)));
        }
        // DataFusion knows other table functions, but not `TABLE(…)` around them.
        Ok(RelationPlanning::Original(Box::new(if call.is_in_table {
            call.into_factor()
        } else {
            relation
        })))
    }
}

impl Call {
    fn of(relation: &TableFactor) -> Option<Self> {
        let (name, arguments, is_in_table, alias) = match relation {
            TableFactor::TableFunction { expr: ast::Expr::Function(function), alias } => {
                let FunctionArguments::List(list) = &function.args else { return None };
                (&function.name, &list.args, true, alias)
            }
            TableFactor::Table { name, args: Some(arguments), alias, .. } => {
                (name, &arguments.args, false, alias)
            }
            TableFactor::Function { name, args, alias, .. } => (name, args, false, alias),
            _ => return None,
        };
        let name = name.0.last()?.as_ident()?;
        let name = match name.quote_style {
            Some(_) => name.value.clone(),
            None => name.value.to_lowercase(),
        };
        Some(Self { name, arguments: arguments.clone(), is_in_table, alias: alias.clone() })
    }

    fn into_factor(self) -> TableFactor {
        TableFactor::Function {
            lateral: false,
            name: ObjectName::from(vec![ast::Ident::new(self.name)]),
            args: self.arguments,
            with_ordinality: false,
            alias: self.alias,
        }
    }
}

/// Refuses what DataFusion's planner would drop without a word.
fn refuse_ignored(relation: &TableFactor) -> DfResult<()> {
    let ignored = match relation {
        TableFactor::Table { sample: Some(_), .. }
        | TableFactor::Derived { sample: Some(_), .. } => "TABLESAMPLE",
        TableFactor::Table { with_ordinality: true, .. }
        | TableFactor::Function { with_ordinality: true, .. } => "WITH ORDINALITY",
        TableFactor::Table { with_hints, .. } if !with_hints.is_empty() => "WITH (…) after a table",
        TableFactor::Table { partitions, .. } if !partitions.is_empty() => "PARTITION (…)",
        TableFactor::Table { args: Some(arguments), .. } if arguments.settings.is_some() => {
            "SETTINGS"
        }
        _ => return Ok(()),
    };
    Err(external(Error::unsupported(format!("{ignored} is not supported"))))
}

/// `t FOR SYSTEM_TIME AS OF PROCTIME()` is `t` as of now: what a plain read gives.
fn strip_processing_time(mut relation: TableFactor) -> DfResult<TableFactor> {
    let TableFactor::Table { version, .. } = &mut relation else { return Ok(relation) };
    match version.take() {
        None => Ok(relation),
        Some(TableVersion::ForSystemTimeAsOf(time)) if is_processing_time(&time) => Ok(relation),
        Some(other) => {
            let message = format!("reading a table {other} is not supported");
            let hint = "Use FOR SYSTEM_TIME AS OF PROCTIME() for the present rows.";
            Err(external(Error::unsupported(message).with_hint(hint)))
        }
    }
}

fn is_processing_time(time: &ast::Expr) -> bool {
    let ast::Expr::Function(function) = time else { return false };
    function.name.to_string().eq_ignore_ascii_case("proctime")
}
