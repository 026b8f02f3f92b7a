#!/usr/bin/env bash
# `make sid`: CPython 3.14 and 3.15 from Debian's unstable suite in the folder sid (about 1 GB),
# then the tests inside it with each: sid.sh [pytest options], or other targets of the Makefile:
# sid.sh --make TARGET... SID names another folder to use, for instance another clone's. Needs root
# and debootstrap, since it makes a root file system.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
    echo "skipped: sid needs root (it makes a root file system and enters it with chroot)"
    exit 0
fi
if ! command -v debootstrap >/dev/null; then
    echo "skipped: sid needs debootstrap (on Debian and Ubuntu: apt-get install debootstrap)"
    exit 0
fi
root=${SID:-$PWD/sid}
packages=ca-certificates,gcc,libc6-dev,make
if [ ! -x "$root/usr/bin/python3.14" ]; then
    debootstrap --variant=minbase --include="$packages" unstable "$root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"}
    chroot "$root" apt-get install --yes --no-install-recommends \
        python3.14 python3.14-dev python3.14-venv libpython3.14-testsuite
    chroot "$root" apt-get install --yes --no-install-recommends \
        python3.15 python3.15-dev python3.15-venv libpython3.15-testsuite ||
        echo "note: unstable has no python3.15 today"
fi
# What is mounted from here on is this script's own, and gone when it ends, however it ends.
if [ -z "${IN_SID:-}" ]; then
    IN_SID=1 exec unshare --mount scripts/sid.sh "$@"
fi
bind() {
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
rustup_home=${RUSTUP_HOME:-$HOME/.rustup}
bind "$PWD" /bequeath
bind /proc /proc
bind /dev /dev
[ -d /dev/shm ] && bind /dev/shm /dev/shm
bind "$cargo_home" /cargo
[ -d "$rustup_home" ] && bind "$rustup_home" /rustup
cp /etc/resolv.conf "$root/etc/resolv.conf"
# How this machine reaches the package index: settings and certificates, under the same names.
kept=()
while IFS== read -r name value; do
    case $name in
    PIP_* | [Hh][Tt][Tt][Pp]*_[Pp][Rr][Oo][Xx][Yy] | [Nn][Oo]_[Pp][Rr][Oo][Xx][Yy] | *_CERT_FILE | *_CAINFO | *_CA_BUNDLE)
        kept+=("$name=$value")
        if [ -f "$value" ]; then install -D -m 644 "$value" "$root$value"; fi
        if [ -d "$value" ]; then bind "$value" "$value"; fi
        ;;
    esac
done < <(env)
if [ -f /etc/pip.conf ]; then cp /etc/pip.conf "$root/etc/pip.conf"; fi
inside() {
    chroot "$root" env -i "${kept[@]}" HOME=/root PATH=/cargo/bin:/usr/bin:/bin CARGO_HOME=/cargo \
        RUSTUP_HOME=/rustup TERM=dumb CARGO_TARGET_DIR=/bequeath/target/sid "$@"
}
status=0
for version in 3.14 3.15; do
    [ -x "$root/usr/bin/python$version" ] || continue
    if [ "${1:-}" = --make ]; then
        inside make --no-print-directory -C /bequeath "PYTHON=/usr/bin/python$version" \
            ${START:+"START=$START"} "${@:2}" || status=1
    else
        inside /bequeath/scripts/other.sh "$version" "/usr/bin/python$version" "$@" || status=1
    fi
done
exit $status
