-- A division is asked only of the rows that the condition beside it keeps.
CREATE TABLE t (k BIGINT PRIMARY KEY, d INT);
EXPLAIN SELECT k FROM t WHERE d <> 0 AND 10 / d > 2;
----
FilterExec: __common_expr_3@0 AND CASE WHEN __common_expr_3@0 THEN CAST(checked_divide(10, d@2) > 2 AS Int16) END = 1, projection=[k@1]
  ProjectionExec: expr=[d@1 != 0 as __common_expr_3, k@0 as k, d@1 as d]
    GridScan: table=t, columns=[k, d], lanes=2
