#!/usr/bin/env bash
# `make demo`: the programs that the project started from, then the main job. demo.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."
echo "== the origin question's three programs"
"$1" examples/origin.py
echo
echo "== word count: a producer, N workers, two queues, one lock"
"$1" examples/word_count.py --start-method all
echo
echo "== the same, a worker killed in the middle"
"$1" examples/word_count.py --kill-one
echo
echo "== the same job in Rust"
cargo run --quiet --release -p bequeath --example word_count -- "$("$1" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
