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

# `side_by_side FUNCTION...`: functions of several parts each, all at once; what each says is shown when it is done.
side_by_side() {
    local folder lane
    folder=$(mktemp -d)
    for lane; do
        (
            failed= times=
            "$lane"
            printf '%s' "$failed" >"$folder/$lane.failed"
            printf '%s' "$times" >"$folder/$lane.times"
        ) >"$folder/$lane.said" 2>&1 &
    done
    wait
    for lane; do
        cat "$folder/$lane.said"
        failed+=$(cat "$folder/$lane.failed")
        times+=$(cat "$folder/$lane.times")$'\n'
    done
    rm -r "$folder"
}

stop_if_failed() {
    [ -z "$failed" ] || { echo "failed: ${failed#, }; $1" >&2; exit 1; }
}

print_times() {
    printf 'time of each part\n%s' "$times"
}
