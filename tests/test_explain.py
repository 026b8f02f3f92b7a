"""`bequeath.explain`: how each part crosses, all that is refused, sizes, sharing, a trial."""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import enum
import fractions
import io
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bequeath
import bequeath.connection
from bequeath import exceptions

TO_A_CHILD = ("spawn", "forkserver", "queue")


class Log:
    def __init__(self) -> None:
        self.name = "log"
        self.stream = threading.Lock()


class Slotted:
    __slots__ = ("inner", "unset")

    def __init__(self, inner: Any) -> None:
        self.inner = inner


class Base:
    pass


@dataclasses.dataclass
class Record:
    name: str
    held: Any


class Pair(collections.namedtuple("Pair", "left right")):
    pass


class Loud:
    def __reduce__(self) -> Any:
        raise ValueError("the program's own")


def paths(thing: Any, to: Any = "spawn") -> list[str]:
    return [culprit["path"] for culprit in bequeath.explain(thing, to).culprits]


def test_all_culprits_with_path_type_reason_and_remedy() -> None:
    thing = {"a": [1, Log()], "b": Slotted(threading.Lock()), "c": (i for i in ())}
    report = bequeath.explain(thing)
    assert not report.crosses
    found = {culprit["path"]: culprit for culprit in report.culprits}
    assert list(found) == ["['a'][1].stream", "['b'].inner", "['c']"]
    assert found["['a'][1].stream"]["type"] == "_thread.lock"
    assert "cannot pickle" in found["['c']"]["reason"]
    assert "list" in found["['c']"]["remedy"]
    assert all(culprit["way"] == "not at all" for culprit in report.culprits)


def closure(held: Any) -> Any:
    return lambda: held


def defaults() -> Any:
    def inner(a: int = 1, *, log: Any = threading.Lock()) -> Any:  # noqa: B008
        return log

    return inner


class Spelled:
    def __repr__(self) -> str:
        return "<generator>"

    def __reduce__(self) -> Any:
        raise TypeError("it cannot go")


def method_holding(held: Any) -> Any:
    def inner() -> Any:
        return held

    return inner


def of_a_class() -> Any:
    class Inner(Base):
        lock = threading.Lock()

    return Inner


def of_a_base() -> Any:
    class Lower:
        lock = threading.Lock()

    class Upper(Lower):
        pass

    return Upper()


PLACES = {
    "<lambda>'s variable held": closure(threading.Lock()),
    "__kwdefaults__['log']": defaults(),
    "lock": of_a_class(),
    "the object's class.__bases__[0].lock": of_a_base(),
    "the object (its key <generator>)": {Spelled(): 1},
    "inner's variable held.stream": method_holding(Log()),
    "held": Record("x", threading.Lock()),
    "right": Pair(1, threading.Lock()),
    "default_factory's variable held": collections.defaultdict(closure(threading.Lock())),
    "[2]": collections.deque([1, 2, threading.Lock()]),
    "['k']": collections.OrderedDict(k=threading.Lock()),
    ".args[0]": ValueError(threading.Lock()),
}


@pytest.mark.parametrize("path", PLACES)
def test_paths(path: str) -> None:
    assert paths(PLACES[path]) == [path.lstrip(".")]


def test_a_bound_methods_object() -> None:
    class Worker:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def work(self) -> None: ...

    assert paths(Worker().work) == ["__self__.lock"]


def test_global_of_a_function_by_value() -> None:
    names = {"__name__": "made_up", "held": threading.Lock(), "threading": threading}
    exec("def use():\n    return lambda: held", names)
    assert paths(names["use"]) == ["use's global held"]


def test_ways() -> None:
    class Local:
        pass

    here, there = socket.socketpair()
    with here, there, open(os.devnull) as file:
        thing = [Log.__init__, Local, bequeath.Queue(), file, here, Record("x", 1)]
        parts = {part["path"]: part for part in bequeath.explain(thing).to_dict()["parts"]}
    assert parts["[0]"]["way"] == "by reference"
    assert parts["[0]"]["definition"] == f"{__file__}:{Log.__init__.__code__.co_firstlineno}"
    assert parts["[1]"]["way"] == "by value"
    assert [parts[f"[{at}]"]["way"] for at in (2, 3, 4)] == ["as a handle"] * 3
    assert parts["[5]"]["way"] == "by value"
    # What a handle is made of is its own affair.
    assert not [path for path in parts if path.startswith(("[3]", "[4]")) and len(path) > 3]


def test_plain_bytes_take_neither_handles_nor_values() -> None:
    report = bequeath.explain(
        {"q": bequeath.Lock(), "f": closure(1), "ok": Record("x", 1)}, "bytes"
    )
    assert [culprit["path"] for culprit in report.culprits] == ["['q']", "['f']"]
    assert "argument of a Process" in report.culprits[0]["remedy"]


def test_fork_inherits_everything() -> None:
    report = bequeath.explain(Log(), "fork")
    assert report.crosses and "inherit" in str(report)


def test_unknown_destination() -> None:
    with pytest.raises(ValueError, match="'spawn', 'forkserver', 'fork', 'bytes' or 'queue'"):
        bequeath.explain(1, "elsewhere")  # type: ignore[arg-type]


SIZES: dict[str, Any] = {
    "ints": list(range(10_000)),
    "texts": [f"text {number}" for number in range(2_000)],
    "repeated": ["the same text in many places"] * 5_000,
    "records": [Record(str(number), number * 1.5) for number in range(1_000)],
    "nested": {str(a): {str(b): [a, b] for b in range(20)} for a in range(50)},
    "bytes": os.urandom(100_000),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_near_the_pickles(name: str) -> None:
    size, real = bequeath.explain(SIZES[name]).to_dict()["size"], len(pickle.dumps(SIZES[name], 5))
    assert 0.6 * real < size < 1.6 * real


def test_largest_first_and_no_wrapping() -> None:
    thing = {"small": [1] * 10, "outer": {"inner": {"big": list(range(50_000))}}}
    largest = bequeath.explain(thing).to_dict()["largest"]
    assert largest[0]["path"] == "['outer']['inner']['big']"
    assert len(bequeath.explain([list(range(at)) for at in range(50)]).to_dict()["largest"]) == 10


def test_sharing_and_cycles() -> None:
    shared = [1, 2]
    ring: dict[str, Any] = {"first": shared, "second": shared}
    ring["self"] = ring
    found = bequeath.explain(ring).to_dict()
    assert found["shared"] == [{"path": "['second']", "same_as": "['first']"}]
    assert found["cycles"] == [{"path": "['self']", "back_to": ""}]


def test_depth_is_no_limit() -> None:
    deep: Any = threading.Lock()
    for _ in range(100_000):
        deep = [deep]
    assert len(paths(deep)) == 1
    while isinstance(deep, list):
        deep = deep.pop()


def test_many_things_inside_of_each_other_are_told() -> None:
    chain: Any = threading.Lock()
    for _ in range(2_000):
        chain = closure(chain)
    report = bequeath.explain(chain)
    assert len(report.to_dict()["parts"]) == 2_001
    told = str(report).partition("largest:")[0]
    assert told.count("function closure") == 2_000


def test_properties_of_the_program_are_not_asked() -> None:
    class Asked:
        @property
        def args(self) -> Any:
            raise AssertionError("somebody has looked")

        def __reduce__(self) -> Any:
            return Base, (), None, iter([[]])

    assert bequeath.explain(Asked()).crosses


def test_recursive_functions_and_classes() -> None:
    class Node:
        children: list[Node] = []

        def add(self) -> Node:
            return Node()

    class Colour(enum.Enum):
        RED = 1

    Node.children.append(Node())
    assert bequeath.explain([Node, Colour, Colour.RED]).crosses


def test_it_is_data_text_and_table() -> None:
    report = bequeath.explain({"log": Log(), "<b>": 1})
    found = json.loads(json.dumps(report.to_dict()))
    assert found["to"] == "spawn" and not found["crosses"]
    assert "['log'].stream" in str(report) or ".stream" in str(report)
    assert "remedy:" in str(report)
    html = report._repr_html_()
    assert html.startswith("<table>") and "_thread.lock" in html


def test_rich_shows_it_as_a_tree() -> None:
    console = pytest.importorskip("rich.console")
    shown = console.Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with shown.file:
        shown.print(bequeath.explain({"log": Log()}))
    assert "_thread.lock" in shown.export_text()


@pytest.mark.parametrize("to", TO_A_CHILD + ("bytes", "fork"))
def test_verify_rebuilds_in_a_clean_child(to: Any) -> None:
    assert bequeath.explain({"x": [1, 2.5, Base()]}, to, verify=True).rebuilds


class OnlyHere:
    """Crosses, and cannot be made anew."""

    def __init__(self) -> None:
        self.pid = os.getpid()

    def __reduce__(self) -> Any:
        return _only_here, (os.getpid(),)


def _only_here(pid: int) -> OnlyHere:
    if pid != os.getpid():
        raise LookupError("not in this process")
    return OnlyHere()


@pytest.mark.parametrize("to", TO_A_CHILD)
def test_verify_finds_what_cannot_be_rebuilt(to: Any) -> None:
    report = bequeath.explain([OnlyHere()], to, verify=True)
    assert report.crosses and report.rebuilds is False
    assert "not in this process" in report.to_dict()["rebuild_error"]


# --- what is raised ---


def refusal(thing: Any, how: str) -> BaseException:
    if how == "start":
        process = bequeath.get_context("spawn").Process(target=print, args=(thing,))
        with pytest.raises(Exception) as caught:
            process.start()
    elif how == "put":
        with pytest.raises(Exception) as caught:
            bequeath.SimpleQueue().put(thing)
    else:
        here, there = bequeath.Pipe()
        with here, there, pytest.raises(Exception) as caught:
            here.send(thing)
    return caught.value


@pytest.mark.parametrize("how", ["start", "put", "send"])
def test_raised_in_the_caller_with_notes(how: str) -> None:
    error = refusal([Log(), Slotted(threading.Lock())], how)
    assert isinstance(error, bequeath.BequeathError) and isinstance(error, TypeError)
    root = "args[0]" if how == "start" else ""
    assert error.path == f"{root}[0].stream"
    assert error.reason and error.remedy
    if sys.version_info >= (3, 11):
        notes = error.__notes__
        assert notes[0] == f"path: {root}[0].stream"
        assert [note.partition(":")[0] for note in notes[:4]] == [
            "path",
            "type",
            "reason",
            "remedy",
        ]
        assert notes[4] == f"refused, too: {root}[1].inner (_thread.lock)"


def test_a_connection_of_bytes_only_says_the_path() -> None:
    with bequeath.connection.Listener(("localhost", 0)) as listener:
        with bequeath.connection.Client(listener.address) as here, listener.accept() as there:
            with pytest.raises(bequeath.BequeathError) as caught:
                here.send({"log": [Log()]})
            assert caught.value.path == "['log'][0].stream" and isinstance(caught.value, TypeError)
            with pytest.raises(bequeath.BequeathError) as caught:
                here.send([1, bequeath.Lock()])
            assert caught.value.path == "[1]" and "carries bytes only" in str(caught.value)
            with pytest.raises(bequeath.BequeathError) as caught:
                here.send({"f": closure(1)})
            assert caught.value.path == "['f']"
            here.send("next")
            assert there.recv() == "next"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have had notes since 3.11")
def test_the_programs_own_error_stays_and_gets_notes() -> None:
    error = refusal([1, Loud()], "put")
    assert type(error) is ValueError and str(error) == "the program's own"
    # Pickle's own notes, since 3.14, may stand before.
    path = error.__notes__.index("path: [1]")
    assert f"defined at {__file__}:" in error.__notes__[path + 1]


def raised_by_the_standard_library(thing: Any) -> type[BaseException]:
    with pytest.raises(Exception) as caught:
        pickle.dumps(thing, 5)
    return caught.type


def renamed(name: str, module: str | None = None) -> Any:
    def function() -> None: ...

    function.__qualname__ = function.__name__ = name
    function.__module__ = module or __name__
    return function


class Returns:
    def __init__(self, what: Any) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return self.what


class Registered(type):
    """Somebody's reducer of its classes returns what pickle does not understand."""


class OfRegistered(metaclass=Registered):
    pass


copyreg.pickle(Registered, lambda _: 5)  # type: ignore[arg-type, return-value]


def local_class() -> type:
    class Local:
        pass

    return Local


def closed() -> Any:
    file = io.StringIO()
    file.close()
    return file


def of_multiprocessing(name: str, *arguments: Any) -> Any:
    import multiprocessing

    return getattr(multiprocessing.get_context("fork"), name)(*arguments)


def a_pool() -> Any:
    """One that has never started anybody: what it says is said by its class."""
    import multiprocessing.pool

    pool = multiprocessing.pool.Pool.__new__(multiprocessing.pool.Pool)
    pool._state = "CLOSE"  # or its end complains
    return pool


#: What the standard library refuses in each situation; all that is made here is pickled by it.
SITUATIONS: dict[str, list[Callable[[], Any]]] = {
    "unpicklable": [
        threading.Lock,
        threading.RLock,
        lambda: (i for i in ()),
        sys._getframe,
        lambda: sys,
        lambda: memoryview(b""),
        lambda: {}.keys(),
        lambda: types.MappingProxyType({}),
        lambda: closure(1).__code__,
        lambda: threading.Thread(target=print),
    ],
    "local": [lambda: closure(1), lambda: renamed("f.<locals>.g"), local_class],
    "missing": [
        lambda: renamed("not_there"),
        lambda: renamed("closure"),
        lambda: renamed("f", "no_such_module"),
        lambda: renamed("<lambda>"),
        lambda: type("NotThere", (), {"__module__": __name__}),
    ],
    "found": [lambda: OfRegistered],
    "inheritance": [
        lambda: of_multiprocessing("Lock"),
        lambda: of_multiprocessing("Event"),
        lambda: of_multiprocessing("Queue"),
        lambda: of_multiprocessing("SimpleQueue"),
        lambda: of_multiprocessing("Condition"),
        lambda: of_multiprocessing("Value", "i", 1),
    ],
    "unimplemented": [a_pool],
    "pickling": [
        lambda: Returns(5),
        lambda: Returns((print,)),
        lambda: Returns((5, ())),
        lambda: Returns((print, 5)),
        lambda: Returns((print, (), None, 5)),
        lambda: Returns("not_there"),
    ],
    "attribute": [lambda: object.__new__(fractions.Fraction)],
    "value": [closed],
}


def test_the_table_has_a_test_of_each_situation() -> None:
    assert SITUATIONS.keys() == exceptions.STANDARD.keys()


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_table_says_what_the_standard_library_raises(situation: str) -> None:
    standard = exceptions.standard_refusal(situation)
    for make in SITUATIONS[situation]:
        thing = make()
        assert raised_by_the_standard_library(thing) is standard, thing
    member = exceptions.BequeathError.where(situation)
    assert issubclass(member, standard)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_refused_here_is_of_that_class_too(situation: str) -> None:
    """Where it is refused at all: functions and classes go by value, and much else crosses."""
    refused = 0
    for make in SITUATIONS[situation]:
        thing = make()
        try:
            bequeath.SimpleQueue().put(thing)
        except Exception as error:
            assert isinstance(error, exceptions.standard_refusal(situation)), (thing, error)
            refused += 1
    assert bool(refused) == (situation not in ("local", "missing"))


def test_the_table_per_version() -> None:
    assert exceptions.standard_refusal("local", (3, 10)) is AttributeError
    assert exceptions.standard_refusal("local", (3, 13)) is AttributeError
    assert exceptions.standard_refusal("local", (3, 14)) is pickle.PicklingError


def test_what_is_raised_is_of_the_standard_librarys_class() -> None:
    for thing in (Log(), closure(threading.Lock()), (i for i in ()), sys._getframe()):
        assert isinstance(refusal([thing], "put"), raised_by_the_standard_library(thing))


# --- the command ---

PROGRAM = """
import threading, bequeath

class Holder:
    def __init__(self):
        self.lock = threading.Lock()

good = {"a": [1, 2]}
bad = Holder()

if __name__ == "__main__":
    raise SystemExit("a child does not come along here")
"""


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bequeath", "explain", *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("to", ["spawn", "forkserver", "queue"])
def test_the_commands_status(tmp_path: Path, to: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    good = command(f"{program}:good", "--to", to)
    assert (good.returncode, good.stderr) == (0, "")
    bad = command(f"{program}:bad", "--to", to)
    assert bad.returncode == 1
    assert "lock: _thread.lock" in bad.stdout and "bequeath.Lock()" in bad.stdout


def test_the_command_as_data_and_its_errors(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    found = json.loads(command("--json", f"{program}:bad").stdout)
    assert found["culprits"][0]["path"] == "lock"
    assert found["culprits"][0]["remedy"]
    for words in ((f"{program}:absent",), (f"{tmp_path}/no.py:x",), ("no-colon",)):
        assert command(*words).returncode == 2


GUARDED = """
import bequeath

LIMIT = 1

def work():
    return helper()

def helper():
    return CONFIG, LIMIT

if __name__ == "__main__":
    CONFIG = {"a": 1}
    LIMIT = 2
    print(bequeath.explain(work))
"""


def test_globals_that_a_child_lacks(tmp_path: Path) -> None:
    program = tmp_path / "guarded.py"
    program.write_text(GUARDED)
    ran = subprocess.run([sys.executable, program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "not the same there" in ran.stdout
    assert "it uses CONFIG, which the main module sets where a child does not" in ran.stdout
    assert "it uses LIMIT, which the main module sets again" in ran.stdout
