-- A job into a topic writes where its rows are.
CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10');
CREATE MAPPING results (k BIGINT EXTERNAL NAME "__key", v BIGINT) TYPE Kafka
  OPTIONS ('bootstrap.servers' = '127.0.0.1:1', 'keyFormat' = 'bigint', 'valueFormat' = 'json-flat');
EXPLAIN CREATE JOB j AS INSERT INTO results SELECT k, v FROM seq WHERE v > 10;
----
sink(results) (one per worker): kafka(results, topic results)
  ->  [isolated] filter (one per worker): filter(v > 10)
        ->  [isolated] scan(seq) (one per worker): generator(sequence, rate=10, columns=[k, v])
