-- A job into Discard counts rows where they are.
CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10');
CREATE MAPPING gone TYPE Discard;
EXPLAIN CREATE JOB j AS INSERT INTO gone SELECT k, v FROM seq WHERE v > 10;
----
sink(gone) (one per worker): discard(gone)
  ->  [isolated] filter (one per worker): filter(v > 10)
        ->  [isolated] scan(seq) (one per worker): generator(sequence, rate=10, columns=[k, v])
