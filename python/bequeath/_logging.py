"""logging's `%(processName)s` in children, without `install()`.

A log record asks `sys.modules["multiprocessing"]` for the process's name and says `MainProcess`
when that module is not loaded, or does not know that this process is a child of ours. The record
class gets a descriptor for that one attribute, which puts the right name in the place of that
default. Nothing is imported for it: where logging is not loaded yet, a finder waits for it.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # what `typing` calls so: every child that is forked loads this module
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_DEFAULT = "MainProcess"


def name_records() -> None:
    """From now on, records made in this process carry this child's name."""
    logging = sys.modules.get("logging")
    if logging is not None:
        _describe(logging)
    elif not _Finder.waits:
        _Finder.waits = True  # in children of this process, too
        sys.meta_path.insert(0, _Finder)


def _describe(logging: Any) -> None:
    if "processName" not in vars(logging.LogRecord):
        logging.LogRecord.processName = _ProcessName()


class _ProcessName:
    """Keeps its value in the record's dictionary, where formatters look."""

    def __get__(self, record: Any, owner: type | None = None) -> Any:
        if record is None:
            return self
        try:
            return record.__dict__["processName"]
        except KeyError:
            raise AttributeError("processName") from None

    def __set__(self, record: Any, name: Any) -> None:
        if name == _DEFAULT:
            process = sys.modules.get(f"{__package__}.process")
            if process is not None:
                name = process.current_process().name
        record.__dict__["processName"] = name

    def __delete__(self, record: Any) -> None:
        record.__dict__.pop("processName", None)


class _Finder:
    """Lets logging be loaded as always, and describes its records then."""

    waits = False

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """logging's own spec, with a loader around its loader; once."""
        if fullname != "logging":
            return None
        if cls in sys.meta_path:
            sys.meta_path.remove(cls)
        import importlib.util

        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


class _Loader:
    """logging's loader, and one step more; then it is out of the way."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _describe(module)
