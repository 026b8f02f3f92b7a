"""What a pool's worker process runs; its loop is the engine's `Seat.work`."""

from __future__ import annotations

import signal
from collections.abc import Callable

from ._remote_error import cannot_send, pack

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

    from . import _engine

__all__ = ["cannot_send", "pack", "raising", "work"]


def work(
    seat: _engine.Seat, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> None:
    """A worker's life."""
    _follow_interrupts(seat)
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as error:
            # The pool says it to whoever waits for a result; nobody is started instead.
            seat.not_ready(pack(error))
            return
    del initializer, initargs
    seat.ready()
    seat.work()


def _follow_interrupts(seat: _engine.Seat) -> None:
    """SIGINT ends what it is meant for, and nothing else: a terminal sends it to all processes."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        # Between tasks it is the parent's affair: who pressed Ctrl-C sees one traceback.
        if seat.interrupt() in ("task", "busy"):
            raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)


def raising(error: BaseException) -> Callable[..., NoReturn]:
    """What stands for a function that arrived and could not be rebuilt."""

    def function(*args: object, **kwargs: object) -> NoReturn:
        raise error

    return function
