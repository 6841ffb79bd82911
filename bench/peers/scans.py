"""DuckDB's side of the scans: builds the same tables, then answers `name<TAB>ms<TAB>rows` a query, over stdin.

A line on standard input is SQL; the answer is the milliseconds to the last row and the rows as text.
"""
import json
import sys
import time

import duckdb

rows = int(sys.argv[1])
db = duckdb.connect()
db.execute("SET threads = 2")
db.execute(f"""CREATE TABLE f AS SELECT v AS id, v % 1000 AS g3, (v * 7919) % 1000000 AS g6,
    (v * 31) % 10000 AS price, (v % 1000) / 4.0 AS x FROM range({rows}) r(v)""")
db.execute("CREATE TABLE d AS SELECT v AS id, v % 10 AS class FROM range(1000000) r(v)")
print(duckdb.__version__, flush=True)
for line in sys.stdin:
    begin = time.perf_counter()
    answer = db.execute(line).fetchall()
    elapsed = (time.perf_counter() - begin) * 1000
    print(json.dumps([elapsed, [[str(value) for value in row] for row in answer[:20]]]), flush=True)
