"""The list of differences from multiprocessing is true: each row names a test and a switch that
exist; those that no other file shows are shown here, with what the switch does.
"""

from __future__ import annotations

import gc
import re
import select
import sys
import threading
from pathlib import Path

import pytest

import bequeath
from implementation import Implementation
from program import prints, run

ROOT = Path(__file__).resolve().parent.parent
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in (ROOT / "docs" / "differences.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| What | multiprocessing")
]


def test_the_list_is_a_list() -> None:
    assert len(ROWS) > 30


@pytest.mark.parametrize("row", ROWS, ids=[re.sub(r"\W+", "-", row[0])[:40] for row in ROWS])
def test_each_row_names_a_test_and_a_switch(row: list[str]) -> None:
    _what, _theirs, _ours, shown_by, switch = row
    file, function = re.fullmatch(r"`([\w/]+\.py)::(\w+)`", shown_by).groups()  # type: ignore[union-attr]
    assert re.search(rf"^def {function}\(", (ROOT / "tests" / file).read_text(), re.M), shown_by
    sources = [*(ROOT / "python").rglob("*.py"), *(ROOT / "crates").glob("*/src/**/*.rs")]
    for variable in re.findall(r"`(BEQUEATH_\w+)", switch):
        assert any(f'"{variable}"' in path.read_text() for path in sources), variable
    for name in re.findall(r"`(?:bequeath\.)?([a-z_]+)\(", switch):
        known = (bequeath, bequeath.queues.Queue)  # type: ignore[attr-defined]
        assert any(hasattr(place, name) for place in known), name
    assert switch.startswith(("strict", "exec", "none", "`", "a subclass"))


# --- queues --------------------------------------------------------------------------------------


def test_a_later_change_is_not_in_the_message(ours: Implementation) -> None:
    queue = ours.Queue()
    message = [1]
    queue.put(message)
    message.append(2)
    assert queue.get() == [1]


def test_a_queue_has_no_thread(mp: Implementation) -> None:
    before = threading.active_count()
    queue = mp.Queue()
    queue.put(1)
    assert threading.active_count() == before + (not mp.is_bequeath)
    assert queue.get() == 1
    queue.close()
    queue.join_thread()


# --- processes -----------------------------------------------------------------------------------


def test_the_sentinel_is_a_pidfd(mp: Implementation) -> None:
    process = mp.Process(target=int)
    process.start()
    assert select.select([process.sentinel], [], [], 30)[0]
    name = Path(f"/proc/self/fd/{process.sentinel}").readlink().name
    assert ("pidfd" in name) == mp.is_bequeath
    process.join()
    process.close()


def test_exit_codes_are_known_while_sigchld_is_ignored(mp: Implementation, tmp_path: Path) -> None:
    known = mp.is_bequeath or mp.start_method == "forkserver"
    prints(
        mp,
        tmp_path,
        "",
        """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        process = context.Process(target=sys.exit, args=(3,))
        process.start()
        process.join()
        print(process.exitcode)
        """,
        "3" if known else "None",
    )


def test_a_closed_stream_is_closed_in_the_child(mp: Implementation, tmp_path: Path) -> None:
    if mp.start_method != "spawn":
        pytest.skip("the same for forkserver; a fork has what its parent has")
    prints(
        mp,
        tmp_path,
        """
        def tell(connection):
            try:
                connection.send(os.readlink("/proc/self/fd/1"))
            except OSError:
                connection.send("closed")
        """,
        """
        receiver, sender = context.Pipe(False)
        out = os.dup(1)
        os.close(1)
        process = context.Process(target=tell, args=(sender,))
        process.start()
        told = receiver.recv()
        process.join()
        os.dup2(out, 1)
        print(told in ("closed", "/dev/null"))
        """,
        str(mp.is_bequeath),
    )


def test_unknown_options_reach_children(mp: Implementation, tmp_path: Path) -> None:
    if mp.start_method == "fork":
        pytest.skip("a fork has what its parent has")
    prints(
        mp,
        tmp_path,
        "def tell(connection): connection.send(sys._xoptions.get('of_test'))",
        """
        sys._xoptions["of_test"] = "yes"
        receiver, sender = context.Pipe(False)
        process = context.Process(target=tell, args=(sender,))
        process.start()
        print(receiver.recv())
        process.join()
        """,
        # The standard library's pass them on since 3.14.
        "yes" if mp.is_bequeath or sys.version_info >= (3, 14) else "None",
    )


# --- templates -----------------------------------------------------------------------------------

TOLD = """
import gc
def tell(connection):
    with open("/proc/self/cmdline") as file: command = file.read()
    with open("/proc/self/environ") as file: environment = file.read()
    connection.send((
        os.getppid() == int(os.environ["STARTER"]),
        "spawn_main" in command or command.count("forkserver"),
        "spawn_main" in " ".join(sys.orig_argv),
        "BEQUEATH_TEST=set" in environment, os.environ["BEQUEATH_TEST"],
        hash("text"), gc.get_freeze_count() > 0,
    ))
"""


@pytest.mark.parametrize("exec_", [False, True], ids=["", "exec"])
def test_children_of_a_template(ours: Implementation, tmp_path: Path, exec_: bool) -> None:
    if ours.start_method == "fork":
        pytest.skip("has no template")
    finished = run(
        ours,
        tmp_path,
        TOLD,
        """
        os.environ["STARTER"] = str(os.getpid())
        receiver, sender = context.Pipe(False)
        told = []
        for value in ("first", "set"):
            os.environ["BEQUEATH_TEST"] = value
            process = context.Process(target=tell, args=(sender,))
            process.start()
            try:
                os.waitpid(process.pid, os.WNOHANG)
                waited = True
            except ChildProcessError:
                waited = False
            told.append((*receiver.recv(), waited))
            process.join()
        parent, command, argv, procfs, variable, digest, frozen, waited = told[1]
        print(parent, bool(command is True), argv, procfs, variable, frozen, waited)
        print(told[0][5] == digest)
        """,
        {"PYTHONHASHSEED": "random", **({"BEQUEATH_TEMPLATES": "0"} if exec_ else {})},
    )
    e = exec_
    # In some releases of 3.12 the interpreter itself freezes objects when it starts.
    frozen = not e or gc.get_freeze_count() > 0
    assert finished.stdout == f"{e} {e} {e} {e} set {frozen} {e}\n{not e}\n", finished.stderr


@pytest.mark.parametrize("listed", [False, True], ids=["", "listed"])
def test_the_top_of_main_runs_once(ours: Implementation, tmp_path: Path, listed: bool) -> None:
    """In the template; the process id, the time and a file's content are those of then."""
    if ours.start_method != "forkserver":
        pytest.skip("loads nothing ahead")
    (tmp_path / "content").write_text("first")
    prints(
        ours,
        tmp_path,
        f"""
        from pathlib import Path
        loaded = (os.getpid(), time.monotonic_ns(), Path({str(tmp_path)!r}, "content").read_text())
        def tell(connection): connection.send(loaded)
        """,
        f"""
        if {listed}: context.set_forkserver_preload([])
        receiver, sender = context.Pipe(False)
        told = []
        for content in ("first", "second"):
            Path({str(tmp_path)!r}, "content").write_text(content)
            process = context.Process(target=tell, args=(sender,))
            process.start()
            told.append(receiver.recv())
            process.join()
        print([len(set(each)) for each in zip(*told)])
        """,
        "[2, 2, 2]" if listed else "[1, 1, 1]",
    )


@pytest.mark.parametrize("exec_", [False, True], ids=["", "exec"])
def test_templates_end_with_the_program(ours: Implementation, tmp_path: Path, exec_: bool) -> None:
    """While it runs there is one for this method; afterwards nothing of the session is left."""
    if ours.start_method == "fork":
        pytest.skip("has no template")
    finished = run(
        ours,
        tmp_path,
        "",
        """
        for _ in range(3):
            process = context.Process(target=int)
            process.start()
            process.join()
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            print(len(file.read().split()))
        """,
        {"BEQUEATH_TEMPLATES": "0"} if exec_ else {},
    )
    assert finished.stdout == ("0\n" if exec_ else "1\n"), finished.stderr
