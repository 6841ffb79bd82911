-- Rows go to a keyed table partitioned by its key, so that the rows of one key are written in order.
CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10');
CREATE TABLE latest (k BIGINT PRIMARY KEY, v BIGINT);
EXPLAIN CREATE JOB j AS SINK INTO latest SELECT k, v FROM seq;
----
sink(latest) (one per worker): upsert(latest)
  ->  [partitioned by k] scan(seq) (one per worker): generator(sequence, rate=10, columns=[k, v])
