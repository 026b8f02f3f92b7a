"""Every public name of the running version's multiprocessing exists here, and takes the same calls.

"The same calls": whatever arguments are valid there are valid here with the same defaults. Ours may
accept more (an extra optional argument, a default where there is none).
"""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

# What cannot be compared, with the reason.
EXEMPT = {
    "multiprocessing.popen_spawn_win32": "Windows only",
    "multiprocessing.dummy": "stands over threading; its own issue",
    "multiprocessing.context.reducer": "a module, not an interface",
    "multiprocessing.process.ORIGINAL_DIR": "a value of the run",
    # Not built yet: importable, and what libraries take at import is there (test_unbuilt_...).
    "multiprocessing.managers": "its own issue",
    "multiprocessing.shared_memory": "its own issue",
    # The fork server's and the tracker's protocols: templates speak another, there is no tracker.
    "multiprocessing.forkserver.main": "the server's entry",
    "multiprocessing.forkserver.read_signed": "the server's protocol",
    "multiprocessing.forkserver.write_signed": "the server's protocol",
    "multiprocessing.popen_spawn_posix.Popen": "starts from a template",
    "multiprocessing.resource_tracker.ReentrantCallError": "the tracker's protocol",
    # Built on CPython's own machinery, of which there is nothing here to build on.
    "multiprocessing.heap.Arena": "the layout of CPython's heap",
    "multiprocessing.heap.reduce_arena": "the layout of CPython's heap",
    "multiprocessing.heap.rebuild_arena": "the layout of CPython's heap",
}


def module_names() -> list[str]:
    found = ["multiprocessing"]
    for info in pkgutil.walk_packages(multiprocessing.__path__, "multiprocessing."):
        if info.name not in EXEMPT and not info.name.startswith("multiprocessing.dummy"):
            found.append(info.name)
    return found


def public_names(module: Any) -> list[str]:
    """`__all__`, and what the module defines itself under a name without underscore."""
    names = set(getattr(module, "__all__", ()))
    for name, thing in vars(module).items():
        if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__:
            names.add(name)
    return sorted(name for name in names if f"{module.__name__}.{name}" not in EXEMPT)


def everything() -> Iterator[tuple[str, str]]:
    for module_name in module_names():
        for name in public_names(importlib.import_module(module_name)):
            yield module_name, name


NAMES = list(everything())


def ours(module_name: str) -> Any:
    return importlib.import_module("bequeath" + module_name[len("multiprocessing") :])


def signature(thing: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(thing)
    except (TypeError, ValueError):
        return None


def same_default(theirs: Any, mine: Any) -> bool:
    if theirs is mine or (type(theirs) is type(mine) and theirs == mine):
        return True
    if mine is None and theirs in ((), {}, []):
        return True
    # Sentinels and values of the package itself: the same kind of thing is as much as can be asked.
    return type(theirs).__module__.startswith("multiprocessing") or callable(theirs)


def incompatibilities(theirs: inspect.Signature, mine: inspect.Signature) -> list[str]:
    """Why a call that is valid there could fail or differ here; empty if none could."""
    found = []
    kinds = inspect.Parameter
    own = mine.parameters
    takes_any = any(p.kind is kinds.VAR_KEYWORD for p in own.values())
    takes_all = any(p.kind is kinds.VAR_POSITIONAL for p in own.values())
    if takes_any and takes_all:
        return []
    positional = [p for p in own.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for index, (name, parameter) in enumerate(theirs.parameters.items()):
        if parameter.kind is kinds.VAR_POSITIONAL:
            if not takes_all:
                found.append(f"no *{name}")
            continue
        if parameter.kind is kinds.VAR_KEYWORD:
            if not takes_any:
                found.append(f"no **{name}")
            continue
        by_position = parameter.kind is not kinds.KEYWORD_ONLY
        if by_position and not takes_all and index >= len(positional):
            found.append(f"{name} cannot be given by position")
        if name not in own:
            if not takes_any and parameter.kind is not kinds.POSITIONAL_ONLY:
                found.append(f"no parameter {name}")
            continue
        if by_position and own[name] in positional and positional.index(own[name]) != index:
            found.append(f"{name} stands at another position")
        if parameter.default is not parameter.empty:
            if own[name].default is parameter.empty:
                found.append(f"{name} has no default")
            elif not same_default(parameter.default, own[name].default):
                found.append(f"{name}={own[name].default!r} instead of {parameter.default!r}")
    for name, parameter in own.items():
        required = parameter.default is parameter.empty and parameter.kind not in (
            kinds.VAR_POSITIONAL,
            kinds.VAR_KEYWORD,
        )
        if required and name not in theirs.parameters:
            if not any(p.kind is kinds.VAR_POSITIONAL for p in theirs.parameters.values()):
                found.append(f"{name} is required here only")
    return found


def methods(cls: type) -> Iterator[str]:
    for name in dir(cls):
        if not name.startswith("_") and name not in vars(object):
            yield name


def test_there_are_names_to_compare() -> None:
    assert len(NAMES) > 150


@pytest.mark.short
@pytest.mark.parametrize("module_name", module_names())
def test_module_exists(module_name: str) -> None:
    ours(module_name)


@pytest.mark.short
@pytest.mark.parametrize(("module_name", "name"), NAMES, ids=lambda part: part)
def test_name_exists_and_takes_the_same_calls(module_name: str, name: str) -> None:
    theirs = getattr(importlib.import_module(module_name), name)
    assert hasattr(ours(module_name), name), f"no {name}"
    mine = getattr(ours(module_name), name)
    if inspect.isclass(theirs):
        assert inspect.isclass(mine), f"{mine!r} is no class"
        missing = [method for method in methods(theirs) if not hasattr(mine, method)]
        assert not missing
    elif callable(theirs):
        assert callable(mine)
    else:
        return
    compared = {"": (theirs, mine)}
    if inspect.isclass(theirs):
        for method in methods(theirs):
            compared[method] = (getattr(theirs, method), getattr(mine, method))
    found = []
    for method, (there, here) in compared.items():
        if callable(there) and (wanted := signature(there)) and (offered := signature(here)):
            found += [f"{method}: {text}" for text in incompatibilities(wanted, offered)]
    assert not found


@pytest.mark.parametrize(
    ("module_name", "names"),
    [
        ("managers", ["BaseManager", "SyncManager", "BaseProxy", "Token", "SharedMemoryManager"]),
        ("shared_memory", ["SharedMemory", "ShareableList"]),
    ],
)
def test_unbuilt_module_has_the_names_that_are_imported(module_name: str, names: list[str]) -> None:
    module = ours(f"multiprocessing.{module_name}")
    assert not [name for name in names if not hasattr(module, name)]


def test_unbuilt_names_refuse_when_called() -> None:
    package = ours("multiprocessing")
    for call in (package.Manager,):
        with pytest.raises(NotImplementedError, match="yet"):
            call()


def test_top_level_offers_no_other_names() -> None:
    extra = set(ours("multiprocessing").__all__) - set(multiprocessing.__all__)
    assert extra <= {
        "AbandonedLock",
        "BequeathError",
        "install",
        "uninstall",
        "set_strict",
        "is_strict",
    }, extra


def test_exceptions_are_caught_by_the_names_of_multiprocessing() -> None:
    mine = ours("multiprocessing")
    assert issubclass(mine.TimeoutError, mine.ProcessError)
    assert issubclass(mine.BufferTooShort, mine.ProcessError)
    assert issubclass(mine.AuthenticationError, mine.ProcessError)
