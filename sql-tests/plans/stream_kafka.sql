-- A Kafka source decodes only the columns that are read.
kafka topic trades 4
CREATE MAPPING trades (id BIGINT, k BIGINT, price BIGINT, note TEXT) TYPE Kafka
  OPTIONS ('bootstrap.servers' = '$KAFKA', 'valueFormat' = 'json-flat', 'auto.offset.reset' = 'earliest');
EXPLAIN SELECT id FROM trades WHERE price > 100;
----
client (one): client(1 columns)
  ->  [to-one] project (one per worker): project(id)
        ->  [isolated] filter (one per worker): filter(price > 100)
              ->  [isolated] scan(trades) (one per worker): kafka(trades, columns=[id, price])
