"""Named shared memory: the names other packages import; the memory itself is a later issue."""

from __future__ import annotations

from ._unbuilt import Unbuilt, members

__all__ = ["SharedMemory", "ShareableList"]

_USE_POSIX = True
_O_CREX = 0o302  # os.O_CREAT | os.O_EXCL | os.O_RDWR
_SHM_SAFE_NAME_LENGTH = 14
_SHM_NAME_PREFIX = "/psm_"


def _make_filename() -> str:
    """A name that is free with near certainty."""
    import secrets

    nbytes = (_SHM_SAFE_NAME_LENGTH - len(_SHM_NAME_PREFIX)) // 2
    return _SHM_NAME_PREFIX + secrets.token_hex(nbytes)


@members("buf", "close", "name", "size", "unlink")
class SharedMemory(Unbuilt):
    """A block of named shared memory."""


@members("count", "format", "index")
class ShareableList(Unbuilt):
    """A list in named shared memory."""
