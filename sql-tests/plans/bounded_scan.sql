-- A scan reads only the columns that are asked for; the condition is asked in each lane.
CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT, n NUMERIC(10, 2));
EXPLAIN SELECT v FROM t WHERE n > 1.5;
----
FilterExec: n@1 > 1.50, projection=[v@0]
  GridScan: table=t, columns=[v, n], lanes=2
