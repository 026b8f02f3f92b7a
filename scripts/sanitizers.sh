#!/usr/bin/env bash
# `make sanitizers`: the engine's tests under AddressSanitizer, and under ThreadSanitizer and Miri where the
# toolchain has what they need. The stable toolchain ships the sanitizers' runtimes, and RUSTC_BOOTSTRAP
# lets it use them; but ThreadSanitizer must see the standard library too, or it reports that one's own
# channels as races.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh
target=$(rustc -vV | sed -n 's/^host: //p')

# Some things are leaked on purpose: what threads or forked children may still use at the end.
export ASAN_OPTIONS=detect_leaks=0
# Tests that kill have a harness of their own and take too long here.
sanitized() { # NAME CARGO-ARGUMENTS...
    local name=$1
    shift
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$name" CARGO_TARGET_DIR="target/$name" \
        cargo test --quiet --target "$target" "$@" --lib --tests -- --skip kill --skip mistake
}
part "AddressSanitizer" sanitized address -p bequeath-os -p bequeath-sync -p bequeath-shm
if [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
    # Only threads of one process: ThreadSanitizer does not see what other processes do.
    part "ThreadSanitizer" sanitized thread -Zbuild-std -p bequeath-sync
else
    echo "ThreadSanitizer: this toolchain has no source of the standard library, which it must see. Elsewhere:"
    echo "    rustup component add rust-src && make sanitizers"
fi
# What makes no system call: the layout and words of shared memory, the pickles' format. (Isolation hides the
# folder that proptest looks for; a case takes Miri a second.)
miri() {
    export MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=8
    cargo ${1:+"$1"} miri test --quiet -p bequeath-shm --lib -- words:: layout:: &&
        cargo ${1:+"$1"} miri test --quiet -p bequeath-pickle --lib --test plain
}
toolchain=
# (Named only if it is there: naming it would install it.)
cargo miri --version >/dev/null 2>&1 || ! rustup toolchain list 2>/dev/null | grep -q ^nightly || toolchain=+nightly
if cargo ${toolchain:+"$toolchain"} miri --version >/dev/null 2>&1; then
    part "Miri" miri "$toolchain"
else
    echo "Miri: no toolchain here has it. Elsewhere:"
    echo "    rustup toolchain install nightly --component miri,rust-src && make sanitizers"
fi
print_times
stop_if_failed "see above"
