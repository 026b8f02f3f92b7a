"""What a pool's worker process runs; its loop is the engine's `Seat.work`."""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Callable

from . import _budgets
from ._remote_error import cannot_send, pack

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

    from . import _engine

__all__ = ["Call", "Carried", "Chunk", "cannot_send", "pack", "raising", "shared", "work"]

#: Of this process, if it is a worker.
_seat: _engine.Seat | None = None


def work(
    seat: _engine.Seat,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    share: int | None,
) -> None:
    """A worker's life; `share` is how many threads its libraries get."""
    global _seat
    _seat = seat
    _budgets.limit(share)
    _follow_interrupts(seat)
    if not faulthandler.is_enabled():
        # Its parent reads what it writes when a fault ends it; a program's own handler stays.
        faulthandler.enable(seat.stack_fileno(), all_threads=False)
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


def shared(number: int) -> Any:
    """In a task: the object that `Pool.share` stands for."""
    if _seat is None:
        raise RuntimeError("what a pool shares can be used by its tasks only")
    return _seat.sent(number)


class Call:
    """What a guest (`_pool_guests`) asks for."""

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.function, self.args, self.kwargs = function, args, kwargs

    def __call__(self) -> Any:
        return self.function(*self.args, **self.kwargs)


class Chunk:
    """The same of a map: the function, for each of some elements."""

    def __init__(self, function: Callable[..., Any], chunk: tuple[Any, ...], star: bool) -> None:
        self.function, self.chunk, self.star = function, chunk, star

    def __call__(self) -> list[Any]:
        if self.star:
            return [self.function(*arguments) for arguments in self.chunk]
        return list(map(self.function, self.chunk))


class Carried:
    """A guest's call on its way: read and answered by the worker, past the pool's owner."""

    def __init__(
        self,
        body: _engine.Queue[Any],
        answer: _engine.Queue[Any],
        ready: _engine.Queue[int],
        number: int,
        name: str,
        tells_errors: bool,
    ) -> None:
        self.name = name
        self._body, self._answer, self._ready = body, answer, ready
        self._number, self._tells_errors = number, tells_errors

    def __call__(self) -> None:
        value: Any = None
        try:
            value = self._body.get(False)()
            outcome = (True, value)
        except Exception as error:
            if not self._tells_errors:
                raise  # it may be what came of an interrupt, and the driver knows better
            outcome = (False, pack(error))
        try:
            self._answer.put(outcome)
        except Exception as error:
            self._answer.put((False, cannot_send(error, value)))
        self._ready.put(self._number)


def raising(error: BaseException) -> Callable[..., NoReturn]:
    """What stands for a function that arrived and could not be rebuilt."""

    def function(*args: object, **kwargs: object) -> NoReturn:
        raise error

    return function
