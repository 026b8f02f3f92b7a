#!/usr/bin/env bash
# Builds the engine for one interpreter and installs the package, editable, into its environment:
# engine.sh ENVIRONMENT [PROFILE]. Each interpreter has a target folder of its own: PyO3 is compiled
# against one version, and sharing a folder would rebuild it at each change of interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=$1 profile=${2:-release}

if ! command -v cargo >/dev/null; then
    echo "missing: cargo (https://rustup.rs installs it)" >&2
    exit 1
fi
if ! command -v cc >/dev/null; then
    echo "missing: a C compiler named cc, which links the engine" >&2
    exit 1
fi
version=$("$environment/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
log=target/engine-$version.log
mkdir -p target
unset CONDA_PREFIX PYO3_PYTHON PYTHONPATH PYTHONHOME
if ! VIRTUAL_ENV=$(cd "$environment" && pwd) CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/python$version \
    "$environment/bin/maturin" develop --quiet --profile "$profile" >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
"$environment/bin/python" -c 'import bequeath'
