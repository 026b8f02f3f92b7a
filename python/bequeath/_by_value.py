"""Functions and classes that the receiver cannot import: they cross as what they are.

A definition goes *by reference* if the receiver surely has it: it can be imported here under its
name, and if it belongs to the main module it stands there at the left margin, so that the
re-imported main module of a spawned child has it too. A name of the main module that a child may
lack (under the guard, made at run time) goes *both* ways: the receiver takes its own definition
if it has one, else it builds the one in the message and keeps it in its main module, so that one
definition arrives once. What has no name (lambdas, local functions and classes) goes *by value*.

A function by value keeps its globals by reference: it is bound to the receiver's module of the
same name. Only those names that a re-imported main may lack travel with it.

Classes are taken apart and rebuilt by `cloudpickle`, loaded when the first one is met.
"""

from __future__ import annotations

import importlib
import marshal
import os
import sys
import threading
from collections.abc import Callable, Iterator
from copyreg import dispatch_table as _copyreg_dispatch
from types import CellType, CodeType, FunctionType
from weakref import WeakKeyDictionary

from . import _engine
from ._home import MAIN, home, is_importable, lookup, main_module, main_surely_has
from ._parts import PARTS, reduce_mark

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any

#: Pickle knows these three types itself, under no name of any module.
_NAMELESS = (type(None), type(NotImplemented), type(...))


def reduce(obj: Any) -> Any:
    """A reduce value for a function or class, or NotImplemented for "by reference"."""
    if any(obj is nameless for nameless in _NAMELESS) or type(obj) in _copyreg_dispatch:
        return NotImplemented
    module, name = home(obj)
    if module is None:
        return _value(obj)
    if module.__name__ not in MAIN:
        return NotImplemented if is_importable(module) else _value(obj)
    root = name.partition(".")[0]
    if main_surely_has(root):
        return NotImplemented
    if root in _in_progress():
        # Part of a definition that is being taken apart: the class's own methods as values,
        # the definition itself by the name it will have by then.
        return (_main_name, (name,)) if name == root else _value(obj)
    if name != root:
        parent, _, last = name.rpartition(".")
        return getattr, (lookup(module, parent), last)
    return _main_definition, (name, _both(obj, name))


def way(obj: Any) -> str:
    """How a function or class crosses, in the words of `--narrate`."""
    module, name = home(obj)
    if module is None or not (module.__name__ in MAIN or is_importable(module)):
        return "by value"
    if module.__name__ in MAIN and not main_surely_has(name.partition(".")[0]):
        return "by reference, else by value"
    return "by reference"


# --- both: a name of main, and what it stands for ---

_lock = threading.RLock()
_local = threading.local()
_forms: WeakKeyDictionary[Any, bytes] = WeakKeyDictionary()


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


def _in_progress() -> set[str]:
    names: set[str] | None = getattr(_local, "names", None)
    if names is None:
        names = _local.names = set()
    return names


def _both(obj: Any, name: str) -> bytes:
    """The value form, a pickle of its own so that a receiver may leave it unread."""
    form = _forms.get(obj)
    if form is not None:
        return form
    before = _engine.transfer_load()
    names = _in_progress()
    names.add(name)
    try:
        form = _engine.transfer_dumps(_Definition(obj, name))
    finally:
        names.discard(name)
    if _engine.transfer_load() == before:
        # No handle in it that belongs to this one message: the next message can have the same.
        _forms[obj] = form
    return form


class _Definition:
    """Makes the pickler take `obj` apart at once, as a definition of main under this name."""

    def __init__(self, obj: Any, name: str) -> None:
        self._obj = obj
        self._name = name

    def __reduce__(self) -> Any:
        make, arguments, *rest = _value(self._obj)
        return (_planted, (self._name, make, *arguments), *rest)


def _main_name(name: str) -> Any:
    """What this process's main module has under the name."""
    return getattr(main_module(), name)


def _main_definition(name: str, form: bytes) -> Any:
    """This process's own definition; without one, that of the message, from now on its own."""
    with _lock:
        try:
            return getattr(main_module(), name)
        except AttributeError:
            return _engine.loads(form)


def _planted(name: str, make: Callable[..., Any], *arguments: Any) -> Any:
    """Build, and let main have it before its parts are set: they may refer to it."""
    made = make(*arguments)
    setattr(main_module(), name, made)
    return made


# --- by value ---


def _value(obj: Any) -> Any:
    if isinstance(obj, FunctionType):
        return _function_value(obj)
    if not obj.__flags__ & _HEAP_TYPE:
        return _interpreter_type(obj)
    from cloudpickle import cloudpickle  # type: ignore[import-untyped]

    # Generic classes hold their type variables, which pickle only knows by name; data classes
    # hold marks of `dataclasses`, which are compared by identity.
    PARTS.setdefault(cloudpickle.typing.TypeVar, cloudpickle._typevar_reduce)
    if "dataclasses" in sys.modules:
        for mark in ("MISSING", "_FIELD", "_HAS_DEFAULT_FACTORY", "KW_ONLY"):
            if hasattr(sys.modules["dataclasses"], mark):
                PARTS[type(getattr(sys.modules["dataclasses"], mark))] = reduce_mark
    make, arguments, *rest = cloudpickle._dynamic_class_reduce(obj)
    slots = vars(obj).get("__slots__")
    if make is cloudpickle._make_skeleton_class and slots is not None:
        # Set afterwards, they would not make slots. (typing.NamedTuple makes its own empty ones.)
        if not slots and "__orig_bases__" in vars(obj):
            return make, arguments, *rest
        names = {**arguments[3], "__slots__": obj.__slots__}
        arguments = (*arguments[:3], names, *arguments[4:])
    return make, arguments, *rest


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made at run time


def _interpreter_type(obj: type) -> Any:
    """A type of the interpreter that says it lives in a module that does not have it."""
    import types

    for name, value in vars(types).items():
        if value is obj:
            return getattr, (types, name)
    return NotImplemented


def _function_value(function: FunctionType) -> Any:
    home = _home_of_globals(function)
    arguments = (
        marshal.dumps(function.__code__),
        home,
        function.__name__,
        function.__closure__,
    )
    state = {
        "attributes": dict(_attributes(function)),
        "dict": function.__dict__,
        "globals": dict(_travelling_globals(function, home)),
    }
    return _make_function, arguments, state, None, None, _set_function


_ATTRIBUTES = (
    "__qualname__",
    "__module__",
    "__doc__",
    "__defaults__",
    "__kwdefaults__",
    "__annotations__",
    "__type_params__",
)


def _attributes(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name in _ATTRIBUTES:
        try:
            value = getattr(function, name, None)
        except Exception:
            continue  # annotations that are worked out late may name what does not exist
        if value:
            yield name, value


def _home_of_globals(function: FunctionType) -> str | None:
    """The module whose dictionary the function's globals are, if the receiver has it too."""
    names = function.__globals__
    name = names.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or vars(module) is not names:
        main = sys.modules.get("__main__")
        return "__main__" if main is not None and vars(main) is names else None
    if module.__name__ in MAIN:
        return "__main__"
    return name if is_importable(module) else None


def _travelling_globals(function: FunctionType, home: str | None) -> Iterator[tuple[str, Any]]:
    """The globals that the function uses and the receiver may lack."""
    if home not in (None, "__main__"):
        return
    names = function.__globals__
    for name in _global_names(function.__code__):
        if name in names and (home is None or not main_surely_has(name)):
            yield name, names[name]


_names_of_code: WeakKeyDictionary[CodeType, tuple[str, ...]] = WeakKeyDictionary()


def _global_names(code: CodeType) -> tuple[str, ...]:
    """The global names that code and the code inside it read or write."""
    names = _names_of_code.get(code)
    if names is None:
        import dis

        found = {
            step.argval: None
            for step in dis.get_instructions(code)
            if step.opname.endswith(("_GLOBAL", "_NAME")) and isinstance(step.argval, str)
        }
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                found.update(dict.fromkeys(_global_names(constant)))
        names = _names_of_code[code] = tuple(found)
    return names


def _make_function(
    code: bytes, home: str | None, name: str, closure: tuple[CellType, ...] | None
) -> FunctionType:
    if home is None:
        names: dict[str, Any] = {"__builtins__": __builtins__}
    elif home == "__main__":
        names = vars(main_module())
    else:
        names = vars(importlib.import_module(home))
    return FunctionType(marshal.loads(code), names, name, None, closure)


#: Names that arrived in main with a function; a later message brings their newer values.
_arrived: set[str] = set()


def _set_function(function: FunctionType, state: dict[str, Any]) -> None:
    for name, value in state["attributes"].items():
        setattr(function, name, value)
    function.__dict__.update(state["dict"])
    names = function.__globals__
    in_main = names is vars(main_module())
    for name, value in state["globals"].items():
        if name not in names or not in_main or name in _arrived:
            names[name] = value
            if in_main:
                _arrived.add(name)
