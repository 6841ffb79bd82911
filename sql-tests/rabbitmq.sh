#!/usr/bin/env bash
# Exactly once from a real RabbitMQ: a job copies a known sequence of integers from a queue into a table while it is
# restarted, suspended and resumed, its connections are ended, and the broker is stopped and started. The table has a key
# and the job inserts: a message that came twice would fail it. In the end every integer is there and the queue is empty.
# Exits non-zero on any difference. Needs: cargo, psql, apt-get and dpkg (for sql-tests/rabbitmq/rabbitmq).
#
#   rabbitmq.sh [ROUNDS]                  default: 10
#   TIDEWATER=path/to/binary              default: builds the release binary
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${1:-10} each=20000
work=$(mktemp -d "${TMPDIR:-/tmp}/rabbitmq.XXXXXX")
export RABBITMQ_DIR=$work/broker RABBITMQ_PORT=${RABBITMQ_PORT:-15672}
port=${TIDEWATER_PORT:-15699}
broker() { bash sql-tests/rabbitmq/rabbitmq "$@"; }
sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U tidewater -d tidewater -c "$1"; }

finish() {
  kill "${server:-}" 2>/dev/null || true
  broker kill || true
  rm -rf "$work"
}
trap finish EXIT

# Waits until a query answers with that.
wait_for() {
  local answer=
  for _ in $(seq 1 300); do
    answer=$(sql "$2" 2>&1) && [ "$answer" = "$1" ] && return
    sleep 0.2
  done
  echo "waited for '$1', but '$2' is '$answer'" >&2
  sql "SELECT status, last_error FROM sys.jobs" >&2 || true
  exit 1
}

if [ -z "${TIDEWATER:-}" ]; then
  cargo build --release --locked
  TIDEWATER=${CARGO_TARGET_DIR:-target}/release/tidewater
fi
broker start
broker publish numbers 0 0
"$TIDEWATER" --data-dir "$work/data" --listen "127.0.0.1:$port" >"$work/server" 2>&1 &
server=$!
wait_for 1 "SELECT 1"

sql "CREATE TABLE numbers (id BIGINT PRIMARY KEY)"
sql "CREATE MAPPING queue EXTERNAL NAME \"numbers\" (id BIGINT) TYPE RabbitMQ OPTIONS (
  'url' = 'amqp://127.0.0.1:$RABBITMQ_PORT', 'valueFormat' = 'json-flat', 'prefetch' = '5000', 'preferredLocalParallelism' = '2')"
sql "CREATE JOB copy OPTIONS ('processingGuarantee' = 'exactlyOnce', 'snapshotIntervalMillis' = '100') AS
  INSERT INTO numbers SELECT id FROM queue"

for round in $(seq 1 "$rounds"); do
  broker publish numbers $(((round - 1) * each)) $((round * each)) &
  publishing=$!
  case $((round % 5)) in
    0) broker disconnect ;;
    1) sql "ALTER JOB copy RESTART" ;;
    2) sql "ALTER JOB copy SUSPEND" && sql "ALTER JOB copy RESUME" ;;
    3) sql "ALTER JOB copy RESTART" && broker disconnect ;;
    4)
      wait "$publishing"
      broker stop
      wait_for "RUNNING|t" "SELECT status, last_error IS NOT NULL FROM sys.jobs WHERE name = 'copy'"
      broker start
      ;;
  esac
  wait "$publishing" || true
  wait_for "$((round * each))" "SELECT count(*) FROM numbers"
  echo "round $round: $((round * each)) rows"
done

last=$((rounds * each - 1))
wait_for "0|$last|$((rounds * each))" "SET read_mode = 'durable'; SELECT min(id), max(id), count(*) FROM numbers"
for _ in $(seq 1 50); do
  [ "$(broker messages numbers)" = 0 ] && break
  sleep 0.2
done
left=$(broker messages numbers)
[ "$left" = 0 ] || { echo "$left messages were never acknowledged" >&2; exit 1; }
wait_for "RUNNING" "SELECT status FROM sys.jobs WHERE name = 'copy'"
echo "each of $((rounds * each)) messages is there once, and the queue is empty"
