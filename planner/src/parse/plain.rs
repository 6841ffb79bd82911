//! What makes a SELECT plain: columns of what stands in FROM, with WHERE, and nothing else.
//! Both ways that do not plan a query in full ask here, so that they agree.

use datafusion::sql::sqlparser::ast;

/// Whether a SELECT has none of the clauses beyond FROM and WHERE.
pub fn is_plain_select(select: &ast::Select) -> bool {
    select.distinct.is_none()
        && select.top.is_none()
        && select.exclude.is_none()
        && select.into.is_none()
        && select.lateral_views.is_empty()
        && select.prewhere.is_none()
        && select.having.is_none()
        && select.qualify.is_none()
        && select.named_window.is_empty()
        && select.cluster_by.is_empty()
        && select.distribute_by.is_empty()
        && select.sort_by.is_empty()
        && select.connect_by.is_empty()
        && select.value_table_mode.is_none()
        && select.select_modifiers.is_none()
        && matches!(&select.group_by,
            ast::GroupByExpr::Expressions(by, modifiers) if by.is_empty() && modifiers.is_empty())
}
