#!/usr/bin/env bash
# `make wheel`: builds a wheel into target/wheels. wheel.sh ENVIRONMENT
set -euo pipefail
cd "$(dirname "$0")/.."
version=$("$1/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/python$version "$1/bin/maturin" build --quiet \
    --release --interpreter "$1/bin/python" --compatibility linux --out "${2:-target/wheels}"
