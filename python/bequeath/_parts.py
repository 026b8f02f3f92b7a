"""Parts of functions and classes that pickle knows nothing of: cells, code, descriptors, modules.

They cross inside what goes by value, and by themselves.
"""

from __future__ import annotations

import functools
import importlib
import marshal
import sys
from collections.abc import Callable
from types import (
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    ModuleType,
)

from . import _files
from ._home import MAIN, home, is_importable, main_module, main_surely_has

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any


def _reduce_cell(cell: CellType) -> Any:
    try:
        contents = cell.cell_contents
    except ValueError:
        return _empty_cell, ()
    # The contents follow as state: a function in its own closure refers to the cell by then.
    return _empty_cell, (), (contents,), None, None, _fill_cell


def _empty_cell() -> CellType:
    return CellType()


def _fill_cell(cell: CellType, state: tuple[Any]) -> None:
    cell.cell_contents = state[0]


def _reduce_code(code: CodeType) -> Any:
    return marshal.loads, (marshal.dumps(code),)


def _reduce_module(module: ModuleType) -> Any:
    if module.__name__ in MAIN:
        return main_module, ()
    if sys.modules.get(module.__name__) is module and is_importable(module):
        return importlib.import_module, (module.__name__,)
    return NotImplemented


def _reduce_property(value: property) -> Any:
    return property, (value.fget, value.fset, value.fdel, value.__doc__)


def _reduce_wrapped(value: Any) -> Any:
    return type(value), (value.__func__,)


def _reduce_mapping_proxy(value: MappingProxyType[Any, Any]) -> Any:
    return _mapping_proxy, (dict(value),)


def _mapping_proxy(value: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(value)


def _reduce_descriptor(value: Any) -> Any:
    return getattr, (value.__objclass__, value.__name__)


def reduce_mark(mark: Any) -> Any:
    module = sys.modules["dataclasses"]
    for name, value in vars(module).items():
        if value is mark:
            return getattr, (module, name)
    return NotImplemented


def _reduce_cached(function: Any) -> Any:
    module, name = home(function)
    if module is not None and (
        main_surely_has(name.partition(".")[0])
        if module.__name__ in MAIN
        else is_importable(module)
    ):
        return NotImplemented
    settings = function.cache_parameters()
    return _make_cached, (function.__wrapped__, settings["maxsize"], settings["typed"])


def _make_cached(function: FunctionType, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


#: Reducers by exact type that hold in every transfer but in strict mode.
PARTS: dict[type, Callable[[Any], Any]] = {
    CellType: _reduce_cell,
    CodeType: _reduce_code,
    ModuleType: _reduce_module,
    property: _reduce_property,
    classmethod: _reduce_wrapped,
    staticmethod: _reduce_wrapped,
    MappingProxyType: _reduce_mapping_proxy,
    GetSetDescriptorType: _reduce_descriptor,
    MemberDescriptorType: _reduce_descriptor,
    functools._lru_cache_wrapper: _reduce_cached,
    **_files.REDUCERS,
}
