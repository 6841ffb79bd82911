"""DuckDB or DataFusion as a peer, `peer.py duckdb|datafusion`: a line on standard input is SQL; the
answer is a line of JSON, `[ms, rows]`.

`ms` is the time to the last row, `rows` the first 20 rows as text; an error ends the process.
"""
import json
import sys
import time

THREADS = 2


def duckdb_engine():
    import duckdb

    db = duckdb.connect()
    db.execute(f"SET threads = {THREADS}")
    return duckdb.__version__, lambda sql: db.execute(sql).fetchall()


def datafusion_engine():
    import datafusion

    config = datafusion.SessionConfig().with_target_partitions(THREADS)
    context = datafusion.SessionContext(config)

    def run(sql):
        batches = context.sql(sql).collect()
        return [row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns))]

    return datafusion.__version__, run


version, run = {"duckdb": duckdb_engine, "datafusion": datafusion_engine}[sys.argv[1]]()
print(version, flush=True)
for line in sys.stdin:
    begin = time.perf_counter()
    answer = run(line)
    elapsed = (time.perf_counter() - begin) * 1000
    print(json.dumps([elapsed, [[str(value) for value in row] for row in answer[:20]]]), flush=True)
