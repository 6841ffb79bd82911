-- A tumbling window is aggregated once, where all rows of a key are.
CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10');
EXPLAIN SELECT k, window_end, count(*), sum(v) FROM TABLE(TUMBLE(TABLE seq, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY k, window_start, window_end HAVING count(*) > 1;
----
client (one): client(4 columns)
  ->  [to-one] project-3 (one per worker): project(k, window_end, count(Int64(1)) as count, sum(seq.v) as sum)
        ->  [isolated] filter (one per worker): filter(count(Int64(1)) > 1)
              ->  [isolated] project-2 (one per worker): project(k, window_end, count(Int64(1)), sum(seq.v))
                    ->  [isolated] window (one per worker): tumble(window 10 s) by [k] count(*), sum(seq.v)
                          ->  [partitioned by k] project (one per worker): project(ts, k, v as seq.v)
                                ->  [isolated] scan(seq) (one per worker): generator(sequence, rate=10, columns=[k, v, ts])
