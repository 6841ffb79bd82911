-- A stream meets a table by its key; only the columns that are read are fetched, and not the key.
CREATE MAPPING seq (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  TYPE Generator OPTIONS ('kind' = 'sequence', 'rate' = '10');
CREATE TABLE side (k BIGINT PRIMARY KEY, name TEXT, note TEXT, low BIGINT);
EXPLAIN SELECT seq.id, side.k, side.name FROM seq JOIN side ON side.k = seq.k AND seq.v > side.low;
----
client (one): client(3 columns)
  ->  [to-one] project (one per worker): project(id, k, name)
        ->  [isolated] lookup(side) (one per worker): inner lookup(k = k, v > low, columns=[name, low])
              ->  [isolated] scan(seq) (one per worker): generator(sequence, rate=10, columns=[id, k, v])
