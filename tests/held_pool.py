"""A pool of two for one test, let go at its end, though pytest keeps what a fixture gave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from implementation import Implementation


class Held:
    """The pool, as long as the test runs."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pool, name)


@contextmanager
def of(mp: Implementation) -> Iterator[Held]:
    """Ends it and waits for its workers, also when the test failed."""
    held = Held(mp.Pool(2))
    try:
        yield held
    finally:
        held.terminate()
        held.join()
        del held.pool
