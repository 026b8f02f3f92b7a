"""The statements of SECURITY.md and SAFETY.md: each names its test, and most of those are here."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

import bequeath
from bequeath import _engine
from implementation import Implementation
from namespaces import abroad
from program import prints

ROOT = Path(__file__).resolve().parent.parent

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def test_each_statement_names_a_test() -> None:
    rows = re.findall(r"^\| .*$", (ROOT / "SECURITY.md").read_text(), re.M)[1:]
    named = [re.findall(r"`(test_\w+)`", row.rpartition(" | ")[2]) for row in rows]
    assert all(named)
    assert all(name in globals() for names in named for name in names)


def test_each_claim_of_safety_names_a_test() -> None:
    text = (ROOT / "SAFETY.md").read_text()
    claims = re.findall(r"^- (.*?)(?=^- |^$)", text.partition("\nNot claimed")[0], re.M | re.S)
    assert len(claims) >= 5
    for claim in claims:
        shown = re.findall(r"`([\w/.]+)::(\w+)`", claim.rpartition("Shown by")[2])
        assert shown and "Shown by" in claim, claim
        for file, test in shown:
            assert re.search(rf"(fn|def) {test}\(", (ROOT / file).read_text()), (file, test)


def test_the_arena_keeps_its_length(ours: Implementation) -> None:
    """No member, nor who was handed the descriptor, can take pages away from under the others."""
    ours.Lock()
    descriptor = _engine.session_descriptor()
    length = os.fstat(descriptor).st_size
    for wanted in (0, length - 4096, length + 4096):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, wanted)
    assert os.fstat(descriptor).st_size == length


class Runs:
    """Whoever unpickles it runs what it says."""

    def __init__(self, variable: str) -> None:
        self.variable = variable

    def __reduce__(self) -> object:
        return exec, (f"import os; os.environ[{self.variable!r}] = 'ran'",)


def test_a_message_runs_code_in_its_receiver(mp: Implementation) -> None:
    queue = mp.SimpleQueue()
    queue.put(Runs("BEQUEATH_TEST_RAN"))
    try:
        queue.get()
        assert os.environ["BEQUEATH_TEST_RAN"] == "ran"
    finally:
        os.environ.pop("BEQUEATH_TEST_RAN", None)


LISTING = """
def numbers(pid="self"):
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            pass
    return found
def mapped():
    with open("/proc/self/maps") as maps:
        return sum("memfd:bequeath" in line for line in maps)
"""


def test_nothing_has_a_name(ours: Implementation, tmp_path: Path) -> None:
    """No socket of ours has a path or an abstract name; no file is made in /dev/shm."""
    prints(
        ours,
        tmp_path,
        LISTING + "def work(connection, queue): connection.recv()",
        """
        def files(): return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
        before = files()
        mine, theirs = context.Pipe()
        queue, lock = context.Queue(), context.Lock()
        process = context.Process(target=work, args=(theirs, queue))
        process.start()
        inodes = {name[8:-1] for pid in ("self", process.pid) for name in numbers(pid).values()
                  if name.startswith("socket:")}
        with open("/proc/net/unix") as sockets:
            named = [line.split() for line in sockets.readlines()[1:]]
        print([line for line in named if line[6] in inodes and len(line) > 7], len(inodes) > 0)
        print(files() - before)
        mine.send(None)
        process.join()
        """,
        "[] True\nset()",
    )


def test_a_program_that_is_run_has_no_descriptor_of_the_session(
    ours: Implementation, tmp_path: Path
) -> None:
    prints(
        ours,
        tmp_path,
        LISTING,
        """
        import subprocess
        mine, theirs = context.Pipe()
        queue, lock = context.Queue(), context.Lock()
        process = context.Process(target=mine.recv)
        process.start()
        own = {number for number in numbers() if number > 2}
        inherited = [number for number in own if os.path.exists(f"/proc/self/fd/{number}")
                     and os.get_inheritable(number)]
        text = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
        told = subprocess.run([sys.executable, "-c", text], close_fds=False, capture_output=True)
        print(len(own) > 3, inherited, told.stdout.decode().strip())
        theirs.send(None)
        process.join()
        """,
        "True [] [0, 1, 2]",
    )


@ROOT_ONLY
def test_another_user_does_not_join(ours: Implementation, tmp_path: Path) -> None:
    """Handed the descriptor by fork, in a process that has not used the package before."""
    if ours.start_method != "fork":
        pytest.skip("one is enough")
    prints(
        ours,
        tmp_path,
        "",
        """
        from bequeath import _engine
        number = os.dup(_engine.session_descriptor())
        code = (
            "import os, sys; from bequeath import _engine; os.setresuid(1234, 1234, 1234)\\n"
            "try: _engine.session_attach(int(sys.argv[1])); print('joined')\\n"
            "except Exception as error: print(error)"
        )
        import subprocess
        told = subprocess.run([sys.executable, "-c", code, str(number)], pass_fds=[number],
                              capture_output=True, text=True)
        print("user" in told.stdout, "joined" in told.stdout, told.stderr)
        """,
        "True False",
    )


HANDED = """
    lock = bequeath.Lock()
    number = os.dup(bequeath._engine.session_descriptor())
    code = "import os, sys; from bequeath import _engine; _engine.session_attach(int(sys.argv[1]))"
    os.set_inheritable(number, True)
    unshare()
    command = [sys.executable, "-c", code, str(number)]
    child = os.posix_spawn(sys.executable, command, os.environ)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), lock.acquire())
"""


def test_another_pid_namespace_does_not_join() -> None:
    lines, errors = abroad(HANDED, "fork")
    assert lines == ["1 True"]
    assert errors.splitlines()[-1].endswith("in which process numbers mean other processes")


@ROOT_ONLY
def test_a_template_serves_its_own_user_only(ours: Implementation, tmp_path: Path) -> None:
    if ours.start_method == "fork":
        pytest.skip("has no template")
    prints(
        ours,
        tmp_path,
        "def tell(connection): connection.send(os.getppid())",
        """
        receiver, sender = context.Pipe(False)
        for _ in range(2):
            process = context.Process(target=tell, args=(sender,))
            process.start()
            print(receiver.recv() == os.getpid())
            process.join()
            os.setresgid(1234, 1234, 1234)
        """,
        "False\nTrue",
    )


OUTSIDER = (
    LISTING
    + """
def outside(connection):
    from bequeath import _engine
    memory = [name for name in numbers().values() if "memfd" in name]
    sockets = [name for name in numbers().values() if "socket" in name]
    key = bytes(mp.current_process().authkey)
    connection.send((_engine.session_info() is None, memory, len(sockets), mapped(), key))
    queue = mp.SimpleQueue()  # of a session of its own
    queue.put("own")
    connection.send(queue.get())
    connection.send_bytes(connection.recv_bytes())
"""
)


def test_an_outsider_has_nothing_of_the_session(ours: Implementation, tmp_path: Path) -> None:
    """Its only socket is the connection that it was handed."""
    if ours.start_method == "fork":
        prints(
            ours,
            tmp_path,
            "",
            """
            try:
                context.Process(target=print, session=False).start()
            except ValueError as error:
                print(error)
            """,
            "a forked child has all that its parent has: session=False needs the start method "
            "'spawn' or 'forkserver'",
        )
        return
    prints(
        ours,
        tmp_path,
        OUTSIDER,
        """
        lock = context.Lock()
        context.Process(target=print, args=("",)).start()
        mine, theirs = context.Pipe()
        process = context.Process(target=outside, args=(theirs,), session=False)
        process.start()
        alone, memory, sockets, maps, key = mine.recv()
        print(alone, memory, sockets, maps, key != bytes(mp.current_process().authkey))
        print(mine.recv())
        mine.send_bytes(b"x" * 10_000_000)
        print(len(mine.recv_bytes()))
        process.join()
        print(process.exitcode)
        """,
        "\n\nTrue [] 1 0 True\nown\n10000000\n0",
    )


def test_an_outsider_is_handed_no_shared_object(ours: Implementation) -> None:
    if ours.start_method == "fork":
        pytest.skip("there is no outsider")
    for thing in (ours.Queue(), ours.Lock(), ours.Value("i"), ours.RawArray("i", 3), ours.Event()):
        process = ours.Process(target=print, args=({"key": [thing]},), session=False)
        with pytest.raises(bequeath.exceptions.BequeathError, match="session=False"):  # type: ignore[attr-defined]
            process.start()
    mine, theirs = ours.Pipe()
    process = ours.Process(target=theirs.recv, session=False)
    process.start()
    with pytest.raises(RuntimeError):
        mine.send(ours.Lock())
    mine.send([bytes(10_000_000), "in one piece"])
    process.join()
    assert process.exitcode == 0


def test_an_outsider_speaks_bytes(ours: Implementation) -> None:
    if ours.start_method == "fork":
        pytest.skip("there is no outsider")
    mine, theirs = socket.socketpair()
    process = ours.Process(target=theirs.sendall, args=(b"bytes",), session=False)
    process.start()
    process.join()
    assert mine.recv(10) == b"bytes"
    mine.close()
    theirs.close()


@ROOT_ONLY
def test_a_member_without_privileges_is_still_one(ours: Implementation, tmp_path: Path) -> None:
    prints(
        ours,
        tmp_path,
        """
        def work(queue):
            os.setresuid(1234, 1234, 1234)
            queue.put(os.getuid())
        """,
        """
        queue = context.Queue()
        process = context.Process(target=work, args=(queue,))
        process.start()
        print(queue.get())
        process.join()
        """,
        "1234",
    )


def test_a_secret_that_was_removed(ours: Implementation, tmp_path: Path) -> None:
    if ours.start_method == "fork":
        pytest.skip("has no template")
    definitions = """
def tell(connection):
    import subprocess
    with open("/proc/self/environ") as file: procfs = "BEQUEATH_SECRET" in file.read()
    run = subprocess.run(["env"], capture_output=True, text=True).stdout
    connection.send((procfs, "BEQUEATH_SECRET" in os.environ, "BEQUEATH_SECRET" in run))
"""
    for templates in ("1", "0"):
        prints(
            ours,
            tmp_path,
            definitions,
            """
            receiver, sender = context.Pipe(False)
            for _ in range(2):
                process = context.Process(target=tell, args=(sender,))
                process.start()
                told = receiver.recv()
                process.join()
                os.environ.pop("BEQUEATH_SECRET", None)
            print(*told)
            """,
            f"{templates == '1'} False False",
            {"BEQUEATH_SECRET": "secret", "BEQUEATH_TEMPLATES": templates},
        )


def test_a_recycled_number_is_not_signalled(ours: Implementation) -> None:
    """The child is gone and waited for; whoever has its number now is nobody's business."""
    process = ours.Process(target=int)
    process.start()
    process.join()
    process.kill()
    process.terminate()
    assert process.exitcode == 0
    # A descriptor of the child, not its number, is what signals go through.
    other = ours.Process(target=int)
    other.start()
    assert "pidfd" in Path(f"/proc/self/fd/{other.sentinel}").readlink().name
    other.join()
