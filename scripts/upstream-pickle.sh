#!/usr/bin/env bash
# `make upstream-pickle`: CPython's own pickle tests with bequeath.pickle as `_pickle`, compared with
# what the standard library passes on this interpreter. Results go to target/upstream.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh
. scripts/upstream-environment.sh
prepare pickletester
result=target/upstream/$version-pickle.json baseline=target/upstream/$version-pickle-stdlib.json
part "the standard library's own" "$environment/bin/python" tests/upstream/run_pickle.py --module stdlib --json "$baseline"
part "upstream pickle $version" "$environment/bin/python" tests/upstream/run_pickle.py --module bequeath --json "$result"
print_times
echo "tests that the standard library passes here and bequeath too (at least 99 of 100):"
"$environment/bin/python" tests/upstream/compare.py --baseline "$baseline" --min 99 --messages "$result"
