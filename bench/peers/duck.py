"""DuckDB as a peer: a line on standard input is SQL; the answer is a line of JSON, `[ms, rows]`.

`ms` is the time to the last row, `rows` the first 20 rows as text; an error ends the process.
"""
import json
import sys
import time

import duckdb

db = duckdb.connect()
db.execute("SET threads = 2")
print(duckdb.__version__, flush=True)
for line in sys.stdin:
    begin = time.perf_counter()
    answer = db.execute(line).fetchall()
    elapsed = (time.perf_counter() - begin) * 1000
    print(json.dumps([elapsed, [[str(value) for value in row] for row in answer[:20]]]), flush=True)
