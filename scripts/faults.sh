#!/usr/bin/env bash
# `make faults`: the long form of every test that kills. faults.sh PYTHON
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh
export PYO3_PYTHON=$PWD/$1
export BEQUEATH_FAULTS=${BEQUEATH_FAULTS:-long} RUST_BACKTRACE=${RUST_BACKTRACE:-0}

proof() { cargo test --quiet --no-fail-fast --profile proof "$@"; }
kills() { # CRATE [CARGO-ARGUMENTS...]
    part "$* killed at every instruction" proof -p "$@" -- --nocapture kill
}
# The deliberate mistakes, built apart, so that neither build undoes the other's.
mistakes() { # CRATE TEST TEST-ARGUMENTS...
    local crate=$1 program=$2
    shift 2
    CARGO_TARGET_DIR=target/broken part "$crate: deliberate mistakes are caught" \
        proof -p "$crate" --features broken-variants --test "$program" -- "$@"
}
# One program kills and looks, turn by turn, and so uses one processor: two at a time.
build() {
    proof --workspace --exclude bequeath-python --exclude bequeath-pickle --exclude bequeath-inspect --no-run &&
        CARGO_TARGET_DIR=target/broken proof -p bequeath-sync -p bequeath-shm -p bequeath-channel -p bequeath-process \
            --features bequeath-channel/broken-variants,bequeath-process/broken-variants --no-run
}
one_lane() {
    kills bequeath-sync
    mistakes bequeath-sync faults --nocapture mistake
    kills bequeath-process
    mistakes bequeath-process broken_variants --test-threads=1
    kills bequeath-shm --test fork_steps
}
another_lane() {
    kills bequeath-shm --test kill_steps
    mistakes bequeath-shm broken_variants --test-threads=1
    kills bequeath-channel
    mistakes bequeath-channel broken_variants --test-threads=1
    kills bequeath
    kills bequeath-testing
    kills bequeath-os
}
part "build" build
side_by_side one_lane another_lane
part "what sandboxes and containers refuse" "$1" -m pytest -q tests/confined
part "many, large, and none left" "$1" -m pytest -q tests/test_exhaustion.py
part "random kills through the bindings" "$1" -m pytest -q tests/faults
print_times
stop_if_failed "see above"
