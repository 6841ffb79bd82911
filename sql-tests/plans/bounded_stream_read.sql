-- A bounded query over a LIMITed stream runs the limited part as a dag.
CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10');
EXPLAIN SELECT count(*) FROM (SELECT id FROM seq LIMIT 5) s;
----
ProjectionExec: expr=[count(Int64(1))@0 as count]
  AggregateExec: mode=Final, gby=[], aggr=[count(Int64(1))]
    CoalescePartitionsExec
      AggregateExec: mode=Partial, gby=[], aggr=[count(Int64(1))]
        RepartitionExec: partitioning=RoundRobinBatch(2), input_partitions=1
          DagExec: client (one): client(1 columns);   ->  [to-one] limit (one): limit(5);         ->  [to-one] scan(seq) (one per worker): generator(sequence, rate=10, columns=[id])
