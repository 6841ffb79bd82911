-- A hopping window shares panes; conditions on the rows stay below it.
CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10');
EXPLAIN SELECT window_end, max(v), count(DISTINCT k) FROM TABLE(HOP(TABLE seq, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '2' SECOND))
  WHERE k < 100 GROUP BY window_start, window_end;
----
client (one): client(3 columns)
  ->  [to-one] project-2 (one): project(window_end, max(seq.v) as max, count(DISTINCT seq.k) as count)
        ->  [isolated] window (one): hop(window 10 s, slide 2 s) max(seq.v), count(distinct seq.k)
              ->  [to-one] project (one per worker): project(ts, v as seq.v, k as seq.k)
                    ->  [isolated] filter (one per worker): filter(k < 100)
                          ->  [isolated] scan(seq) (one per worker): generator(sequence, rate=10, columns=[k, v, ts])
