"""ctypes objects in shared memory, with or without a lock around them."""

from __future__ import annotations

import ctypes
import weakref

from . import _engine, context, heap
from ._engine import Synchronized, SynchronizedArray, SynchronizedBase, SynchronizedString
from .reduction import ForkingPickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .heap import BufferWrapper

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

typecode_to_type: dict[str, type[Any]] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}

prop_cache: dict[str, property] = {}
class_cache: weakref.WeakKeyDictionary[type, type[SynchronizedBase[Any]]] = (
    weakref.WeakKeyDictionary()
)


def _new_value(type_: Any) -> Any:
    try:
        size = ctypes.sizeof(type_)
    except TypeError as error:
        codes = ", ".join(sorted(typecode_to_type))
        raise TypeError(
            f"bad typecode: {type_!r} is neither a ctypes type nor one of {codes}"
        ) from error
    return rebuild_ctype(type_, heap.BufferWrapper(size), None)


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """A ctypes object in shared memory; `args` go to its constructor."""
    obj = _new_value(typecode_to_type.get(typecode_or_type, typecode_or_type))
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """A ctypes array in shared memory: of so many zeros, or of these values."""
    type_ = typecode_to_type.get(typecode_or_type, typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new_value(type_ * size_or_initializer)
    result = _new_value(type_ * len(size_or_initializer))
    result.__init__(*size_or_initializer)
    return result


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """A ctypes object in shared memory behind a lock of its own, or `lock`, or none if False."""
    return _guarded(RawValue(typecode_or_type, *args), lock, ctx)


def Array(
    typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None
) -> Any:
    """A ctypes array in shared memory behind a lock of its own, or `lock`, or none if False."""
    return _guarded(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def _guarded(obj: Any, lock: Any, ctx: Any) -> Any:
    if lock is False:
        return obj
    if lock is True or lock is None:
        ctx = ctx or context._default_context.get_context()
        lock = ctx.RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock, ctx=ctx)


def copy(obj: Any) -> Any:
    """A copy in shared memory of its own."""
    new_obj = _new_value(type(obj))
    ctypes.pointer(new_obj)[0] = obj
    return new_obj


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Put a ctypes object behind a lock."""
    assert not isinstance(obj, SynchronizedBase), "object already synchronized"
    ctx = ctx or context._default_context.get_context()
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        if obj._type_ is ctypes.c_char:
            return SynchronizedString(obj, lock, ctx)
        return SynchronizedArray(obj, lock, ctx)
    return _synchronized_class(type(obj))(obj, lock, ctx)


def _synchronized_class(cls: Any) -> type[SynchronizedBase[Any]]:
    made = class_cache.get(cls)
    if made is None:
        properties = {field[0]: make_property(field[0]) for field in cls._fields_}
        made = type("Synchronized" + cls.__name__, (SynchronizedBase,), properties)
        class_cache[cls] = made
    return made


def reduce_ctype(obj: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """How a ctypes object in shared memory crosses: its memory does, by reference."""
    _engine.check_transfer(obj)
    if isinstance(obj, ctypes.Array):
        return rebuild_ctype, (obj._type_, obj._wrapper, obj._length_)  # type: ignore[attr-defined]
    return rebuild_ctype, (type(obj), obj._wrapper, None)


def rebuild_ctype(type_: Any, wrapper: BufferWrapper, length: int | None) -> Any:
    """A ctypes object on shared memory."""
    if length is not None:
        type_ = type_ * length
    ForkingPickler.register(type_, reduce_ctype)
    obj = type_.from_buffer(wrapper.create_memoryview())
    obj._wrapper = wrapper
    return obj


def make_property(name: str) -> property:
    """A property that reads and writes a field of the wrapped object under the lock."""
    made = prop_cache.get(name)
    if made is not None:
        return made

    def read(self: SynchronizedBase[Any]) -> Any:
        with self:
            return getattr(self._obj, name)

    def write(self: SynchronizedBase[Any], value: Any) -> None:
        with self:
            setattr(self._obj, name, value)

    made = prop_cache[name] = property(read, write)
    return made
