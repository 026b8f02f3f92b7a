#!/usr/bin/env bash
# `make check`: what a reviewer should not have to look for. check.sh ENVIRONMENT/bin
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh
bin=$1
export PYO3_PYTHON=$PWD/$bin/python
stubtest() {
    MYPYPATH=python "$bin/stubtest" --ignore-missing-stub bequeath._engine
}
document() {
    RUSTDOCFLAGS=-Dwarnings cargo doc --quiet --workspace --no-deps
}
python_sources=(python tests examples benches scripts)
part "cargo fmt" cargo fmt --all --check
part "clippy" cargo clippy --quiet --workspace --all-targets -- -D warnings
part "cargo doc" document
part "ruff format" "$bin/ruff" format --quiet --check "${python_sources[@]}"
part "ruff" "$bin/ruff" check --quiet "${python_sources[@]}"
part "mypy" "$bin/mypy" --strict python/bequeath
part "stubtest" stubtest
print_times
stop_if_failed "see above"
