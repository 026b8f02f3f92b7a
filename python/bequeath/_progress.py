"""Progress bars of the map family: tqdm's or rich's, imported when somebody asks for one.

`progress=True` shows tqdm's bar where it belongs (a notebook's widget, a terminal; nothing where
output is neither), or rich's if tqdm is not installed. A tqdm or rich object, or tqdm's class, is
used as it is.
"""

from __future__ import annotations

import sys
import threading
from typing import Any


class Bar:
    """One call's bar. Steps come from the pool's thread, and `close` from anywhere."""

    def __init__(self, shown: Any, total: int | None, name: str) -> None:
        self._lock = threading.Lock()
        self._failed = 0
        self._rich: Any = None
        self._owned = False
        if shown is True:
            shown, self._owned = _make(total, name), True
        elif isinstance(shown, type):
            shown, self._owned = shown(total=total, desc=name), True
        if hasattr(shown, "add_task"):
            self._rich = shown
            if self._owned:
                shown.start()
            self._task = shown.add_task(name, total=total)
        elif hasattr(shown, "update"):
            if getattr(shown, "total", 0) is None and total is not None:
                shown.reset(total=total)
        else:
            raise TypeError(
                f"progress must be True, a tqdm bar or a rich Progress, not {type(shown).__name__}"
            )
        self._bar = shown

    def step(self, count: int, failed: bool = False) -> None:
        """So many more elements are done."""
        with self._lock:
            if self._bar is None:
                return
            self._failed += count if failed else 0
            if self._rich is not None:
                text = {"description": f"{self._failed} failed"} if failed else {}
                self._rich.update(self._task, advance=count, **text)
                return
            if failed:
                self._bar.set_postfix(failed=self._failed, refresh=False)
            self._bar.update(count)

    def extend(self, total: int) -> None:
        """How many there are has become known."""
        with self._lock:
            if self._bar is None:
                return
            if self._rich is not None:
                self._rich.update(self._task, total=total)
            elif getattr(self._bar, "total", total) != total:
                self._bar.total = total
                self._bar.refresh()

    def close(self) -> None:
        """Nothing more comes. Bars that the caller made stay open."""
        with self._lock:
            bar, self._bar = self._bar, None
            if bar is None:
                return
            bar.refresh()  # rich in a notebook would else end at what it showed last
            if self._owned:
                (bar.close if self._rich is None else bar.stop)()


class Shown:
    """A call's results on their way to whoever holds them, counted by a bar."""

    def __init__(
        self, results: Any, bar: Bar, length: int | None, chunksize: int, bare: bool
    ) -> None:
        self._results, self._bar = results, bar
        self._job = results._job
        self._length, self._chunksize, self._bare = length, chunksize, bare
        self._left = None if length is None else -(-length // chunksize)
        self._done = 0

    def _set(self, index: int, outcome: tuple[bool, Any]) -> None:
        success, value = outcome
        count = self._chunksize
        if self._length is not None:
            count = min(count, self._length - index * self._chunksize)
        elif success and self._chunksize > 1:
            count = len(value)
        self._bar.step(count, not success)
        self._done += 1
        self._close_if_done()  # before the results are there: whoever waits prints after it
        self._results._set(index, (success, [value] if success and self._bare else value))

    def _set_length(self, length: int) -> None:
        self._left = length
        if self._length is None and self._chunksize == 1:
            self._bar.extend(length)
        self._close_if_done()
        self._results._set_length(length)

    def _close_if_done(self) -> None:
        if self._done == self._left:
            self._bar.close()


def _make(total: int | None, name: str) -> Any:
    try:
        import tqdm
    except ImportError:
        return _make_rich()
    kind: Any = tqdm.tqdm
    disable: bool | None = None  # shown on a terminal only
    if _in_notebook():
        try:
            import ipywidgets  # noqa: F401 - what the notebook's bar is made of
            from tqdm import notebook

            kind = notebook.tqdm
        except ImportError:
            pass
        disable = False
    # Without tqdm's thread, which looks for bars that are late.
    quiet = type(kind.__name__, (kind,), {"monitor_interval": 0})
    return quiet(total=total, desc=name, disable=disable)


def _make_rich() -> Any:
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        raise ImportError(
            "progress=True shows a bar of tqdm or rich; neither is installed (pip install tqdm)"
        ) from None
    return Progress(console=Console(file=sys.stderr), disable=not sys.stderr.isatty())


def _in_notebook() -> bool:
    """Whether a notebook's kernel runs this process."""
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    return getattr(shell, "kernel", None) is not None
