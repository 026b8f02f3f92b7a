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
compared() { # START RESULT MINIMUM [OPTION]
    local start=$1 result=$2 least=$3
    shift 3
    rm -f "$result"
    "$python" tests/upstream/run_futures.py --module bequeath --start-method "$start" --timeout-per-test 60 \
        --rerun-failures 1 --json "$result" "$@"
    "$python" tests/upstream/compare.py --baseline "$baseline" --min "$least" --messages --figure "$figures" "$result"
}
for start in ${START:-fork spawn forkserver}; do
    result=target/upstream/$version-futures-$start
    part "the standard executor, $version $start" compared "$start" "$result.json" 97
    part "bequeath.ProcessPoolExecutor, $version $start" compared "$start" "$result-own.json" 85 --own-executor
done
print_times
echo "tests of ProcessPoolExecutor that the standard library passes here and bequeath too: by start method, first the"
echo "standard executor over bequeath (at least 97 of 100), then bequeath's own (85: tests/upstream/README.md says which not)"
cat "$figures"
stop_if_failed "see above"
