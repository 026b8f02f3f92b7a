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
# From 3.14 on every fixture makes a manager, and thirteen tests get their queues and events from it. Managers are not
# built yet: these tests get the context's own, so that what they ask of the executor is asked.
stand_in=()
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 14))' && stand_in=(--stand-in-manager)
compared() { # START RESULT [--own-executor]
    local start=$1 result=$2 skips=(--skips tests/upstream/expected_skips.toml)
    shift 2
    [ "${1:-}" != --own-executor ] || skips+=(--skips tests/upstream/own_executor_skips.toml)
    rm -f "$result"
    "$python" tests/upstream/run_futures.py --module bequeath --start-method "$start" --timeout-per-test 60 \
        --rerun-failures 1 --json "$result" "${stand_in[@]}" "$@"
    "$python" tests/upstream/compare.py --baseline "$baseline" --min 97 "${skips[@]}" --messages \
        --figure "$figures" "$result"
}
for start in ${START:-fork spawn forkserver}; do
    result=target/upstream/$version-futures-$start
    part "the standard executor, $version $start" compared "$start" "$result.json"
    part "bequeath.ProcessPoolExecutor, $version $start" compared "$start" "$result-own.json" --own-executor
done
print_times
echo "tests of ProcessPoolExecutor that the standard library passes here and bequeath too (at least 97 of 100): by start"
echo "method, first the standard executor over bequeath, then bequeath's own, without those that tests/upstream's lists name"
[ ${#stand_in[@]} = 0 ] || echo "(with a stand-in for the manager that each fixture makes: tests/upstream/README.md)"
cat "$figures"
stop_if_failed "see above"
