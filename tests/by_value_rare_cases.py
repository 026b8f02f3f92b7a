"""More of what crosses by value, in the form of `by_value_cases`: what few programs do."""

from __future__ import annotations

import sys

from by_value_cases import Case

CASES = [
    Case(
        "closures over nothing, and over what has no hash",
        """
        def outer(nothing, d, s):
            return lambda: (nothing, d, s)
        """,
        "outer(None, {}, {1}), outer(None, {}, set()).__closure__",
        "it[0]() == (None, {}, {1}) and it[1][0].cell_contents == {}",
    ),
    Case(
        "class made by a call, whose methods use super()",
        """
        class Base:
            def f(self): return 'base'
        def make(name):
            class Template(Base):
                def f(self): return name + ' ' + super().f()
            return type(name, (Template,), {'g': lambda self: Template.f(self)})
        Made = make('made')
        """,
        "Made(), Made, Base",
        """
        it[0].f() == it[0].g() == 'made base' and type(it[0]) is it[1]
        it[1].__mro__[2] is it[2] and it[1].__name__ == 'made'
        """,
    ),
    Case(
        "bound methods, static methods and class methods of local classes",
        """
        def local():
            class Local:
                def __init__(self): self.calls = 0
                def method(self):
                    self.calls += 1
                    return self.calls
                @classmethod
                def of_class(cls): return cls
                @staticmethod
                def static(): return Local
                async def later(self): return 5
            return Local
        Local = local()
        one = Local()
        """,
        "one, one.method, one.method, Local.of_class, Local.static, one.of_class, one.later, Local",
        """
        it[1].__self__ is it[2].__self__ is it[0] and it[1]() == 1 and it[2]() == 2
        it[3]() is it[4]() is it[5]() is it[7] is type(it[0])
        __import__('asyncio').run(it[6]()) == 5
        """,
    ),
    Case(
        "partials of methods, with attributes, and in a circle",
        """
        import functools
        class C:
            def f(self, x, y): return self, x, y
        c = C()
        p = functools.partial(c.f, 1)
        p.mark = [p]
        q = functools.partial(functools.partial(lambda *a, **k: (a, k), 1), 2, z=3)
        """,
        "p, q, c",
        """
        it[0](2) == (it[2], 1, 2) and it[0].mark[0] is it[0]
        it[1](4) == ((1, 2, 4), {'z': 3})
        """,
    ),
    Case(
        "coroutines of generators and of decorators",
        """
        import asyncio, contextlib, types
        @types.coroutine
        def step():
            yield
            return 1
        @contextlib.asynccontextmanager
        async def manage():
            await step()
            yield 2
        class Stream:
            def __init__(self): self.left = 2
            def __aiter__(self): return self
            async def __anext__(self):
                if not self.left: raise StopAsyncIteration
                self.left -= 1
                return self.left
        async def main():
            async with manage() as two:
                return two, [x async for x in Stream()], await step()
        """,
        "main",
        "__import__('asyncio').run(it()) == (2, [1, 0], 1)",
    ),
    Case(
        "views of bytes",
        "data = bytearray(b'abcdef')",
        "memoryview(b'abc'), memoryview(data)[::2], memoryview(data).cast('H', (1, 3))",
        """
        bytes(it[0]) == b'abc' and bytes(it[1]) == b'ace' and bytes(it[2]) == b'abcdef'
        type(it[0]) is memoryview and it[2].format == 'H' and it[2].shape == (1, 3)
        """,
    ),
    Case(
        "standard streams are the reader's",
        "import sys\ndef outer(out, err): return lambda: (out, err)",
        "outer(sys.__stdout__, sys.__stderr__)",
        "it() == (__import__('sys').__stdout__, __import__('sys').__stderr__)",
    ),
    Case(
        "descriptors arrive whole: nobody names them again",
        """
        class Field:
            def __init__(self): self.named = []
            def __set_name__(self, owner, name): self.named.append(name)
        class C:
            first = Field()
            second = Field()
        """,
        "C",
        "vars(it)['first'].named == ['first'] and vars(it)['second'].named == ['second']",
    ),
    Case(
        "properties with everything",
        """
        class C:
            def __init__(self): self._x = 1
            @property
            def x(self):
                'The x.'
                return self._x
            @x.setter
            def x(self, value): self._x = value
            @x.deleter
            def x(self): self._x = None
        """,
        "C()",
        """
        type(it).x.__doc__ == 'The x.' and it.x == 1
        setattr(it, 'x', 5) is None and it.x == 5
        delattr(it, 'x') is None and it.x is None
        """,
    ),
    Case(
        "data classes with what is only given, and what is the class's",
        """
        import dataclasses, typing
        @dataclasses.dataclass
        class Base:
            number: int
            given: dataclasses.InitVar[int] = 3
            shared: typing.ClassVar[list] = []
            hidden: str = dataclasses.field(default='h', init=False, repr=False, compare=False)
            def __post_init__(self, given): self.number += given
        @dataclasses.dataclass
        class More(Base):
            items: dict = dataclasses.field(default_factory=lambda: {'a': 1})
        Made = dataclasses.make_dataclass('Made', [('x', int), ('y', int, 5)], frozen=True)
        """,
        "Base(1), More(2, given=0), More, Made(1)",
        """
        it[0].number == 4 and type(it[0])(1, given=1).number == 2 and it[0].hidden == 'h'
        it[1].items == {'a': 1} and it[2](5, 1).number == 6 and it[2](1).items is not it[2](1).items
        [field.name for field in dataclasses.fields(it[2])] == ['number', 'hidden', 'items']
        it[2].shared is it[2].__mro__[1].shared and 'shared' not in vars(it[1])
        it[3].y == 5 and raises(dataclasses.FrozenInstanceError, setattr, it[3], 'x', 2)
        """,
    ),
    Case(
        "data class with slots and a weak reference",
        """
        import dataclasses
        @dataclasses.dataclass(slots=True, weakref_slot=True)
        class Data:
            number: int
        """,
        "Data(1)",
        "__import__('weakref').ref(it)() is it and it == type(it)(1)",
        (3, 11),
    ),
    Case(
        "enumerations made by calls, and with what is no member",
        """
        import enum
        Called = enum.Enum('Called', 'A B')
        Numbers = enum.IntEnum('Numbers', {'ONE': 1, 'TWO': 2})
        class Full(enum.Enum):
            _ignore_ = ['n']
            X = 1
            def method(self): return self.value
            @property
            def twice(self): return self.value * 2
            @classmethod
            def first(cls): return next(iter(cls))
            @staticmethod
            def s(): return 's'
        """,
        "Called.B, Numbers.TWO, Full, Called, {Full.X: 1}",
        """
        it[0] is it[3].B and it[0].value == 2 and it[1] == 2 and it[2].X.method() == 1
        it[2].X.twice == 2 and it[2].first() is it[2].X and it[2].s() == 's' and it[4][it[2].X] == 1
        """,
    ),
    Case(
        "members and others by decree; flags by name, inverted and out of range",
        """
        import enum
        class E(enum.Enum):
            A = 1
            @enum.nonmember
            class Inner: pass
            B = enum.member(lambda: 2)
        class Strict(enum.Flag, boundary=enum.STRICT):
            R = 1
            W = 2
        class Eject(enum.IntFlag, boundary=enum.EJECT):
            R = 1
        """,
        "E, Strict.R | Strict.W, Strict, Eject",
        """
        list(it[0]) == [it[0].A, it[0].B] and it[0].B.value() == 2 and isinstance(it[0].Inner, type)
        it[1] is it[2](3) and list(it[1]) == [it[2].R, it[2].W] and raises(ValueError, it[2], 8)
        ~it[2].R is it[2].W and it[3](9) == 9 and type(it[3](9)) is int
        """,
        (3, 11),
    ),
    Case(
        "abstract classes with hooks, and registered by decorators",
        """
        import abc, collections.abc
        class Sized(metaclass=abc.ABCMeta):
            @classmethod
            def __subclasshook__(cls, other): return hasattr(other, 'size') or NotImplemented
            @classmethod
            @abc.abstractmethod
            def make(cls): ...
            @staticmethod
            @abc.abstractmethod
            def help(): ...
        class HasSize: size = 1
        @Sized.register
        class Registered: pass
        class Rows(collections.abc.Sequence):
            def __getitem__(self, i): return range(3)[i]
            def __len__(self): return 3
        class Meta(abc.ABCMeta):
            def __call__(cls, *args): return (cls, super().__call__(*args))
        class Called(metaclass=Meta): pass
        """,
        "Sized, HasSize(), Registered(), Rows(), Called",
        """
        isinstance(it[1], it[0]) and isinstance(it[2], it[0]) and not isinstance('', it[0])
        raises(TypeError, it[0]) and it[0].__abstractmethods__ == {'make', 'help'}
        list(reversed(it[3])) == [2, 1, 0] and it[4]()[0] is it[4]
        """,
    ),
    Case(
        "new types, and type variables that are one",
        """
        import typing
        UserId = typing.NewType('UserId', int)
        Wrapped = typing.NewType('Wrapped', UserId)
        T = typing.TypeVar('T')
        class Box(typing.Generic[T]):
            item: T
            def get(self: 'Box[T]') -> T: ...
        def unbox(box: Box[T], user: UserId) -> T: ...
        """,
        "UserId, Wrapped, T, Box, unbox, [UserId], typing.AnyStr",
        """
        it[0](5) == 5 and it[0].__supertype__ is int and it[1].__supertype__ is it[0] is it[5][0]
        it[0].__name__ == 'UserId' and it[0].__module__ == 'gone'
        it[3].__parameters__ == (it[2],) and it[4].__annotations__['return'] is it[2]
        it[4].__annotations__['user'] is it[0] and it[4].__annotations__['box'] == it[3][it[2]]
        it[6] is __import__('typing').AnyStr
        """,
    ),
    Case(
        "types out of types",
        """
        import typing
        T = typing.TypeVar('T')
        class C: pass
        class Node(typing.Generic[T]): pass
        class Leaf(Node[int]):
            def __init__(self): self.value = 3
        """,
        "typing.Optional[C], typing.Union[C, T], list[C], C | None, typing.Literal['a', 1], "
        "typing.Annotated[C, 'x'], typing.ClassVar[C], typing.Callable[[C], T], C, T, "
        "Node[C](), Leaf(), type(typing.List), dict[str, T][int], typing.Type[C]",
        """
        it[0] == __import__('typing').Optional[it[8]] and it[1].__args__ == (it[8], it[9])
        it[2].__args__ == (it[8],) and it[3] == it[8] | None and it[4].__args__ == ('a', 1)
        it[5].__metadata__ == ('x',) and it[6].__args__ == (it[8],) and it[7].__args__[0] is it[8]
        it[10].__orig_class__.__args__ == (it[8],) and it[11].value == 3
        it[13] == dict[str, int]
        type(it[11]).__orig_bases__[0].__origin__ is type(it[10]) and it[14].__args__ == (it[8],)
        """,
    ),
    Case(
        "typed dicts and named tuples that grow",
        """
        import typing
        class Base(typing.TypedDict):
            name: str
        class Movie(Base, total=False):
            year: typing.Required[int]
            note: str
        T = typing.TypeVar('T')
        class Pair(typing.NamedTuple, typing.Generic[T]):
            first: T
            second: int = 2
            def both(self): return self.first, self.second
        """,
        "Movie, Pair(1), Pair[int]",
        """
        it[0].__required_keys__ == {'name', 'year'} and it[0].__optional_keys__ == {'note'}
        it[0](name='x', year=1) == {'name': 'x', 'year': 1} and it[1].both() == (1, 2)
        it[2].__origin__ is type(it[1]) and it[1]._fields == ('first', 'second')
        """,
        (3, 11),
    ),
    Case(
        "protocols with data and without a check at run time",
        """
        import typing
        T = typing.TypeVar('T', covariant=True)
        @typing.runtime_checkable
        class Named(typing.Protocol):
            name: str
        class Gets(typing.Protocol[T]):
            def get(self) -> T: ...
        class Impl(Gets[int]):
            name = 'impl'
            def get(self): return 1
        """,
        "Named, Gets, Impl()",
        """
        isinstance(it[2], it[0]) and not isinstance(1, it[0]) and it[2].get() == 1
        raises(TypeError, it[1]) and raises(TypeError, isinstance, 1, it[1])
        it[1].__parameters__[0].__covariant__ and it[1] in type(it[2]).__mro__
        """,
    ),
    Case(
        "exceptions with state, notes by hand and constructors that ask for more",
        """
        class Failure(Exception):
            def __init__(self, code, *, detail='d'):
                super().__init__(f'code {code}')
                self.code, self.detail = code, detail
            def __reduce__(self): return _again, (type(self), self.code, self.detail)
            def __str__(self): return f'{self.code}/{self.detail}'
        def _again(kind, code, detail): return kind(code, detail=detail)
        class Deeper(Failure, KeyError): pass
        failure = Deeper(7, detail='deep')
        """,
        "failure, Failure",
        """
        str(it[0]) == '7/deep' and it[0].args == ('code 7',) and isinstance(it[0], KeyError)
        isinstance(it[0], it[1]) and it[1](1).detail == 'd'
        """,
    ),
    Case(
        "groups of exceptions",
        """
        class Many(ExceptionGroup):
            def derive(self, excs): return Many(self.message, excs)
        many = Many('all', [ValueError(1), TypeError(2)])
        """,
        "many",
        """
        it.message == 'all' and [type(e) for e in it.exceptions] == [ValueError, TypeError]
        type(it.subgroup(ValueError)) is type(it)
        """,
        (3, 11),
    ),
    Case(
        "instances that refer weakly to each other",
        """
        import weakref
        class Node:
            def __init__(self, parent=None):
                self.parent = None if parent is None else weakref.ref(parent)
                self.children = weakref.WeakSet()
                self.owned = []
                if parent is not None:
                    parent.children.add(self)
                    parent.owned.append(self)
        root = Node()
        Node(root), Node(root)
        """,
        "root",
        """
        len(it.children) == 2 and all(child.parent() is it for child in it.owned)
        set(it.children) == set(it.owned)
        """,
    ),
    Case(
        "diamonds, mixins with slots, and class attributes in a circle",
        """
        class A:
            __slots__ = ()
            def who(self): return ['A']
        class B(A):
            __slots__ = ('b',)
            def who(self): return ['B', *super().who()]
        class C(A):
            __slots__ = ()
            def who(self): return ['C', *super().who()]
        class D(B, C):
            __slots__ = ('d', '__dict__')
            def who(self): return ['D', *super().who()]
        A.known = {'d': D, 'self': A}
        d = D()
        d.b, d.d, d.e = 1, 2, 3
        """,
        "d",
        """
        it.who() == ['D', 'B', 'C', 'A'] and (it.b, it.d, it.e) == (1, 2, 3)
        it.known['d'] is type(it) and vars(it) == {'e': 3} and it.known['self'].known is it.known
        """,
    ),
    Case(
        "classes that look their attributes up themselves",
        """
        class C:
            def __getattr__(self, name):
                if name.startswith('__'): raise AttributeError(name)
                return name.upper()
            def __class_getitem__(cls, item): return (cls, item)
            def __eq__(self, other): return True
            __hash__ = None
        class Meta(type):
            def __getattr__(cls, name):
                if name.startswith('_'): raise AttributeError(name)
                return 'meta ' + name
            def __eq__(cls, other): return cls is other
            def __hash__(cls): return 1
        class D(metaclass=Meta): pass
        """,
        "C(), C, D",
        "it[0].abc == 'ABC' and it[1][1] == (it[1], 1) and it[2].x == 'meta x' and it[0] == 5",
    ),
    Case(
        "objects of which the standard library makes its own",
        """
        import functools, logging, types
        @functools.total_ordering
        class Version:
            def __init__(self, n): self.n = n
            def __eq__(self, other): return self.n == other.n
            def __lt__(self, other): return self.n < other.n
        space = types.SimpleNamespace(f=lambda: space, v=Version(1))
        adapter = logging.LoggerAdapter(logging.getLogger('a.b'), {'k': 1})
        key = functools.cmp_to_key
        """,
        "Version(1), Version(2), space, adapter, key, types.GenericAlias(list, (int,))",
        """
        it[0] < it[1] and it[0] <= it[1] and it[2].f() is not None and it[2].v == it[0]
        it[3].logger is __import__('logging').getLogger('a.b') and it[3].extra == {'k': 1}
        it[4] is __import__('functools').cmp_to_key and it[5] == list[int]
        """,
    ),
    Case(
        "functions without a home and with names of their own",
        """
        def f(): return f.__name__
        f.__module__ = None
        f.__name__, f.__qualname__ = 'renamed', 'Somewhere.renamed'
        g = lambda: f()
        g.__defaults__, g.__kwdefaults__, g.__dict__['x'] = None, {}, g
        größe = lambda ñ: ñ
        """,
        "f, g, größe",
        """
        it[0]() == it[1]() == 'renamed' and it[0].__module__ is None
        it[0].__qualname__ == 'Somewhere.renamed' and it[1].x is it[1]
        it[2](4) == 4 and it[2].__code__.co_varnames == ('ñ',)
        """,
    ),
    Case(
        "annotations that are text",
        """
        from __future__ import annotations
        class C:
            next: C | None = None
            def f(self, c: C) -> list[C]: ...
        """,
        "C()",
        """
        it.f.__annotations__ == {'c': 'C', 'return': 'list[C]'}
        type(it).__annotations__ == {'next': 'C | None'}
        """,
    ),
    Case(
        "type parameters of all kinds",
        """
        class Box[T, *Ts, **P]:
            def method[S: (int, str)](self, s: S, t: T) -> S: return s
        def call[**P, R](f, *args: P.args, **kwargs: P.kwargs) -> R: return f(*args, **kwargs)
        type Many[T] = T | list[T]
        """,
        "Box, Box[int, str, [bool]], call, Many, Many[int]",
        """
        [p.__name__ for p in it[0].__type_params__] == ['T', 'Ts', 'P']
        it[0]().method(1, 2) == 1 and it[1].__origin__ is it[0]
        it[0].method.__type_params__[0].__constraints__ == (int, str)
        it[2](max, 1, 2) == 2 and it[3].__value__.__args__[0] is it[3].__type_params__[0]
        it[4].__args__ == (int,)
        """,
        (3, 12),
    ),
    Case(
        "what the compiler notes of a class",
        """
        class C:
            def __init__(self): self.x = 1
        """,
        "C",
        "it.__static_attributes__ == ('x',) and it.__firstlineno__ == 2",
        (3, 13),
    ),
    Case(
        "partials with room in front",
        "import functools\ndef f(x, y): return x - y",
        "functools.partial(f, functools.Placeholder, 2)",
        "it(5) == 3",
        (3, 14),
    ),
    Case(
        "module made at run time that holds what nobody can send, and itself",
        """
        import sys, types
        made = types.ModuleType('made')
        exec('import json' + chr(10) + 'def f(): return json.dumps([me.__name__])', vars(made))
        made.me = made
        made.builtin_print = print
        def use(): return made.f()
        """,
        "use, made",
        "it[0]() == '[\"made\"]' and it[1].me is it[1] and it[1].builtin_print is print",
    ),
]
CASES = [case for case in CASES if sys.version_info >= case.since]
