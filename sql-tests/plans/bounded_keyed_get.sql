-- A query by the full key goes straight to the partition.
CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT);
EXPLAIN SELECT v FROM t WHERE k = 7;
----
KeyedGet: table=t, key=[k]
