"""What a module leaves behind when it is loaded, and a fork would copy wrongly, share or lose."""

from __future__ import annotations

import gc
import os
import sys
import threading

from . import _engine

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any


def since(before: _engine.Leftovers) -> str | None:
    """What runs or is open now and was not before, by name; None when nothing does or is.

    Threads that their library ends before a fork, and starts again after it, are not left behind:
    OpenBLAS starts its when it is loaded.
    """
    left = before.since(_names_of_threads())
    if left is not None and len(os.listdir("/proc/self/task")) > 1:
        _engine.run_fork_handlers()
        left = before.since(_names_of_threads())
    return left


def _names_of_threads() -> dict[int, str]:
    threads = threading.enumerate()
    return {thread.native_id: thread.name for thread in threads if thread.native_id is not None}


def of_start_up(descriptors: list[int]) -> str | None:
    """What the interpreter's start-up (site hooks) left, where it began with these descriptors."""
    left = since(_engine.Leftovers.of_a_start_with(descriptors))
    if left is not None or not is_traced():
        return left or (shared_things() if "random" in sys.modules else None)
    return "a tracer"


def is_traced() -> bool:
    """Whether something follows every line or call: it does so for one process."""
    monitoring: Any = getattr(sys, "monitoring", None)
    return (
        sys.gettrace() is not None
        or sys.getprofile() is not None
        or (monitoring is not None and any(map(monitoring.get_tool, range(6))))
    )


def shared_things() -> str | None:
    """A new thing that each child would have made for itself, by its type; None if there is none.

    But for those from before, which the collector does not show: they are frozen.
    """
    things = gc.get_objects()
    for group in (things, gc.get_referents(*things)):
        for kind in set(map(type, group)):
            if not _is_suspicious(kind):
                continue
            if any(_is_no_librarys_own(thing) for thing in group if type(thing) is kind):
                return f"{kind.__module__}.{kind.__qualname__} object"
    return None


#: Where the types of locks, queues and the like are.
_OF_THE_SESSION = tuple(
    f"{__package__}.{name}"
    for name in ("connection", "managers", "pool", "queues", "sharedctypes", "synchronize")
)


def _is_suspicious(kind: type) -> bool:
    return kind.__module__ in _OF_THE_SESSION or issubclass(kind, _generators())


def _generators() -> tuple[type, ...]:
    """Types of sources of random numbers that all children would share."""
    types: list[type] = []
    random = sys.modules.get("random")
    if hasattr(random, "Random"):
        types.append(random.Random)  # type: ignore[union-attr]
    numpy: Any = sys.modules.get("numpy.random")
    if numpy is not None and hasattr(numpy, "mtrand"):
        types += [numpy.Generator, numpy.RandomState, numpy.BitGenerator]
    return tuple(types)


def _is_no_librarys_own(thing: Any) -> bool:
    """Whether nobody takes care of it: the modules' own generators are seeded in each child."""
    random = sys.modules.get("random")
    if random is not None and hasattr(random, "_inst"):
        if thing is random._inst or isinstance(thing, random.SystemRandom):
            return False
    numpy: Any = sys.modules.get("numpy.random")
    if numpy is not None and hasattr(numpy, "mtrand"):
        own = numpy.mtrand._rand
        return thing is not own and thing is not own._bit_generator
    return True
