"""What crosses by value: under the guard to a child and back, and in bytes to whoever reads."""

from __future__ import annotations

import base64
import builtins
import importlib.util
import io
import os
import pickle
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bequeath.pickle
from by_value_cases import CASES, Case
from by_value_hard_cases import CASES as HARD
from by_value_rare_cases import CASES as RARE
from by_value_reader import Reader, by_value, definitions
from implementation import Implementation

KINDS = """
import abc, collections, dataclasses, enum, functools, sys, typing
import bequeath

if __name__ == "__main__":
    T = typing.TypeVar("T")

    class Abstract(abc.ABC):
        @abc.abstractmethod
        def method(self): ...

    class Concrete(Abstract):
        def method(self):
            return "concrete"

    @dataclasses.dataclass(frozen=True, **({"slots": True} if sys.version_info > (3, 10) else {}))
    class Data:
        number: int
        items: list = dataclasses.field(default_factory=list)

    class Generic(typing.Generic[T]):
        def __init__(self, value: T) -> None:
            self.value = value

    class Flags(enum.Flag):
        READ = 1
        WRITE = 2

    class Numbers(enum.IntEnum):
        ONE = 1

    Pair = collections.namedtuple("Pair", "first second")

    class Typed(typing.NamedTuple):
        first: int

    class Slots:
        __slots__ = ("inside",)

        def __init__(self):
            self.inside = 3

    class Meta(type):
        def name(cls):
            return "meta " + cls.__name__

    class Made(metaclass=Meta):
        pass

    class Failure(Exception):
        def __init__(self, what, why):
            super().__init__(what, why)
            self.what = what

    class Items(list):
        pass

    @functools.lru_cache(maxsize=7)
    def fibonacci(number):
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    class Worker(bequeath.get_context(METHOD).Process):
        def __init__(self, answers, things):
            super().__init__()
            self.answers = answers
            self.things = things

        def run(self):
            self.answers.put(
                (
                    self.things[0].method(),
                    Made.name(),
                    dataclasses.replace(self.things[1], number=5).number,
                    self.things[2].value,
                    hasattr(self.things[7], "__dict__"),
                    fibonacci(30),
                    fibonacci.cache_info().maxsize,
                )
            )
            self.answers.put(self.things)

    things = [
        Concrete(), Data(1, [2]), Generic(4), Flags.READ | Flags.WRITE, Numbers.ONE, Pair(1, 2),
        Typed(3), Slots(), Made, Failure(1, 2), Items([1]), Generic[int],
    ]
    answers = bequeath.get_context(METHOD).SimpleQueue()
    worker = Worker(answers, things)
    worker.start()
    print(*answers.get())
    back = answers.get()
    worker.join()
    print([type(mine).__name__ for mine, got in zip(things, back) if type(mine) is not type(got)])
    print(back[1] == things[1], back[3] is things[3], back[4] is things[4], back[8] is Made)
    print(back[7].inside, worker.exitcode)
"""


@pytest.mark.short
def test_class_of_any_kind_goes_and_comes_back_as_itself(
    ours: Implementation, tmp_path: Path
) -> None:
    script = tmp_path / "program.py"
    script.write_text(KINDS.replace("METHOD", repr(ours.start_method)))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=50)
    assert done.stdout.splitlines() == [
        "concrete meta Made 5 4 False 832040 7",
        "[]",
        "True True True True",
        "3 0",
    ], done.stderr


def test_main_of_a_package_is_not_run_again_and_its_names_cross_by_value(
    ours: Implementation, tmp_path: Path
) -> None:
    package = tmp_path / "program"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(
        textwrap.dedent(
            f"""
            import multiprocessing
            print("main runs")
            number = 5

            def answer(answers):
                answers.put((__name__, number))

            if __name__ == "__main__":
                context = multiprocessing.get_context({ours.start_method!r})
                answers = context.Queue()
                process = context.Process(target=answer, args=(answers,))
                process.start()
                print(answers.get()[1])
                process.join()
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "bequeath", "run", "-m", "program"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.stdout.splitlines() == ["main runs", "5"], done.stderr


# --- in bytes: to a process that has none of it ---


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    process = Reader()
    yield process
    process.close()


@pytest.mark.leaves("the reader is the module's")
@pytest.mark.parametrize("case", CASES + RARE + HARD, ids=lambda case: case.name)
def test_round_trip_to_a_process_without_the_module(case: Case, reader: Reader) -> None:
    namespace = definitions(case.source)
    it = eval(f"({case.sent})", namespace)
    for loads in ("ours", "theirs"):
        assert reader.wrong(by_value(it), case.checks, loads) == []


def test_without_being_asked_bytes_hold_names_only() -> None:
    f = definitions("f = lambda: 1\nclass C: pass")
    for obj in (f["f"], f["C"], f["C"]()):
        with pytest.raises((pickle.PicklingError, AttributeError)):
            bequeath.pickle.dumps(obj)
        with pytest.raises((pickle.PicklingError, AttributeError)):
            pickle.dumps(obj)


def test_pickler_by_value_remembers_what_it_wrote() -> None:
    names = definitions("class C: pass")
    sink = io.BytesIO()
    pickler = bequeath.pickle.Pickler(sink, by_value=True)
    pickler.dump(names["C"])
    first = sink.tell()
    pickler.dump([names["C"]()])
    assert sink.tell() - first < first / 2
    sink.seek(0)
    unpickler = bequeath.pickle.Unpickler(sink)
    assert unpickler.load() is names["C"]
    assert type(unpickler.load()[0]) is names["C"]
    bequeath.pickle.dump(lambda: 5, other := io.BytesIO(), by_value=True)
    assert pickle.loads(other.getvalue())() == 5


def test_reducers_of_the_program_come_first() -> None:
    class Own(bequeath.pickle.Pickler):
        def reducer_override(self, obj: object) -> Any:
            return (str, ("override",)) if obj is function else NotImplemented

    function = definitions("def f(): return 1")["f"]
    sink = io.BytesIO()
    Own(sink, by_value=True).dump([function, lambda: 2])
    override, kept = pickle.loads(sink.getvalue())
    assert override == "override" and kept() == 2
    table = bequeath.pickle.Pickler(sink := io.BytesIO(), by_value=True)
    table.dispatch_table = {types.CodeType: lambda _: (str, ("table",))}
    table.dump(function.__code__)
    assert pickle.loads(sink.getvalue()) == "table"


@pytest.mark.parametrize(
    "source, sent",
    [
        ("def f(): yield", "f()"),
        ("async def f(): ...", "[f() for f in [f]][0]"),
        ("async def f(): yield", "f()"),
        ("f = open('/dev/null')", "f"),
        ("f = open('/dev/null')\ndef g(): return f", "g"),
        ("import threading\nlock = threading.Lock()", "lambda: lock"),
        ("import weakref\nclass C: pass\nc = C()", "weakref.ref(c, print)"),
        ("import sys", "sys._getframe()"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine")
def test_what_cannot_cross_is_refused(source: str, sent: str) -> None:
    obj = eval(sent, names := definitions(source))
    with pytest.raises((TypeError, RuntimeError, pickle.PicklingError)):
        by_value(obj)
    if isinstance(names.get("f"), io.IOBase):
        names["f"].close()


def test_class_that_cannot_be_made_again_is_refused_where_it_is_sent() -> None:
    names = definitions(
        """
        class Base:
            def __init_subclass__(cls, /, secret): pass
        class C(Base, secret=1): pass
        """
    )
    with pytest.raises(pickle.PicklingError, match="'secret'"):
        by_value(names["C"])


@pytest.mark.leaves("the reader is the module's")
def test_definition_sent_twice_is_one_definition(reader: Reader) -> None:
    names = definitions(
        """
        import enum, typing
        class C:
            kept = 1
        class E(enum.Enum):
            A = 1
        T = typing.TypeVar('T')
        """
    )
    first = by_value((names["C"], names["E"], names["T"]))
    assert reader.wrong(first, "globals().__setitem__('seen', it) is None") == []
    # Attributes that the receiver has set stay.
    assert reader.wrong(first, "setattr(it[0], 'kept', 2) is None and it[0] is seen[0]") == []
    again = by_value([names["C"](), names["E"].A, names["T"]])
    checks = """
    isinstance(it[0], seen[0]) and it[0].kept == 2
    it[1] is seen[1].A and it[2] is seen[2]
    """
    assert reader.wrong(again, checks) == []
    # And they come home as what they are here.
    assert bequeath.pickle.loads(again)[1] is names["E"].A


def test_function_sent_again_has_the_newer_values() -> None:
    names = definitions(
        """
        factor = 2
        def outer():
            offset = 1
            def f(x, y=0): return x * factor + offset + y
            return f
        f = outer()
        """
    )
    f = names["f"]
    assert bequeath.pickle.loads(by_value(f))(1) == 3
    names["factor"] = 3
    f.__closure__[0].cell_contents = 10
    f.__defaults__ = (100,)
    assert bequeath.pickle.loads(by_value(f))(1) == 113
    f.__code__ = definitions(
        """
        def outer():
            offset = 0
            def f(x, y=0): return offset
            return f
        """
    )["outer"]().__code__
    assert bequeath.pickle.loads(by_value(f))(1) == 10


def test_bytes_of_another_version_are_refused() -> None:
    data = by_value(lambda: 1)
    calls = bequeath.pickle.loads(by_value((lambda: 1).__code__))
    assert calls.co_name == "<lambda>"
    own = sys.version_info[0] << 24 | sys.version_info[1] << 16
    at = next(at for at in range(len(data)) if data[at : at + 1] == b"J" and data[at + 4] == 3)
    assert int.from_bytes(data[at + 3 : at + 5], "little") << 16 == own
    for other in (bytes([sys.version_info[1] + 1, 3]), bytes([sys.version_info[1] - 1, 3])):
        changed = data[: at + 3] + other + data[at + 5 :]
        with pytest.raises(pickle.UnpicklingError, match=f"by Python 3.{other[0]}"):
            bequeath.pickle.loads(changed)
        with pytest.raises(
            pickle.UnpicklingError, match=f"does not run on Python 3.{own >> 16 & 255}"
        ):
            pickle.loads(changed)


MODULE = """
number = 5
def f(): return number
class C:
    def get(self): return number
"""


@pytest.mark.leaves("the reader is the module's")
def test_registered_module_crosses_by_value(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "registered_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inside.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    package_module = importlib.import_module("registered_package")
    module = importlib.import_module("registered_package.inside")
    sent = (module.f, module.C(), module)
    assert reader.wrong(by_value(sent), "it")[0].startswith("ModuleNotFoundError")
    for registered in (module, package_module):
        bequeath.pickle.register_by_value(registered)
        try:
            data = by_value(sent)
        finally:
            bequeath.pickle.unregister_by_value(registered)
        checks = """
        it[0]() == 5 and it[1].get() == 5 and it[2].number == 5
        it[0].__module__ == 'registered_package.inside'
        """
        assert reader.wrong(data, checks) == []
    assert reader.wrong(by_value(sent), "it")[0].startswith("ModuleNotFoundError")
    with pytest.raises(ValueError, match="is not registered"):
        bequeath.pickle.unregister_by_value(module)
    with pytest.raises(ValueError, match="not imported correctly"):
        bequeath.pickle.register_by_value(types.ModuleType("never_imported"))
    with pytest.raises(TypeError, match="not a str"):
        bequeath.pickle.register_by_value("registered_package")  # type: ignore[arg-type]
    for name in ("registered_package", "registered_package.inside"):
        del sys.modules[name]


PROGRAM = """
import bequeath.pickle, sys

def version(): return VERSION
class Margin:
    def version(self): return version()
if __name__ == "__main__":
    class Guarded(Margin): pass
    if sys.argv[1] == "write":
        both = Margin(), Guarded(), version
        sys.stdout.buffer.write(bequeath.pickle.dumps(both, by_value=True))
    else:
        it = bequeath.pickle.load(sys.stdin.buffer)
        print(type(it[0]) is Margin, it[1].version(), it[2]())
"""


@pytest.mark.leaves("the reader is the module's")
def test_main_is_the_readers_own_if_it_runs_the_same_program(
    reader: Reader, tmp_path: Path
) -> None:
    program, other = tmp_path / "program.py", tmp_path / "other.py"
    program.write_text(PROGRAM.replace("VERSION", "1"))
    other.write_text(PROGRAM.replace("VERSION", "2"))

    def run(file: Path, *arguments: str, data: bytes = b"") -> bytes:
        command = [sys.executable, str(file), *arguments]
        return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout

    data = run(program, "write")
    program.write_text(PROGRAM.replace("VERSION", "3"))
    assert run(program, "read", data=data).split() == [b"True", b"3", b"3"]
    # Another program keeps its own under the same names.
    assert run(other, "read", data=data).split() == [b"False", b"1", b"1"]
    assert reader.wrong(data, "it[0].version() == it[1].version() == it[2]() == 1") == []
    assert reader.wrong(data, "type(it[1]).__mro__[1] is type(it[0])") == []


def test_submodules_that_a_closure_reaches_are_imported(tmp_path: Path) -> None:
    (tmp_path / "imported.py").write_text(
        textwrap.dedent(
            """
            def scope():
                import xml.etree.ElementTree
                def example(): return xml.etree.ElementTree.Comment.__name__
                return example
            """
        )
    )

    def run(program: str, data: bytes = b"") -> bytes:
        command = [sys.executable, "-c", f"import sys, bequeath.pickle; {program}"]
        done = subprocess.run(command, cwd=tmp_path, input=data, stdout=subprocess.PIPE, check=True)
        return done.stdout

    write = "sys.stdout.buffer.write(bequeath.pickle.dumps(imported.scope(), by_value=True))"
    data = run(f"import imported; {write}")
    assert run("print(bequeath.pickle.load(sys.stdin.buffer)())", data).split() == [b"Comment"]


@pytest.mark.leaves("the reader is the module's")
def test_a_stream_that_stands_for_the_standard_one_is_the_readers(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Captured(io.StringIO):
        """As notebooks and test runners have them."""

    monkeypatch.setattr(sys, "stdout", Captured())
    assert reader.wrong(by_value([sys.stdout]), "it[0] is sys.stdout") == []


def test_names_of_code_are_those_that_dis_finds() -> None:
    import dis

    def found(code: types.CodeType) -> set[str]:
        steps = dis.get_instructions(code)
        names = {
            str(step.argval)
            for step in steps
            if step.opname
            in (
                "LOAD_GLOBAL STORE_GLOBAL DELETE_GLOBAL LOAD_NAME LOAD_FROM_DICT_OR_GLOBALS"
            ).split()
        }
        inner = [part for part in code.co_consts if isinstance(part, types.CodeType)]
        return names.union(*map(found, inner))

    everything = dict.fromkeys(dir(builtins), 1)
    for module in (textwrap, subprocess, types, base64, importlib.util):
        for function in vars(module).values():
            if isinstance(function, types.FunctionType):
                names = found(function.__code__)
                globals_of = {**everything, **dict.fromkeys(names, 1), "__name__": "gone"}
                copy = types.FunctionType(
                    function.__code__,
                    globals_of,
                    None,
                    None,
                    function.__closure__,
                )
                assert set(bequeath._engine.travelling_globals(copy)) == names


TYPED = """
import os, sys
import bequeath
context = bequeath.get_context(METHOD)

def cell(text):
    exec(text, globals())

def work(tasks, answers):
    for function, argument in iter(tasks.get, None):
        answers.put(function(argument))

cell("""
TYPED += '''"""
def f(x): return ["old", x]
class C:
    def name(self): return "old"
def late(x): return f(x)
""")
tasks, answers = context.SimpleQueue(), context.SimpleQueue()
worker = context.Process(target=work, args=(tasks, answers))
worker.start()
tasks.put((f, 1)); print(answers.get())
tasks.put((lambda c: [isinstance(c, C), c], C())); kept = answers.get()
print(kept[0], type(kept[1]) is C)
cell("def f(x): return ['new', x]")
tasks.put((f, 2)); print(answers.get())
tasks.put((late, 3)); print(answers.get())
tasks.put((lambda _: late, 0)); old, mine = answers.get(), f
cell("def late(x): return 'mine'")
tasks.put((lambda _: f, 0)); answers.get(); print(f is mine, late(0))
cell("class C:" + chr(10) + "    def name(self): return 'newer'")
tasks.put((lambda c: c.name(), C())); print(answers.get())
tasks.put(None)
worker.join()
'''


@pytest.mark.short
def test_what_is_typed_anew_is_what_a_worker_runs_then(ours: Implementation) -> None:
    """A notebook: its main module has no file, and a forked worker has the earlier definitions."""
    program = TYPED.replace("METHOD", repr(ours.start_method))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "['old', 1]",
        "True True",
        "['new', 2]",
        "['new', 3]",
        "True mine",
        "newer",
    ], done.stderr


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax came with 3.12")
def test_type_parameters_cross_in_a_program_that_has_no_typing(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from bequeath import pickle
        exec("def first[T](items: list[T]) -> T: return items[0]")
        assert "typing" not in sys.modules
        written = pickle.dumps(first, by_value=True)
        assert "typing" not in sys.modules
        assert pickle.loads(written)([1, 2]) == 1
        """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
