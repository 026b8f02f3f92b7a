"""A worker's share of the machine."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import pytest

from bequeath import _budgets, _engine
from implementation import Implementation

#: What the program may have chosen.
VARIABLES = {variable for names in _budgets._VARIABLES.values() for variable in names}


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [*VARIABLES, "BEQUEATH_WORKER_THREADS"]:
        monkeypatch.delenv(variable, raising=False)


def compute(answers: Any, threads: int | None, load_first: bool, **chosen: str) -> None:
    """Says which variables a limited process has, and how many threads its library uses."""
    os.environ.update(chosen)
    if load_first:
        import numpy  # noqa: F401
    _budgets.limit(threads)
    import numpy as np

    square = np.ones((300, 300))
    (square @ square).sum()
    variables = {name: os.environ.get(name) for name in sorted(VARIABLES)}
    answers.put((variables, openblas_threads()))


def openblas_threads() -> set[int]:
    """What the loaded builds of OpenBLAS say."""
    with open("/proc/self/maps") as maps:
        files = {line.split()[-1] for line in maps if "openblas" in line}
    names = [
        f"{start}openblas_get_num_threads{end}"
        for start in ("", "scipy_")
        for end in ("", "64_", "_64_")
    ]
    found = set()
    for file in files:
        library = ctypes.CDLL(file)
        found |= {getattr(library, name)() for name in names if hasattr(library, name)}
    return found


def answer(
    ours: Any, threads: int | None, load_first: bool, **chosen: str
) -> tuple[dict[str, str | None], set[int]]:
    answers = ours.SimpleQueue()
    child = ours.Process(target=compute, args=(answers, threads, load_first), kwargs=chosen)
    child.start()
    found: tuple[dict[str, str | None], set[int]] = answers.get()
    child.join()
    answers.close()
    return found


@pytest.mark.parametrize("load_first", [False, True])
def test_a_limited_worker_computes_with_its_share(ours: Implementation, load_first: bool) -> None:
    pytest.importorskip("numpy")
    variables, threads = answer(ours, 1, load_first)
    assert set(variables.values()) == {"1"}
    assert threads <= {1}  # none where numpy stands on another library


def test_what_the_program_chose_stays(ours: Implementation) -> None:
    pytest.importorskip("numpy")
    variables, threads = answer(ours, 1, True, OMP_NUM_THREADS="2")
    assert variables["OMP_NUM_THREADS"] == "2"
    assert variables["OPENBLAS_NUM_THREADS"] is None
    assert variables["POLARS_MAX_THREADS"] == "1"
    assert threads == openblas_threads() or ours.start_method != "fork"


def test_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    usable = _engine.usable_processors()
    assert 1 <= usable <= len(os.sched_getaffinity(0))
    assert _budgets.share(1) is None  # alone: as without a pool
    assert _budgets.share(2) == max(1, usable // 2)
    assert _budgets.share(10 * usable) == 1
    monkeypatch.setenv("BEQUEATH_WORKER_THREADS", "3")
    assert _budgets.share(2) == 3
    monkeypatch.setenv("BEQUEATH_WORKER_THREADS", "all")
    assert _budgets.share(2) is None


def test_the_number_of_processors_follows_the_affinity() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert _engine.usable_processors() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_kills_for_want_of_memory_are_counted() -> None:
    mine = _engine.oom_kills()
    assert mine is None or mine >= 0
    assert _engine.oom_kills(os.getpid()) == mine
