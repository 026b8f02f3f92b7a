"""How a pool's first workers come to be: together, from templates that have them ready."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any, NoReturn

import pytest

import watchdog
from implementation import Implementation


class Unloadable:
    """Arrives, and cannot be rebuilt."""

    def __reduce__(self) -> Any:
        return refuse, ()

    def __call__(self) -> None:
        pass


def refuse() -> NoReturn:
    raise LookupError("not here")


def test_what_the_first_workers_cannot_load_is_raised(
    ours: Implementation, capfd: pytest.CaptureFixture[str]
) -> None:
    if ours.start_method == "fork":
        pytest.skip("nothing is loaded")
    try:
        pool = ours.Pool(3, Unloadable())
    except LookupError:
        assert "not here" not in capfd.readouterr().err
    else:
        # They were slow to load, and have printed it.
        with pool, pytest.raises(ours.module("exceptions").PoolBroken):
            pool.apply(os.getpid)
        pool.join()
        assert "not here" in capfd.readouterr().err


class UnloadableSince:
    """Arrives, and cannot be rebuilt any more once a file is there."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return since, (self.file,)

    def __call__(self) -> None:
        pass


def since(file: Path) -> UnloadableSince:
    return refuse() if file.exists() else UnloadableSince(file)


def test_a_pool_broken_by_a_later_start_is_let_go_of(
    ours: Implementation, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the start raised is kept with the pool, and must not keep the pool (`leaks`)."""
    if ours.start_method == "fork":
        pytest.skip("nothing is loaded")
    file = tmp_path / "no more"
    pool = ours.Pool(1, UnloadableSince(file))
    victim = pool.apply(os.getpid)
    file.touch()
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(ours.module("exceptions").PoolBroken) as told:
        while True:  # a task in its hands is lost with it
            with contextlib.suppress(ours.module("exceptions").WorkerDied):
                pool.apply(os.getpid)
    pool.terminate()
    pool.join()
    # One that is slow to load has printed it.
    assert isinstance(told.value.__cause__, LookupError) or "not here" in capfd.readouterr().err


def kept_ahead() -> dict[str, set[int]]:
    """Children that wait for a start, by their template."""
    found: dict[str, set[int]] = {}
    for pid in watchdog.descendants(os.getpid()):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            if "(bequeath-spare)" in stat:
                found.setdefault(stat.rpartition(")")[2].split()[1], set()).add(pid)
    return found


def test_where_pools_are_made_two_children_are_kept_ahead(ours: Implementation) -> None:
    if ours.start_method == "fork":
        pytest.skip("there is no template")
    workers: set[int] = set()
    before: dict[str, set[int]] = {}
    while workers not in before.values():
        before = kept_ahead()
        with ours.Pool(2) as pool:
            workers = {worker.pid for worker in pool._pool}
        pool.join()
