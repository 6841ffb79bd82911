-- A windowed job: source, window by key, table by its own key.
CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10');
CREATE TABLE counts (k BIGINT, window_end TIMESTAMP, n BIGINT, PRIMARY KEY (k, window_end));
EXPLAIN CREATE JOB j AS SINK INTO counts SELECT k, window_end, count(*) FROM TABLE(TUMBLE(TABLE seq, DESCRIPTOR(ts), INTERVAL '1' SECOND))
  GROUP BY k, window_start, window_end;
----
sink(counts) (one per worker): upsert(counts)
  ->  [partitioned by k, window_end] project-2 (one per worker): project(k, window_end, count(Int64(1)) as n)
        ->  [isolated] window (one per worker): tumble(window 1 s) by [k] count(*)
              ->  [partitioned by k] project (one per worker): project(ts, k)
                    ->  [isolated] scan(seq) (one per worker): generator(sequence, rate=10, columns=[k, ts])
