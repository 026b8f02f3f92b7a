#!/usr/bin/env bash
# Makes or refreshes a virtual environment: environment.sh FOLDER INTERPRETER REQUIREMENTS-FILE...
# Does nothing when the same interpreter and the same requirements were installed before.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1 interpreter=$2
shift 2

if ! command -v "$interpreter" >/dev/null; then
    echo "missing: $interpreter (bequeath needs CPython 3.10 or newer)" >&2
    exit 1
fi
"$interpreter" - <<'PYTHON' || exit 1
import sys
if sys.implementation.name != "cpython" or sys.version_info < (3, 10):
    sys.exit(f"missing: CPython 3.10 or newer ({sys.executable} is {sys.version.split()[0]})")
try:
    import ensurepip, venv
except ImportError:
    major, minor = sys.version_info[:2]
    sys.exit(
        f"missing: the module ensurepip of {sys.executable}, which makes the virtual environment; "
        f"on Debian and Ubuntu: apt-get install python{major}.{minor}-venv"
    )
PYTHON

wanted=$({ "$interpreter" -c 'import sys; print(sys.version, sys.base_prefix)'; cat requirements/*.txt; } | cksum)
stamp=$folder/requirements.installed
known=$(cat "$stamp" 2>/dev/null || true)
case "$known" in *"$wanted $*"*) exit 0 ;; esac
if [ ! -x "$folder/bin/python" ] || [ "$("$folder/bin/python" -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null)" != \
    "$("$interpreter" -c 'import sys; print(sys.version, sys.base_prefix)')" ]; then
    "$interpreter" -m venv --clear "$folder"
    known=
fi
echo "installing into $folder: $*"
options=()
for file in "$@"; do options+=(-r "$file"); done
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${options[@]}"
printf '%s\n%s %s\n' "$known" "$wanted" "$*" >"$stamp"
