#!/bin/bash
# Native ingest: samples a second with every ack after an fsync, and bytes a stored sample.
#   tests/bench/ingest.sh [ROUNDS]    ROUNDS x 8 agents of 200 series and 240 steps (default 12: 4.6 M samples)
set -euo pipefail
cd "$(dirname "$0")/../.."
grep -m1 'model name' /proc/cpuinfo | sed 's/.*: /cpu                 /'
echo "processors          $(nproc)"
cargo build --quiet --profile fast --locked -p keyvigil-tests --bin bench-ingest
exec "${CARGO_TARGET_DIR:-target}/fast/bench-ingest" "$@"
