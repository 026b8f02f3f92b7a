"""`bequeath audit`: a program runs as it is, and hears at its end what would fail elsewhere.

Each start, message and submit is looked at, as `explain` does, on its way. Findings are lines in a
file that every process of the program appends to; the first process prints them when it ends. The
file has no name where procfs shows the first process's descriptors: it is gone with that process.
"""

from __future__ import annotations

import os
import sys
import threading
import types
from typing import Any

from . import _engine, _explain, _settings

#: A line of the program that sends in a loop is looked at this many times in each process.
_TIMES = 50

_local = threading.local()
_counted: dict[tuple[str, str], int] = {}
_told: set[tuple[str, ...]] = set()


def begin(to: str) -> None:
    """In the program's first process, before the program."""
    import atexit

    path = _nameless() or _named()
    listen(path, to)
    atexit.register(_end, path, to, os.getpid())


def _nameless() -> str | None:
    handle = os.memfd_create("bequeath-audit")
    path = f"/proc/{os.getpid()}/fd/{handle}"
    if os.access(path, os.W_OK):
        return path
    os.close(handle)
    return None


def _named() -> str:
    import tempfile

    handle, path = tempfile.mkstemp(prefix="bequeath-audit-")
    os.close(handle)
    return path


def listen(path: str, to: str) -> None:
    """In every process of the program."""
    _settings.audit = path, to
    _engine.set_auditor(_sent)
    import concurrent.futures.process as pools

    executor: Any = pools.ProcessPoolExecutor
    if not hasattr(executor.submit, "_audited"):
        executor.submit = _listening(executor.submit)


def _listening(submit: Any) -> Any:
    import functools

    @functools.wraps(submit)
    def audited(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        call = types.SimpleNamespace(fn=fn, args=args, kwargs=kwargs)
        _look("submit", call, message=True)
        return submit(self, fn, *args, **kwargs)

    audited._audited = True  # type: ignore[attr-defined]
    return audited


# --- what is looked at ---


def started(process: Any) -> None:
    """A process is about to be started, by whatever method."""
    site = _look("start", process, message=False)
    if site is None:
        return
    file, line = _outside_of_the_guard()
    if file:
        _tell(
            "start",
            site,
            {
                "path": "",
                "type": f"the start of {process.name}",
                "reason": f"the main module runs it outside of the guard ({file}:{line}): a child "
                "that runs the module again would start a child in turn, which is refused",
                "remedy": 'Put it under `if __name__ == "__main__":`',
            },
        )
    from .process import current_process

    assert _settings.audit
    if _settings.audit[1] == "strict" and current_process().daemon:
        _tell(
            "start",
            site,
            {
                "path": "",
                "type": f"the start of {process.name}",
                "reason": "daemonic processes are not allowed to have children",
                "remedy": "Start it from a process that is no daemon",
            },
        )


def _sent(obj: Any) -> None:
    _look("message", obj, message=True)


def _look(what: str, obj: Any, message: bool) -> str | None:
    """Explains what the program hands over; says where it does so, if it was looked at."""
    if getattr(_local, "looking", False) or _settings.audit is None:
        return None
    site = _site()
    if site is None:
        return None  # a library's own thread; `submit` has seen what it carries
    counted = _counted[what, site] = _counted.get((what, site), 0) + 1
    if counted > _TIMES:
        return None
    to = _settings.audit[1]
    strict = to == "strict"
    method = "queue" if message else "spawn" if strict else to
    _local.looking = True
    try:
        found, _ = _explain._look(obj, method, strict=strict)
    finally:
        _local.looking = False
    for culprit in found["culprits"]:
        if "in a fork context" in culprit["reason"]:
            continue  # by another start method the program would have made it in that context
        _tell(what, site, culprit)
    for missing in found["missing"]:
        function, reason, remedy = missing["function"], missing["reason"], missing["remedy"]
        finding = {"path": "", "type": f"function {function}", "reason": reason, "remedy": remedy}
        _tell(what, site, finding)
    return site


def _site() -> str | None:
    """The line of the program that is at it."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        top = name.partition(".")[0] if isinstance(name, str) else ""
        main = top == "__main__" and frame.f_code.co_filename != _RUN
        library = top == "bequeath" or top in sys.stdlib_module_names
        if main or (top != "__main__" and not library):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return None


_RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")


def _outside_of_the_guard() -> tuple[str, int]:
    """The line of the main module that leads here, if a child that runs it again comes along."""
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    frame: Any = sys._getframe(1)
    while frame is not None and path is not None:
        code = frame.f_code
        if code.co_name == "<module>" and code.co_filename == path:
            if frame.f_globals is vars(main) and not _explain.is_guarded(path, frame.f_lineno):
                return path, frame.f_lineno
        frame = frame.f_back
    return "", 0


# --- what is told ---


def _tell(what: str, site: str, finding: dict[str, Any]) -> None:
    import json
    import re

    words = ("path", "type", "definition", "reason", "remedy")
    line = {"what": what, "site": site, **{word: finding.get(word) or "" for word in words}}
    # The same function made again is no news.
    line["reason"] = re.sub(" at 0x[0-9a-fA-F]+", "", line["reason"])
    key = tuple(line.values())
    if key in _told or _settings.audit is None:
        return
    _told.add(key)
    # One write of the whole line: processes share the file.
    try:
        out = os.open(_settings.audit[0], os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        return  # the first process is gone, and nobody will read it
    try:
        os.write(out, json.dumps(line).encode() + b"\n")
    finally:
        os.close(out)


def _end(path: str, to: str, pid: int) -> None:
    if os.getpid() != pid:
        return
    from .process import active_children

    for child in active_children():
        if not child.daemon:
            child.join()
    _engine.set_auditor(None)
    _settings.audit = None
    import json

    with open(path, encoding="utf-8") as file:
        findings = [json.loads(line) for line in file]
    if not path.startswith("/proc/"):
        os.unlink(path)
    if sys.stderr is not None:
        sys.stderr.write(_text(findings, to))
        sys.stderr.flush()


def _text(findings: list[dict[str, str]], to: str) -> str:
    where = "by multiprocessing's rules" if to == "strict" else f"with {to}"
    sites: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for one in findings:
        known = sites.setdefault((one["what"], one["site"]), {})
        known[one["path"] + one["type"] + one["reason"]] = one
    if not sites:
        return f"bequeath audit: nothing that was started or sent would fail or differ {where}\n"
    count = sum(map(len, sites.values()))
    lines = [f"bequeath audit: {count} that would fail or differ {where}:"]
    for (what, site), found in sites.items():
        lines.append(f"{site}: {what}")
        for one in found.values():
            defined = f" ({one['definition']})" if one["definition"] else ""
            path = f"{one['path']}: " if one["path"] else ""
            lines.append(f"  {path}{one['type']}{defined}")
            lines.append(f"     why: {one['reason']}")
            lines.append(f"     remedy: {one['remedy']}")
    return "\n".join(lines) + "\n"
