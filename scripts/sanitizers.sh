#!/usr/bin/env bash
# `make sanitizers`: the engine's tests under AddressSanitizer and ThreadSanitizer, and under Miri where
# the toolchain has it. The stable toolchain ships the sanitizers' runtimes; RUSTC_BOOTSTRAP lets it use
# them. The standard library itself stays as it is (a nightly with -Zbuild-std would instrument it, too).
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh
target=$(rustc -vV | sed -n 's/^host: //p')

# Tests that fork and trace have their own harness and take too long here.
sanitized() { # NAME FLAGS PACKAGES...
    local name=$1 flags=$2 packages=()
    shift 2
    for package; do packages+=(-p "$package"); done
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$name $flags" CARGO_TARGET_DIR="target/$name" \
        cargo test --quiet --target "$target" "${packages[@]}" --lib --tests -- --skip kill --skip mistake
}
part "AddressSanitizer" sanitized address "" bequeath-os bequeath-sync bequeath-shm
# Only threads of one process: ThreadSanitizer does not see what other processes do.
part "ThreadSanitizer" sanitized thread "-Cunsafe-allow-abi-mismatch=sanitizer" bequeath-sync
if cargo miri --version >/dev/null 2>&1; then
    part "Miri" cargo miri test --quiet -p bequeath-sync --lib seen
else
    echo "Miri: this toolchain has none. Elsewhere: rustup toolchain install nightly --component miri,rust-src &&"
    echo "    cargo +nightly miri test -p bequeath-sync --lib seen"
fi
print_times
stop_if_failed "see above"
