#!/usr/bin/env bash
# `make long`: what takes too long for every change. long.sh ENVIRONMENT
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh
export PYO3_PYTHON=$PWD/$1/bin/python
libraries() {
    scripts/environment.sh "$1" "$1/bin/python" requirements/libraries.txt &&
        BEQUEATH_DAY=500 "$1/bin/python" -m pytest -q \
            tests/test_libraries.py tests/test_notebook.py tests/test_day.py tests/test_remote_tools.py
}
part "libraries under bequeath run" libraries "$1"
threads() {
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
        --target target/thread-libraries -r requirements/threads.txt &&
        PYTHONPATH=$PWD/target/thread-libraries "$1/bin/python" -m pytest -q tests/test_clean_templates.py \
            -k libraries_that_start_threads
}
part "libraries that start threads" threads "$1"
model() {
    RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
        cargo test --quiet --no-fail-fast --profile proof -p bequeath-sync --features broken-variants --test loom -- --nocapture
}
part "every interleaving of the cell and the primitives" model
stopping() { # CRATE
    RUSTFLAGS="--cfg shuttle" CARGO_TARGET_DIR=target/shuttle BEQUEATH_FAULTS=long \
        cargo test --quiet --no-fail-fast --profile proof -p "$1" --test model -- --test-threads=1 --nocapture
}
part "sessions whose members stop after any store" stopping bequeath-shm
part "queues whose members stop after any store" stopping bequeath-channel
found() { # CRATE
    RUSTFLAGS="--cfg shuttle" CARGO_TARGET_DIR=target/shuttle \
        cargo test --quiet --no-fail-fast --profile proof -p "$1" --features "$1/broken-variants" --test model_broken
}
part "deliberate mistakes in sessions are found" found bequeath-shm
part "deliberate mistakes in queues are found" found bequeath-channel
leaks() {
    PYTHONMALLOC=debug BEQUEATH_LEAKS=1000000 "$1/bin/python" -m pytest -q tests/test_pickle_leaks.py &&
        BEQUEATH_LEAKS=100000 "$1/bin/python" -m pytest -q tests/test_pickle_leaks.py
}
part "a million pickles of each kind leave memory flat" leaks "$1"
# Unpacked and built as the registry would, one after the other; the extension and the test crate are not published.
part "cargo package" cargo package --quiet --workspace --allow-dirty \
    --exclude bequeath-python --exclude bequeath-testing
print_times
stop_if_failed "see above"
