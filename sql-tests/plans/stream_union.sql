-- UNION ALL merges streams where they are.
CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10');
EXPLAIN SELECT id FROM seq UNION ALL SELECT v FROM seq;
----
client (one): client(1 columns)
  ->  [to-one] union (one per worker): union
        ->  [isolated] scan(seq) (one per worker): generator(sequence, rate=10, columns=[id])
        ->  [isolated] project (one per worker): project(v as id)
              ->  [isolated] scan(seq)-2 (one per worker): generator(sequence, rate=10, columns=[v])
