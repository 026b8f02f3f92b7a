"""Memory that processes share, under multiprocessing's names: `Heap`, `BufferWrapper`.

The allocator is the session's; what is handed out lives as long as anything in any process refers
to it. A heap keeps no blocks of its own, so there is nothing to walk through.
"""

from __future__ import annotations

import sys
import threading

from . import _engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

__all__ = ["BufferWrapper"]


def _checked(size: int) -> int:
    if size < 0:
        raise ValueError(f"Size {size:n} out of range")
    if sys.maxsize <= size:
        raise OverflowError(f"Size {size:n} too large")
    return size


class Heap:
    """Hands out memory of the session."""

    def __init__(self, size: int = 4096) -> None:
        self._lock = threading.Lock()

    def malloc(self, size: int) -> _engine.SharedBytes:
        """Zeroed bytes; at least one, so that there is an address."""
        return _engine.SharedBytes(max(_checked(size), 1))

    def free(self, block: _engine.SharedBytes) -> None:
        """Nothing: a block is free when nobody refers to it."""


class BufferWrapper:
    """So many zeroed bytes of shared memory."""

    _heap: ClassVar[Heap] = Heap()

    def __init__(self, size: int) -> None:
        self._size = _checked(size)
        self._block = BufferWrapper._heap.malloc(size)

    def create_memoryview(self) -> memoryview[int]:
        """A writable view; it keeps the memory."""
        block: Any = self._block  # buffers have no type before 3.12
        return memoryview(block)[: self._size]

    def __getstate__(self) -> tuple[int, _engine.SharedBytes]:
        return self._size, self._block

    def __setstate__(self, state: tuple[int, Any]) -> None:
        self._size, self._block = state
