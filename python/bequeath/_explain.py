"""Why an object cannot cross: the path to the culprit, its type, the reason and the remedy.

Runs only after pickling has failed. The object is walked the way pickle walks it; at each level
the first part that fails by itself is followed, until an object fails of whose parts none does.
What the program's own reducers raise is the program's business and is left as it is.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType
from typing import Any

from . import _by_value, _remedies, _transfer
from .exceptions import BequeathError

SECTION = "docs/why.md#by-value"

_ATOMS = (str, bytes, bytearray, int, float, complex, bool, type(None))
_DEEPEST = 200


def explain(obj: object, error: Exception, root: str = "") -> BaseException:
    """The refusal to raise in the place of `error`; `error` itself where it is the program's."""
    if isinstance(error, (RecursionError, MemoryError, BequeathError)) or _is_the_programs(error):
        return error
    if isinstance(error, OSError) or not isinstance(
        error, (TypeError, AttributeError, RuntimeError, ValueError, *_pickling_errors())
    ):
        return error
    path, culprit, reason = _Walk().find(obj, root, error)
    return refusal(path, culprit, reason)


def refusal(path: str, culprit: object, reason: BaseException) -> BequeathError:
    """The member of the family for this reason, with all that is known about it."""
    refused = BequeathError.like(reason)
    kind = _kind_name(culprit)
    remedy = _remedies.remedy(culprit)
    where = _definition(culprit)
    text = (
        f"{path or 'the object'} cannot be handed to another process: it is {_a(kind)}{where}: "
        f"{_because(reason)}. {remedy}; see {SECTION}"
    )
    error = refused(text)
    error.path = path
    error.culprit = kind
    error.reason = str(reason)
    error.remedy = remedy
    return error


# --- whose error is it ---


def _pickling_errors() -> tuple[type[Exception], ...]:
    import pickle

    return (pickle.PicklingError,)


def _is_the_programs(error: BaseException) -> bool:
    """Whether the program's code raised it: a `__reduce__` or `__getstate__` of its own."""
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    return not _is_machinery(trace.tb_frame)


def _is_machinery(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    if not isinstance(name, str):
        return False
    top = name.partition(".")[0]
    if top in ("copyreg", "pickle", "cloudpickle", "bequeath"):
        return True
    # The standard library's own classes refuse in Python code, too (socket, ssl, tempfile, …).
    return top in sys.stdlib_module_names and top != "__main__"


# --- the walk ---


class _Nothing:
    """Takes the bytes of a trial."""

    def write(self, data: object) -> None: ...


class _Walk:
    def __init__(self) -> None:
        self._seen: dict[int, object] = {}

    def find(self, obj: Any, path: str, error: BaseException) -> tuple[str, Any, BaseException]:
        """Path, object and error of the innermost part that fails by itself."""
        for _ in range(_DEEPEST):
            self._seen[id(obj)] = obj
            for step, part in parts(obj):
                if isinstance(part, _ATOMS) or id(part) in self._seen:
                    continue
                failure = self._trial(part)
                if failure is not None:
                    obj, path, error = part, path + step, failure
                    break
            else:
                break
        return path.lstrip("."), obj, error

    def _trial(self, part: object) -> BaseException | None:
        try:
            _transfer.TransferPickler(_Nothing(), None).dump(part)
        except Exception as error:
            return error
        self._seen[id(part)] = part
        return None


def parts(obj: Any) -> Iterator[tuple[str, Any]]:
    """What pickle would save inside an object, each with its step of the path."""
    if isinstance(obj, (list, tuple)) and type(obj).__reduce_ex__ is object.__reduce_ex__:
        yield from ((f"[{index}]", part) for index, part in enumerate(obj))
    elif isinstance(obj, (set, frozenset)):
        yield from ((f"{{{_short(part)}}}", part) for part in obj)
    elif isinstance(obj, dict):
        for key, value in obj.items():
            yield f" (its key {_short(key)})", key
            yield f"[{_short(key)}]", value
    if isinstance(obj, FunctionType):
        yield from _parts_of_function(obj)
    elif isinstance(obj, MethodType):
        yield ".__self__", obj.__self__
    elif isinstance(obj, functools.partial):
        yield ".func", obj.func
        yield from ((f".args[{index}]", part) for index, part in enumerate(obj.args))
        yield from ((f".keywords[{name!r}]", part) for name, part in obj.keywords.items())
    elif isinstance(obj, type):
        yield from ((f".{name}", part) for name, part in list(vars(obj).items()))
    elif _is_process(obj):
        yield from _parts_of_process(obj)
    elif not isinstance(obj, _ATOMS):
        yield from _parts_of_instance(obj)


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    code: CodeType = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or ()):  # noqa: B905 - equal
        try:
            yield f"'s variable {name}", cell.cell_contents
        except ValueError:
            continue
    for index, part in enumerate(function.__defaults__ or ()):
        yield f".__defaults__[{index}]", part
    for name, part in (function.__kwdefaults__ or {}).items():
        yield f".__kwdefaults__[{name!r}]", part
    home = _by_value._home_of_globals(function)
    for name, part in _by_value._travelling_globals(function, home):
        yield f"'s global {name}", part


def _is_process(obj: object) -> bool:
    process = sys.modules.get("bequeath.process")
    return process is not None and isinstance(obj, process.BaseProcess)


def _parts_of_process(obj: Any) -> Iterator[tuple[str, Any]]:
    # In the words of `Process(target=…, args=…, kwargs=…)`.
    names = {"_target": "target", "_args": "args", "_kwargs": "kwargs"}
    for name, part in sorted(vars(obj).items(), key=lambda item: item[0] not in names):
        yield f".{names.get(name, name)}", part


def _parts_of_instance(obj: Any) -> Iterator[tuple[str, Any]]:
    kind = type(obj)
    if _has_own_state(kind):
        yield from _parts_of_reduction(obj)
        return
    for name, part in list(getattr(obj, "__dict__", {}).items()):
        yield f".{name}", part
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(obj, name):
                yield f".{name}", getattr(obj, name)


def _has_own_state(kind: type) -> bool:
    return any(
        getattr(kind, name, None) is not getattr(object, name, None)
        for name in ("__getstate__", "__reduce__", "__reduce_ex__")
    )


def _parts_of_reduction(obj: Any) -> Iterator[tuple[str, Any]]:
    try:
        reduced = obj.__reduce_ex__(_transfer.PROTOCOL)
    except Exception:
        return
    if not isinstance(reduced, tuple):
        return
    _function, arguments, state, items, pairs, *_ = (*reduced, None, None, None, None)
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        states: Iterable[Any] = state
    else:
        states = (state,)
    for state in states:
        if isinstance(state, dict):
            yield from ((f".{name}", part) for name, part in state.items())
        elif state is not None:
            yield "'s state", state
    for index, part in enumerate(arguments or ()):
        yield f"'s part {index}", part
    if items is not None and not isinstance(obj, list):
        yield from ((f"[{index}]", part) for index, part in enumerate(items))
    if pairs is not None and not isinstance(obj, dict):
        yield from ((f"[{_short(key)}]", part) for key, part in pairs)


# --- words ---


def _short(key: object) -> str:
    try:
        text = repr(key)
    except Exception:
        return f"<{type(key).__name__}>"
    return text if len(text) <= 40 else text[:37] + "..."


def _kind_name(culprit: object) -> str:
    if isinstance(culprit, (FunctionType, BuiltinFunctionType)):
        return f"function {culprit.__qualname__}"
    if isinstance(culprit, type):
        return f"class {culprit.__qualname__}"
    kind = type(culprit)
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _a(kind: str) -> str:
    if kind.startswith(("function ", "class ")):
        return f"the {kind}"
    return f"{'an' if kind.lstrip('_')[:1].lower() in 'aeiou' else 'a'} {kind}"


def _because(reason: BaseException) -> str:
    text = str(reason).strip().rstrip(".")
    return text or f"pickling it raises {type(reason).__name__}"


def _definition(culprit: object) -> str:
    """File and line of the function or of the class of the object, where they are Python's."""
    code = getattr(culprit, "__code__", None)
    if isinstance(code, CodeType):
        return f" (defined at {code.co_filename}:{code.co_firstlineno})"
    kind = culprit if isinstance(culprit, type) else type(culprit)
    line = getattr(kind, "__firstlineno__", None)  # since 3.13
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file is None:
        return ""
    if line is None:
        line = _first_line(kind)
    return f" (defined at {file}:{line})" if line else f" (defined in {file})"


def _first_line(kind: type) -> int | None:
    lines = [
        function.__code__.co_firstlineno
        for function in vars(kind).values()
        if isinstance(function, FunctionType)
    ]
    try:
        import inspect

        return inspect.getsourcelines(kind)[1]
    except (OSError, TypeError):
        return min(lines, default=None)
