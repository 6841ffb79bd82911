//! PostgreSQL's spellings that DataFusion's planner does not know, written the way it does:
//! `pg_catalog.f(x)`, `OPERATOR(pg_catalog.~)`, `COLLATE`, `::regclass`, `ARRAY(SELECT …)`,
//! `LIKE … ESCAPE`, names of catalog tables without their schema.

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CastKind, DataType, Expr, Ident, ObjectName, ObjectNamePart, Query,
    SelectItem, SetExpr, TableFactor, Value,
};

use super::rewrite_ast::{call, take};
use crate::{catalog::pg, parse::fold};

/// The schemas whose functions are found without them.
const FUNCTION_SCHEMAS: [&str; 2] = ["pg_catalog", "information_schema"];

/// Writes an unqualified catalog table (`pg_class`) with its schema, unless a common table
/// expression has taken the name.
pub fn qualify_catalog_table(name: &mut ObjectName, with_names: &[String]) {
    let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return };
    let table = ident.value.to_lowercase();
    if pg::has_table(&table) && !with_names.contains(&table) {
        name.0.insert(0, ObjectNamePart::Identifier(Ident::new("pg_catalog")));
    }
}

/// `FROM pg_catalog.generate_series(…)` without its schema.
pub fn strip_table_function_schema(factor: &mut TableFactor) {
    match factor {
        TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
            strip_schema(name);
        }
        _ => {}
    }
}

/// A select item `'t'::regclass` prints a name. Called after the items have their aliases.
pub fn name_reg_items(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    for item in &mut select.projection {
        if let SelectItem::ExprWithAlias { expr, .. } = item
            && let Expr::Cast { data_type, .. } = expr
            && reg_kind(data_type).is_some()
        {
            let inner = take(expr);
            *expr = cast(inner, DataType::Text);
        }
    }
}

/// A query over a catalog table that never has rows answers none, whatever its items compute: those
/// that DataFusion could not plan (subqueries) need not be planned.
pub fn empty_select(select: &mut ast::Select) {
    let is_grouped =
        !matches!(&select.group_by, ast::GroupByExpr::Expressions(e, _) if e.is_empty());
    if is_grouped || !select.from.iter().any(is_empty_join) {
        return;
    }
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
            continue;
        };
        without_subqueries(expr);
    }
}

/// Puts NULL where a subquery was; an aggregate around it stays one.
fn without_subqueries(expr: &mut Expr) {
    if !has_subquery(expr) {
        return;
    }
    if let Expr::Function(function) = expr
        && let ast::FunctionArguments::List(list) = &mut function.args
    {
        for arg in &mut list.args {
            if let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) = arg {
                without_subqueries(expr);
            }
        }
        return;
    }
    let is_array = matches!(expr, Expr::Function(_));
    let null = Expr::value(Value::Null);
    *expr = cast(null, if is_array { text_array() } else { DataType::Text });
}

fn text_array() -> DataType {
    DataType::Array(ast::ArrayElemTypeDef::SquareBracket(Box::new(DataType::Text), None))
}

/// Whether a FROM item is empty because the first table of it, or one joined to it by an inner
/// join, always is.
fn is_empty_join(from: &ast::TableWithJoins) -> bool {
    let is_empty = |factor: &TableFactor| match factor {
        TableFactor::Table { name, args: None, .. } => match name.0.as_slice() {
            [ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(table)] => {
                schema.value == "pg_catalog" && pg::is_always_empty(&table.value)
            }
            [ObjectNamePart::Identifier(table)] => pg::is_always_empty(&table.value),
            _ => false,
        },
        _ => false,
    };
    let is_inner = |join: &ast::Join| {
        matches!(
            join.join_operator,
            ast::JoinOperator::Inner(_)
                | ast::JoinOperator::Join(_)
                | ast::JoinOperator::CrossJoin(_)
        )
    };
    is_empty(&from.relation)
        || (from.joins.iter().all(is_inner)
            && from.joins.iter().any(|join| is_empty(&join.relation)))
}

fn has_subquery(expr: &Expr) -> bool {
    let found = ast::visit_expressions(expr, |expr| match expr {
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
            std::ops::ControlFlow::Break(())
        }
        Expr::Function(function)
            if matches!(function.args, ast::FunctionArguments::Subquery(_)) =>
        {
            std::ops::ControlFlow::Break(())
        }
        _ => std::ops::ControlFlow::Continue(()),
    });
    found.is_break()
}

/// A relation of FROM: how its columns are qualified, and its name.
pub type NamedTable = (String, ObjectName);

/// The relations of a FROM list.
pub fn named_tables(from: &[ast::TableWithJoins]) -> Vec<NamedTable> {
    let joined = |from: &ast::TableWithJoins| {
        let factors = std::iter::once(&from.relation).chain(from.joins.iter().map(|j| &j.relation));
        factors.filter_map(named_table).collect::<Vec<_>>()
    };
    from.iter().flat_map(joined).collect()
}

fn named_table(factor: &TableFactor) -> Option<NamedTable> {
    let TableFactor::Table { name, alias, args: None, .. } = factor else { return None };
    let called = match alias {
        Some(alias) => fold(&alias.name),
        None => fold(name.0.last()?.as_ident()?),
    };
    let mut name = name.clone();
    qualify_catalog_table(&mut name, &[]);
    Some((called, name))
}

/// `t.tableoid` is the number of the relation behind `t`, innermost query first.
pub fn number_table(expr: &mut Expr, scopes: &[Vec<NamedTable>]) {
    let is_it = |ident: &Ident| fold(ident) == TABLE_OID;
    let name = match expr {
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [table, column] if is_it(column) => {
                let table = fold(table);
                let tables = scopes.iter().rev().flatten();
                tables.into_iter().find(|(called, _)| *called == table).map(|(_, name)| name)
            }
            _ => None,
        },
        Expr::Identifier(column) if is_it(column) => match scopes.last().map(Vec::as_slice) {
            Some([(_, name)]) => Some(name),
            _ => None,
        },
        _ => None,
    };
    if let Some(name) = name {
        *expr = reg_oid("regclass", text(&name.to_string()));
    }
}

/// PostgreSQL's hidden column of every relation.
const TABLE_OID: &str = "tableoid";

/// A select item `t.tableoid` keeps its name when it becomes a call.
pub fn name_table_oids(select: &mut ast::Select) {
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let column = match &*expr {
            Expr::Identifier(column) => Some(column),
            Expr::CompoundIdentifier(parts) => parts.last(),
            _ => None,
        };
        if column.is_some_and(|column| fold(column) == TABLE_OID) {
            *item = SelectItem::ExprWithAlias { expr: take(expr), alias: Ident::new(TABLE_OID) };
        }
    }
}

/// What must be rewritten while the node's children still look as they were written.
pub fn rewrite_before_children(expr: &mut Expr) {
    match expr {
        Expr::Collate { expr: inner, .. } => {
            *expr = take(inner);
            rewrite_before_children(expr);
        }
        Expr::BinaryOp { left, op, right } => {
            plain_operator(op);
            if is_comparison(op) {
                compare_by_oid(left);
                compare_by_oid(right);
            }
        }
        Expr::InList { expr: operand, list, .. } => {
            std::iter::once(operand.as_mut()).chain(list).for_each(compare_by_oid);
        }
        Expr::AnyOp { left, compare_op, right, .. } | Expr::AllOp { left, compare_op, right } => {
            plain_operator(compare_op);
            compare_by_oid(left);
            compare_by_oid(right);
        }
        Expr::Function(_) => rewrite_function(expr),
        Expr::Subquery(query) if asks_for_own_collation(query) => {
            *expr = cast(Expr::value(Value::Null), DataType::Text);
        }
        Expr::Cast { .. } => rewrite_reg_cast(expr),
        Expr::CompoundFieldAccess { .. } => qualify_subscripted(expr),
        Expr::Identifier(ident) if ident.quote_style.is_none() => {
            let name = ident.value.to_lowercase();
            let names = ["current_catalog", "current_role", "current_schema", "session_user"];
            if names.contains(&name.as_str()) {
                *expr = call(&name, Vec::new());
            }
        }
        _ => {}
    }
}

/// What can be rewritten once the children are done.
pub fn rewrite_after_children(expr: &mut Expr) {
    match expr {
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
            if let Some(escape) = escape_char.take() {
                let pattern_without = call("like_escape", vec![take(pattern), Expr::Value(escape)]);
                **pattern = pattern_without;
            }
        }
        Expr::AtTimeZone { timestamp, time_zone } => {
            *expr = call("timezone", vec![take(time_zone), take(timestamp)]);
        }
        Expr::Extract { field, expr: source, .. } => {
            let field = field.to_string().to_lowercase();
            let has_fraction = ["second", "millisecond", "epoch", "julian"]
                .iter()
                .any(|unit| field.trim_end_matches('s') == *unit);
            let function = if has_fraction { "extract" } else { "extract_whole" };
            let field = Value::SingleQuotedString(field);
            *expr = call(function, vec![Expr::value(field), take(source)]);
        }
        _ => {}
    }
}

/// psql's `\d` and `\dD` ask, in a correlated join that DataFusion cannot plan, whether a column has
/// another collation than its type, or a type than its base. None here has.
fn asks_for_own_collation(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let tables: Vec<String> = select.from.iter().map(|from| from.relation.to_string()).collect();
    let condition = select.selection.as_ref().map(ToString::to_string).unwrap_or_default();
    tables.len() == 2
        && tables[0].starts_with("pg_catalog.pg_collation ")
        && tables[1].starts_with("pg_catalog.pg_type ")
        && [" a.attcollation <> t.typcollation", " t.typcollation <> bt.typcollation"]
            .iter()
            .any(|other| condition.ends_with(other))
}

/// `OPERATOR(pg_catalog.~)` is `~`.
fn plain_operator(op: &mut BinaryOperator) {
    let BinaryOperator::PGCustomBinaryOperator(parts) = op else { return };
    let plain = match parts.last().map(String::as_str) {
        Some("~") => BinaryOperator::PGRegexMatch,
        Some("~*") => BinaryOperator::PGRegexIMatch,
        Some("!~") => BinaryOperator::PGRegexNotMatch,
        Some("!~*") => BinaryOperator::PGRegexNotIMatch,
        Some("~~") => BinaryOperator::PGLikeMatch,
        Some("~~*") => BinaryOperator::PGILikeMatch,
        Some("!~~") => BinaryOperator::PGNotLikeMatch,
        Some("!~~*") => BinaryOperator::PGNotILikeMatch,
        Some("=") => BinaryOperator::Eq,
        Some("<>") => BinaryOperator::NotEq,
        Some("<") => BinaryOperator::Lt,
        Some("<=") => BinaryOperator::LtEq,
        Some(">") => BinaryOperator::Gt,
        Some(">=") => BinaryOperator::GtEq,
        Some("+") => BinaryOperator::Plus,
        Some("-") => BinaryOperator::Minus,
        Some("*") => BinaryOperator::Multiply,
        Some("/") => BinaryOperator::Divide,
        Some("%") => BinaryOperator::Modulo,
        Some("||") => BinaryOperator::StringConcat,
        _ => return,
    };
    *op = plain;
}

fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

/// In a comparison `x::regclass` stands for the object's number. Functions have none: the columns
/// of the catalog that name one hold its name, and so does the constant beside them.
fn compare_by_oid(operand: &mut Expr) {
    match operand {
        Expr::Nested(inner) => compare_by_oid(inner),
        Expr::Cast { expr, data_type, .. } => match (reg_kind(data_type), literal_text(expr)) {
            (Some("regproc"), Some(name)) => {
                *operand = text(name.strip_prefix("pg_catalog.").unwrap_or(&name));
            }
            (Some(kind), _) => *operand = reg_oid(kind, take(expr)),
            (None, _) => {}
        },
        _ => {}
    }
}

fn literal_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn rewrite_function(expr: &mut Expr) {
    let Expr::Function(function) = expr else { return };
    strip_schema(&mut function.name);
    if function.name.to_string() == "_pg_expandarray" {
        // A function of PostgreSQL's that answers rows; here it answers a list of them.
        function.name = ObjectName::from(vec![Ident::new("pg_expanded_array")]);
        let expanded = take(expr);
        *expr = call("unnest", vec![expanded]);
        return;
    }
    let is_array =
        function.name.0.len() == 1 && function.name.to_string().eq_ignore_ascii_case("array");
    if is_array && matches!(function.args, ast::FunctionArguments::Subquery(_)) {
        let args = std::mem::replace(&mut function.args, ast::FunctionArguments::None);
        if let ast::FunctionArguments::Subquery(query) = args {
            *expr = options_of_query(&query).unwrap_or_else(|| array_of_query(query));
        }
    }
}

/// psql's `ARRAY(SELECT quote_ident(option_name) … FROM pg_options_to_table(options))`: a table
/// function of a column, which DataFusion has not.
fn options_of_query(query: &Query) -> Option<Expr> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let [from] = select.from.as_slice() else { return None };
    let (name, args) = match &from.relation {
        TableFactor::Table { name, args: Some(args), .. } => (name, &args.args),
        TableFactor::Function { name, args, .. } => (name, args),
        _ => return None,
    };
    let name = name.0.last()?.to_string();
    let is_toast = args.iter().any(|arg| arg.to_string() == "tc.reloptions");
    if name == "unnest" && is_toast {
        // Options of TOAST tables: there are none.
        return Some(cast(Expr::value(Value::Null), text_array()));
    }
    let [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(options))] = args.as_slice() else {
        return None;
    };
    (name == "pg_options_to_table").then(|| call("pg_options_quoted", vec![options.clone()]))
}

/// `ARRAY(SELECT x … ORDER BY y)` is `(SELECT array_agg(x ORDER BY y) …)`: the only item of the
/// query goes into the aggregate, so that a correlated query keeps its shape.
fn array_of_query(mut query: Box<Query>) -> Expr {
    let order_by = match query.order_by.take().map(|order_by| order_by.kind) {
        Some(ast::OrderByKind::Expressions(exprs)) => exprs,
        _ => Vec::new(),
    };
    if let SetExpr::Select(select) = query.body.as_mut()
        && let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] =
            select.projection.as_mut_slice()
    {
        let by_ordinal = Expr::value(Value::Number("1".to_owned(), false));
        let order_by = order_by
            .into_iter()
            .map(|order| match order.expr == by_ordinal {
                true => ast::OrderByExpr { expr: item.clone(), ..order },
                false => order,
            })
            .collect::<Vec<_>>();
        let mut aggregate = call("array_agg", vec![take(item)]);
        if let Expr::Function(function) = &mut aggregate
            && let ast::FunctionArguments::List(list) = &mut function.args
            && !order_by.is_empty()
        {
            list.clauses.push(ast::FunctionArgumentClause::OrderBy(order_by));
        }
        select.projection = vec![SelectItem::UnnamedExpr(aggregate)];
    }
    Expr::Subquery(query)
}

/// `'t'::regclass` is the number of `t`; `oid::regclass` is a name; `::regclass::text` is a name
/// and `::regclass::oid` a number, whatever stands before.
fn rewrite_reg_cast(expr: &mut Expr) {
    let Expr::Cast { expr: inner, data_type, .. } = expr else { return };
    if let Expr::Cast { expr: source, data_type: inner_type, .. } = inner.as_mut()
        && let Some(kind) = reg_kind(inner_type)
    {
        let oid = reg_oid(kind, take(source));
        let is_number = custom_name(data_type).is_some_and(|name| name == "oid");
        *expr = match is_number {
            true => oid,
            false => cast(call("reg_name", vec![text(kind), oid]), data_type.clone()),
        };
        return;
    }
    let Some(kind) = reg_kind(data_type) else { return };
    let is_name = matches!(
        inner.as_ref(),
        Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_) | Value::Placeholder(_))
    );
    let source = take(inner);
    *expr = match is_name {
        true => reg_oid(kind, source),
        false => call("reg_name", vec![text(kind), source]),
    };
}

fn reg_oid(kind: &str, source: Expr) -> Expr {
    call("reg_oid", vec![text(kind), source])
}

fn text(value: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(value.to_owned()))
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// The kind of object a `reg…` type names.
fn reg_kind(data_type: &DataType) -> Option<&'static str> {
    if matches!(data_type, DataType::Regclass) {
        return Some("regclass");
    }
    let name = custom_name(data_type)?;
    let kinds = [
        "regclass",
        "regtype",
        "regproc",
        "regprocedure",
        "regoperator",
        "regnamespace",
        "regrole",
    ];
    kinds.into_iter().find(|kind| *kind == name)
}

fn custom_name(data_type: &DataType) -> Option<String> {
    match data_type {
        DataType::Custom(name, _) => match name.0.last()? {
            ObjectNamePart::Identifier(ident) => Some(ident.value.to_lowercase()),
            ObjectNamePart::Function(_) => None,
        },
        _ => None,
    }
}

fn strip_schema(name: &mut ObjectName) {
    if let [ObjectNamePart::Identifier(schema), _] = name.0.as_slice()
        && FUNCTION_SCHEMAS.iter().any(|known| schema.value.eq_ignore_ascii_case(known))
    {
        name.0.remove(0);
    }
}

/// `t.tags[1]` is parsed as a field `tags` of a column `t`, and then its element: the names belong
/// together, and what they name is DataFusion's to find out.
fn qualify_subscripted(expr: &mut Expr) {
    let Expr::CompoundFieldAccess { root, access_chain } = expr else { return };
    let mut names = match root.as_ref() {
        Expr::Identifier(name) => vec![name.clone()],
        Expr::CompoundIdentifier(names) => names.clone(),
        _ => return,
    };
    let is_name =
        |access: &ast::AccessExpr| matches!(access, ast::AccessExpr::Dot(Expr::Identifier(_)));
    let count = access_chain.iter().take_while(|access| is_name(access)).count();
    names.extend(access_chain.drain(..count).filter_map(|access| match access {
        ast::AccessExpr::Dot(Expr::Identifier(name)) => Some(name),
        _ => None,
    }));
    if count > 0 {
        **root = Expr::CompoundIdentifier(names);
    }
}

/// `(bid).price`: the name of a field of a composite, folded; DataFusion wants it as a string.
pub fn name_fields(expr: &mut Expr) {
    let Expr::CompoundFieldAccess { access_chain, .. } = expr else { return };
    for access in access_chain {
        if let ast::AccessExpr::Dot(field) = access
            && let Expr::Identifier(name) = field
        {
            let name = fold(name);
            *field = Expr::Value(Value::SingleQuotedString(name).with_empty_span());
        }
    }
}
