"""A program's own functions and classes cross: of each kind, by each way, wherever they stand.

One program per start method sends everything through everything, and says what has gone wrong.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import program
from implementation import Implementation

DEFINITIONS = """
import functools

class Top:
    def __init__(self, value=1):
        self.value = value
    def method(self):
        return ["method", self.value]
    @classmethod
    def of_class(cls):
        return ["class", cls.__name__]
    @staticmethod
    def static():
        return ["static"]
    def __call__(self, x):
        return ["called", x]
    class Inner:
        def method(self):
            return ["inner"]

def top():
    return ["top"]

def local():
    class Local(Top):
        pass
    def function():
        return ["local", Local.__name__]
    return Local, function

def kinds(Class, function):
    # By name: what is called in the receiver, and what it returns there.
    one = Class(5)
    name = Class.__name__
    return {
        "function": (function, function()),
        "lambda": (lambda: function(), function()),
        "bound method": (one.method, ["method", 5]),
        "class method": (Class.of_class, ["class", name]),
        "class method of an instance": (one.of_class, ["class", name]),
        "static method": (Class.static, ["static"]),
        "method of the class": (functools.partial(Class.method, one), ["method", 5]),
        "instance that is called": (functools.partial(one, 3), ["called", 3]),
        "partial of a bound method": (functools.partial(one.method), ["method", 5]),
        "partial of a lambda": (functools.partial(lambda x, y: [x, y], 1, y=2), [1, 2]),
        "partial of a partial": (functools.partial(functools.partial(Class.static)), ["static"]),
        "method of a nested class": (Class.Inner().method, ["inner"]),
        "inherited method": (type("Heir", (Class,), {})(6).method, ["method", 6]),
        "method that was overridden": (super(Class, one).__repr__, None),
        "cached": (functools.lru_cache(function), function()),
    }

def answer(what):
    return [kind for kind, (call, expected) in what.items()
            if (result := call()) != expected and expected is not None]

def by_start(what, answers):
    answers.put(answer(what))

def by_queue(queue, answers):
    answers.put(answer(queue.get()))

def by_pipe(receiver, answers):
    answers.put(answer(receiver.recv()))

def all_ways(context, what):
    answers = context.SimpleQueue()
    for way in ("start", "Queue", "SimpleQueue", "JoinableQueue", "Pipe"):
        if way == "start":
            process = context.Process(target=by_start, args=(what, answers))
            process.start()
        elif way == "Pipe":
            receiver, sender = context.Pipe(False)
            process = context.Process(target=by_pipe, args=(receiver, answers))
            process.start()
            sender.send(what)
        else:
            queue = getattr(context, way)()
            process = context.Process(target=by_queue, args=(queue, answers))
            process.start()
            queue.put(what)
        yield way, answers.get()
        process.join()
"""

BODY = """
class Guarded(Top):
    pass
def guarded():
    return ["guarded", number]
number = 7
places = {
    "at the margin": (Top, top),
    "under the guard": (Guarded, guarded),
    "in a function": local(),
}
for place, (Class, function) in places.items():
    for way, wrong in all_ways(context, kinds(Class, function)):
        if wrong:
            print(place, way, *wrong, sep=": ")
print("done")
"""


@pytest.mark.short
@pytest.mark.limit(120)
def test_every_kind_by_every_way(ours: Implementation, tmp_path: Path) -> None:
    done = program.run(ours, tmp_path, DEFINITIONS, BODY, seconds=100)
    assert done.stdout.splitlines() == ["done"], done.stderr


IDENTITY = """
class Guarded:
    pass
one = Guarded()
answers = context.SimpleQueue()
process = context.Process(target=by_identity, args=(one, answers))
process.start()
back, same = answers.get()
print(type(back) is Guarded, same)
process.join()
"""

RECEIVER = """
def by_identity(one, answers):
    import __main__
    answers.put((one, type(one) is __main__.Guarded))
"""


@pytest.mark.short
def test_a_class_under_the_guard_is_one_class_on_both_sides(
    ours: Implementation, tmp_path: Path
) -> None:
    done = program.run(ours, tmp_path, RECEIVER, IDENTITY)
    assert done.stdout.splitlines() == ["True True"], done.stderr
