#!/usr/bin/env bash
# First light, as a new user would try it, on a real Kafka broker: mapping, table, job with a HOP count
# per key, the table read by key and by scan while it fills, the stream read live, suspend and resume,
# the broker killed and brought back, drop. The table must equal what DuckDB computes.
# Exits non-zero on any difference. Needs: cargo, java 17, mvn, python3 with venv, psql.
#
#   first-light.sh [EVENTS] [KEYS]        default 1000000 10000
#   TIDEWATER=path/to/binary              default: builds the release binary
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

events=${1:-1000000} keys=${2:-10000}
work=$(mktemp -d "${TMPDIR:-/tmp}/first-light.XXXXXX")
kafka=sql-tests/kafka/kafka
export KAFKA_DIR=$work/broker KAFKA_PORT=${KAFKA_PORT:-19392}
bootstrap=127.0.0.1:$KAFKA_PORT
server_pid=

say() { printf '%s  %s\n' "$(date +%T)" "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
finish() {
  [ -z "$server_pid" ] || { kill -TERM "$server_pid" 2>/dev/null || true; wait "$server_pid" 2>/dev/null || true; }
  "$kafka" stop --kill >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT

# --- the parts -------------------------------------------------------------------------------------
if [ -z "${TIDEWATER:-}" ]; then
  cargo build --release --locked
  TIDEWATER=${CARGO_TARGET_DIR:-target}/release/tidewater
fi
venv=${XDG_CACHE_HOME:-$HOME/.cache}/tidewater-first-light
if [ ! -e "$venv/.complete" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" -q install 'duckdb>=1' 'confluent-kafka>=2'
  touch "$venv/.complete"
fi
python=$venv/bin/python
"$kafka" start >/dev/null
"$kafka" topic trades 4 >/dev/null
say "broker on $bootstrap"

"$TIDEWATER" --data-dir "$work/data" --listen 127.0.0.1:0 >"$work/ready" 2>"$work/log" &
server_pid=$!
for _ in $(seq 100); do [ -s "$work/ready" ] && break; sleep 0.05; done
port=$(sed -n 's/^ready on 127.0.0.1:\([0-9]*\)$/\1/p' "$work/ready")
[ -n "$port" ] || { cat "$work/log" >&2; fail "no ready line"; }
say "server on 127.0.0.1:$port"
q() { psql -X -q -h 127.0.0.1 -p "$port" -U demo -d demo -v ON_ERROR_STOP=1 -At "$@"; }
# until_true SECONDS QUERY: polls until the query answers t
until_true() {
  local end=$((SECONDS + $1))
  until [ "$(q -c "$2" 2>"$work/why")" = t ]; do
    [ $SECONDS -lt $end ] || { cat "$work/why" >&2; fail "not within $1 s: $2"; }
    sleep 0.1
  done
}

# --- mapping, table, job ---------------------------------------------------------------------------
q <<SQL
CREATE MAPPING trades (id BIGINT, k BIGINT, price BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
TYPE Kafka OPTIONS ('bootstrap.servers' = '$bootstrap', 'valueFormat' = 'json-flat', 'auto.offset.reset' = 'earliest',
                    'on_error' = 'skip', 'idle_timeout' = '3 s');
CREATE TABLE hops (k BIGINT, window_end TIMESTAMP, n BIGINT, PRIMARY KEY (k, window_end));
CREATE JOB hop_counts AS SINK INTO hops
  SELECT k, window_end, count(*) AS n
  FROM TABLE(HOP(TABLE trades, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '2' SECOND))
  GROUP BY k, window_start, window_end;
SQL
say "mapping, table and job are there"
q -c '\d hops' >/dev/null

"$python" sql-tests/first-light/events.py make "$work/events" "$events" "$keys" 42
"$python" sql-tests/first-light/events.py send "$work/events" "$bootstrap" trades &
sender=$!
until_true 60 "SELECT count(*) > 0 FROM hops"
while_running=$(q -c "SELECT count(*) FROM hops")
key_rows=$(q -c "SELECT count(*) FROM hops WHERE k = 7")
say "while the job runs: scan sees $while_running rows, key 7 has $key_rows"
wait $sender
say "$events events sent, topic partition 3 silent, one poison record"

# --- suspend and resume ----------------------------------------------------------------------------
q -c "ALTER JOB hop_counts SUSPEND"
until_true 10 "SELECT status = 'SUSPENDED' FROM sys.jobs WHERE name = 'hop_counts'"
q -c "ALTER JOB hop_counts RESUME"
until_true 10 "SELECT status = 'RUNNING' FROM sys.jobs WHERE name = 'hop_counts'"
say "suspended and resumed"

# --- equals DuckDB ---------------------------------------------------------------------------------
"$python" sql-tests/first-light/expected.py "$work/events" >"$work/expected"
expected=$(wc -l <"$work/expected")
until_true 120 "SELECT count(*) = $expected FROM hops"
q -F, -c "SELECT k, (extract(epoch FROM window_end) * 1000)::BIGINT, n FROM hops ORDER BY 1, 2" >"$work/actual"
cmp "$work/expected" "$work/actual" || fail "the table differs from DuckDB"
skipped=$(q -c "SELECT sum(value) FROM sys.metrics WHERE name = 'tidewater_skipped_rows_total'")
[ "$skipped" = 1 ] || fail "one poison record, $skipped skipped"
say "the table equals DuckDB: $expected rows; 1 poison record skipped and counted"

# --- the stream, live ------------------------------------------------------------------------------
"$python" sql-tests/first-light/events.py trickle "$bootstrap" trades 50 &
trickler=$!
q -c "SELECT id, k FROM trades WHERE id < 0 LIMIT 20" >"$work/live"
[ "$(wc -l <"$work/live")" = 20 ] || fail "SELECT … FROM the topic"
wait $trickler
timeout 5 psql -X -q -h 127.0.0.1 -p "$port" -U demo -d demo -c \
  "COPY (SELECT id, price FROM trades WHERE id >= 0) TO STDOUT" >"$work/copy" 2>/dev/null || true
[ "$(wc -l <"$work/copy")" -ge 1000 ] || fail "COPY (SELECT …) TO STDOUT of the stream"
say "live SELECT gave 20 rows, COPY gave $(wc -l <"$work/copy") before it was cancelled"

# --- the broker goes and comes back ----------------------------------------------------------------
"$kafka" stop --kill >/dev/null
until_true 60 "SELECT status = 'RUNNING' AND last_error IS NOT NULL FROM sys.jobs WHERE name = 'hop_counts'"
say "broker killed; the job is RUNNING, last_error: $(q -c "SELECT last_error FROM sys.jobs WHERE name = 'hop_counts'")"
[ "$(q -c "SELECT count(*) FROM hops WHERE window_end < '2023-11-15'")" = "$expected" ] || fail "the outage changed the table"
"$kafka" start >/dev/null
until_true 60 "SELECT last_error IS NULL FROM sys.jobs WHERE name = 'hop_counts'"
"$python" sql-tests/first-light/events.py trickle "$bootstrap" trades 50
until_true 60 "SELECT count(*) > 0 FROM hops WHERE window_end > now() - INTERVAL '1 hour'"
say "broker back; new windows arrive"

# --- drop ------------------------------------------------------------------------------------------
q -c "DROP JOB hop_counts" -c "DROP TABLE hops" -c "DROP MAPPING trades"
[ "$(q -c "SELECT count(*) FROM sys.jobs")" = 0 ] || fail "the job is still there"
kill -TERM "$server_pid"
code=0; wait "$server_pid" || code=$?
server_pid=
[ "$code" = 0 ] || fail "SIGTERM ended with $code"
say "dropped; SIGTERM ended cleanly"
echo "first light: all as expected"
