"""What crosses by value: a name, the module that defines it, what is sent, what must hold there.

The module exists nowhere but in the sender. `it` is what has arrived; each line of a check must be
true of it.
"""

from __future__ import annotations

import sys
from typing import NamedTuple


class Case(NamedTuple):
    name: str
    source: str
    sent: str
    checks: str
    since: tuple[int, int] = (3, 10)


CASES = [
    Case("lambda", "f = lambda x, y=2: x * y", "f", "it(3) == 6"),
    Case(
        "function with everything",
        """
        def f(a, /, b: int = 2, *rest, c, d=4, **more):
            'What it does.'
            return a, b, rest, c, d, more
        f.attribute = [1]
        """,
        "f",
        """
        it(1, c=3) == (1, 2, (), 3, 4, {})
        it.__doc__ == 'What it does.' and it.attribute == [1] and it.__annotations__ == {'b': int}
        it.__name__ == it.__qualname__ == 'f' and it.__module__ == 'gone'
        """,
    ),
    Case("recursive", "def f(n): return 1 if n == 0 else n * f(n - 1)", "f", "it(5) == 120"),
    Case(
        "recursive inside of another",
        """
        def outer():
            def inner(n): return 1 if n == 0 else n * inner(n - 1)
            return inner
        """,
        "outer()",
        "it(5) == 120 and it.__closure__[0].cell_contents is it",
    ),
    Case(
        "mutually recursive",
        """
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        """,
        "even",
        "it(10) and not it(7)",
    ),
    Case(
        "mutually recursive closures",
        """
        def outer():
            def even(n): return n == 0 or odd(n - 1)
            def odd(n): return n != 0 and even(n - 1)
            return even, odd
        """,
        "outer()",
        """
        it[0](10) and it[1](7)
        it[0].__closure__[0].cell_contents is it[1]
        """,
    ),
    Case(
        "closure that changes",
        """
        def counter():
            count = 0
            def add():
                nonlocal count
                count += 1
                return count
            def get(): return count
            return add, get
        """,
        "counter()",
        "[it[0](), it[0](), it[1]()] in ([1, 2, 2], [3, 4, 4])",
    ),
    Case(
        "empty cell",
        """
        def outer():
            def f(): return later
            if False:
                later = 1
            return f
        """,
        "outer()",
        "raises(ValueError, getattr, it.__closure__[0], 'cell_contents') and raises(NameError, it)",
    ),
    Case(
        "cell that holds itself",
        """
        import types
        cell = types.CellType()
        cell.cell_contents = [cell]
        """,
        "cell",
        "it.cell_contents[0] is it",
    ),
    Case(
        "default that is the function itself",
        """
        def f(n, again=None): return n if n == 0 else again(n - 1, again)
        f.__defaults__ = (f,)
        """,
        "f",
        "it(3) == 0 and it.__defaults__[0] is it",
    ),
    Case(
        "generator, coroutine and async generator functions",
        """
        def numbers(n): yield from range(n)
        async def answer(): return 42
        async def stream(n):
            for i in range(n): yield i
        """,
        "numbers, answer, stream",
        """
        list(it[0](3)) == [0, 1, 2]
        __import__('asyncio').run(it[1]()) == 42
        __import__('inspect').isasyncgenfunction(it[2])
        """,
    ),
    Case(
        "globals are shared by the functions of a message",
        """
        total = 0
        def add(n):
            global total
            total += n
        def get(): return total
        """,
        "add, get",
        """
        it[0].__globals__ is it[1].__globals__
        it[0](5) is None and it[1]() % 5 == 0 and it[1]() > 0
        """,
    ),
    Case(
        "only the globals that are used",
        "import threading\nlock = threading.Lock()\nfactor = 3\ndef f(x): return x * factor",
        "f",
        "it(2) == 6 and 'lock' not in it.__globals__",
    ),
    Case(
        "submodule reached through its package",
        "import xml.sax.saxutils\ndef f(text): return xml.sax.saxutils.escape(text)",
        "f",
        "it('<') == '&lt;'",
    ),
    Case(
        "class with all kinds of methods",
        """
        class Base:
            def greet(self): return 'hello'
        class Thing(Base):
            'A thing.'
            count = 3
            def __init__(self, x): self.x = x
            def greet(self): return super().greet() + ' ' + __class__.__name__
            @property
            def double(self): return self.x * 2
            @double.setter
            def double(self, value): self.x = value // 2
            @classmethod
            def make(cls, x): return cls(x)
            @staticmethod
            def name(): return 'static'
            def _private(self): return 'private'
            def __very(self): return 'very'
            def call(self): return self.__very()
        """,
        "Thing, Thing(4), Thing(5).greet, Thing.make, Thing.name, Thing(6)._Thing__very",
        """
        it[0].__doc__ == 'A thing.' and it[0].count == 3 and it[0].__mro__[1].__name__ == 'Base'
        type(it[1]) is it[0] and it[1].double == 8 and it[1].greet() == 'hello Thing'
        it[2]() == 'hello Thing' and it[3](7).x == 7 and it[4]() == 'static' and it[5]() == 'very'
        it[1].call() == 'very'
        """,
    ),
    Case(
        "methods as they stand in the class",
        """
        class C:
            @staticmethod
            def s(): return 1
            @classmethod
            def c(cls): return cls
            @property
            def p(self): return 3
        """,
        "vars(C)['s'], vars(C)['c'], vars(C)['p'], C",
        """
        it[0].__func__() == 1 and type(it[1]) is classmethod and it[2].fget(None) == 3
        vars(it[3])['p'].fget.__code__ == it[2].fget.__code__
        """,
    ),
    Case(
        "method of a function that is none of the class's",
        """
        import types
        class C: pass
        c = C()
        c.f = types.MethodType(lambda self: self, c)
        """,
        "c",
        "it.f() is it",
    ),
    Case(
        "class in a class",
        """
        class Outer:
            class Inner:
                def outer(self): return Outer
        """,
        "Outer.Inner(), Outer",
        "it[0].outer() is it[1] and type(it[0]) is it[1].Inner",
    ),
    Case(
        "class that refers to itself",
        """
        class Node:
            def make(self): return Node()
        Node.instance = Node()
        """,
        "Node",
        "type(it.instance) is it and type(it.instance.make()) is it",
    ),
    Case(
        "cached property",
        """
        import functools
        class C:
            calls = 0
            @functools.cached_property
            def value(self):
                self.calls += 1
                return 7
        """,
        "C()",
        "it.value == 7 and it.value == 7 and it.calls == 1",
    ),
    Case(
        "data class",
        """
        import dataclasses
        @dataclasses.dataclass(order=True)
        class Data:
            number: int
            items: list = dataclasses.field(default_factory=list, metadata={'unit': 1})
            name: str = 'none'
        """,
        "Data, Data(1, [2])",
        """
        it[1] == it[0](1, [2]) and it[0](3).items == [] and it[0](3).items is not it[0](4).items
        it[0](1) < it[0](2) and repr(it[0](1)).endswith("Data(number=1, items=[], name='none')")
        dataclasses.replace(it[1], number=5).number == 5
        dataclasses.fields(it[0])[0].default is dataclasses.MISSING
        dataclasses.fields(it[0])[1].metadata['unit'] == 1
        """,
    ),
    Case(
        "data class with slots and keywords only",
        """
        import dataclasses
        @dataclasses.dataclass(slots=True, frozen=True, kw_only=True)
        class Data:
            number: int
            other: int = 2
        @dataclasses.dataclass
        class Part:
            first: int
            _: dataclasses.KW_ONLY
            second: int = 3
        """,
        "Data, Data(number=1), Part(1)",
        """
        it[1] == it[0](number=1) and not hasattr(it[1], '__dict__') and hash(it[1])
        it[2] == type(it[2])(1, second=3)
        [field.kw_only for field in dataclasses.fields(it[2])] == [False, True]
        """,
    ),
    Case(
        "enumerations",
        """
        import enum
        class Color(enum.Enum):
            RED = 1
            GREEN = 'green'
            CRIMSON = 1
            def hello(self): return self.name.lower()
        class Number(enum.IntEnum):
            ONE = 1
        class Planet(enum.Enum):
            EARTH = (5.97, 6.37)
            def __init__(self, mass, radius):
                self.mass = mass
                self.radius = radius
        class Labelled(int, enum.Enum):
            A = 1, 'first'
            def __new__(cls, value, label):
                self = int.__new__(cls, value)
                self._value_ = value
                self.label = label
                return self
        class Automatic(enum.Enum):
            def _generate_next_value_(name, start, count, last): return name
            X = enum.auto()
            @classmethod
            def _missing_(cls, value): return cls.X
        """,
        "Color, Color.GREEN, Number.ONE, Planet.EARTH, Labelled.A, Automatic.X, [Color.RED]",
        """
        it[1] is it[0].GREEN and it[0].CRIMSON is it[0].RED and it[1].hello() == 'green'
        list(it[0]) == [it[0].RED, it[0].GREEN] and list(it[0].__members__)[2] == 'CRIMSON'
        it[0](1) is it[0]['RED'] is it[6][0]
        it[2] == 1 and isinstance(it[2], int) and it[2].name == 'ONE'
        it[3].mass == 5.97 and it[3].value == (5.97, 6.37) and type(it[3])((5.97, 6.37)) is it[3]
        it[4] == 1 and it[4].label == 'first' and type(it[4])(1) is it[4]
        it[5].value == 'X' and type(it[5])('else') is it[5]
        type(it[0]) is __import__('enum').EnumMeta
        """,
    ),
    Case(
        "flags",
        """
        import enum
        class Flags(enum.Flag):
            READ = 1
            WRITE = 2
            BOTH = 3
        class Bits(enum.IntFlag):
            A = 4
            B = 8
        """,
        "Flags.READ, Flags.READ | Flags.WRITE, Bits.A | Bits.B, Flags(0)",
        """
        it[1] is type(it[0]).BOTH and it[0] in it[1] and it[2] == 12 and not it[3]
        (it[0] | type(it[0]).WRITE) is it[1] and ~it[0] is type(it[0]).WRITE
        """,
    ),
    Case(
        "string enumeration and boundaries",
        """
        import enum
        class Mode(enum.StrEnum):
            FAST = enum.auto()
        class Kept(enum.Flag, boundary=enum.FlagBoundary.KEEP):
            A = 1
        """,
        "Mode.FAST, Kept",
        "it[0] == 'fast' and it[1](8).value == 8",
        (3, 11),
    ),
    Case(
        "named tuples",
        """
        import collections, typing
        Pair = collections.namedtuple('Pair', 'first second', defaults=[2])
        class Typed(typing.NamedTuple):
            x: int
            y: int = 5
            def sum(self): return self.x + self.y
        """,
        "Pair(1), Typed(3), Pair",
        """
        it[0] == (1, 2) and it[0].second == 2 and it[0]._replace(first=9).first == 9
        it[1].sum() == 8 and it[1]._fields == ('x', 'y') and it[2](4).first == 4
        """,
    ),
    Case(
        "abstract classes",
        """
        import abc
        class Base(abc.ABC):
            @abc.abstractmethod
            def method(self): ...
            @property
            @abc.abstractmethod
            def value(self): ...
        class Whole(Base):
            value = 1
            def method(self): return 'done'
        class Stranger: pass
        Base.register(Stranger)
        Base.register(int)
        """,
        "Base, Whole(), Stranger()",
        """
        isinstance(it[1], it[0]) and isinstance(it[2], it[0]) and isinstance(1, it[0])
        it[1].method() == 'done' and it[0].__abstractmethods__ == {'method', 'value'}
        raises(TypeError, it[0]) and not isinstance('', it[0])
        """,
    ),
    Case(
        "generic classes and type variables",
        """
        import typing
        T = typing.TypeVar('T', bound=int)
        S = typing.TypeVar('S', int, str)
        P = typing.ParamSpec('P')
        class Box(typing.Generic[T]):
            def __init__(self, value: T) -> None: self.value = value
        class IntBox(Box[int]): pass
        """,
        "Box, Box(1), Box[int], T, S, P, IntBox(2), P.args, typing.List[T], "
        "typing.Callable[P, int]",
        """
        it[0].__parameters__ == (it[3],) and it[1].value == 1 and it[2].__args__ == (int,)
        it[0][int] == it[2] and it[3].__bound__ is int and it[4].__constraints__ == (int, str)
        it[5].__name__ == 'P' and isinstance(it[6], it[0]) and it[6].__orig_bases__ == (it[2],)
        it[7].__origin__ is it[5] and it[8].__args__ == (it[3],) and it[9].__args__[0] is it[5]
        """,
    ),
    Case(
        "protocols and typed dicts",
        """
        import typing
        @typing.runtime_checkable
        class Closes(typing.Protocol):
            def close(self) -> None: ...
        class File:
            def close(self) -> None: ...
        class Movie(typing.TypedDict, total=False):
            name: str
            year: int
        """,
        "Closes, File(), Movie",
        """
        isinstance(it[1], it[0]) and not isinstance(1, it[0])
        it[2](name='x') == {'name': 'x'} and it[2].__total__ is False
        """,
    ),
    Case(
        "metaclass",
        """
        class Meta(type):
            made = []
            def __new__(mcls, name, bases, namespace, *, tag):
                made = super().__new__(mcls, name, bases, namespace)
                made.tag = tag
                return made
            def __init__(cls, name, bases, namespace, *, tag):
                super().__init__(name, bases, namespace)
            def __setattr__(cls, name, value):
                if name == 'frozen': raise AttributeError(name)
                super().__setattr__(name, value)
            def hello(cls): return 'meta ' + cls.__name__
        class Made(metaclass=Meta, tag='t'):
            frozen = 1
        """,
        "Made, Made()",
        """
        it[0].hello() == 'meta Made' and it[0].tag == 't'
        type(it[1]) is it[0] and it[0].frozen == 1
        """,
    ),
    Case(
        "keyword arguments of the class statement",
        """
        class Plugin:
            names = []
            def __init_subclass__(cls, /, name, priority=1, **more):
                super().__init_subclass__(**more)
                cls.name, cls.priority = name, priority
                Plugin.names.append(name)
        class First(Plugin, name='first', priority=5): pass
        """,
        "First, Plugin",
        "it[0].name == 'first' and it[0].priority == 5 and 'first' in it[1].names",
    ),
    Case(
        "slots",
        """
        class Slots:
            __slots__ = ('x', '__hidden', '__weakref__')
            def __init__(self): self.x, self.__hidden = 1, 2
            def hidden(self): return self.__hidden
        class More(Slots):
            __slots__ = 'y'
        class Documented:
            __slots__ = {'z': 'The z.'}
        class Used:
            __slots__ = iter(['u'])
        more = More()
        more.y = 3
        """,
        "Slots(), more, Documented, Used, Slots.x",
        """
        it[0].x == 1 and it[0].hidden() == 2 and not hasattr(it[0], '__dict__')
        it[1].y == 3 and raises(AttributeError, setattr, it[1], 'other', 1)
        'z' in vars(it[2]) and 'u' in vars(it[3]) and it[4].__get__(it[0]) == 1
        """,
    ),
    Case(
        "exceptions and subclasses of builtins",
        """
        class Failure(Exception):
            def __init__(self, what, why='?'):
                super().__init__(what)
                self.why = why
        class Items(list):
            def total(self): return sum(self)
        class Key(str): pass
        """,
        "Failure('x', 'y'), Items([1, 2]), Key('k')",
        "it[0].args == ('x',) and it[0].why == 'y' and it[1].total() == 3 and it[2] == 'k'",
    ),
    Case(
        "descriptors with __set_name__",
        """
        class Field:
            def __set_name__(self, owner, name): self.name = name
            def __get__(self, instance, owner): return self if instance is None else self.name
        class C:
            field = Field()
        """,
        "C()",
        "it.field == 'field'",
    ),
    Case(
        "annotations that name what is there and what is not",
        """
        class C:
            number: int = 1
            other: 'Missing'
        def f(x: C, y: 'Missing') -> list[int]: ...
        """,
        "C, f",
        """
        it[0].__annotations__ == {'number': int, 'other': 'Missing'}
        it[1].__annotations__ == {'x': it[0], 'y': 'Missing', 'return': list[int]}
        """,
    ),
    Case(
        "annotations worked out late",
        """
        class C:
            number: int
            Inner = str
            inner: Inner
        def f(x: Later) -> int: ...
        class Later: pass
        """,
        "C, f, Later",
        """
        it[0].__annotations__ == {'number': int, 'inner': str}
        it[1].__annotations__ == {'x': it[2], 'return': int}
        """,
        (3, 14),
    ),
    Case(
        "annotations that cannot be worked out yet",
        "def f(x: NeverThere) -> int: return 1",
        "f",
        "it(0) == 1 and raises(NameError, getattr, it, '__annotations__')",
        (3, 14),
    ),
    Case(
        "type parameters",
        """
        class Box[T: int]:
            def get(self, value: T) -> T: return value
        def first[S](items: list[S]) -> S: return items[0]
        type Pair[A] = tuple[A, A]
        """,
        "Box, first, Pair, Box[int]",
        """
        it[0].__type_params__[0].__name__ == 'T' and it[0].__type_params__[0].__bound__ is int
        it[0]().get(3) == 3 and it[0][int] == it[3]
        it[1]([1]) == 1 and it[1].__annotations__['return'] is it[1].__type_params__[0]
        it[2][int].__origin__ is it[2] and it[2].__value__ == tuple[it[2].__type_params__ * 2]
        """,
        (3, 12),
    ),
    Case(
        "defaults of type parameters",
        "import typing\nT = typing.TypeVar('T', default=int)\nU = typing.TypeVar('U')",
        "T, U",
        "it[0].__default__ is int and it[0].has_default() and not it[1].has_default()",
        (3, 13),
    ),
    Case(
        "partial functions",
        "import functools\ndef f(x, y): return x - y",
        "functools.partial(f, 5), functools.partial(f, y=1), functools.partialmethod(f, 1)",
        "it[0](2) == 3 and it[1](4) == 3 and it[2].args == (1,)",
    ),
    Case(
        "cached functions",
        """
        import functools
        @functools.lru_cache(maxsize=7)
        def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
        @functools.cache
        def one(): return 1
        """,
        "fibonacci, one",
        """
        it[0](30) == 832040 and it[0].cache_info().maxsize == 7 and it[0].cache_info().hits > 0
        it[1]() == 1 and it[0].__name__ == 'fibonacci'
        """,
    ),
    Case(
        "single dispatch",
        """
        import functools
        @functools.singledispatch
        def show(x): return 'object'
        @show.register(int)
        def _(x): return 'int'
        class C:
            @functools.singledispatchmethod
            def show(self, x): return 'object'
            @show.register
            def _(self, x: int): return 'int'
        show(1)
        """,
        "show, C()",
        """
        it[0](1) == 'int' and it[0]('') == 'object' and it[0].registry[int](0) == 'int'
        it[0].register(str, lambda x: 'str')('') == 'str' and it[0]('') == 'str'
        it[1].show(1) == 'int' and it[1].show('') == 'object'
        """,
    ),
    Case(
        "wrapped by decorators",
        """
        import contextlib, functools
        def decorate(f):
            @functools.wraps(f)
            def wrapper(*args): return f(*args) + 1
            return wrapper
        @decorate
        def f(x): return x
        @contextlib.contextmanager
        def manage(): yield 3
        """,
        "f, manage",
        "it[0](1) == 2 and it[0].__wrapped__(1) == 1 and it[1]().__enter__() == 3",
    ),
    Case(
        "loggers",
        "import logging\nlogger = logging.getLogger('some.name')\ndef f(): return logger",
        "f, logging.getLogger()",
        "it[0]().name == 'some.name' and it[1].name == 'root'",
    ),
    Case(
        "mapping proxies",
        """
        import types
        class C: x = 1
        inside = {'a': 1}
        """,
        "types.MappingProxyType(inside), inside, vars(C), C",
        """
        type(it[0]) is type(vars(int)) and it[0]['a'] == 1
        it[1].__setitem__('b', 2) is None and it[0]['b'] == 2
        it[2]['x'] == 1 and it[2] == vars(it[3])
        """,
    ),
    Case(
        "views of dicts",
        """
        import collections
        d = {'a': 1, 'b': 2}
        o = collections.OrderedDict(d)
        """,
        "d.keys(), d.values(), d.items(), o.keys(), o.values(), o.items(), d",
        """
        list(it[0]) == ['a', 'b'] and list(it[1]) == [1, 2] and dict(it[2]) == it[6]
        list(it[3]) == ['a', 'b'] and list(it[4]) == [1, 2] and list(it[5])[1] == ('b', 2)
        type(it[0]) is type({}.keys()) and it[6].__setitem__('c', 3) is None and 'c' in it[0]
        """,
    ),
    Case(
        "code objects",
        "def f(x): return x + 1",
        "f.__code__",
        "eval(it, {}) if it.co_argcount == 0 else type(f := type(lambda: 0)(it, {})) and f(1) == 2",
    ),
    Case(
        "weak references and containers",
        """
        import weakref
        class C: pass
        c, d = C(), C()
        s = weakref.WeakSet([c])
        k = weakref.WeakKeyDictionary({c: 1})
        v = weakref.WeakValueDictionary({'c': c})
        dead = weakref.ref(C())
        """,
        "c, weakref.ref(c), s, k, v, dead",
        """
        it[1]() is it[0] and list(it[2]) == [it[0]] and it[3][it[0]] == 1 and it[4]['c'] is it[0]
        it[5]() is None
        """,
    ),
    Case(
        "operators",
        "import operator",
        "operator.itemgetter(1, 2), operator.attrgetter('real'), operator.methodcaller('upper')",
        "it[0]('abc') == ('b', 'c') and it[1](3) == 3 and it[2]('x') == 'X'",
    ),
    Case(
        "methods and types of the interpreter",
        "import types",
        "[].append, str.upper, int.__add__, (5).__add__, dict.fromkeys, vars(dict)['fromkeys'], "
        "types.FunctionType, type(None), type(...), types.GeneratorType, vars(type)['__doc__']",
        """
        it[1]('x') == 'X' and it[2](1, 2) == 3 and it[3](1) == 6 and it[4]('a') == {'a': None}
        type(it[5]).__name__ == 'classmethod_descriptor' and it[6] is type(lambda: 0)
        it[7] is type(None) and it[8] is type(...) and it[9].__name__ == 'generator'
        """,
    ),
    Case(
        "module made at run time",
        """
        import types
        module = types.ModuleType('made', 'Made at run time.')
        exec('''
        number = 1
        def get(): return number
        def set(n):
            global number
            number = n
        '''.replace(chr(10) + ' ' * 8, chr(10)), module.__dict__)
        """,
        "module",
        """
        it.__name__ == 'made' and it.__doc__ == 'Made at run time.'
        it.set(5) is None and it.get() == 5 == it.number and it.get.__globals__ is vars(it)
        """,
    ),
    Case(
        "module by its name",
        "import os.path, json\ndef f(): return json.dumps([1])",
        "f, os.path, json",
        "it[0]() == '[1]' and it[1] is __import__('os').path and it[2] is __import__('json')",
    ),
    Case(
        "comprehensions and inner functions see globals",
        """
        factor = 2
        def f(items): return [factor * (lambda x: x + factor)(item) for item in items]
        class C:
            values = [factor for _ in range(2)]
            def g(self): return {factor: [g for g in (factor for _ in 'ab')]}
        """,
        "f, C()",
        "it[0]([1]) == [6] and it[1].g() == {2: [2, 2]}",
    ),
    Case(
        "builtins",
        "def f(): return sorted([len('abc'), max(1, 2)])\ndef g(): return __builtins__ is not None",
        "f, g",
        "it[0]() == [2, 3] and it[1]()",
    ),
    Case(
        "many names",
        "\n".join(f"name_{n} = {n}" for n in range(400))
        + "\ndef f(): return "
        + " + ".join(f"name_{n}" for n in range(400)),
        "f",
        "it() == sum(range(400))",
    ),
]
CASES = [case for case in CASES if sys.version_info >= case.since]
