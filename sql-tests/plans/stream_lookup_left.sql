-- A LEFT lookup fetches the key, too: it is NULL where nothing matched.
CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10');
CREATE TABLE side (k BIGINT PRIMARY KEY, name TEXT, note TEXT, low BIGINT);
EXPLAIN SELECT seq.id, side.k, side.name FROM seq LEFT JOIN side ON side.k = seq.k WHERE seq.v > 10;
----
client (one): client(3 columns)
  ->  [to-one] project-2 (one per worker): project(id, k, name)
        ->  [isolated] lookup(side) (one per worker): left lookup(k = k, columns=[k, name])
              ->  [isolated] project (one per worker): project(id, k)
                    ->  [isolated] filter (one per worker): filter(v > 10)
                          ->  [isolated] scan(seq) (one per worker): generator(sequence, rate=10, columns=[id, k, v])
