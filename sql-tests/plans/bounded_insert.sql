-- INSERT … SELECT shows the plan of its query.
CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT);
EXPLAIN INSERT INTO t SELECT v, k FROM t;
----
Insert: table=t
  ProjectionExec: expr=[v@1 as k, k@0 as v]
    GridScan: table=t, columns=[k, v], lanes=2
