"""Templates: single-threaded processes, started once, that children are forked from."""

from __future__ import annotations

from typing import Any

from . import _engine, spawn

__all__ = [
    "ensure_running",
    "get_inherited_fds",
    "connect_to_new_process",
    "set_forkserver_preload",
]


def start(method: str, launch: _engine.Launch, preparation: dict[str, Any]) -> _engine.Child:
    """A child of this method, from a template that may serve or else by exec."""
    return execute(launch)


def execute(launch: _engine.Launch) -> _engine.Child:
    """A child that is really a fresh interpreter."""
    path = spawn.get_executable()
    assert path is not None, "no interpreter to run; see set_executable()"
    return launch.execute(path, lambda number: spawn.get_command_line(pipe_handle=number))


class ForkServer:
    """The templates of this process tree, under the name and with the methods of the standard
    library's server."""

    def __init__(self) -> None:
        self._forkserver_pid: int | None = None
        self._preload_modules = ["__main__"]

    def set_forkserver_preload(self, modules_names: list[str]) -> None:
        """Modules that children of the forkserver find imported."""
        if not all(type(name) is str for name in modules_names):
            raise TypeError("module_names must be a list of strings")
        self._preload_modules = list(modules_names)

    def get_inherited_fds(self) -> list[int] | None:
        """What came with the start; None in a process that was not started by a template."""
        return None

    def connect_to_new_process(self, fds: list[int]) -> tuple[int, int]:
        """Not offered: a template is asked with the whole launch."""
        raise NotImplementedError("bequeath's templates take whole launches")

    def ensure_running(self) -> None:
        """Start the template unless it runs."""


_forkserver = ForkServer()
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
connect_to_new_process = _forkserver.connect_to_new_process
set_forkserver_preload = _forkserver.set_forkserver_preload
