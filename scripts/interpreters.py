"""Lists the other CPythons on this machine: one line `3.12 /path/to/python3.12` for each version.

    python3 scripts/interpreters.py [3.10 3.12 ...]

Looked for on PATH and beside the running interpreter: version managers keep their
installations in one folder, so the parents of `sys.base_prefix` are searched. What is found is
started once, since a name on PATH may be a stub that runs nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

WANTED = ["3.10", "3.11", "3.12", "3.13"]
QUESTION = (
    "import sys, sysconfig; print(sys.implementation.name, '%d.%d' % sys.version_info[:2],"
    " sysconfig.get_config_var('Py_GIL_DISABLED') or 0, sys.executable)"
)


def candidates(version: str) -> Iterator[Path]:
    """Every file that may be an interpreter of this version, the likeliest first."""
    name = f"python{version}"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield Path(folder) / name
    beside = Path(sys.base_prefix).resolve().parent
    for folder in sorted(beside.glob(f"*{version}*"), reverse=True):
        yield folder / "bin" / name


def is_working(path: Path, version: str) -> str | None:
    """The interpreter's own name for itself if it runs and is what its name says."""
    if not os.access(path, os.X_OK):
        return None
    try:
        answer = subprocess.run(
            [path, "-I", "-c", QUESTION], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    fields = answer.stdout.split(maxsplit=3)
    if answer.returncode or fields[:3] != ["cpython", version, "0"]:
        return None
    return fields[3].strip()


def main() -> None:
    own = "{}.{}".format(*sys.version_info[:2])
    for version in sys.argv[1:] or WANTED:
        if version == own and not sys.argv[1:]:
            continue
        found = (is_working(path, version) for path in candidates(version))
        executable = next(filter(None, found), None)
        if executable:
            print(version, executable)


if __name__ == "__main__":
    main()
