"""What happens when something runs out: descriptors, memory, address space, processes, files.

Each case is a program of its own. The long forms (`BEQUEATH_FAULTS=long`, in `make faults`) take
the numbers that a user would call many.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_groups import group_of, killed_in
from implementation import Implementation
from program import prints, run

LONG = os.environ.get("BEQUEATH_FAULTS") == "long"

FILL_THE_TABLE = """
LIMITS = resource.getrlimit(resource.RLIMIT_NOFILE)

def fill_the_table():
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, LIMITS[1]))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        return taken

def empty_the_table(taken):
    resource.setrlimit(resource.RLIMIT_NOFILE, LIMITS)
    for fd in taken:
        os.close(fd)

def eventually(call, *arguments):
    # With a full table: an OSError that says so, or it needs no descriptor. Afterwards it works.
    taken = fill_the_table()
    try:
        result = call(*arguments)
    except OSError as error:
        assert error.errno == 24, error
        result = None
    empty_the_table(taken)
    return call(*arguments) if result is None else result
"""


def only(mp: Implementation, *methods: str) -> None:
    if mp.start_method not in methods:
        pytest.skip(f"the start method does not matter: {', '.join(methods)}")


# --- descriptors -----------------------------------------------------------------------------


def test_full_tables_on_both_sides(ours: Implementation, tmp_path: Path) -> None:
    """Files through a queue and a pipe, each side with a full table at its first attempt."""
    prints(
        ours,
        tmp_path,
        FILL_THE_TABLE
        + """
def sent(send, file):
    taken = fill_the_table()
    try:
        send(file)
        return True
    except OSError as error:
        assert error.errno == 24, error
        return False
    finally:
        empty_the_table(taken)

def child(queue, reader, results):
    for receive in (queue.get, reader.recv):
        file = eventually(receive)
        results.put(file.read())
        file.close()
""",
        """
        queue, results = context.Queue(), context.Queue()
        reader, writer = context.Pipe(False)
        process = context.Process(target=child, args=(queue, reader, results))
        process.start()
        for send in (queue.put, writer.send):
            with open(__file__) as file:
                if not sent(send, file):
                    send(file)
        text = open(__file__).read()
        print(results.get() == text, results.get() == text)
        process.join()
        print(process.exitcode)
        """,
        "True True\n0",
    )


def test_a_start_with_a_full_table(ours: Implementation, tmp_path: Path) -> None:
    prints(
        ours,
        tmp_path,
        FILL_THE_TABLE,
        """
        queue = context.Queue()
        for number in range(2):
            taken = fill_the_table()
            process = context.Process(target=queue.put, args=(number,))
            try:
                process.start()
            except OSError as error:
                assert error.errno == 24, error
                empty_the_table(taken)
                process = context.Process(target=queue.put, args=(number,))
                process.start()
            else:
                empty_the_table(taken)
            print(queue.get())
            process.join()
            assert process.exitcode == 0
        """,
        "0\n1",
    )


# --- rlimits while growing -------------------------------------------------------------------


def test_limits_set_while_the_session_lives(ours: Implementation, tmp_path: Path) -> None:
    """The file has its size already, RLIMIT_FSIZE does not bind; growing takes no descriptor."""
    only(ours, "fork")
    prints(
        ours,
        tmp_path,
        FILL_THE_TABLE,
        """
        queue = context.Queue()
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        taken = fill_the_table()
        for size in (100, 10_000, 100_000, 1_000_000, 10_000_000):
            for _ in range(5):
                queue.put(bytearray(size))
        print([len(queue.get()) for _ in range(25)][::5])
        """,
        "[100, 10000, 100000, 1000000, 10000000]",
    )


def test_address_space_that_ends_while_the_queue_grows(
    ours: Implementation, tmp_path: Path
) -> None:
    only(ours, "fork")
    prints(
        ours,
        tmp_path,
        "",
        """
        queue = context.Queue()
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        piece = bytearray(3_000_000)
        resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), resource.RLIM_INFINITY))
        count = 0
        try:
            while count < 120:
                queue.put(piece)
                count += 1
        except (MemoryError, OSError) as error:
            assert isinstance(error, MemoryError) or error.errno == 12, error
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(all(len(queue.get()) == 3_000_000 for _ in range(count)), queue.empty())
        """,
        "True True",
    )


def test_no_more_processes(ours: Implementation, tmp_path: Path) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip(
            "RLIMIT_NPROC does not bind root, and there is no setpriv to become somebody else"
        )
    prints(
        ours,
        tmp_path,
        """
        if os.geteuid() == 0:
            # A user without other processes, who may read what root has written.
            user = str(50_000 + os.getpid() % 10_000)
            os.execvp("setpriv", ["setpriv", "--reuid", user, "--regid", user, "--clear-groups",
                "--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override",
                sys.executable, __file__])

        def held():
            descriptors = sorted(map(int, os.listdir("/proc/self/fd")))
            mp._engine.session_scavenge()
            info = mp._engine.session_info()
            return descriptors[:-1], info["members"], info["references"], info["places"]
        """,
        """
        queue = context.Queue()
        queue.put(0)
        queue.get()
        queue.put(0)
        before = held()
        limit = resource.getrlimit(resource.RLIMIT_NPROC)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, limit[1]))
        for _ in range(3):
            process = context.Process(target=queue.put, args=(1,))
            try:
                process.start()
            except BlockingIOError as error:
                print(error.errno, "RLIMIT_NPROC" in str(error), process.pid)
        del process
        # Nothing is left of those: no process, no descriptor, no place in the session.
        print(held() == before, mp.active_children())
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            print("no children")
        resource.setrlimit(resource.RLIMIT_NPROC, limit)
        process = context.Process(target=queue.put, args=(2,))
        process.start()
        print(queue.get(), queue.get())
        process.join()
        """,
        "11 True None\n" * 3 + "True []\nno children\n0 2",
    )


@pytest.mark.limit(120)
@pytest.mark.parametrize("limit", [1_000_000, 1 << 20])
def test_files_of_a_megabyte(ours: Implementation, tmp_path: Path, limit: int) -> None:
    """What is too large crosses a pipe, and is one clear MemoryError for a queue."""
    if limit == 1_000_000:
        only(ours, "spawn")
    definitions = """
def child(queue, results, lock, event, value, array, pipe):
    with lock:
        value.value += 1
    array[0] = 7
    for item in iter(queue.get, None):
        results.put(item)
    pipe.send(bytes(3_000_000))
    pipe.send(bytearray(2_500_000))
    pipe.send_bytes(bytes(2_000_000))
    event.set()

def refusal(call, *arguments):
    try:
        while True:
            call(*arguments)
    except MemoryError as error:
        return str(error)
"""
    body = """
        resource.setrlimit(resource.RLIMIT_FSIZE, (MEGABYTE, MEGABYTE))
        queue, results = context.Queue(), context.JoinableQueue()
        lock, event = context.Lock(), context.Event()
        value, array = context.Value("i", 0), context.Array("d", 100)
        reader, writer = context.Pipe(False)
        arguments = (queue, results, lock, event, value, array, writer)
        process = context.Process(target=child, args=arguments)
        process.start()
        for number in range(300):
            queue.put((number, "x" * 100))
        queue.put(bytes(100_000))
        queue.put(None)
        print([results.get()[0] for _ in range(300)] == list(range(300)), len(results.get()))
        print(len(reader.recv()), len(reader.recv()), len(reader.recv_bytes()))
        print(event.wait(20), value.value, array[0])
        process.join()
        print(process.exitcode)
        for large in (bytes(3_000_000), bytearray(3_000_000), "x" * 1000):
            text = refusal(queue.put, large)
            assert "program.py:" in text and "(from RLIMIT_FSIZE)" in text, text
        print("RLIMIT_FSIZE" in refusal(context.Array, "d", 1_000_000))
        held = queue.qsize()
        print(held > 200, all(len(queue.get()) == 1000 for _ in range(held)))
        queue.put(bytes(300_000))
        print(len(queue.get()))
        """
    expected = """
        True 100000
        3000000 2500000 2000000
        True 1 7.0
        0
        True
        True True
        300000
        """
    prints(ours, tmp_path, definitions, body.replace("MEGABYTE", str(limit)), expected)


# --- control groups --------------------------------------------------------------------------


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A group that may use 100 MB, made for this test."""
    with group_of(100_000_000) as group:
        if group is None:
            pytest.skip("no control group that limits memory can be made here")
        yield group


@pytest.mark.limit(120)
def test_an_unbounded_put_in_a_small_group(
    ours: Implementation, tmp_path: Path, small_group: Path
) -> None:
    """MemoryError, not the kernel's out-of-memory killer: also when the program's own memory took
    what the session was promised, and when the promise was far too large."""
    only(ours, "fork")
    body = """
        open(GROUP + "/cgroup.procs", "w").write(str(os.getpid()))
        from bequeath import _engine
        queue = context.Queue()
        hoard = []
        for size in (3000, 100_000, 2_000_000):
            try:
                while True:
                    queue.put(bytearray(size))
            except MemoryError as error:
                assert "(from cgroup)" in str(error), error
            print(queue.qsize() > 10)
            while not queue.empty():
                queue.get()
            # The program takes its share, and somebody promises the session more than there is.
            hoard.append(bytearray(15_000_000))
            _engine.session_set_limit(1 << 40)
        queue.put("good")
        print(queue.get())
        """
    prints(
        ours,
        tmp_path,
        f"GROUP = {str(small_group)!r}",
        body,
        "True\nTrue\nTrue\ngood",
    )
    assert killed_in(small_group) == 0


# --- many and large --------------------------------------------------------------------------


@pytest.mark.limit(600)
def test_many_objects_made_and_dropped(ours: Implementation, tmp_path: Path) -> None:
    only(ours, "fork")
    count = 2_000_000 if LONG else 20_000
    body = """
        from bequeath import _engine
        used = []
        for round in range(10):
            for _ in range(COUNT // 50):  # five objects each
                context.Lock(), context.Event(), context.Value("d"), context.Queue().put(1)
                context.Array("i", 1000)
            used.append(_engine.session_info()["used"])
        info = _engine.session_info()
        print(used[-1] == used[1], info["references"], info["places"])
        """
    check(ours, tmp_path, body.replace("COUNT", str(count)), "True 0 0")


@pytest.mark.limit(600)
def test_many_queued_messages_and_a_drain(ours: Implementation, tmp_path: Path) -> None:
    """The memory falls again, whatever the messages are made of: what the arena counts, what the
    kernel has given its file, and what is resident in this process."""
    only(ours, "fork")
    count = 1_000_000 if LONG else 30_000
    body = """
        from bequeath import _engine
        def memory():
            pages = os.fstat(_engine.session_descriptor()).st_blocks * 512
            with open("/proc/self/status") as file:
                (resident,) = [int(line.split()[1]) << 10 for line in file if "RssShmem" in line]
            return _engine.session_info()["used"], pages, resident

        queue, event = context.Queue(), context.Event()
        # What is kept for the next messages is a share of the limit.
        _engine.session_set_limit(LIMIT)
        for kind in (lambda: "x" * 200, lambda: event, lambda: bytes(5000)):
            before = memory()
            count = COUNT if kind() != bytes(5000) else COUNT // 10
            for _ in range(count):
                queue.put(kind())
            full = memory()
            while not queue.empty():
                queue.get()
            seen = list(zip(before, full, memory()))
            assert all(most - least > 3_000_000 for least, most, _ in seen), seen
            print(all(kept - least < (most - least) / 2 for least, most, kept in seen) or seen)
        """
    body = body.replace("COUNT", str(count)).replace("LIMIT", str(count * 1200))
    check(ours, tmp_path, body, "True\nTrue\nTrue")


@pytest.mark.limit(600)
def test_a_very_large_message(ours: Implementation, tmp_path: Path) -> None:
    """Six gigabytes, or an eighth of what the machine has left: two copies of it exist."""
    only(ours, "fork")
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) << 10 for line in lines if "MemAvailable" in line)
    size = min(6 << 30, available // 8) if LONG else min(300 << 20, available // 8)
    if LONG and available > 16 << 30:
        size = 6 << 30
    print(f"a message of {size} bytes")
    body = """
        # Should the machine run out all the same, this program is the one to go.
        open("/proc/self/oom_score_adj", "w").write("1000")
        queue = context.Queue()
        large = bytearray(SIZE)
        large[0], large[-1] = 1, 2
        queue.put(large)
        del large
        process = context.Process(target=child, args=(queue,))
        process.start()
        process.join()
        print(process.exitcode)
        """
    definitions = f"""
def child(queue):
    large = queue.get()
    assert (len(large), large[0], large[-1]) == ({size}, 1, 2)
    large[1] = 3
"""
    check(ours, tmp_path, body.replace("SIZE", str(size)), "0", definitions)


@pytest.mark.limit(600)
def test_hundreds_of_processes(ours: Implementation, tmp_path: Path) -> None:
    if not LONG:
        only(ours, "fork")
    count = 300 if LONG else 100
    body = """
        queue, go, value = context.Queue(), context.Event(), context.Value("i")
        crowd = [context.Process(target=child, args=(queue, go, value)) for _ in range(COUNT)]
        for process in crowd:
            process.start()
        here = {queue.get() for _ in crowd}
        print(len(here))
        go.set()
        for process in crowd:
            process.join()
        print({process.exitcode for process in crowd}, value.value)
        from bequeath import _engine
        _engine.session_scavenge()
        print(_engine.session_info()["members"] < 10)
        """
    definitions = """
def child(queue, go, value):
    queue.put(os.getpid())
    go.wait()
    with value.get_lock():
        value.value += 1
"""
    expected = f"{count}\n{{0}} {count}\nTrue"
    check(ours, tmp_path, body.replace("COUNT", str(count)), expected, definitions)


def check(
    mp: Implementation, folder: Path, body: str, expected: str, definitions: str = ""
) -> None:
    """As `prints`, for programs that take their time."""
    finished = run(mp, folder, definitions, body, None, 500)
    assert finished.stdout.strip() == textwrap.dedent(expected).strip(), finished.stderr
    assert (finished.stderr, finished.returncode) == ("", 0)
