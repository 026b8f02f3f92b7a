"""What stands for a function that works out a type alias, or a part of a type parameter, late.

Such a function is part of what is made, and may refer to it: so an alias that names itself is made
with one of these first, which is told the function then.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def stand_in(function: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """A function that calls another one; which, is put into its closure later."""

    def work_out(format: int = 1, /) -> Any:
        assert function is not None, "nobody has told what to work out"
        if format == 1:
            return function()
        # Since 3.14 it may be asked for text, and for what can be said of names that do not exist.
        from annotationlib import call_evaluate_function  # type: ignore[import-not-found,unused-ignore]

        return call_evaluate_function(function, format)

    return work_out
