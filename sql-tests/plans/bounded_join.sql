-- A join of tables hashes the smaller side.
CREATE TABLE t (k BIGINT PRIMARY KEY, u BIGINT);
CREATE TABLE u (k BIGINT PRIMARY KEY, name TEXT);
EXPLAIN SELECT t.k, u.name FROM t JOIN u ON u.k = t.u;
----
HashJoinExec: mode=CollectLeft, join_type=Inner, on=[(u@1, k@0)], projection=[k@0, name@3]
  CoalescePartitionsExec
    GridScan: table=t, columns=[k, u], lanes=2
  GridScan: table=u, columns=[k, name], lanes=2
