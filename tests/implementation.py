"""The package under test with one start method; a module of its own since children import it."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

START_METHODS = ("fork", "spawn", "forkserver")
IMPLEMENTATIONS = ("multiprocessing", "bequeath")


class Implementation:
    """A package under test with one start method: looks like its context.

    Crosses into children by its two names, so that a child may start children of its own.
    """

    def __init__(self, name: str, start_method: str) -> None:
        self.name = name
        self.start_method = start_method

    @property
    def package(self) -> ModuleType:
        return importlib.import_module(self.name)

    @property
    def is_bequeath(self) -> bool:
        return self.name == "bequeath"

    def module(self, name: str) -> Any:
        """A submodule of the package: `mp.module("connection").wait`."""
        return importlib.import_module(f"{self.name}.{name}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.package.get_context(self.start_method), name)

    def __reduce__(self) -> tuple[Any, ...]:
        return Implementation, (self.name, self.start_method)

    def __repr__(self) -> str:
        return f"{self.name}-{self.start_method}"
