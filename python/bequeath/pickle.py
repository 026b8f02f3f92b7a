"""A drop-in for `pickle`: the same functions, classes and exceptions, on bequeath's engine."""

from __future__ import annotations

from _pickle import PickleError, PicklingError, UnpicklingError
from pickle import DEFAULT_PROTOCOL, HIGHEST_PROTOCOL, PickleBuffer

from bequeath._engine import (
    Pickler,
    Unpickler,
    dump,
    dumps,
    load,
    loads,
    register_by_value,
    unregister_by_value,
)

__all__ = [
    "DEFAULT_PROTOCOL",
    "HIGHEST_PROTOCOL",
    "PickleBuffer",
    "PickleError",
    "Pickler",
    "PicklingError",
    "Unpickler",
    "UnpicklingError",
    "dump",
    "dumps",
    "load",
    "loads",
    "register_by_value",
    "unregister_by_value",
]
