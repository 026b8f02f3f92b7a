#!/usr/bin/env bash
# `make demo`: the programs that the project started from, then the main job. demo.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."
bequeath=("$1" -m bequeath run)
echo "== the origin question's three programs, under CPython's multiprocessing and under bequeath"
"$1" examples/origin.py
echo
echo "== word count under bequeath: a producer, workers, two queues, a lock"
"${bequeath[@]}" examples/word_count.py --start-method all
for method in fork spawn forkserver; do
    echo
    echo "== the same, a worker killed in the middle ($method)"
    "${bequeath[@]}" examples/word_count.py --start-method "$method" --kill-one
done
echo
echo "== the same job in Rust"
cargo run --quiet --release -p bequeath --example word_count -- \
    "$("$1" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
