# Sourced by the scripts that run several parts: `part NAME COMMAND...` runs one and notes its time
# in $times and, if it failed, its name in $failed.
failed=
times=

part() {
    local name=$1 began=$SECONDS
    shift
    echo "== $name"
    "$@" </dev/null || failed="$failed, $name"
    times+=$(printf '%6d s  %s' $((SECONDS - began)) "$name")$'\n'
    echo "== $name: $((SECONDS - began)) s"
}

stop_if_failed() {
    [ -z "$failed" ] || { echo "failed: ${failed#, }; $1" >&2; exit 1; }
}

print_times() {
    printf 'time of each part\n%s' "$times"
}
