"""Control groups: one of a test's own, where the machine allows, and what is counted in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def own_group() -> Path | None:
    """This process's group in a hierarchy that limits memory, version 1 or 2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return Path("/sys/fs/cgroup/memory") / path.lstrip("/")
        if controllers == "":
            folder = Path("/sys/fs/cgroup") / path.lstrip("/")
            switched_on = folder / "cgroup.subtree_control"
            if switched_on.exists() and "memory" in switched_on.read_text():
                return folder
    return None


@contextmanager
def group_of(limit: int) -> Iterator[Path | None]:
    """A group that may use so many bytes; None where none can be made."""
    above = own_group()
    group = above and above / f"bequeath-test-{os.getpid()}"
    if group is None:
        yield None
        return
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        for name in ("memory.limit_in_bytes", "memory.max"):
            if (group / name).exists():
                (group / name).write_text(str(limit))
        yield group
    finally:
        while (group / "cgroup.procs").read_text():
            time.sleep(0.01)  # until the last of those that end is gone
        group.rmdir()


def enter(group: Path, pid: int) -> None:
    """Put a process into it; its children will be there too."""
    (group / "cgroup.procs").write_text(str(pid))


def killed_in(group: Path) -> int:
    """How many processes the kernel killed in it for lack of memory."""
    for name in ("memory.oom_control", "memory.events"):
        if (group / name).exists():
            words = dict(line.split() for line in (group / name).read_text().splitlines())
            return int(words.get("oom_kill", 0))
    return 0
