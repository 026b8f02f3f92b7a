"""Signals, forks and the interpreter's end at whatever moment, while objects are in use."""

from __future__ import annotations

import textwrap
import threading
from pathlib import Path

import pytest

from implementation import Implementation
from program import prints, run

STORM = """
import itertools

def echo(there, back):
    while (item := there.get()) is not None:
        back.put(item)

def storm(context, rounds):
    there, back, side = context.Queue(), context.Queue(3), context.Queue()
    lock, semaphore, event = context.Lock(), context.Semaphore(2), context.Event()
    condition = context.Condition()
    process = context.Process(target=echo, args=(there, back))
    process.start()
    numbers, taken, depth = itertools.count(), [], 0

    def handler(number, frame):
        # A handler that waits is interrupted by the next one.
        nonlocal depth
        if depth < 3:
            depth += 1
            try:
                handle()
            finally:
                depth -= 1

    def handle():
        number = next(numbers)
        side.put(number)
        if number % 3 == 0:
            taken.append(side.get(timeout=10))
        if lock.acquire(timeout=0.0005):
            lock.release()
        if semaphore.acquire(timeout=0.0005):
            semaphore.release()
        event.set()
        event.wait(0.0005)
        event.clear()
        if condition.acquire(timeout=0.0005):
            condition.notify_all()
            condition.release()

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    for number in range(rounds):
        there.put(number)
        assert back.get() == number
        with lock:
            semaphore.acquire()
            semaphore.release()
        with condition:
            condition.wait(0.0001)
    signal.setitimer(signal.ITIMER_REAL, 0)
    there.put(None)
    process.join()
    # Every message of every handler, once.
    put = next(numbers)
    while not side.empty():
        taken.append(side.get())
    assert sorted(taken) == list(range(put)), (taken, put)
    assert lock.acquire(False) and semaphore.acquire(False) and semaphore.acquire(False)
    assert process.exitcode == 0 and put > 0

def in_child(context, rounds):
    storm(context, rounds)
"""


@pytest.mark.short
def test_a_storm_of_signals_with_handlers(ours: Implementation, tmp_path: Path) -> None:
    body = """
    storm(context, 300)
    child = context.Process(target=in_child, args=(context, 100))
    child.start()
    child.join()
    print("all accounted for", child.exitcode)
    """
    prints(ours, tmp_path, STORM, body, "all accounted for 0")


POOL_STORM = """
import itertools

def work(number):
    return number * 3

def failing(number):
    raise KeyError(number)

def storm(context, rounds):
    ticks = []
    signal.signal(signal.SIGALRM, lambda number, frame: ticks.append(number))
    with context.Pool(2) as pool:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for turn in itertools.count():
            if turn >= rounds and len(ticks) > rounds:
                break
            assert pool.map(work, range(20), 3) == [number * 3 for number in range(20)]
            assert sorted(pool.imap_unordered(work, range(5))) == [0, 3, 6, 9, 12]
            results = [pool.apply_async(failing, (number,)) for number in range(4)]
            for number, result in enumerate(results):
                try:
                    result.get()
                except KeyError as error:
                    assert error.args == (number,)
                else:
                    raise AssertionError("it did not fail")
            one = pool.apply_async(work, (turn,))
            assert one.get(30) == turn * 3
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert pool.map(work, [1]) == [3]
    return len(ticks)
"""


def test_a_storm_of_signals_during_pool_work(ours: Implementation, tmp_path: Path) -> None:
    body = """
    many = storm(context, 20) > 20
    print("each task has its result", many)
    """
    prints(ours, tmp_path, POOL_STORM, body, "each task has its result True")


POOL_FORKS = """
import warnings

def work(number):
    return number + 1

def fork_while_at_work(context):
    warnings.simplefilter("ignore", DeprecationWarning)
    ends = []
    with context.Pool(2) as pool:
        over = threading.Event()
        def submit():
            while not over.is_set():
                assert pool.map(work, range(10), 1) == list(range(1, 11))
        threads = [threading.Thread(target=submit) for _ in range(2)]
        for thread in threads:
            thread.start()
        for turn in range(20):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            ends.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        for turn in range(3):
            pid = os.fork()
            if pid == 0:
                # A pool of its own works.
                with mp.get_context("fork").Pool(1) as own:
                    os._exit(0 if own.map(work, [1, 2]) == [2, 3] else 1)
            ends.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        over.set()
        for thread in threads:
            thread.join()
        assert pool.map(work, [5]) == [6]
    print(len(ends), set(ends))
"""


def test_a_fork_at_any_moment_of_a_pools_work(ours: Implementation, tmp_path: Path) -> None:
    """A plain `os.fork` beside threads that use a pool: the parent's pool goes on."""
    finished = run(ours, tmp_path, POOL_FORKS, "fork_while_at_work(context)", seconds=55)
    assert (finished.stdout.strip(), finished.stderr) == ("23 {0}", ""), finished.stderr


FORKS = """
import faulthandler
import warnings

def busy(objects, over):
    queue, lock, rlock, semaphore, condition, event, value, array, (near, far), alone = objects
    name = threading.get_ident()
    while not over.is_set():
        queue.put(name)
        queue.get()
        for one in (lock, rlock, semaphore):
            with one:
                pass
        with condition:
            condition.notify()
            condition.wait(0.0005)
        event.set()
        event.wait(0)
        event.clear()
        alone.wait()
        with value.get_lock():
            value.value += 1
        array[0] = value.value
        with lock:
            near.send(name)
            far.recv()

def in_forked_child(objects, meeting):
    # Whatever the parent's threads hold is theirs: they go on, and this process gets its turn.
    faulthandler.dump_traceback_later(25, exit=True)
    queue, lock, rlock, semaphore, condition, event, value, array, (near, far), alone = objects
    before = value.value
    queue.put("child")
    queue.get(timeout=20)
    for one in (lock, rlock, semaphore, condition, value.get_lock()):
        assert one.acquire(timeout=20), one
        one.release()
    with condition:
        condition.wait(0.001)
    event.set()
    alone.wait(20)
    with value.get_lock():
        value.value += 1
        assert value.value > before
    with lock:
        near.send("child")
        # Whoever had sent without the answer was copied in the middle: it is the parent's to read.
        far.recv()
    meeting.wait(20)

def fork_while_busy(context):
    objects = (
        context.Queue(), context.Lock(), context.RLock(), context.Semaphore(2),
        context.Condition(), context.Event(), context.Value("q", 0), context.Array("q", 4),
        context.Pipe(), context.Barrier(1),
    )
    over = threading.Event()
    threads = [threading.Thread(target=busy, args=(objects, over)) for _ in range(3)]
    for thread in threads:
        thread.start()

    # 3.12 and later say that forks beside threads are dangerous: that is what is tried here.
    warnings.simplefilter("ignore", DeprecationWarning)

    def fork_often(count):
        # Each time its second party is another process.
        meeting = context.Barrier(2)
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    in_forked_child(objects, meeting)
                    code = 0
                except BaseException:
                    import traceback
                    traceback.print_exc()
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            meeting.wait(20)
            ends.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    ends = []
    # From the main thread and from another one.
    other = threading.Thread(target=fork_often, args=(25,))
    other.start()
    fork_often(25)
    other.join()
    over.set()
    for thread in threads:
        thread.join()
    print(len(ends), set(ends), objects[0].qsize())
"""


def test_a_fork_at_any_moment(ours: Implementation, tmp_path: Path) -> None:
    """Every object's view in a child of a plain `os.fork` of a busy process."""
    body = """
    if context.get_start_method() == "fork":
        fork_while_busy(context)
    else:
        # The process that forks is itself a template's child.
        process = context.Process(target=fork_while_busy, args=(context,))
        process.start()
        process.join()
    """
    finished = run(ours, tmp_path, FORKS, body, seconds=55)
    assert (finished.stdout.strip(), finished.stderr) == ("50 {0} 0", ""), finished.stderr


ENDINGS = {
    "daemon threads that wait": """
    queue, lock, event, ends = context.Queue(), context.Lock(), context.Event(), context.Pipe()
    lock.acquire()
    for wait in (queue.get, lock.acquire, event.wait, ends[0].recv):
        threading.Thread(target=wait, daemon=True).start()
    """,
    "daemon threads that work": """
    queue, lock = context.SimpleQueue(), context.Lock()
    def work():
        while True:
            with lock:
                queue.put(b"." * 1000)
                queue.get()
    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    queue.put("used")
    queue.get()
    """,
    "exit functions": """
    queue, event, value = context.SimpleQueue(), context.Event(), context.Value("i")
    def last():
        queue.put(1)
        event.set()
        with value.get_lock():
            value.value = queue.get()
        assert event.wait() and value.value == 1
    atexit.register(last)
    """,
    "destructors at the very end": """
    class Late:
        def __init__(self):
            self.queue, self.lock = context.SimpleQueue(), context.RLock()
            self.value = context.Value("i")
        def __del__(self):
            self.queue.put(1)
            with self.lock:
                self.value.value = self.queue.get()
    globals()["late"] = Late()
    """,
    "a pool at work": """
    pool = context.Pool(2)
    assert pool.apply(abs, (-1,)) == 1
    waiting = [pool.apply_async(time.sleep, (1000,)) for _ in range(5)]
    """,
    "a pool that a daemon thread uses": """
    pool = context.Pool(2)
    def work():
        try:
            while True:
                pool.map(abs, range(20), 1)
        except (RuntimeError, ValueError):
            pass  # told that it is over
    threading.Thread(target=work, daemon=True).start()
    assert pool.apply(abs, (-1,)) == 1
    """,
    "a pool used by an exit function": """
    pool = context.Pool(1)
    def last():
        try:
            pool.apply_async(abs, (-1,))
        except (RuntimeError, ValueError):
            pass  # told that it is too late
    atexit.register(last)
    """,
    "an executor with work left": """
    executor = mp.ProcessPoolExecutor(2, mp_context=context)
    futures = [executor.submit(time.sleep, 0.01) for _ in range(8)]
    """,
    "a queue in use by a child": """
    queue = context.Queue()
    process = context.Process(target=queue.get)
    process.start()
    queue.put("last")
    """,
}  # fmt: skip


@pytest.mark.parametrize("what", ENDINGS)
def test_the_interpreter_ends(ours: Implementation, tmp_path: Path, what: str) -> None:
    body = textwrap.dedent(ENDINGS[what]) + 'print("ends", flush=True)\n'
    prints(ours, tmp_path, "", body, "ends")


def test_many_threads_of_one_process_on_one_object(ours: Implementation) -> None:
    count, each = 12, 60
    queue, small, lock = ours.SimpleQueue(), ours.Queue(2), ours.Lock()
    rlock, semaphore, value = ours.RLock(), ours.BoundedSemaphore(3), ours.Value("i", 0)
    condition, barrier, event = ours.Condition(), ours.Barrier(count), ours.Event()
    inside: list[int] = []
    seen: list[tuple[int, int]] = []

    def work(number: int) -> None:
        barrier.wait()
        for index in range(each):
            queue.put((number, index))
            small.put(index)
            small.get()
            with rlock, rlock, lock:
                inside.append(number)
                assert len(inside) == 1
                inside.remove(number)
                seen.append(queue.get())
            with semaphore, value.get_lock():
                value.value += 1
        with condition:
            condition.notify_all()
        event.wait()
        barrier.wait()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    with condition:
        condition.wait_for(lambda: value.value == count * each)
    event.set()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [(number, index) for number in range(count) for index in range(each)]
    # What one thread put comes in its order.
    for number in range(count):
        assert [index for who, index in seen if who == number] == list(range(each))
    queue.close()
    small.close()
    small.join_thread()
