"""What every test stands on: the fixture `mp`, the watchdog, the check that nothing is left.

A behaviour test asks for `mp` and so runs on `multiprocessing` and on `bequeath`, for each start
method; it must pass on the first before it says anything about the second. What only bequeath can
do asks for `ours`: the same without the standard library.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

import leaks
import watchdog
from implementation import IMPLEMENTATIONS, START_METHODS, Implementation

# Whoever starts the tests in the background of a script hands down an ignored SIGINT, and then no
# process of a test would ever be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bequeath")
    group.addoption("--implementation", action="append", choices=IMPLEMENTATIONS)
    group.addoption("--start-method", action="append", choices=START_METHODS)
    group.addoption(
        "--short", action="store_true", help="bequeath only, a sample of each file's tests"
    )
    group.addoption("--limit", type=float, default=60.0, help="seconds before a test is a hang")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "leaves(reason): the leak check is off, for this reason")
    config.addinivalue_line("markers", "limit(seconds): more or less time than --limit")
    config.addinivalue_line("markers", "short: runs under --short too")
    # A child that the watchdog ends with SIGABRT says where it was.
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")
    leaks.private_temporary_folder()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    fixture = next((name for name in ("mp", "ours") if name in metafunc.fixturenames), None)
    if fixture is None:
        return
    implementations = metafunc.config.getoption("--implementation") or list(IMPLEMENTATIONS)
    if metafunc.config.getoption("--short") or fixture == "ours":
        implementations = [name for name in implementations if name == "bequeath"]
    methods = metafunc.config.getoption("--start-method") or list(START_METHODS)
    parameters = [Implementation(name, method) for name in implementations for method in methods]
    for name in implementations:
        importlib.import_module(name)
    metafunc.parametrize(fixture, parameters, ids=repr, indirect=False)


# Under --short: how many cases of each file's first test function run, and what does not.
SAMPLE = 3
NOT_IN_SHORT = ("test_wheel.py", "test_libraries.py", "test_house.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under --short: tests marked `short`, and of each file the first test function besides."""
    if not config.getoption("--short"):
        return
    first: dict[str, str] = {}
    sampled: Counter[str] = Counter()
    chosen = []
    for item in items:
        path, name = str(item.path), getattr(item, "originalname", item.name)
        first.setdefault(path, name)
        if item.path.name in NOT_IN_SHORT:
            continue
        if item.get_closest_marker("short"):
            chosen.append(item)
        elif first[path] == name and sampled[path] < SAMPLE:
            sampled[path] += 1
            chosen.append(item)
    kept = set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = chosen


@pytest.fixture(autouse=True)
def no_hang(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ends a hanging test with the stacks of every process it started."""
    marker = request.node.get_closest_marker("limit")
    seconds = marker.args[0] if marker else request.config.getoption("--limit")
    with watchdog.guard(request.node.nodeid, seconds):
        yield


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, no_hang: None) -> Iterator[None]:
    """Fails a test that leaves descriptors, processes, files or folders behind."""
    if request.node.get_closest_marker("leaves"):
        yield
        return
    leaks.warm_up(request.config.getoption("--start-method") or START_METHODS)
    before = leaks.Inventory.take()
    yield
    left = leaks.what_is_left(before)
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


def pytest_unconfigure(config: pytest.Config) -> None:
    watchdog.stop()


def pytest_report_header(config: pytest.Config) -> str:
    return f"start-up: {os.cpu_count()} processors, {sys.executable}"
