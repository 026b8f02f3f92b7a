"""What a program chose: strict rules, narration. Children have what their parent has.

The environment gives the first value (`BEQUEATH_STRICT`, `BEQUEATH_NARRATE`), `set_strict` and
`bequeath run` change it, `snapshot` and `apply` carry it to a child in the preparation data.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from typing import Any


def _chosen(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")


strict: bool = _chosen("BEQUEATH_STRICT")
narrate: bool = _chosen("BEQUEATH_NARRATE")
#: Under `bequeath audit`: where findings are written, and what is asked ("spawn", "strict", …).
audit: tuple[str, str] | None = None


def set_strict(on: bool = True) -> None:
    """The standard library's rules of transfer, with its own exceptions, here and in children."""
    global strict
    strict = bool(on)


def is_strict() -> bool:
    """Whether the standard library's rules of transfer are in force."""
    return strict


def disabled() -> bool:
    """Whether `BEQUEATH_DISABLE` turns `install` and `bequeath run` into nothing."""
    return _chosen("BEQUEATH_DISABLE")


def snapshot() -> dict[str, Any]:
    """What a child must be told."""
    return {"strict": strict, "narrate": narrate, **({"audit": audit} if audit else {})}


def apply(settings: dict[str, Any]) -> None:
    """Take what the parent told."""
    global strict, narrate
    strict = bool(settings.get("strict", strict))
    narrate = bool(settings.get("narrate", narrate))
    if settings.get("audit"):
        from . import _audit

        _audit.listen(*settings["audit"])
