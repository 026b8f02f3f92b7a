"""No two children draw the same numbers, unless the program seeded its generators.

Children of a template start from copies of the same generators. Those that got their state from
the system get a new one in each child. Those that the program seeded while it was loaded keep
it, as they would have in an exec'ed child, which loads the program again.

Seeded or not is told from the state: a Mersenne Twister whose state cannot have come from the one
that it had when its module was loaded, by drawing numbers, was seeded.
"""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any

#: How many numbers the program may have drawn while it was loaded: this many blocks of 624.
_BLOCKS = 64

_at_load: dict[str, Any] = {}
_seeded: dict[str, Any] = {}


@contextmanager
def watched() -> Iterator[None]:
    """While modules are loaded: remember the first state of each generator."""
    original = builtins.__import__

    def note(*args: Any, **kwargs: Any) -> Any:
        module = original(*args, **kwargs)
        _note_new()
        return module

    _note_new()
    builtins.__import__ = note
    try:
        yield
    finally:
        builtins.__import__ = original
        _note_new()
        for name, first in _at_load.items():
            if _was_seeded(name, first):
                module = sys.modules[name]
                _seeded[name] = module.getstate() if name == "random" else None


def note_those_of_start_up() -> None:
    """Generators that site hooks loaded, unwatched, are taken for unseeded."""
    _note_new()


_renewed_in = 0


def renew() -> None:
    """In the child, at the latest before its own code runs: new states from the system, once."""
    global _renewed_in
    if _renewed_in == os.getpid():
        return
    _renewed_in = os.getpid()
    for name in _at_load:
        module = sys.modules[name]
        if name not in _seeded:
            module.seed()
        elif name == "random":
            # The module renews itself after any fork; an exec'ed child would have been seeded.
            module.setstate(_seeded[name])
    ssl = sys.modules.get("_ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(32), 32.0)


def renew_after_fork() -> None:
    """In a forked child: numpy's own generator, which knows whether it was seeded by hand.

    (The random module renews itself.)
    """
    if "numpy.random" in sys.modules and not _lost_its_seed():
        sys.modules["numpy.random"].seed()


def _note_new() -> None:
    for name in ("random", "numpy.random"):
        if name not in _at_load and name in sys.modules:
            state = _state(name)
            if state is not None:
                _at_load[name] = state


def _state(name: str) -> tuple[tuple[int, ...], int] | None:
    """Words and position of a module's generator; None while the module is being loaded."""
    module = sys.modules[name]
    try:
        if name == "random":
            words = module.getstate()[1]
            return words[:-1], words[-1]
        kind, words, position = module.get_state()[:3]
    except (AttributeError, TypeError, ValueError):
        return None
    return (tuple(map(int, words)), int(position)) if kind == "MT19937" else None


def _lost_its_seed() -> bool:
    """Whether numpy's generator was seeded by hand: then it forgets what it was made from."""
    try:
        return sys.modules["numpy.random"].mtrand._rand._bit_generator._seed_seq is None
    except AttributeError:
        return False


def _was_seeded(name: str, first: tuple[tuple[int, ...], int]) -> bool:
    now = _state(name)
    if name == "numpy.random" and _lost_its_seed():
        return True
    if now is None or now == first:
        return False
    import random

    words, _position = first
    twin = random.Random()
    twin.setstate((3, (*words, 624), None))
    for _block in range(_BLOCKS):
        if words == now[0]:
            return False
        twin.getrandbits(32 * 624)
        words = twin.getstate()[1][:-1]
    return True
