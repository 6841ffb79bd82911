#!/usr/bin/env bash
# Nothing is lost when the process stops: while jobs copy a growing topic of a real Kafka broker into
# tables and into another topic, and clients write rows of their own, the server is killed with SIGKILL
# at random moments and started again on its data directory. Nobody resumes anything. At the end every
# table, and a consumer of committed messages, must hold every integer exactly once.
# Exits non-zero on any difference. Needs: cargo, java 17, mvn, python3 with venv, psql.
#
#   kill-9.sh [ROUNDS]                    default: 100
#   TIDEWATER=path/to/binary              default: builds the release binary
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${1:-100}
work=$(mktemp -d "${TMPDIR:-/tmp}/kill-9.XXXXXX")
kafka=sql-tests/kafka/kafka
export KAFKA_DIR=$work/broker KAFKA_PORT=${KAFKA_PORT:-19395}

finish() {
  "$kafka" stop --kill >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT

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
"$kafka" start >/dev/null
"$venv/bin/python" sql-tests/kill-9/rounds.py "$TIDEWATER" "127.0.0.1:$KAFKA_PORT" "$work" "$rounds"
