"""What `Pool.share` makes of an object: one copy of its large buffers, for all workers."""

from __future__ import annotations

from . import _engine, pickle

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from typing import Any

#: Smaller buffers are each worker's own.
LEAST = 1 << 14


def form(obj: Any) -> Any:
    """What is sent to workers for an object: itself if it has no large buffers."""
    views: list[memoryview[int]] = []

    def is_small(buffer: Any) -> bool:
        view: memoryview[int] = buffer.raw()
        if view.nbytes < LEAST:
            return True
        views.append(view)
        return False

    try:
        pickled = pickle.dumps(obj, protocol=5, buffer_callback=is_small)
    except Exception:
        # It goes only by a transfer, if at all: what refuses it then says why.
        return obj
    return Form(pickled, tuple(map(_copied, views))) if views else obj


def _copied(view: memoryview[int]) -> tuple[_engine.SharedBytes, int]:
    block: Any = _engine.SharedBytes(view.nbytes)  # buffers have no type before 3.12
    memoryview(block)[: view.nbytes] = view
    return block, view.nbytes


class Form:
    """An object whose large buffers lie in memory that all processes of the session have."""

    def __init__(self, pickled: bytes, blocks: tuple[tuple[_engine.SharedBytes, int], ...]):
        self._pickled, self._blocks = pickled, blocks

    def __reduce__(self) -> tuple[Any, ...]:
        return made, (self._pickled, self._blocks)


def made(pickled: bytes, blocks: tuple[tuple[Any, int], ...]) -> Any:
    """In a worker: the object. Nobody may write to what all look at."""
    views = (memoryview(block)[:size].toreadonly() for block, size in blocks)
    return pickle.loads(pickled, buffers=views)
