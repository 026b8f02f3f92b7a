"""Names that other packages take at import and that bequeath does not have yet.

Each can be imported, subclassed and compared; whoever *calls* it is told once and clearly. The
standard library's own is never handed out in its place: its objects would not know our queues.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

_T = TypeVar("_T", bound=Any)


def refusal(name: str) -> NotImplementedError:
    """The one error for a name not built yet."""
    return NotImplementedError(
        f"bequeath does not have {name} yet; multiprocessing's own can be used beside bequeath "
        f"in a program that does not install it"
    )


class Unbuilt:
    """Base of the classes not built yet: making one raises."""

    def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        for base in cls.__mro__:
            if base.__module__.startswith("bequeath."):
                raise refusal(_public(base.__module__, base.__qualname__))
        raise refusal(cls.__qualname__)


def unbuilt(module: str, name: str) -> Callable[..., NoReturn]:
    """A function not built yet."""

    def function(*args: Any, **kwargs: Any) -> NoReturn:
        raise refusal(_public(module, name))

    function.__module__ = module
    function.__name__ = function.__qualname__ = name
    function.__doc__ = "Not built yet; raises NotImplementedError."
    return function


def members(*names: str) -> Callable[[_T], _T]:
    """Gives a class methods not built yet: a subclass may override or look them up."""

    def add(cls: _T) -> _T:
        for name in names:
            function = unbuilt(cls.__module__, f"{cls.__qualname__}.{name}")
            function.__name__ = name
            setattr(cls, name, function)
        return cls

    return add


def _public(module: str, name: str) -> str:
    return f"{module.partition('.')[2]}.{name}"
