//! Gives every select item the name PostgreSQL would give it, unique inside its select list.
//! It only adds aliases: what an item computes, and what the user named, stays as it was.
//!
//! DataFusion names columns after their expressions (`Int64(1)`, `count(t.k)`) and refuses two of
//! one name. PostgreSQL names them after what a reader would say (`?column?`, `count`) and allows
//! duplicates. So each unnamed item is aliased before planning:
//!
//! ```text
//! SELECT 1, 1, count(*), k     →  SELECT 1 AS "?column?", 1 AS "?column?\u{1}1",
//!                                        count(*) AS count, k
//! ```
//! The first of a name keeps it, so that subqueries, ORDER BY and GROUP BY can use it; later ones
//! carry a suffix that [`wire_name`] takes off again.

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast::{self, Expr, Ident, SelectItem, SetExpr};

/// Stands between a name and the number that makes it unique; no client types it.
const SUFFIX: char = '\u{1}';

/// How sure PostgreSQL is of a name: a weak one gives way to the type of a cast around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    Weak,
    Strong,
}

/// The name a client sees for a field of a planned query.
pub fn wire_name(field_name: &str) -> &str {
    field_name.split(SUFFIX).next().unwrap_or(field_name)
}

/// Aliases the items of every SELECT directly under `query` (its set operations included). The
/// visitor calls it for nested queries too; `is_top_level` queries may also rename plain columns.
pub fn alias_query(query: &mut ast::Query, is_top_level: bool) {
    alias_body(&mut query.body, is_top_level);
}

fn alias_body(body: &mut SetExpr, is_top_level: bool) {
    match body {
        SetExpr::Select(select) => alias_items(&mut select.projection, is_top_level),
        SetExpr::SetOperation { left, right, .. } => {
            alias_body(left, is_top_level);
            alias_body(right, is_top_level);
        }
        // A nested query is visited on its own.
        _ => {}
    }
}

fn alias_items(items: &mut [SelectItem], is_top_level: bool) {
    let has_wildcard = items
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let mut taken = HashSet::new();
    for (position, item) in items.iter_mut().enumerate() {
        let is_plain_column = matches!(
            item,
            SelectItem::UnnamedExpr(Expr::Identifier(_) | Expr::CompoundIdentifier(_))
        );
        let Some(name) = item_name(item) else { continue };
        // Next to a wildcard nobody knows yet which names it brings.
        let may_collide = has_wildcard && is_top_level;
        let is_first = taken.insert(name.clone());
        if is_first && is_plain_column && !may_collide {
            continue;
        }
        let unique =
            if is_first && !may_collide { name } else { format!("{name}{SUFFIX}{position}") };
        set_alias(item, unique);
    }
}

/// The name of one item; `None` for a wildcard.
fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(expr) => Some(column_name(expr)),
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        _ => None,
    }
}

fn set_alias(item: &mut SelectItem, name: String) {
    let alias = Ident::with_quote('"', name);
    match item {
        SelectItem::UnnamedExpr(expr) => {
            let expr = std::mem::replace(expr, Expr::Tuple(Vec::new()));
            *item = SelectItem::ExprWithAlias { expr, alias };
        }
        SelectItem::ExprWithAlias { alias: present, .. } => *present = alias,
        _ => {}
    }
}

/// PostgreSQL's name for an unnamed expression.
pub fn column_name(expr: &Expr) -> String {
    figure(expr).map_or_else(|| "?column?".to_owned(), |(name, _)| name)
}

/// PostgreSQL's `FigureColname`: the name an expression suggests, and how strongly.
fn figure(expr: &Expr) -> Option<(String, Strength)> {
    let strong = |name: &str| Some((name.to_owned(), Strength::Strong));
    match expr {
        Expr::Identifier(ident) => match function_without_parentheses(ident) {
            Some(name) => strong(name),
            None => Some((folded(ident), Strength::Strong)),
        },
        Expr::CompoundIdentifier(parts) => {
            parts.last().map(|ident| (folded(ident), Strength::Strong))
        }
        Expr::CompoundFieldAccess { root, access_chain } => figure_access(root, access_chain),
        Expr::Nested(inner) => figure(inner),
        Expr::Collate { expr, .. } => figure(expr),
        Expr::Function(function) => strong(&function_name(function)),
        Expr::Cast { expr, data_type, .. } => match figure(expr) {
            Some((name, Strength::Strong)) => Some((name, Strength::Strong)),
            _ => Some((type_name(data_type), Strength::Weak)),
        },
        Expr::TypedString(typed) => Some((type_name(&typed.data_type), Strength::Weak)),
        Expr::Interval(_) => Some(("interval".to_owned(), Strength::Weak)),
        Expr::Value(value) if matches!(value.value, ast::Value::Boolean(_)) => {
            Some(("bool".to_owned(), Strength::Weak))
        }
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(figure) {
            Some((name, Strength::Strong)) => Some((name, Strength::Strong)),
            _ => Some(("case".to_owned(), Strength::Weak)),
        },
        Expr::Exists { negated: false, .. } => strong("exists"),
        Expr::Subquery(query) => figure_subquery(query),
        Expr::Array(_) => strong("array"),
        Expr::Tuple(_) | Expr::Struct { .. } => strong("row"),
        Expr::Extract { .. } => strong("extract"),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::Position { .. } => strong("position"),
        Expr::Substring { .. } => strong("substring"),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::AtTimeZone { .. } => strong("timezone"),
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        _ => None,
    }
}

fn figure_access(root: &Expr, chain: &[ast::AccessExpr]) -> Option<(String, Strength)> {
    let field = chain.iter().rev().find_map(|access| match access {
        ast::AccessExpr::Dot(Expr::Identifier(ident)) => Some(folded(ident)),
        _ => None,
    });
    field.map(|name| (name, Strength::Strong)).or_else(|| figure(root))
}

/// A scalar subquery is named after its only column.
fn figure_subquery(query: &ast::Query) -> Option<(String, Strength)> {
    let mut body = query.body.as_ref();
    loop {
        match body {
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(query) => body = &query.body,
            SetExpr::Select(select) => {
                let item = select.projection.first()?;
                return match item {
                    SelectItem::ExprWithAlias { alias, .. } => {
                        Some((wire_name(&folded(alias)).to_owned(), Strength::Strong))
                    }
                    SelectItem::UnnamedExpr(expr) => figure(expr),
                    _ => None,
                };
            }
            SetExpr::Values(_) => return Some(("column1".to_owned(), Strength::Strong)),
            _ => return None,
        }
    }
}

/// SQL's functions that are written without parentheses; the parser sees plain names.
fn function_without_parentheses(ident: &Ident) -> Option<&'static str> {
    if ident.quote_style.is_some() {
        return None;
    }
    let names = ["current_catalog", "current_role", "current_schema", "session_user"];
    names.into_iter().find(|name| ident.value.eq_ignore_ascii_case(name))
}

fn function_name(function: &ast::Function) -> String {
    match function.name.0.last() {
        Some(ast::ObjectNamePart::Identifier(ident)) => folded(ident),
        Some(ast::ObjectNamePart::Function(part)) => folded(&part.name),
        None => "?column?".to_owned(),
    }
}

fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// PostgreSQL's internal name of a type: what a cast of a constant is named.
fn type_name(data_type: &ast::DataType) -> String {
    use ast::DataType as T;
    let name = match data_type {
        T::Int(_) | T::Integer(_) | T::Int4(_) => "int4",
        T::SmallInt(_) | T::Int2(_) | T::TinyInt(_) => "int2",
        T::BigInt(_) | T::Int8(_) => "int8",
        T::Real | T::Float4 => "float4",
        T::Double(_) | T::DoublePrecision | T::Float8 | T::Float(_) => "float8",
        T::Numeric(_) | T::Decimal(_) | T::Dec(_) => "numeric",
        T::Bool | T::Boolean => "bool",
        T::Char(_) | T::Character(_) => "bpchar",
        T::Varchar(_) | T::CharacterVarying(_) | T::CharVarying(_) => "varchar",
        T::Text | T::String(_) => "text",
        T::Bytea => "bytea",
        T::Date => "date",
        T::Time(_, zone) if has_zone(zone) => "timetz",
        T::Time(..) => "time",
        T::Timestamp(_, zone) if has_zone(zone) => "timestamptz",
        T::Timestamp(..) => "timestamp",
        T::Interval { .. } => "interval",
        T::Uuid => "uuid",
        T::JSON => "json",
        T::JSONB => "jsonb",
        T::Regclass => "regclass",
        T::Array(
            ast::ArrayElemTypeDef::SquareBracket(element, _)
            | ast::ArrayElemTypeDef::AngleBracket(element)
            | ast::ArrayElemTypeDef::Parenthesis(element),
        ) => return type_name(element),
        T::Custom(name, _) => {
            return match name.0.last() {
                Some(ast::ObjectNamePart::Identifier(ident)) => folded(ident),
                _ => "?column?".to_owned(),
            };
        }
        other => return other.to_string().to_lowercase(),
    };
    name.to_owned()
}

fn has_zone(zone: &ast::TimezoneInfo) -> bool {
    matches!(zone, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz)
}
