"""The start method "spawn": a fresh interpreter, forked from a clean template or really exec'ed."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

from . import _engine, _settings, forkserver, popen_fork, process, spawn
from .context import set_spawning_popen

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Popen"]


class _DupFd:
    """A descriptor in the pickle of what a child is started with: its place among those sent."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def detach(self) -> int:
        """In the child: the descriptor, which is the caller's from now on."""
        return spawn.given_descriptor(self.fd)


class Popen(popen_fork.Popen):
    """A child that shares nothing with this process but what it is handed."""

    method = "spawn"
    DupFd = _DupFd

    def __init__(self, process_obj: process.BaseProcess) -> None:
        self._fds: list[int] = []
        self._heard: Callable[[bool], None]
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Sends the descriptor along; what stands for it is its place."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj: process.BaseProcess) -> None:
        preparation = spawn.get_preparation_data(process_obj._name)
        outside = not process_obj._session
        if outside:
            # It finds out by itself, and keeps to itself, what members of a tree tell each other.
            preparation = {**preparation, "authkey": process_obj.authkey}
            preparation.pop("preload", None)
        else:
            preparation.update(_tracker())
        pack = _engine.pack_outside if outside else _engine.pack
        set_spawning_popen(self)
        try:
            head = pack(preparation)
            body = pack(process_obj) if outside else _pack(process_obj, self.method)
        finally:
            set_spawning_popen(None)
        report = _engine.Report()
        launch = _engine.Launch(
            process_obj._name,
            head,
            body,
            [*self._fds, report.fileno()],
            popen_fork.on_parent_death(process_obj),
            process_obj._among_others,
        )
        if outside:
            # No template of the tree, and no way to one: their children are members.
            child, patience = forkserver.execute(launch, ways=False), 0.0
        else:
            child, patience = self._start(launch, preparation)
        report.handed_over()
        del launch  # its copies of the descriptors are the child's now
        self._heard = functools.partial(self._hear, report, patience, process_obj._name, child)
        if not process_obj._among_others:
            self.hear_of_start()
        self._adopt(child)

    def hear_of_start(self, wait: bool = True) -> None:
        heard, self._heard = self._heard, lambda wait: None
        heard(wait)

    def _hear(
        self, report: _engine.Report, patience: float, name: str, child: _engine.Child, wait: bool
    ) -> None:
        word = report.hear(patience if wait else 0.0)
        if word is None and wait and patience > 0:
            forkserver.note_slow_load(self.method)
        elif word:
            try:
                spawn.raise_failure(word, name)
            except BaseException:
                child.wait(None)
                raise

    def _start(
        self, launch: _engine.Launch, preparation: dict[str, Any]
    ) -> tuple[_engine.Child, float]:
        return forkserver.start(self.method, launch, preparation)


def _tracker() -> dict[str, Any]:
    """The running tracker's descriptor: what a child registers lives as long as the program."""
    resource_tracker = sys.modules.get(f"{__package__}.resource_tracker")
    if resource_tracker is None or resource_tracker._resource_tracker._fd is None:
        return {}
    from .resource_sharer import DupFd

    return {"tracker": DupFd(resource_tracker._resource_tracker._fd)}


def _pack(process_obj: process.BaseProcess, method: str) -> _engine.Packed:
    if not _settings.narrate:
        return _engine.pack(process_obj)
    from . import _narrate

    return _narrate.pack(process_obj, method)  # type: ignore[no-any-return]
