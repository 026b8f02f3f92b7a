"""`ExecutorHandle`: an executor in processes that did not make it."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import _base
from concurrent.futures._base import Future
from typing import TYPE_CHECKING, Any

from ._executor import ProcessPoolExecutor, _Call
from ._pool_guests import client_of, not_here

if TYPE_CHECKING:
    from ._pool_guests import Door

__all__ = ["ExecutorHandle"]


class ExecutorHandle(ProcessPoolExecutor):
    """An executor of another process, as it arrives in a message or among a start's arguments.

    The executor belongs to who made it: `shutdown` waits for what this process has asked for, and
    is the end of this handle only. `Future.cancel` of a call that no worker has begun drops its
    result; `interrupt` stops it.
    """

    def __init__(self, door: Door, timeout: float | None) -> None:
        self._shutdown_lock = threading.Lock()
        self._door: Door = door
        self._timeout = timeout
        self._max_workers = door.processes
        self._shutdown_thread = False
        self._open = {}
        self._numbers = itertools.count(1)
        self._started: Any = None

    def _driver(self) -> Any:
        if self._shutdown_thread:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self._started = client_of(self._door, self._started)
        return self._started

    def _open_door(self) -> Door:
        return self._door

    def _bequeath_handle(self) -> ProcessPoolExecutor:
        return self

    @property
    def _broken(self) -> BaseException | None:
        return None

    @property
    def _processes(self) -> dict[int, Any] | None:
        return None

    def stats(self) -> dict[str, Any]:
        """Refused: the workers are another process's."""
        raise not_here("stats")

    def interrupt(self, future: Future[Any]) -> bool:
        """As an executor's; only the owner knows which calls run."""
        for call in list(self._open.values()):
            if isinstance(call, _Call) and call.future is future and call.task is not None:
                return self._started.cancel(call.task, running=True)  # type: ignore[no-any-return]
        return False

    def _force_shutdown(self, operation: str) -> None:
        raise not_here(f"{operation}_workers")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks by this handle."""
        with self._shutdown_lock:
            self._shutdown_thread = True
        if cancel_futures:
            self._cancel_open(self._started)
        if wait:
            calls = [call for call in list(self._open.values()) if isinstance(call, _Call)]
            _base.wait([call.future for call in calls])
