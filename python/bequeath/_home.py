"""Whether a child surely has what a module has.

A spawned child runs the program's main module again. What stands at the left margin of its file
is there then; what stands under the guard, or was made at run time, may not be.
"""

from __future__ import annotations

import os
import re
import sys
from _weakref import ReferenceType, ref
from types import ModuleType

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any


def is_importable(module: ModuleType) -> bool:
    """A module made at run time has neither a spec nor a file."""
    return (
        getattr(module, "__spec__", None) is not None
        or getattr(module, "__file__", None) is not None
    )


# --- what a re-imported main module has ---

_bound: frozenset[str] = frozenset()
#: Whose they are: the main module and its file. A reference that keeps it alive would outlive the
#: interpreter's own at the end, and then nobody empties the module: no destructor would run.
_bound_of: tuple[ReferenceType[ModuleType], Any] | None = None
#: The answers for the main module that `_bound_of` names; the engine reads them, too.
surely: dict[str, bool] = {}


def main_surely_has(name: str) -> bool:
    """Whether a child that runs the main module again has this name at its top level."""
    global _bound, _bound_of
    main = sys.modules.get("__main__")
    if main is None:
        return False
    path = getattr(main, "__file__", None)
    if _bound_of is None or _bound_of[0]() is not main or _bound_of[1] != path:
        _bound_of = ref(main), path
        surely.clear()
        _bound = _bound_by(main, path)
    sure = surely.get(name)
    if sure is None:
        sure = surely[name] = name in _bound
    return sure


def _bound_by(main: ModuleType, path: str | None) -> frozenset[str]:
    if not path or not _is_reimported(main, path):
        return frozenset()
    try:
        with open(path, "rb") as file:
            return bound_at_margin(file.read())
    except OSError:
        return frozenset()  # deleted or inside an archive: nothing is sure


def _is_reimported(main: ModuleType, path: str) -> bool:
    """Whether a spawned child runs this main module again (`spawn.prepare` has the same rule)."""
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None and name.rpartition(".")[2] == "__main__":
        return False
    return os.path.splitext(os.path.basename(path))[0] != "ipython"


_NOT_CODE = re.compile(
    rb"""\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}"""
    rb"""|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|#[^\n]*|\\\r?\n""",
    re.DOTALL,
)
_BRACKETS = re.compile(rb"[(\[{][^()\[\]{}]*[)\]}]")
_AT_MARGIN = re.compile(
    rb"^(?:(?:(?:async[ \t]+)?def|class)[ \t]+([^\W\d]\w*)|([^\W\d]\w*)[ \t]*(?::[^=\n]*)?=(?!=))",
    re.MULTILINE,
)
_DELETED = re.compile(rb"^[ \t]*del[ \t]+([^\n;]*)", re.MULTILINE)


def bound_at_margin(source: bytes) -> frozenset[str]:
    """What source binds at its left margin and never takes away again.

    A look at the text: taking it apart properly takes longer than compiling it, and every child
    that sends something of main would pay for that. What is overlooked crosses by value, too.
    (Who explains must not overlook anything: `_explain.binding_in_main` takes it apart.)
    """
    text = _NOT_CODE.sub(b"", source)
    # Lines inside brackets may start at the margin; innermost first.
    found = 1
    while found:
        text, found = _BRACKETS.subn(b"", text)
    names = {first or second for first, second in _AT_MARGIN.findall(text)}
    for deleted in _DELETED.findall(text):
        names.difference_update(word.strip() for word in deleted.split(b","))
    return frozenset(name.decode("utf-8", "replace") for name in names)
