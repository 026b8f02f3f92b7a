"""What a module asks for while it is loaded ahead: its answers may be others in the next child."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any


class Noticed:
    """What was asked for."""

    def __init__(self) -> None:
        #: Names of the environment's variables.
        self.variables: set[bytes] = set()
        #: Of "environment" (as a whole), "getcwd", "getpid", "getppid", "urandom".
        self.asked: set[str] = set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While modules are loaded."""
        kind: Any = type(os.environ)
        get, each = kind.__getitem__, kind.__iter__

        def get_noted(environ: Any, key: Any) -> Any:
            try:
                self.variables.add(environ.encodekey(key))
            except TypeError:
                pass
            return get(environ, key)

        def noted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any) -> Any:
                if not _is_numpys_own():
                    self.asked.add(name)
                return original(*args)

            return call

        kind.__getitem__, kind.__iter__ = get_noted, noted("environment", each)
        replaced: list[tuple[Any, str]]
        replaced = [(os, name) for name in ("urandom", "getpid", "getcwd", "getppid")]
        if "random" in sys.modules:
            replaced.append((sys.modules["random"], "_urandom"))
        originals = [getattr(module, name) for module, name in replaced]
        for (module, name), original in zip(replaced, originals, strict=True):
            setattr(module, name, noted(name.lstrip("_"), original))
        try:
            yield
        finally:
            kind.__getitem__, kind.__iter__ = get, each
            for (module, name), original in zip(replaced, originals, strict=True):
                setattr(module, name, original)


def _is_numpys_own() -> bool:
    """Whether it is numpy's own generator that asks, which each child seeds anew."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("numpy.random"):
            return True
        frame = frame.f_back
    return False
