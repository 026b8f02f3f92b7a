#!/usr/bin/env bash
# `make upstream-futures`: CPython's own tests of `concurrent.futures.ProcessPoolExecutor`, with bequeath in place of
# multiprocessing, compared with what the standard library passes on this interpreter. Results go to target/upstream.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh
. scripts/upstream-environment.sh
prepare support
figures=target/upstream/$version-futures-figures
: >"$figures"
python=$environment/bin/python
baseline=tests/upstream/baseline/futures-$("$python" -c 'import platform; print(platform.python_version())').json
if [ ! -f "$baseline" ]; then
    baseline=target/upstream/$version-futures-stdlib.json
    [ -f "$baseline" ] || "$python" tests/upstream/run_futures.py --module stdlib --timeout-per-test 60 \
        --rerun-failures 2 --json "$baseline"
fi
compared() {
    rm -f "$2"
    "$python" tests/upstream/run_futures.py --module bequeath --start-method "$1" --timeout-per-test 60 \
        --rerun-failures 1 --json "$2"
    "$python" tests/upstream/compare.py --baseline "$baseline" --min 97 --messages --figure "$figures" "$2"
}
for start in ${START:-fork spawn forkserver}; do
    part "upstream futures $version $start" compared "$start" "target/upstream/$version-futures-$start.json"
done
print_times
echo "tests of ProcessPoolExecutor that the standard library passes here and bequeath too (at least 97 of 100):"
cat "$figures"
stop_if_failed "see above"
