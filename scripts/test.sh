#!/usr/bin/env bash
# `make test`: every part, each with its time; the test runners' own summaries come last.
# A part that fails does not keep the later ones from running; the exit status tells.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh

part "set-up" scripts/environment.sh .venv "${PYTHON:-python3}" requirements/test.txt
part "engine" scripts/engine.sh .venv
stop_if_failed "nothing can be tested"

export PYO3_PYTHON=$PWD/.venv/bin/python
# Built first: whoever builds an example meanwhile would wait for all of it.
part "cargo test, built" cargo test --quiet --workspace --no-run
others=$(.venv/bin/python scripts/interpreters.py)
[ -n "$others" ] || echo "skipped: no other CPython from 3.10 to 3.13 was found"
short_selections() {
    while read -r version interpreter; do
        [ -n "$version" ] || continue
        part "short selection on $version" scripts/other.sh "$version" "$interpreter" --short
    done <<<"$others"
}
engine_tests() {
    part "cargo test" cargo test --quiet --workspace --no-fail-fast
}
echo "== short selections beside cargo test: shown when both have ended"
side_by_side short_selections engine_tests

print_times
# The last part's own closing line has its time.
.venv/bin/python -m pytest tests || failed="$failed, pytest"
[ -z "$failed" ] || { echo "failed: ${failed#, }"; exit 1; }
