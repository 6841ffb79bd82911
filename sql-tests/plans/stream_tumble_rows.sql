-- Without an aggregation a window only adds its bounds to each row.
CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10');
EXPLAIN SELECT id, window_start FROM TABLE(TUMBLE(TABLE seq, DESCRIPTOR(ts), INTERVAL '10' SECOND));
----
client (one): client(2 columns)
  ->  [to-one] project (one per worker): project(id, window_start)
        ->  [isolated] window-rows (one per worker): window_rows(ts, size=10000000µs, slide=10000000µs)
              ->  [isolated] scan(seq) (one per worker): generator(sequence, rate=10, columns=[id, ts])
