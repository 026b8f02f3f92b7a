"""What a pool's worker process runs; its loop is the engine's `Seat.work`."""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Callable

from . import _budgets
from ._engine import Sealed
from ._remote_error import cannot_send, pack

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

    from . import _engine

__all__ = [
    "Carried",
    "cannot_send",
    "map_chunk",
    "pack",
    "raising",
    "shared",
    "starmap_chunk",
    "work",
]

#: What can be pickled and rebuilt by everybody.
UNFAILING = frozenset((type(None), bool, int, float, complex, str, bytes))

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
    _follow_interrupts(seat)  # first: this is not what Ctrl-C is meant for
    _budgets.limit(share)
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


def map_chunk(function: Callable[..., Any], chunk: tuple[Any, ...]) -> list[Any]:
    """What a guest (`_pool_guests`) asks for: some elements of its map."""
    return list(map(function, chunk))


def starmap_chunk(function: Callable[..., Any], chunk: tuple[Any, ...]) -> list[Any]:
    """The same, with tuples of arguments."""
    return [function(*arguments) for arguments in chunk]


class Carried:
    """A guest's call on its way: opened and answered by the worker, past the pool's owner."""

    __slots__ = ("_call", "_number", "_results", "_tells_errors", "name")

    def __init__(
        self,
        call: _engine.Sealed,
        results: _engine.Queue[Any],
        number: int,
        name: str,
        tells_errors: bool,
    ) -> None:
        self.name = name
        self._call, self._results = call, results
        self._number, self._tells_errors = number, tells_errors

    def __reduce__(self) -> tuple[Any, ...]:
        return Carried, (self._call, self._results, self._number, self.name, self._tells_errors)

    def __call__(self) -> None:
        value: Any = None
        try:
            function, arguments, keywords = self._call.open()
            value = function(*arguments, **keywords)
            outcome = (True, value)
        except Exception as error:
            if not self._tells_errors:
                raise  # it may be what came of an interrupt, and the driver knows better
            outcome = (False, pack(error))
        answer: Sealed | tuple[bool, Any] = outcome
        if type(value) not in UNFAILING or not outcome[0]:
            try:
                answer = Sealed(outcome)
            except Exception as error:
                answer = Sealed((False, cannot_send(error, value)))
        self._results.put((self._number, answer))


def raising(error: BaseException) -> Callable[..., NoReturn]:
    """What stands for a function that arrived and could not be rebuilt."""

    def function(*args: object, **kwargs: object) -> NoReturn:
        raise error

    return function
