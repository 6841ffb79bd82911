-- Conditions on a stream are one vertex: the cheap ones first, those that may raise only where they hold.
CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10');
EXPLAIN SELECT id FROM seq WHERE v / k > 3 AND k <> 0 AND lower(v::text) <> 'x' AND id < 1000;
----
client (one): client(1 columns)
  ->  [to-one] project (one per worker): project(id)
        ->  [isolated] filter (one per worker): filter(CASE WHEN k != 0 AND id < 1000 AND lower(CAST(v AS Utf8)) != x THEN checked_divide(v, k) > 3 END)
              ->  [isolated] scan(seq) (one per worker): generator(sequence, rate=10, columns=[id, k, v])
