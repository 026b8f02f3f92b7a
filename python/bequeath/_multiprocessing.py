"""Stands as `_multiprocessing`, the C module under the standard library's package.

Some packages take `SemLock` or `sem_unlink` from it directly.
"""

from __future__ import annotations

from . import _engine

__all__ = ["SemLock", "flags", "sem_unlink"]

#: What the standard library found on this platform when it was built.
flags: dict[str, int] = {"HAVE_SEM_OPEN": 1, "HAVE_SEM_TIMEDWAIT": 1}

# Named POSIX semaphores live in the engine; until its module is there the names are refused
# when they are called.
if hasattr(_engine, "SemLock"):
    SemLock = _engine.SemLock
    sem_unlink = _engine.sem_unlink
else:
    from ._unbuilt import Unbuilt, unbuilt

    class SemLock(Unbuilt):  # type: ignore[no-redef]
        """A named POSIX semaphore."""

        SEM_VALUE_MAX = 2**31 - 1

    sem_unlink = unbuilt(__name__, "sem_unlink")
