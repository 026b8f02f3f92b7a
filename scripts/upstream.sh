#!/usr/bin/env bash
# `make upstream`: CPython's own test classes for what exists here, with bequeath in place, compared
# with what the standard library passes on this interpreter. Results go to target/upstream.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh
. scripts/upstream-environment.sh
prepare _test_multiprocessing
figures=target/upstream/$version-figures
: >"$figures"
for start in ${START:-fork spawn forkserver}; do
    part "upstream $version $start" "$environment/bin/python" tests/upstream/run.py \
        --start-method "$start" --json "target/upstream/$version-$start.json" --figure "$figures"
done
print_times
echo "applicable tests that the standard library passes here and bequeath too (at least 97 of 100):"
cat "$figures"
stop_if_failed "see above"
