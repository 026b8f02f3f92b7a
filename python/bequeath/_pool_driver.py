"""The workers of one pool and the thread that drives them, for `Pool` and the executor.

Who runs which task is decided by the engine (`bequeath-pool`); here are the processes, the thread
and the exceptions. The thread is the only one that a pool has besides its callers': it waits for
results, for workers that end and for deadlines, and gives results to those who asked for them.
"""

from __future__ import annotations

import functools
import operator
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from . import _budgets, _engine, _pool_worker, _remote_error, util

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

__all__ = ["Driver", "Errors"]

#: A kill for lack of memory that is counted now has its worker seen to end within so many seconds.
CLAIMED_WITHIN = 1.0


class Errors:
    """Which exceptions tasks end with that have no result. Interfaces have their own."""

    def died(self, facts: dict[str, Any]) -> BaseException:
        """The worker died with the task in its hands."""
        from .exceptions import WorkerDied

        return WorkerDied(**death(facts))

    def broken(
        self, reason: str, cause: BaseException | None, facts: dict[str, Any]
    ) -> BaseException:
        """No task can succeed any more."""
        from .exceptions import PoolBroken

        error = PoolBroken(broken_text(reason, facts))
        error.__cause__ = cause
        return error

    def timed_out(self, seconds: float, task: tuple[Any, ...]) -> BaseException:
        """The task took longer than it may."""
        from .exceptions import TimeoutError

        return TimeoutError(f"{in_short(*task)} took longer than {seconds:g} s")

    def cancelled(self) -> BaseException:
        """The task is not wanted any more."""
        from concurrent.futures import CancelledError

        return CancelledError()

    def terminated(self) -> BaseException:
        """The pool was terminated before the task was done."""
        return RuntimeError("the pool was terminated before the task was done")


def show(error: BaseException) -> None:
    """An error that is nobody's result."""
    threading.excepthook(
        threading.ExceptHookArgs(
            (type(error), error, error.__traceback__, threading.current_thread())
        )
    )


class _Hooks:
    """What the engine asks for. It does not know the pool, which may be forgotten meanwhile."""

    def __init__(self, make: Callable[[int, Any], Any], errors: Errors) -> None:
        self.start = make
        self._errors = errors
        self.timed_out = errors.timed_out
        self.cancelled = errors.cancelled
        self.terminated = errors.terminated
        self.unpack = _remote_error.unpack
        self.unloadable = _remote_error.unloadable
        self.show = show
        self._kills: int | None = None
        #: Kills counted of which no worker has been seen to end, and until when they count.
        self._unclaimed, self._until = 0, 0.0
        self._oom: bool | None = None

    def count_kills(self) -> None:
        """From now on it can be told whether a worker was killed for want of memory."""
        self._kills = _engine.oom_kills()

    def reap(self, worker: int, process: Any) -> int | None:
        """A worker's process has ended: its exit code."""
        process.join()
        exitcode: int | None = process.exitcode
        self._oom = self._was_for_memory() if exitcode == -signal.SIGKILL else False
        return exitcode

    def _was_for_memory(self) -> bool | None:
        """Whether the kernel counted a kill for lack of memory that no other worker claims."""
        before, after = self._kills, _engine.oom_kills()
        self._kills = after
        if before is None or after is None:
            return None
        now = time.monotonic()
        if after > before:
            # Two that were killed at once are seen to end one after the other.
            self._unclaimed, self._until = after - before, now + CLAIMED_WITHIN
        elif now > self._until:
            self._unclaimed = 0
        if not self._unclaimed:
            return False
        self._unclaimed -= 1
        return True

    def died(self, facts: dict[str, Any]) -> BaseException:
        """The exception of a task whose worker died; the one that was reaped last."""
        return self._errors.died({**facts, "oom": self._oom})

    def broken(
        self, reason: str, cause: BaseException | None, facts: dict[str, Any]
    ) -> BaseException:
        """The exception of a task of a broken pool."""
        return self._errors.broken(reason, cause, facts)

    @staticmethod
    def of_signal_handler(error: BaseException, trace: TracebackType | None) -> bool:
        """Whether a signal handler raised it, and not what it came in between."""
        if isinstance(error, KeyboardInterrupt):
            return True
        handlers = map(signal.getsignal, signal.valid_signals())
        codes = [getattr(handler, "__code__", None) for handler in handlers]
        while trace is not None:
            if trace.tb_frame.f_code in codes:
                return True
            trace = trace.tb_next
        return False


class Driver:
    """Workers, and the thread that drives them."""

    def __init__(
        self,
        ctx: Any,
        processes: int,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks: int | None = None,
        on_death: str = "fail",
        retries: int = 2,
        on_demand: bool = False,
        daemon: bool = True,
        name: str = "PoolWorker",
        errors: Errors | None = None,
        terminate_after: float = 2.0,
        kill_after: float = 2.0,
        process: Callable[..., Any] | None = None,
        finished: Callable[[], object] = lambda: None,
    ) -> None:
        make_process = process or ctx.Process
        initargs = tuple(initargs)
        share = _budgets.share(processes)
        opening = True  # the first workers start together

        def make(worker: int, seat: _engine.Seat) -> Any:
            arguments = (seat, initializer, initargs, share)
            made = make_process(target=_pool_worker.work, args=arguments)
            made.name = made.name.replace("Process", name)
            made.daemon = daemon
            made._among_others = opening
            try:
                made.start()
            except BaseException:
                # A signal handler's, perhaps, with the process there already: nobody would know.
                if getattr(made, "pid", None) is not None:  # a process may be another library's
                    made.kill()
                    made.join()
                raise
            return made

        hooks = _Hooks(make, errors or Errors())
        self.engine = engine = _engine.PoolDriver(
            hooks,
            processes,
            max_tasks=max_tasks,
            on_demand=on_demand,
            on_death=on_death,
            retries=retries,
            terminate_after=terminate_after,
            kill_after=kill_after,
        )
        try:
            engine.open()
        except BaseException:
            # Not all of them could be started: those that were are not needed either.
            for one in engine.processes():
                one.terminate()
            for one in engine.processes():
                one.join()
            raise
        opening = False
        #: What else ends with the workers.
        self.ends: list[Callable[[], object]] = [finished]
        hooks.count_kills()  # while the workers load
        self.thread = threading.Thread(
            target=_run, args=(engine, self.ends), name="bequeath pool driver", daemon=True
        )
        self.thread.start()
        try:
            for worker, one in enumerate(engine.processes()):
                # What the first can load, the others can. A process may be another library's.
                hear = getattr(getattr(one, "_popen", None), "hear_of_start", None)
                if hear is not None:
                    hear(worker == 0)
        except BaseException:
            _end(engine, self.thread)
            raise
        # Before the interpreter is taken apart, and when whoever has the driver has forgotten it.
        self._ending = util.Finalize(self, _end, (engine, self.thread), exitpriority=15)
        self.submit = engine.submit
        self.submit_many = engine.submit_many
        self.refuse = engine.refuse
        self.cancel = engine.cancel
        self.cancel_all = engine.cancel_all
        self.close = engine.close
        self.terminate = engine.terminate
        self.kill = engine.kill
        self.stats = engine.stats
        self.share = engine.share
        self.attend_for = engine.attend_for
        self.processes = engine.processes
        self.is_running = engine.is_running

    def join(self, timeout: float | None = None) -> bool:
        """Wait until all workers have ended; false when the timeout passed first."""
        if threading.current_thread() is self.thread and not self.engine.join(0):
            raise RuntimeError("a callback cannot wait for the end of its own pool")
        done = self.engine.join(timeout)
        if done and threading.current_thread() is not self.thread:
            self.thread.join()
        return done

    @property
    def broken(self) -> BaseException | None:
        """Why no task can succeed any more, if so."""
        return self.engine.broken_by()


def _run(engine: _engine.PoolDriver, ends: list[Callable[[], object]]) -> None:
    try:
        engine.run()
    finally:
        for end in ends:
            end()


def _end(engine: _engine.PoolDriver, thread: threading.Thread) -> None:
    if util.is_exiting():
        engine.leave_off()
    else:
        engine.terminate()
    if threading.current_thread() is not thread:
        engine.join()
        thread.join()


#: In larger lists and dictionaries of a start's arguments no pool is looked for.
LOOKED_INTO = 64


def handed_down(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same with handles in the place of pools: a forked child unpickles nothing."""
    result: tuple[Any, ...] = _handed_down(values, {})
    return result


# (Not functions inside it that know each other: those are a cycle, with all they were given.)
def _handed_down(value: Any, made: dict[int, Any]) -> Any:
    handle = getattr(type(value), "_bequeath_handle", None)
    if handle is not None and id(value) not in made:
        made[id(value)] = handle(value)
    if type(value) not in (tuple, list, dict):
        return made.get(id(value), value)
    if type(value) is not tuple and len(value) > LOOKED_INTO:
        return value
    if id(value) not in made:
        made[id(value)] = value  # in a cycle, which no handle comes into
        made[id(value)] = _with_handles(value, made)
    return made[id(value)]


def _with_handles(container: Any, made: dict[int, Any]) -> Any:
    items = container.values() if type(container) is dict else container
    replaced = [_handed_down(item, made) for item in items]
    if all(map(operator.is_, replaced, items)):
        return container
    if type(container) is dict:
        return dict(zip(container, replaced, strict=True))
    return replaced if type(container) is list else tuple(replaced)


# --- texts ---


def in_short(function: Any, args: Sequence[Any], kwargs: dict[str, Any], how: str = "call") -> str:
    """A call as one short line; what cannot be shown is left out."""
    import reprlib

    shown = reprlib.Repr()
    shown.maxother = shown.maxstring = 40
    if isinstance(function, _pool_worker.Carried):
        return f"{function.name}(...)"  # its arguments are not here
    if isinstance(function, functools.partial):
        inner, kwargs = function.func, {**function.keywords, **kwargs}
        if how == "call":
            function, args = inner, (*function.args, *args)
        elif not function.args:
            function = inner
    name = getattr(function, "__qualname__", None) or shown.repr(function)

    def one(value: Any) -> str:
        try:
            return shown.repr(value)
        except Exception:
            return f"<{type(value).__name__}>"

    if how != "call" and len(args) != 1:
        first, last = one(args[0]), one(args[-1])
        return f"{name} for {len(args)} elements, {first} to {last}"
    if how == "star":
        args = tuple(args[0])
    parts = [*map(one, args), *(f"{key}={one(value)}" for key, value in kwargs.items())]
    return f"{name}({', '.join(parts)})"


def death(facts: dict[str, Any]) -> dict[str, Any]:
    """What is known of a worker's death, as `WorkerDied` takes it."""
    process = facts.get("process")
    task = facts.get("task")
    return {
        "pid": process.pid if process is not None else None,
        "name": process.name if process is not None else None,
        "exitcode": facts.get("exitcode"),
        "task": in_short(*task) if task is not None else None,
        "seconds": facts.get("seconds"),
        "stack": facts.get("stack"),
        "oom": facts.get("oom"),
    }


def ending(exitcode: int | None) -> str:
    """How a process ended, in words."""
    if exitcode is None:
        return "ended"
    if exitcode >= 0:
        return f"exited with code {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"


def broken_text(reason: str, facts: dict[str, Any]) -> str:
    """Why a pool is broken, in words."""
    process = facts.get("process")
    who = f"worker {process.name} (pid {process.pid})" if process is not None else "a worker"
    return {
        "initializer": "the initializer raised in a worker; no more are started",
        "never ready": f"workers end before they are ready; the last, {who}, "
        + ending(facts.get("exitcode")),
        "no process": "no worker process could be started",
        "unreadable": "what the workers answer cannot be read any more",
    }.get(reason, f"{who} {ending(facts.get('exitcode'))}")
