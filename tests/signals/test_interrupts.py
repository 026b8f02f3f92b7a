"""Ctrl-C during any wait: KeyboardInterrupt in the main thread, and an object that still works."""

from __future__ import annotations

from typing import Any

import pytest
from interrupts import WAITS, run_all

from implementation import Implementation


@pytest.mark.parametrize("name", WAITS)
def test_in_this_process(mp: Implementation, name: str) -> None:
    run_all(mp, [name], lambda _: None)


def report_to(mp: Implementation, names: list[str], queue: Any) -> None:
    run_all(mp, names, queue.put)


@pytest.mark.short
def test_in_a_child(mp: Implementation) -> None:
    queue = mp.SimpleQueue()
    # Daemons may not have children.
    process = mp.Process(target=report_to, args=(mp, list(WAITS), queue))
    process.start()
    for name in WAITS:
        while not mp.module("connection").wait([queue._reader, process.sentinel], 1):
            pass
        assert not queue.empty(), f"the child ended in {name} with {process.exitcode}"
        assert queue.get() == name
    process.join()
    assert process.exitcode == 0
    queue.close()
