"""Kinds of classes and functions that live only under the guard, to a child and back."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

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
