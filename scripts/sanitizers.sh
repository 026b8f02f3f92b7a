#!/usr/bin/env bash
# `make sanitizers`: the engine's tests under AddressSanitizer, and under ThreadSanitizer and Miri where a
# toolchain has what they need. The stable toolchain ships the sanitizers' runtimes, and RUSTC_BOOTSTRAP
# lets it use them; but ThreadSanitizer must see the standard library too, or it reports that one's own
# channels as races.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/part.sh
target=$(rustc -vV | sed -n 's/^host: //p')

# The toolchains to look at: this one, and nightly if it is there. (Naming it otherwise would install it.)
toolchains=("")
if rustup toolchain list 2>/dev/null | grep -q ^nightly; then toolchains+=(+nightly); fi
# first_with COMMAND: prints the first toolchain for which the command succeeds.
first_with() {
    local toolchain
    for toolchain in "${toolchains[@]}"; do
        if "$1" ${toolchain:+"$toolchain"}; then
            echo "$toolchain"
            return
        fi
    done
    return 1
}
has_source() { [ -d "$(rustc "$@" --print sysroot)/lib/rustlib/src/rust/library" ]; }
has_miri() { cargo "$@" miri --version >/dev/null 2>&1; }

# Some things are leaked on purpose: what threads or forked children may still use at the end.
export ASAN_OPTIONS=detect_leaks=0
# Tests that kill have a harness of their own and take too long here.
sanitized() { # NAME TOOLCHAIN CARGO-ARGUMENTS... -- TEST-ARGUMENTS...
    local name=$1 toolchain=$2
    shift 2
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$name" CARGO_TARGET_DIR="target/$name" \
        cargo ${toolchain:+"$toolchain"} test --quiet --target "$target" "$@" --skip kill --skip mistake
}
# (Where a program has no build id, its whole constant memory is read to tell it from others: also what the
# sanitizer has put between two constants.)
part "AddressSanitizer" sanitized address "" -p bequeath-os -p bequeath-sync -p bequeath-shm --lib --tests -- \
    --skip the_identity_is_the_same_each_time
# Only threads of one process: ThreadSanitizer does not see what other processes do, and gives up on a forked
# child that starts threads.
threads() { # TOOLCHAIN
    sanitized thread "$1" -Zbuild-std -p bequeath-sync --lib --tests -- \
        --skip no_cell_stays_locked --skip without_the_preparation_one_does &&
        sanitized thread "$1" -Zbuild-std -p bequeath-shm --lib --test adopted --test arena --test block --
}
if toolchain=$(first_with has_source); then
    part "ThreadSanitizer" threads "$toolchain"
else
    echo "ThreadSanitizer: no toolchain here has the source of the standard library, which it must see. Elsewhere:"
    echo "    rustup component add rust-src && make sanitizers"
fi
# What Miri can run: no second process, no file in memory, nothing that two mappings share. So the cell and the
# primitives as threads use them, over plain memory (futexes it knows), with its weak orderings; segments, records and
# words of queues; layouts and words of the arena; all formats; the pools' scheduler. (Isolation hides clock
# and procfs.)
miri() { # TOOLCHAIN
    local toolchain=${1:+"$1"} failed=0
    export MIRIFLAGS=-Zmiri-disable-isolation
    interpreted() { cargo $toolchain miri test --quiet "$@" || failed=1; }
    interpreted -p bequeath-sync --test threads
    interpreted -p bequeath-shm --lib -- words:: layout:: site:: slate::
    interpreted -p bequeath-channel --lib -- record:: segment:: state:: frame::
    # (Not what proptest makes up: to make it up takes Miri minutes a case, and neither crate has unsafe code.)
    interpreted -p bequeath-pickle --lib --test plain --test read -- \
        --skip come_back --skip written --skip garbage --skip damaged
    interpreted -p bequeath-pool --lib --test scheduler
    interpreted -p bequeath-inspect --lib -- graph::
    interpreted -p bequeath --lib -- codec::
    return $failed
}
if toolchain=$(first_with has_miri); then
    part "Miri" miri "$toolchain"
else
    echo "Miri: no toolchain here has it. Elsewhere:"
    echo "    rustup toolchain install nightly --component miri,rust-src && make sanitizers"
fi
print_times
stop_if_failed "see above"
