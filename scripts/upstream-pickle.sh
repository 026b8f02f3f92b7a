#!/usr/bin/env bash
# `make upstream-pickle`: CPython's own pickle tests with bequeath.pickle as `_pickle`, compared with
# what the standard library passes on this interpreter. Results go to target/upstream.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh
interpreter=$(command -v "${PYTHON:-python3}") || { echo "missing: $PYTHON"; exit 1; }
version=$("$interpreter" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! "$interpreter" -c 'import test.pickletester' 2>/dev/null; then
    echo "skipped: $interpreter has no package \`test\` (on Debian and Ubuntu: apt-get install libpython$version-testsuite)"
    exit 0
fi
environment=.venv
if [ "$version" != "$("$environment/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" ]; then
    environment=target/python$version/environment
fi
mkdir -p target/upstream "target/python$version"
scripts/environment.sh "$environment" "$interpreter" requirements/test.txt || exit 1
scripts/engine.sh "$environment" || exit 1
result=target/upstream/$version-pickle.json baseline=target/upstream/$version-pickle-stdlib.json
part "the standard library's own" "$environment/bin/python" tests/upstream/run_pickle.py --module stdlib --json "$baseline"
part "upstream pickle $version" "$environment/bin/python" tests/upstream/run_pickle.py --module bequeath --json "$result"
print_times
echo "tests that the standard library passes here and bequeath too (at least 99 of 100):"
python3 tests/upstream/compare.py --baseline "$baseline" --min 99 --messages "$result"
