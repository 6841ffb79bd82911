-- LIMIT gathers the rows in one place; nothing is asked for beyond it.
CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10');
EXPLAIN SELECT id FROM seq LIMIT 5 OFFSET 2;
----
client (one): client(1 columns)
  ->  [to-one] limit (one): limit(5 offset 2)
        ->  [to-one] scan(seq) (one per worker): generator(sequence, rate=10, columns=[id])
