#!/usr/bin/env bash
# `make interpreters`: all tests with each other CPython found.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh
others=$(python3 scripts/interpreters.py)
[ -n "$others" ] || echo "skipped: no other CPython from 3.10 to 3.13 was found"
while read -r version interpreter; do
    [ -n "$version" ] || continue
    part "all tests on $version" scripts/other.sh "$version" "$interpreter"
done <<<"$others"
print_times
stop_if_failed "see above"
