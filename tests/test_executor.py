"""`bequeath.ProcessPoolExecutor`: what concurrent.futures documents, and what it says of deaths."""

from __future__ import annotations

import asyncio
import concurrent.futures
import concurrent.futures.process
import faulthandler
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

import bequeath
from bequeath.exceptions import WorkerDied
from implementation import Implementation


def square(number: int) -> int:
    return number * number


def add(left: int, right: int) -> int:
    return left + right


def end_by(how: Any) -> None:
    faulthandler.disable()  # its report of a segfault is not wanted here
    if isinstance(how, signal.Signals):
        os.kill(os.getpid(), how)
    os._exit(how)


def refuse(number: int) -> None:
    raise LookupError(number)


def wait_for(event: Any) -> str:
    event.wait()
    return "waited"


def say_and_wait(begun: Any, event: Any) -> str:
    begun.set()
    event.wait()
    return "waited"


@pytest.fixture
def executor(ours: Implementation) -> Iterator[Any]:
    with bequeath.ProcessPoolExecutor(2, ours.package.get_context(ours.start_method)) as made:
        yield made


def test_submit_and_map(ours: Implementation, executor: Any) -> None:
    future = executor.submit(square, 3)
    assert type(future) is concurrent.futures.Future
    assert future.result() == 9
    assert list(executor.map(square, range(10))) == [square(n) for n in range(10)]
    assert list(executor.map(add, range(9), range(1, 9), chunksize=3)) == list(range(1, 17, 2))
    assert list(executor.map(square, [])) == []
    assert executor.submit(lambda: "by value").result() == "by value"
    assert {f.result() for f in concurrent.futures.as_completed([executor.submit(square, 2)])}


def test_map_with_a_buffer_is_lazy(ours: Implementation, executor: Any) -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(20):
            read.append(number)
            yield number

    results = executor.map(square, numbers(), buffersize=3, chunksize=2)
    assert len(read) == 6
    assert [next(results), next(results)] == [0, 1]
    assert len(read) == 8
    assert list(results) == [square(n) for n in range(2, 20)]
    with pytest.raises(ValueError, match="buffersize"):
        executor.map(square, [], buffersize=0)
    with pytest.raises(TypeError, match="buffersize"):
        executor.map(square, [], buffersize="3")


def test_map_raises_where_the_result_would_be(ours: Implementation, executor: Any) -> None:
    results = executor.map(refuse, range(3))
    with pytest.raises(LookupError) as caught:
        next(results)
    assert caught.value.args == (0,)
    event = bequeath.Event()
    slow = executor.map(wait_for, [event], timeout=0.01)
    with pytest.raises(concurrent.futures.TimeoutError):
        next(slow)
    event.set()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, 3])
def test_a_death_costs_one_future(ours: Implementation, executor: Any, how: Any) -> None:
    before = [executor.submit(square, number) for number in range(20)]
    lost = executor.submit(end_by, how)
    after = [executor.submit(square, number) for number in range(20)]
    assert [future.result() for future in before + after] == [square(n) for n in range(20)] * 2
    error = lost.exception()
    assert isinstance(error, WorkerDied)
    assert isinstance(error, BrokenProcessPool)
    assert isinstance(error, concurrent.futures.BrokenExecutor)
    assert error.exitcode == (how if isinstance(how, int) and how == 3 else -how)
    assert error.pid not in executor._processes
    assert "end_by" in str(error)


def test_on_death_break_is_as_in_the_standard_one(ours: Implementation) -> None:
    context = ours.package.get_context(ours.start_method)
    event = context.Event()
    with bequeath.ProcessPoolExecutor(2, context, on_death="break") as executor:
        waiting = executor.submit(wait_for, event)
        lost = executor.submit(end_by, signal.SIGKILL)
        assert isinstance(lost.exception(), BrokenProcessPool)
        assert isinstance(waiting.exception(), BrokenProcessPool)
        cause: Any = lost.exception().__cause__
        assert type(cause).__name__ == "_RemoteTraceback"
        assert "terminated abruptly with exit code -9" in cause.tb
        with pytest.raises(BrokenProcessPool):
            executor.submit(square, 1)


def die_once(marker: str) -> str:
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def test_on_death_retry(ours: Implementation, tmp_path: Any) -> None:
    context = ours.package.get_context(ours.start_method)
    with bequeath.ProcessPoolExecutor(1, context, on_death="retry", retries=1) as executor:
        assert executor.submit(die_once, str(tmp_path / "marker")).result() == "done"
        assert isinstance(executor.submit(end_by, signal.SIGKILL).exception(), WorkerDied)
        assert executor.submit(square, 4).result() == 16


def test_exceptions_arrive_as_the_standard_one_has_them(
    ours: Implementation, executor: Any
) -> None:
    error = executor.submit(refuse, 7).exception()
    assert type(error) is LookupError
    cause = error.__cause__
    assert type(cause) is concurrent.futures.process._RemoteTraceback  # type: ignore[attr-defined]
    assert "raise LookupError(number)" in cause.tb
    assert traceback.extract_tb(error.__traceback__)[-1].name == "refuse"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_ends_a_program_is_a_result_here(
    ours: Implementation, executor: Any, kind: type[BaseException]
) -> None:
    error = executor.submit(raise_it, kind).exception()
    assert type(error) is kind
    assert executor.submit(square, 5).result() == 25


def raise_it(kind: type[BaseException]) -> None:
    raise kind(1)


def test_what_cannot_be_pickled_is_the_future_s_error(ours: Implementation, executor: Any) -> None:
    with pytest.raises(TypeError):
        executor.submit(square, threading.Lock()).result()
    with pytest.raises(Exception, match="lock"):
        executor.submit(threading.Lock).result()
    for how in ({}, {"chunksize": 2}, {"buffersize": 2}, {"buffersize": 2, "chunksize": 2}):
        with pytest.raises(TypeError, match=r"^iterable\[3\]\[1\] "):
            list(executor.map(add, range(4), [0, 1, 2, threading.Lock()], **how))
    assert executor.submit(square, 6).result() == 36


def test_a_timeout_of_a_task(ours: Implementation, executor: Any) -> None:
    event = bequeath.Event()
    assert executor.submit(square, 7).result() == 49  # an import that is cut off stays half done
    late = executor.schedule(wait_for, (event,), timeout=0.05)
    assert isinstance(late.exception(), concurrent.futures.TimeoutError)
    assert executor.submit(square, 7).result() == 49


def test_a_running_task_is_interrupted(ours: Implementation, executor: Any) -> None:
    begun, event = bequeath.Event(), bequeath.Event()
    running = executor.submit(say_and_wait, begun, event)
    begun.wait()
    assert not running.cancel()
    assert executor.interrupt(running)
    assert isinstance(running.exception(), concurrent.futures.CancelledError)
    assert executor.submit(square, 8).result() == 64


def test_shutdown_cancels_what_waits(ours: Implementation) -> None:
    context = ours.package.get_context(ours.start_method)
    event = context.Event()
    executor = bequeath.ProcessPoolExecutor(1, context)
    futures = [executor.submit(wait_for, event) for _ in range(30)]
    mapped = executor.map(square, range(10))
    executor.shutdown(wait=False, cancel_futures=True)
    event.set()
    executor.shutdown()
    assert futures[0].result() == "waited"
    assert sum(future.cancelled() for future in futures) > 20
    assert all(future.done() for future in futures)
    with pytest.raises(concurrent.futures.CancelledError):
        list(mapped)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 1)


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_workers_are_ended_at_once(ours: Implementation, how: str) -> None:
    context = ours.package.get_context(ours.start_method)
    begun, event = context.Event(), context.Event()
    executor = bequeath.ProcessPoolExecutor(1, context)
    running = executor.submit(say_and_wait, begun, event)
    begun.wait()
    with pytest.raises(ValueError, match="Unsupported operation: 'resurrect'"):
        executor._force_shutdown(operation="resurrect")
    [worker] = executor._processes.values()
    getattr(executor, how)()
    worker.join()
    assert isinstance(running.exception(), BrokenProcessPool)
    with pytest.raises(RuntimeError):
        executor.submit(square, 1)
    executor.shutdown()


def fail_to_begin() -> None:
    raise ArithmeticError("no beginning")


NUMBER = 0


def begin_with(number: int) -> None:
    global NUMBER
    NUMBER = number


def begun_with() -> int:
    return NUMBER


def test_initializers(ours: Implementation) -> None:
    context = ours.package.get_context(ours.start_method)
    with bequeath.ProcessPoolExecutor(2, context, begin_with, (5,)) as executor:
        assert executor.submit(begun_with).result() == 5
    with bequeath.ProcessPoolExecutor(2, context, fail_to_begin) as executor:
        error = executor.submit(square, 1).exception()
        assert isinstance(error, BrokenProcessPool)
        assert isinstance(error.__cause__, ArithmeticError)
        with pytest.raises(BrokenProcessPool):
            executor.submit(square, 1)


def test_workers_are_replaced_after_so_many_tasks(ours: Implementation) -> None:
    context = ours.package.get_context(ours.start_method)
    if ours.start_method == "fork":
        with pytest.raises(ValueError, match="incompatible"):
            bequeath.ProcessPoolExecutor(1, context, max_tasks_per_child=2)
        return
    with bequeath.ProcessPoolExecutor(1, context, max_tasks_per_child=2) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(6)]
    assert pids == [pids[0]] * 2 + [pids[2]] * 2 + [pids[4]] * 2
    assert len(set(pids)) == 3


def test_arguments_are_checked() -> None:
    for arguments, error in (
        ({"max_workers": 0}, ValueError),
        ({"initializer": 5}, TypeError),
        ({"max_tasks_per_child": 0}, ValueError),
        ({"max_tasks_per_child": "2"}, TypeError),
        ({"on_death": "ignore"}, ValueError),
    ):
        with pytest.raises(error):
            bequeath.ProcessPoolExecutor(**arguments)  # type: ignore[arg-type]


def test_an_event_loop_uses_it(ours: Implementation, executor: Any) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *(loop.run_in_executor(executor, square, number) for number in range(5))
        )

    assert asyncio.run(main()) == [square(number) for number in range(5)]


def test_a_context_of_the_standard_library_is_taken() -> None:
    import multiprocessing

    context: Any = multiprocessing.get_context("fork")
    with bequeath.ProcessPoolExecutor(1, context) as executor:
        assert executor.submit(square, 9).result() == 81
        assert executor._mp_context is bequeath.get_context("fork")


def test_the_standard_executor_takes_our_context(ours: Implementation) -> None:
    context = ours.package.get_context(ours.start_method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        assert list(executor.map(square, range(20))) == [square(n) for n in range(20)]
        assert type(next(iter(executor._processes.values()))).__module__.startswith("bequeath")


PROGRAM = """
import sys, time
import bequeath
def tell(text):
    time.sleep(0.2)
    sys.stdout.write(text + "\\n")  # in one piece, also without a buffer
    sys.stdout.flush()
if __name__ == "__main__":
    executor = bequeath.ProcessPoolExecutor(2, bequeath.get_context({method!r}))
    for text in ("apple", "pear", "plum"):
        executor.submit(tell, text)
"""


def test_what_was_submitted_is_done_at_the_program_s_end(
    ours: Implementation, tmp_path: Any
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(method=ours.start_method))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=50)
    assert sorted(done.stdout.split()) == ["apple", "pear", "plum"]
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_forgotten_executor_does_what_was_submitted(ours: Implementation) -> None:
    executor = bequeath.ProcessPoolExecutor(2, ours.package.get_context(ours.start_method))
    futures = [executor.submit(square, number) for number in range(5)]
    thread = executor._executor_manager_thread
    del executor
    assert [future.result() for future in futures] == [square(number) for number in range(5)]
    assert thread is not None
    thread.join()


def test_the_package_brings_concurrent_futures_only_when_asked() -> None:
    program = (
        "import sys, bequeath; assert 'concurrent.futures' not in sys.modules; "
        "bequeath.ProcessPoolExecutor; assert 'concurrent.futures.process' not in sys.modules; "
        "assert 'multiprocessing' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=50)


def test_many_threads_submit(ours: Implementation, executor: Any) -> None:
    results: list[int] = []

    def submit() -> None:
        futures = [executor.submit(square, number) for number in range(50)]
        results.extend(future.result() for future in futures)

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted([square(number) for number in range(50)] * 4)
