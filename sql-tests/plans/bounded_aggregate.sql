-- An aggregate is partial in each lane and final by group.
CREATE TABLE t (k BIGINT PRIMARY KEY, g INT, v BIGINT);
EXPLAIN SELECT g, count(*), sum(v) FROM t GROUP BY g ORDER BY g LIMIT 3;
----
SortPreservingMergeExec: [g@0 ASC NULLS LAST], fetch=3
  ProjectionExec: expr=[g@0 as g, count(Int64(1))@1 as count, sum(t.v)@2 as sum]
    SortExec: TopK(fetch=3), expr=[g@0 ASC NULLS LAST], preserve_partitioning=[true]
      AggregateExec: mode=FinalPartitioned, gby=[g@0 as g], aggr=[count(Int64(1)), sum(t.v)]
        RepartitionExec: partitioning=Hash([g@0], 2), input_partitions=2
          AggregateExec: mode=Partial, gby=[g@0 as g], aggr=[count(Int64(1)), sum(t.v)]
            GridScan: table=t, columns=[g, v], lanes=2
