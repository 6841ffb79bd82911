-- A condition above a union is asked in each branch.
CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10');
EXPLAIN SELECT id FROM (SELECT id, k FROM seq UNION ALL SELECT k, v FROM seq) u WHERE k = 1;
----
client (one): client(1 columns)
  ->  [to-one] union (one per worker): union
        ->  [isolated] project (one per worker): project(id)
              ->  [isolated] filter (one per worker): filter(k = 1)
                    ->  [isolated] scan(seq) (one per worker): generator(sequence, rate=10, columns=[id, k])
        ->  [isolated] project-2 (one per worker): project(k as id)
              ->  [isolated] filter-2 (one per worker): filter(v = 1)
                    ->  [isolated] scan(seq)-2 (one per worker): generator(sequence, rate=10, columns=[k, v])
