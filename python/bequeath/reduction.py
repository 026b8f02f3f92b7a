"""How objects become bytes where multiprocessing's users look for it.

`ForkingPickler` is CPython's C pickler with a table of reducers that packages extend by
`register`; bequeath's own transfer (`_transfer`) obeys the same table. Descriptors (`DupFd`,
`send_handle`, `sendfds`, …) are in the second half.
"""

from __future__ import annotations

import _pickle
import copyreg
import functools
import io
import pickle
from abc import ABCMeta
from collections import ChainMap
from collections.abc import Callable
from typing import Any, ClassVar

__all__ = ["send_handle", "recv_handle", "ForkingPickler", "register", "dump"]


class ForkingPickler(_pickle.Pickler):
    """The pickler that knows multiprocessing's types and those that packages registered."""

    _extra_reducers: ClassVar[dict[type, Callable[[Any], Any]]] = {}
    _copyreg_dispatch: ClassVar[ChainMap[type, Any]] = ChainMap(copyreg.dispatch_table)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dispatch_table = self._copyreg_dispatch.new_child(self._extra_reducers)

    @classmethod
    def register(cls, type: type, reduce: Callable[[Any], Any]) -> None:
        """Reduce objects of exactly this type by this function, here and in every transfer."""
        cls._extra_reducers[type] = reduce

    @classmethod
    def dumps(cls, obj: object, protocol: int | None = None) -> memoryview:
        """The pickle of an object, as a buffer."""
        sink = io.BytesIO()
        cls(sink, protocol).dump(obj)
        return sink.getbuffer()

    loads = pickle.loads


register = ForkingPickler.register


def dump(obj: object, file: Any, protocol: int | None = None) -> None:
    """Pickle an object into a file."""
    ForkingPickler(file, protocol).dump(obj)


# --- reducers of types that plain pickle refuses ---


def _reduce_method(method: Any) -> tuple[Any, ...]:
    return getattr, (method.__self__, method.__func__.__name__)


def _reduce_method_descriptor(descriptor: Any) -> tuple[Any, ...]:
    return getattr, (descriptor.__objclass__, descriptor.__name__)


def _reduce_partial(partial: functools.partial[Any]) -> tuple[Any, ...]:
    return _rebuild_partial, (partial.func, partial.args, partial.keywords or {})


def _rebuild_partial(
    func: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]
) -> functools.partial[Any]:
    return functools.partial(func, *args, **keywords)


class _Sample:
    def method(self) -> None: ...


register(type(_Sample().method), _reduce_method)
register(type(list.append), _reduce_method_descriptor)
register(type(int.__add__), _reduce_method_descriptor)
register(functools.partial, _reduce_partial)
del _Sample


# --- descriptors ---


# --- replacing all of it ---


class AbstractReducer(metaclass=ABCMeta):  # noqa: B024 - multiprocessing's shape
    """Base for a replacement of this module (`context.reducer = …`)."""

    ForkingPickler = ForkingPickler
    register = register
    dump = dump

    def __init__(self, *args: Any) -> None:
        for method in (_reduce_method, _reduce_method_descriptor):
            sample = self.__init__ if method is _reduce_method else list.append  # type: ignore[misc]
            register(type(sample), method)
        register(type(int.__add__), _reduce_method_descriptor)
        register(functools.partial, _reduce_partial)
