"""`bequeath doctor` and `bequeath.doctor()`: what this machine offers, and what it holds back.

The engine looks at kernel, limits and confinement; here the templates are tried, and what modules
left behind in them is collected.
"""

from __future__ import annotations

from . import _engine

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from collections.abc import Sequence


class Diagnosis(dict):  # type: ignore[type-arg]
    """What `bequeath doctor --json` prints, as a dictionary; `str()` is what it prints without."""

    _text: str

    def __str__(self) -> str:
        return self._text


def doctor() -> Diagnosis:
    """What the machine offers to this process, and which modules its templates do without."""
    return _diagnosis(_kept_out())


def _diagnosis(templates: list[tuple[str, str, str]]) -> Diagnosis:
    import json

    found, text, _ = _engine.diagnose(templates)
    diagnosis = Diagnosis(json.loads(found))
    diagnosis._text = text
    return diagnosis


def _kept_out() -> list[tuple[str, str, str]]:
    """Known once this process has started a child by a template."""
    from .forkserver import _forkserver

    return [(name, left, "kept out") for name, left in _forkserver.kept_out.items()]


def main(words: list[str]) -> int:
    """The command: 0 where nothing is a problem, else 1."""
    import argparse

    parser = argparse.ArgumentParser("bequeath doctor", description=doctor.__doc__)
    parser.add_argument("--json", action="store_true", help="as data (docs/doctor.md)")
    parser.add_argument(
        "--modules",
        default="",
        metavar="NAME,NAME...",
        help="try also whether templates can have these modules imported",
    )
    options = parser.parse_args(words)
    names = [name for name in options.modules.split(",") if name]
    found, text, healthy = _engine.diagnose(_tried(names))
    print(f"{found}\n" if options.json else text, end="")
    return 0 if healthy else 1


def _tried(modules: Sequence[str]) -> list[tuple[str, str, str]]:
    """Starts a child by each method, where templates have imported the modules."""
    from . import context

    findings = []
    default = context._default_context
    default.set_forkserver_preload(list(modules))
    for method in default.get_all_start_methods():
        try:
            process = default.get_context(method).Process(target=_nothing)
            process.start()
            process.join()
        except Exception as error:
            findings.append((method, f"{type(error).__name__}: {error}", "failed"))
            continue
        if process.exitcode != 0:
            findings.append((method, f"the child ended with {process.exitcode}", "failed"))
    kept_out = _kept_out()
    if not findings and not kept_out:
        what = f"tried with {', '.join(modules)}" if modules else "tried"
        findings.append(("templates", what, "tried"))
    return findings + kept_out


def _nothing() -> None:
    pass
