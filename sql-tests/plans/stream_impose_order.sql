-- IMPOSE_ORDER gives a stream without a watermark its event time.
CREATE MAPPING nexmark TYPE Generator OPTIONS ('kind' = 'nexmark', 'rate' = '10');
EXPLAIN SELECT auction, window_end, count(*) FROM TABLE(TUMBLE((
    SELECT * FROM TABLE(IMPOSE_ORDER((SELECT (bid).auction AS auction, date_time FROM nexmark WHERE event_type = 2),
      DESCRIPTOR(date_time), INTERVAL '1' SECOND))), DESCRIPTOR(date_time), INTERVAL '10' SECOND))
  GROUP BY auction, window_start, window_end;
----
client (one): client(3 columns)
  ->  [to-one] project-4 (one per worker): project(auction, window_end, count(Int64(1)) as count)
        ->  [isolated] window (one per worker): tumble(window 10 s) by [auction] count(*)
              ->  [partitioned by auction] project-3 (one per worker): project(date_time, auction)
                    ->  [isolated] impose-order (one per worker): impose_order(date_time, lag=1000000µs)
                          ->  [isolated] project-2 (one per worker): project(bid.auction as auction, date_time)
                                ->  [isolated] filter (one per worker): filter(event_type = 2)
                                      ->  [isolated] project (one per worker): project(get_field(bid, auction) as bid.auction, event_type, date_time)
                                            ->  [isolated] scan(nexmark) (one per worker): generator(nexmark, rate=10, columns=[event_type, bid, date_time])
