"""Late `install()`: what already holds the standard library's multiprocessing.

The standard library's own modules are mended: names that hold a multiprocessing object get ours,
classes derived from one (`concurrent.futures.process._SafeQueue`) are made anew on our base.
Everybody else's modules, and objects in use, cannot be mended behind their back: each is named.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

#: Objects in use that would go on talking to the old implementation; by module and class.
_LIVE = (
    ("process", "BaseProcess"),
    ("queues", "Queue"),
    ("queues", "SimpleQueue"),
    ("connection", "_ConnectionBase"),
    ("connection", "Listener"),
    ("synchronize", "SemLock"),
    ("synchronize", "Condition"),
    ("synchronize", "Event"),
    ("pool", "Pool"),
    ("pool", "ApplyResult"),
    ("managers", "BaseManager"),
    ("managers", "BaseProxy"),
    ("shared_memory", "SharedMemory"),
    ("shared_memory", "ShareableList"),
    ("sharedctypes", "SynchronizedBase"),
    ("heap", "BufferWrapper"),
)


def refuse_holders(package: str) -> None:
    """Raise RuntimeError naming every module and live object that holds `package`'s things."""
    held = [*_foreign_holders(package), *_live_objects(package)]
    if held:
        lines = "".join(f"\n  {line}" for line in held)
        raise RuntimeError(
            f"bequeath.install() comes too late: {package} is already in use by{lines}\n"
            f"Call it before these are imported or made, or start the program with `bequeath run`."
        )


def mend_standard_library(old: str, new: str) -> None:
    """In the standard library's loaded modules, `new`'s things in the place of `old`'s."""
    for name, module in _modules():
        if not _is_standard(name) or _belongs(name, old) or _belongs(name, new):
            continue
        for attribute, value in list(vars(module).items()):
            mended = _counterpart(value, old, new)
            if mended is not None:
                setattr(module, attribute, mended)
            elif isinstance(value, type) and value.__module__ == name:
                _rebase(module, attribute, value, old, new)


def _modules() -> Iterator[tuple[str, ModuleType]]:
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and module.__name__ == name:
            yield name, module


def _is_standard(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names and name != "__main__"


def _belongs(name: object, package: str) -> bool:
    return isinstance(name, str) and (name == package or name.startswith(package + "."))


def _is_from(value: object, package: str) -> bool:
    """Whether the value is one of the package's modules, classes, functions or objects."""
    if isinstance(value, ModuleType):
        return _belongs(value.__name__, package)
    if isinstance(value, type):
        return any(_belongs(base.__module__, package) for base in value.__mro__)
    if isinstance(value, MethodType):
        return _belongs(type(value.__self__).__module__, package)
    if isinstance(value, FunctionType):
        return _belongs(value.__module__, package)
    return _belongs(type(value).__module__, package)


def _foreign_holders(package: str) -> Iterator[str]:
    for name, module in _modules():
        if _is_standard(name) or _belongs(name, "bequeath") or name == "__mp_main__":
            continue
        for attribute, value in list(vars(module).items()):
            if _is_from(value, package):
                yield f"module {name}: {attribute} is {_describe(value)}"
            elif isinstance(value, type) and value.__module__ == name:
                for inner, held in list(vars(value).items()):
                    if isinstance(held, (ModuleType, type, MethodType)) and _is_from(held, package):
                        yield f"module {name}: {attribute}.{inner} is {_describe(held)}"


def _live_objects(package: str) -> Iterator[str]:
    classes = []
    for submodule, name in _LIVE:
        module = sys.modules.get(f"{package}.{submodule}")
        if module is not None:
            classes.append(getattr(module, name))
    process = sys.modules.get(f"{package}.process")
    main = process.current_process() if process is not None else None
    wanted = tuple(classes)
    for candidate in gc.get_objects():
        # `type()` and not `__class__`: proxies of other packages must not be woken.
        if issubclass(type(candidate), wanted) and candidate is not main:
            yield f"object {_describe(candidate)}"


def _describe(value: object) -> str:
    if isinstance(value, ModuleType):
        return f"the module {value.__name__}"
    if isinstance(value, (type, FunctionType)):
        return f"{value.__module__}.{value.__qualname__}"
    try:
        return repr(value)
    except Exception:
        return f"a {type(value).__module__}.{type(value).__qualname__}"


def _counterpart(value: Any, old: str, new: str) -> Any:
    """Our thing of the same name, or None."""
    if isinstance(value, ModuleType):
        if _belongs(value.__name__, old):
            return importlib.import_module(new + value.__name__[len(old) :])
        return None
    if isinstance(value, (type, FunctionType)):
        if not _belongs(value.__module__, old):
            return None
        return _lookup(value.__module__, value.__qualname__, old, new)
    if isinstance(value, MethodType) and _belongs(type(value.__self__).__module__, old):
        return getattr(importlib.import_module(new), value.__name__, None)
    return None


def _lookup(module: str, qualname: str, old: str, new: str) -> Any:
    try:
        found: Any = importlib.import_module(new + module[len(old) :])
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found


def _rebase(module: ModuleType, attribute: str, cls: type, old: str, new: str) -> None:
    """Make a class anew whose base is one of `old`'s.

    Assigning `__bases__` would not do: our classes are laid out differently. Methods that say
    `super()` find their class in a cell, which is pointed at the new one.
    """
    bases = tuple(_counterpart(base, old, new) or base for base in cls.__bases__)
    if bases == cls.__bases__:
        return
    namespace = {
        name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")
    }
    made = type(cls)(cls.__name__, bases, namespace)
    for value in namespace.values():
        function = getattr(value, "__func__", value)
        for cell in getattr(function, "__closure__", None) or ():
            if isinstance(cell, CellType) and cell.cell_contents is cls:
                cell.cell_contents = made
    setattr(module, attribute, made)
