"""What DuckDB says the window table must hold: `expected.py EVENTS` prints sorted CSV rows k,window_end,n."""
import sys

import duckdb

SQL = """
WITH event AS (
    SELECT (json->>'k')::BIGINT AS k, (json->>'ts')::BIGINT AS ts
    FROM read_csv(?, delim = '\t', header = false, quote = '', escape = '',
                  columns = {'partition': 'INTEGER', 'json': 'JSON'})
), pane AS (
    -- HOP 10 s / 2 s: an event belongs to the five windows that start within the 10 s up to it.
    SELECT k, (ts // 2000) * 2000 - 2000 * step AS window_start
    FROM event, (SELECT unnest(range(5)) AS step)
)
SELECT k, window_start + 10000 AS window_end, count(*) AS n
FROM pane GROUP BY ALL ORDER BY ALL
"""

for row in duckdb.execute(SQL, [sys.argv[1]]).fetchall():
    print(*row, sep=",")
