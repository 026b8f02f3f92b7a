#!/usr/bin/env bash
# `make upstream`: CPython's own test classes for what exists here, with bequeath in place, compared
# with what the standard library passes on this interpreter. Results go to target/upstream.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh
interpreter=$(command -v "${PYTHON:-python3}") || { echo "missing: $PYTHON"; exit 1; }
version=$("$interpreter" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! "$interpreter" -c 'import test._test_multiprocessing' 2>/dev/null; then
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
