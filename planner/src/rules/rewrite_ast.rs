//! The one pass over a statement's syntax tree before DataFusion plans it: names, literals,
//! spellings. It changes what is written, never what is meant.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, ObjectName, Query, Select, TableFactor, VisitMut, VisitorMut,
};

use super::{literals, output_names, spelling, sugar};

/// Rewrites a statement, a query or an expression in place. Run it once, and only on what goes to
/// DataFusion: afterwards the tree's text is no longer the user's.
pub fn rewrite_ast<V: VisitMut>(node: &mut V) {
    let mut pass = Pass::default();
    let _: ControlFlow<()> = node.visit(&mut pass);
}

#[derive(Default)]
struct Pass {
    /// Queries around the node being visited; 0 outside of any.
    query_depth: usize,
    /// Names of common table expressions in scope, so that `pg_class` may be one.
    with_names: Vec<String>,
    /// The relations of FROM, of the queries around the node.
    tables: Vec<Vec<spelling::NamedTable>>,
}

impl VisitorMut for Pass {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.query_depth += 1;
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        self.with_names.extend(with.map(|table| table.alias.name.value.to_lowercase()));
        // Names first: they come from what the user wrote.
        output_names::alias_query(query, self.query_depth == 1);
        spelling::name_reg_items(query);
        sugar::fetch_is_limit(query);
        literals::protect_query(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.query_depth -= 1;
        literals::release_query(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        spelling::empty_select(select);
        spelling::name_table_oids(select);
        self.tables.push(spelling::named_tables(&select.from));
        sugar::rewrite_items(select);
        literals::protect_select(select);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        literals::release_select(select);
        self.tables.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<()> {
        spelling::qualify_catalog_table(name, &self.with_names);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        literals::protect_table_factor(factor);
        spelling::strip_table_function_schema(factor);
        sugar::table_to_unnest(factor);
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        literals::release_table_factor(factor);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        spelling::number_table(expr, &self.tables);
        spelling::rewrite_before_children(expr);
        sugar::rewrite_expr(expr);
        literals::protect_inside(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        literals::release_inside(expr);
        literals::type_number(expr);
        spelling::name_fields(expr);
        spelling::rewrite_after_children(expr);
        ControlFlow::Continue(())
    }
}

/// A call of a function by a plain name.
pub(super) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let arguments = arguments
        .into_iter()
        .map(|expr| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)))
        .collect();
    Expr::Function(ast::Function {
        name: ObjectName::from(vec![ast::Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Takes an expression out of its place, leaving an empty tuple there for a moment.
pub(super) fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::Tuple(Vec::new()))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::{dialect::PostgreSqlDialect, parser::Parser};

    use super::*;

    fn rewritten(sql: &str) -> String {
        let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
        rewrite_ast(&mut statements[0]);
        statements[0].to_string().replace('\u{1}', "#")
    }

    #[test]
    fn integer_literals_are_typed_by_size() {
        assert_eq!(rewritten("VALUES (1)"), "VALUES (CAST(1 AS INTEGER))");
        assert_eq!(rewritten("VALUES (2147483648)"), "VALUES (CAST(2147483648 AS BIGINT))");
        assert_eq!(rewritten("VALUES (-2147483648)"), "VALUES (CAST(-2147483648 AS INTEGER))");
        assert_eq!(
            rewritten("VALUES (9223372036854775808)"),
            "VALUES (CAST(9223372036854775808 AS NUMERIC(19,0)))"
        );
    }

    #[test]
    fn numbers_with_an_exponent_are_numeric_while_they_fit() {
        assert_eq!(rewritten("VALUES (1.5e-3)"), "VALUES (0.0015)");
        assert_eq!(rewritten("VALUES (12.5e1)"), "VALUES (CAST(125 AS NUMERIC(3,0)))");
        assert_eq!(rewritten("VALUES (1e300)"), "VALUES (CAST('1e300' AS DOUBLE))");
    }

    #[test]
    fn numbers_of_the_syntax_stay() {
        let sql = "SELECT k FROM t GROUP BY 1 ORDER BY 1 LIMIT 10 OFFSET 2";
        assert_eq!(rewritten(sql), sql);
        let sql = "SELECT v FROM generate_series(1, 10)";
        assert_eq!(rewritten(sql), sql);
    }

    #[test]
    fn select_items_get_unique_aliases() {
        assert_eq!(
            rewritten("SELECT count(*), count(*), k, k FROM t"),
            r#"SELECT count(*) AS "count", count(*) AS "count#1", k, k AS "k#3" FROM t"#
        );
        assert_eq!(
            rewritten("SELECT (SELECT max(v) FROM u) FROM t"),
            r#"SELECT (SELECT max(v) AS "max" FROM u) AS "max" FROM t"#
        );
    }

    #[test]
    fn catalog_spellings_are_simplified() {
        assert_eq!(
            rewritten(
                "SELECT pg_catalog.format_type(a, b) FROM pg_class c \
                 WHERE c.relname OPERATOR(pg_catalog.~) '^(t)$' COLLATE pg_catalog.default"
            ),
            r#"SELECT format_type(a, b) AS "format_type" FROM pg_catalog.pg_class c WHERE c.relname ~ '^(t)$'"#
        );
        assert_eq!(
            rewritten("SELECT c.oid::regclass FROM c WHERE oid = 't'::regclass"),
            "SELECT CAST(reg_name('regclass', reg_oid('regclass', c.oid)) AS TEXT) AS \"oid\" \
             FROM c WHERE oid = reg_oid('regclass', 't')"
        );
    }
}
