#!/usr/bin/env bash
# `make fuzz`: hostile and mutated pickles, for the format crate (by coverage) and for the bindings.
# fuzz.sh ENVIRONMENT [SECONDS for each target]
# What a target finds lies in fuzz/artifacts or fuzz/found: mend it, and keep it as a vector in a test.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh
seconds=${2:-300}
rustup run nightly rustc --version >/dev/null 2>&1 || {
    echo "missing: a nightly toolchain (rustup toolchain install nightly)"
    exit 1
}
# Into .venv, like every other tool.
export PATH=$PATH:$PWD/$1/bin
cargo fuzz --version >/dev/null 2>&1 || cargo install --quiet --locked --root "$1" cargo-fuzz || exit 1
by_coverage() {
    mkdir -p "fuzz/corpus/$1"
    nice -n 19 cargo +nightly fuzz run "$1" "fuzz/corpus/$1" fuzz/seeds -- \
        -max_total_time="$seconds" -max_len=8192 -rss_limit_mb=2048 -timeout=20 -print_final_stats=1
}
for target in decode typed rewrite values; do
    part "fuzz $target" by_coverage "$target"
done
part "fuzz the bindings" nice -n 19 "$1/bin/python" fuzz/bindings.py --seconds "$seconds"
print_times
stop_if_failed "see above"
