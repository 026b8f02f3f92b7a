"""Standing as `multiprocessing`: `install()` and `uninstall()`.

`sys.modules` gets our modules under multiprocessing's names, and a finder answers for those that
are not loaded yet: the same module object under both names, never a second copy. Whatever the
program loaded before is mended where it is the standard library's (`_mend`), and named in an
error where it is not.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from . import _settings

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any

_OURS = __name__.partition(".")[0]
_THEIRS = "multiprocessing"

#: What `sys.modules` held under multiprocessing's names before `install()`; None while not
#: installed.
_replaced: dict[str, ModuleType] | None = None


def is_installed() -> bool:
    """Whether bequeath stands as `multiprocessing` in this process."""
    return _replaced is not None


def install() -> None:
    """Let bequeath stand as `multiprocessing` in this program and in all its children.

    Does nothing when it does so already or when `BEQUEATH_DISABLE=1` is set. Raises RuntimeError
    in a child process, while processes run, and where modules or live objects that cannot be
    mended hold the standard library's multiprocessing; it names each.
    """
    if is_installed() or _settings.disabled():
        return
    _refuse_in_child_or_beside_children("install")
    if any(name in sys.modules for name in (_THEIRS, "concurrent.futures.process")):
        from . import _mend

        _mend.refuse_holders(_THEIRS)
        _swap()
        _mend.mend_standard_library(_THEIRS, _OURS)
    else:
        _swap()


def uninstall() -> None:
    """Undo `install()`: the standard library's multiprocessing stands under its name again."""
    global _replaced
    if _replaced is None:
        return
    _refuse_in_child_or_beside_children("uninstall")
    _finder_out()
    for name in [name for name in sys.modules if _is_their_name(name)]:
        del sys.modules[name]
    sys.modules.update(_replaced)
    _replaced = None
    from . import _mend

    _mend.mend_standard_library(_OURS, _THEIRS)


def inherit() -> None:
    """`install()` in an interpreter that an installed process started; before anything else."""
    if not is_installed():
        _swap()


def alias_main() -> None:
    """`__mp_main__` is this program's main module, as children name it."""
    if "__main__" in sys.modules:
        sys.modules["__mp_main__"] = sys.modules["__main__"]


def _swap() -> None:
    global _replaced
    importlib.import_module(_OURS)
    _replaced = {name: module for name, module in sys.modules.items() if _is_their_name(name)}
    for name in _replaced:
        del sys.modules[name]
    _give_their_names()
    sys.modules["_multiprocessing"] = importlib.import_module(_OURS + "._multiprocessing")
    sys.meta_path.insert(0, _Finder)


def _give_their_names() -> None:
    """Every module of ours that is loaded, under its name in multiprocessing, too."""
    for name, module in list(sys.modules.items()):
        if name == _OURS or (name.startswith(_OURS + ".") and _is_public(name)):
            sys.modules[_THEIRS + name[len(_OURS) :]] = module


def _finder_out() -> None:
    if _Finder in sys.meta_path:
        sys.meta_path.remove(_Finder)


def _is_their_name(name: str) -> bool:
    return name in (_THEIRS, "_multiprocessing") or name.startswith(_THEIRS + ".")


def _is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split(".")[1:])


class _Finder:
    """Finds `multiprocessing.x`: it is `bequeath.x`, loaded under its own name."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec whose loader hands out our module; none for names that are not ours."""
        if not _is_their_name(fullname):
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(fullname, _Loader())  # type: ignore[arg-type]


class _Loader:
    """Hands out our module, and gives it back its own spec, which importlib overwrites."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        if spec.name == "_multiprocessing":
            name = _OURS + "._multiprocessing"
        else:
            name = _OURS + spec.name[len(_THEIRS) :]
        if not _is_public(name) and spec.name != "_multiprocessing":
            raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name)
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name) from None
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec
        _give_their_names()  # it may have loaded others


def _refuse_in_child_or_beside_children(what: str) -> None:
    running: list[Any] = []
    for package in (_OURS, _THEIRS):
        process = sys.modules.get(package + ".process")
        if process is None:
            continue
        if process.parent_process() is not None:
            raise RuntimeError(
                f"bequeath.{what}() belongs into the program's first process; a child has what "
                f"its parent had when it was started (this is {process.current_process().name}, "
                f"pid {os.getpid()})"
            )
        running += process.active_children()
    if running:
        names = ", ".join(sorted({f"{child.name} (pid {child.pid})" for child in running}))
        raise RuntimeError(f"bequeath.{what}() while child processes run: {names}")
