"""Where functions and classes live: which module has them, and whether a child surely does.

A spawned child runs the program's main module again. What stands at the left margin of its file
is there then; what stands under the guard, or was made at run time, may not be.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from types import ModuleType

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any

MAIN = ("__main__", "__mp_main__")


def home(obj: Any) -> tuple[ModuleType | None, str]:
    """The module in which `obj` is found under its own name; None if it is in none."""
    name = getattr(obj, "__qualname__", None) or obj.__name__
    if "<" in name:  # <lambda>, <locals>
        return None, name
    module_name = getattr(obj, "__module__", None)
    module = sys.modules.get(module_name) if isinstance(module_name, str) else None
    if module is None:
        return _search(obj, name), name
    return (module if lookup(module, name) is obj else None), name


def _search(obj: Any, name: str) -> ModuleType | None:
    """For objects that do not say where they live, as pickle does it."""
    declared = getattr(obj, "__module__", None)
    try:
        module = importlib.import_module(declared or _whichmodule(obj, name))
    except (ImportError, TypeError, ValueError):
        return None
    return module if lookup(module, name) is obj else None


def _whichmodule(obj: Any, name: str) -> str:
    import pickle

    return pickle.whichmodule(obj, name)  # type: ignore[attr-defined,no-any-return]


def lookup(module: ModuleType, name: str) -> Any:
    """What the module has under a name that may have dots; None if nothing."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def is_importable(module: ModuleType) -> bool:
    """A module made at run time has neither a spec nor a file."""
    return (
        getattr(module, "__spec__", None) is not None
        or getattr(module, "__file__", None) is not None
    )


# --- what a re-imported main module has ---

_source: bytes | None = None
_source_of: tuple[ModuleType, Any] | None = None
#: The answers for the main module that `_source_of` names; the engine reads them, too.
surely: dict[str, bool] = {}


def main_surely_has(name: str) -> bool:
    """Whether a child that runs the main module again has this name at its top level."""
    global _source_of
    main = sys.modules.get("__main__")
    if main is None:
        return False
    identity = (main, getattr(main, "__file__", None))
    if _source_of is None or _source_of[0] is not main or _source_of[1] != identity[1]:
        _source_of = identity
        surely.clear()
        _read_source(main)
    sure = surely.get(name)
    if sure is None:
        sure = surely[name] = _source is not None and _is_bound_at_margin(name, _source)
    return sure


def _read_source(main: ModuleType) -> None:
    global _source
    _source = None
    path = getattr(main, "__file__", None)
    if not path or not _is_reimported(main, path):
        return
    try:
        with open(path, "rb") as file:
            _source = file.read()
    except OSError:
        pass  # deleted or inside an archive: nothing is sure


def _is_reimported(main: ModuleType, path: str) -> bool:
    """Whether a spawned child runs this main module again (`spawn.prepare` has the same rule)."""
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None and name.rpartition(".")[2] == "__main__":
        return False
    return os.path.splitext(os.path.basename(path))[0] != "ipython"


def _is_bound_at_margin(name: str, source: bytes) -> bool:
    word = re.escape(name).encode()
    pattern = rb"^(?:(?:async[ \t]+)?def|class)[ \t]+%s\b|^%s[ \t]*(?::[^=\n]*)?=[^=]" % (
        word,
        word,
    )
    return re.search(pattern, source, re.MULTILINE) is not None


def main_module() -> ModuleType:
    """This process's main module."""
    return sys.modules.get("__main__") or sys.modules["__mp_main__"]
