#!/usr/bin/env bash
# Exactly once on a real Kafka broker: jobs that copy a known sequence of integers from a topic into a
# table and into another topic are lost at every failpoint of the snapshot and commit protocol. The
# table and a consumer of committed messages must hold every integer exactly once, every time.
# Exits non-zero on any difference. Needs: cargo, java 17, mvn, python3 with venv, psql.
#
#   exactly-once.sh [SEEDS] [PLACES]      default: 1 seed, all places of runtime/src/job/failpoints.txt
#   TIDEWATER=path/to/binary              default: builds the release binary
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Those of a sink into files are not passed here.
seeds=${1:-1} places=${2:-$(grep -v '^file' runtime/src/job/failpoints.txt)}
work=$(mktemp -d "${TMPDIR:-/tmp}/exactly-once.XXXXXX")
kafka=sql-tests/kafka/kafka
export KAFKA_DIR=$work/broker KAFKA_PORT=${KAFKA_PORT:-19393}

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
# shellcheck disable=SC2086
"$venv/bin/python" sql-tests/exactly-once/rounds.py "$TIDEWATER" "127.0.0.1:$KAFKA_PORT" "$work" "$seeds" $places
