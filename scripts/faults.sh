#!/usr/bin/env bash
# `make faults`: the long form of every test that kills. faults.sh PYTHON
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh
export PYO3_PYTHON=$PWD/$1
export BEQUEATH_FAULTS=long
part "kill at every instruction" cargo test --quiet --no-fail-fast --profile proof --workspace \
    --exclude bequeath-python --exclude bequeath-pickle --exclude bequeath-inspect -- --nocapture kill
part "the primitives' deliberate mistakes are caught" cargo test --quiet --no-fail-fast --profile proof -p bequeath-sync --features broken-variants --test faults -- --nocapture mistake
mistakes() {
    cargo test --quiet --no-fail-fast --profile proof -p bequeath-channel -p bequeath-shm \
        --features bequeath-channel/broken-variants --test broken_variants -- --test-threads=1
}
part "the queue's and the session's are" mistakes
part "the templates' are" cargo test --quiet --no-fail-fast --profile proof -p bequeath-process \
    --features broken-variants --test broken_variants -- --test-threads=1
part "what sandboxes and containers refuse" "$1" -m pytest -q tests/confined
part "many, large, and none left" "$1" -m pytest -q tests/test_exhaustion.py
part "random kills through the bindings" "$1" -m pytest -q tests/faults
print_times
stop_if_failed "see above"
