-- Two projections are one where nothing is computed twice; of a struct only the fields that are read are generated.
CREATE MAPPING nexmark TYPE Generator OPTIONS ('kind' = 'nexmark', 'rate' = '10');
EXPLAIN SELECT p + 1 AS q, a FROM (SELECT (bid).price AS p, (bid).auction AS a, (bid).url AS u FROM nexmark WHERE event_type = 2) b;
----
client (one): client(2 columns)
  ->  [to-one] project-2 (one per worker): project(checked_add(bid.price, 1) as q, bid.auction as a)
        ->  [isolated] filter (one per worker): filter(event_type = 2)
              ->  [isolated] project (one per worker): project(get_field(bid, price) as bid.price, get_field(bid, auction) as bid.auction, event_type)
                    ->  [isolated] scan(nexmark) (one per worker): generator(nexmark, rate=10, columns=[event_type, bid])
