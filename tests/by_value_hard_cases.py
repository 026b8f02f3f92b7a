"""What crosses by value: classes and functions as large programs have them."""

from __future__ import annotations

import sys

from by_value_cases import Case

CASES = [
    Case(
        "a base that keeps a list of its subclasses",
        """
        class Base:
            registry = []
            def __init_subclass__(cls, /, tag=None, **kw):
                super().__init_subclass__(**kw)
                Base.registry.append(cls)
                cls.tag = tag
        class A(Base, tag='a'): pass
        class B(A): pass
        """,
        "Base, A, B",
        """
        it[0].registry == [it[1], it[2]] and it[1].tag == 'a' and it[2].tag is None
        """,
    ),
    Case(
        "a keyword argument that a subclass must be given",
        """
        class Base:
            def __init_subclass__(cls, *, kind, **kw):
                cls.kind = kind
        class A(Base, kind=3): pass
        """,
        "A",
        "it.kind == 3",
    ),
    Case(
        "descriptors that count how often they are named",
        """
        class Field:
            names = []
            def __set_name__(self, owner, name):
                self.owner, self.name = owner, name
                Field.names.append(name)
            def __get__(self, obj, cls):
                return self if obj is None else obj.__dict__.get(self.name, 'unset')
            def __set__(self, obj, value): obj.__dict__[self.name] = value * 2
        class Model:
            x = Field()
            y = Field()
        m = Model(); m.x = 4
        """,
        "m, Model, Field",
        """
        it[0].x == 8 and it[0].y == 'unset' and it[2].names == ['x', 'y']
        it[1].x.owner is it[1] and type(it[1].x) is it[2]
        """,
    ),
    Case(
        "slots with private names, documentation, a dict and weak references",
        """
        import weakref
        class S:
            __slots__ = ('a', '__weakref__', '__dict__', '_S__private', '__mangled')
            def __init__(self): self.a = 1; self.b = 2; self.__mangled = 3
            def get(self): return self.__mangled
        class T(S):
            __slots__ = {'doc': 'documented'}
        s = T(); s.doc = 5
        """,
        "s",
        """
        (it.a, it.b, it.doc, it.get()) == (1, 2, 5, 3)
        __import__('weakref').ref(it)() is it
        __import__('inspect').getdoc(type(it).doc) == 'documented'
        it.__slots__ == {'doc': 'documented'}
        """,
    ),
    Case(
        "a metaclass whose namespace refuses names that come twice",
        """
        class NoTwice(dict):
            def __setitem__(self, k, v):
                if k in self: raise TypeError('twice ' + k)
                super().__setitem__(k, v)
        class Meta(type):
            @classmethod
            def __prepare__(mcs, name, bases, **kw): return NoTwice()
            def __new__(mcs, name, bases, ns, **kw):
                cls = super().__new__(mcs, name, bases, dict(ns))
                cls.order = [k for k in ns if not k.startswith('__')]
                return cls
            def __init__(cls, name, bases, ns, **kw): super().__init__(name, bases, dict(ns))
        class C(metaclass=Meta):
            b = 1
            a = 2
            def f(self): return __class__
        """,
        "C",
        "it.order == ['b', 'a', 'f'] and it().f() is it and type(it).__name__ == 'Meta'",
    ),
    Case(
        "data classes with everything",
        """
        import dataclasses
        @dataclasses.dataclass(slots=True, kw_only=True, order=True, frozen=True)
        class P:
            x: int = 0
            y: list = dataclasses.field(default_factory=list, compare=False)
            z: dataclasses.InitVar[int] = 1
            def __post_init__(self, z): pass
            def me(self): return __class__
        @dataclasses.dataclass(slots=True, kw_only=True)
        class Q:
            a: int
            _: dataclasses.KW_ONLY = None
        p = P(x=3, z=1)
        """,
        "p, Q(a=1), dataclasses.fields(P), P",
        """
        it[0] == it[3](x=3, z=1) and it[0] < it[3](x=4, z=1)
        hash(it[0]) == hash(it[3](x=3, z=1))
        it[1].a == 1 and it[2][0].name == 'x'
        __import__('dataclasses').replace(it[0], x=9, z=1).x == 9
        raises(__import__('dataclasses').FrozenInstanceError, setattr, it[0], 'x', 1)
        """,
        (3, 10),
    ),
    Case(
        "enumerations of all kinds",
        """
        import enum
        class Level(str, enum.Enum):
            LOW = 'low'
            HIGH = 'high'
            @classmethod
            def _missing_(cls, value):
                return cls.LOW if value == 'lo' else None
            def __str__(self): return self.value
        class Auto(enum.Enum):
            def _generate_next_value_(name, start, count, last): return name.lower()
            A = enum.auto()
            B = enum.auto()
        class Perm(enum.Flag):
            R = enum.auto()
            W = enum.auto()
            RW = R | W
        class IPerm(enum.IntFlag):
            R = 4
            W = 2
        class Planet(enum.Enum):
            EARTH = (5.9, 6.3)
            def __init__(self, mass, radius): self.mass, self.radius = mass, radius
            @property
            def g(self): return self.mass / self.radius
        class Float(float, enum.Enum):
            HALF = 0.5
        class Coord(bytes, enum.Enum):
            def __new__(cls, value, label):
                obj = bytes.__new__(cls, [value]); obj._value_ = value; obj.label = label
                return obj
            PX = (0, 'P.X')
        class Behave(enum.Enum):
            F = 1
            def call(self): return type(self).F is self
            class Nested: pass
            alias = 1
        """,
        "Level.LOW, Auto, Perm.RW, IPerm.R | IPerm.W, Planet.EARTH, Float.HALF, Coord.PX, "
        "Behave.F, Level, Perm, IPerm",
        """
        it[0] == 'low' and it[8]('lo') is it[0] and str(it[0]) == 'low' and it[1].A.value == 'a'
        list(it[1]) == [it[1].A, it[1].B]
        it[2] is it[9].R | it[9].W and it[9].R in it[2] and it[3] == 6 and type(it[3]) is it[10]
        it[3] is it[10](6)
        it[4].g == 5.9 / 6.3 and it[4].radius == 6.3 and it[5] == 0.5 and it[6].label == 'P.X'
        it[6] == bytes([0]) and it[6].value == 0
        it[7].call() and type(it[7]).alias is it[7] and it[8].__members__['HIGH'].name == 'HIGH'
        raises(ValueError, it[8], 'none')
        """,
    ),
    Case(
        "named tuples with methods, defaults and subclasses",
        """
        import typing, collections
        class NT(typing.NamedTuple):
            'doc'
            x: int
            y: int = 2
            @property
            def total(self): return self.x + self.y
            @classmethod
            def make(cls): return cls(7)
            @staticmethod
            def st(): return 's'
        class Sub(NT):
            __slots__ = ()
            def total2(self): return super().total * 2
        Old = collections.namedtuple('Old', 'a b', defaults=[5], rename=False)
        """,
        "NT(1), Sub(1), Old(1), NT",
        """
        it[0].total == 3 and it[3].make() == (7, 2) and it[3].st() == 's'
        it[3]._field_defaults == {'y': 2}
        it[1].total2() == 6 and it[2].b == 5 and it[2]._replace(a=3) == (3, 5)
        it[3].__doc__ == 'doc'
        it[3].__annotations__ == {'x': int, 'y': int} and it[0]._asdict() == {'x': 1, 'y': 2}
        """,
    ),
    Case(
        "abstract classes with others' subclasses",
        """
        import abc
        class A(abc.ABC):
            @property
            @abc.abstractmethod
            def p(self): ...
        @A.register
        class V: pass
        class W: pass
        A.register(W)
        class Impl(A):
            p = 3
        class Other(abc.ABC): pass
        Other.register(int)
        """,
        "A, V, W, Impl(), Other",
        """
        issubclass(it[1], it[0]) and issubclass(it[2], it[0]) and it[3].p == 3
        issubclass(bool, it[4])
        raises(TypeError, it[0]) and it[0].__abstractmethods__ == {'p'}
        """,
    ),
    Case(
        "generic classes below generic classes",
        """
        import typing
        T = typing.TypeVar('T'); U = typing.TypeVar('U', bound='Node')
        class G(typing.Generic[T, U]):
            def __class_getitem__(cls, item):
                return super().__class_getitem__(item)
        class H(G[int, U], typing.List[U]): pass
        class I(typing.Dict[str, T]): pass
        x = H[str]()
        """,
        "G, H, I, x, T, U, G[int, str]",
        """
        it[1].__orig_bases__ == (it[0][int, it[5]], __import__('typing').List[it[5]])
        it[1].__parameters__ == (it[5],)
        it[2].__parameters__ == (it[4],) and it[3].__orig_class__.__args__ == (str,)
        it[6].__origin__ is it[0]
        it[5].__bound__.__forward_arg__ == 'Node' and isinstance(it[3], list)
        """,
    ),
    Case(
        "protocols below protocols, typed dicts by call, and new types",
        """
        import typing
        @typing.runtime_checkable
        class P(typing.Protocol):
            def close(self) -> None: ...
        class Sub(P, typing.Protocol):
            x: int
        class TD(typing.TypedDict, total=False):
            a: int
            b: 'str'
        Func = typing.TypedDict('Func', {'in': int, 'x y': str})
        N = typing.NewType('N', list)
        class HasClose:
            def close(self): ...
        """,
        "P, Sub, TD, Func, N, HasClose()",
        """
        isinstance(it[5], it[0]) and not isinstance(5, it[0]) and it[2](a=1) == {'a': 1}
        it[3].__annotations__['in'] is int and it[4]([1]) == [1] and it[4].__supertype__ is list
        it[2].__total__ is False and set(__import__('typing').get_type_hints(it[2])) == {'a', 'b'}
        """,
    ),
    Case(
        "single dispatch by classes that travel, also of methods",
        """
        import functools
        @functools.singledispatch
        def show(x): return 'any'
        @show.register
        def _(x: int): return 'int'
        @show.register(list)
        def _(x): return 'list'
        class Own: pass
        @show.register(Own)
        def _(x): return 'own'
        class C:
            @functools.singledispatchmethod
            def m(self, x): return 'any'
            @m.register
            def _(self, x: int): return 'int'
            @functools.singledispatchmethod
            @classmethod
            def k(cls, x): return cls, 'any'
            @k.register
            @classmethod
            def _(cls, x: str): return cls, 'str'
        """,
        "show, C(), Own()",
        """
        it[0](1) == 'int' and it[0]([]) == 'list' and it[0]('') == 'any' and it[0](it[2]) == 'own'
        it[1].m(1) == 'int' and it[1].m('') == 'any' and it[1].k('')[1] == 'str'
        it[1].k(1) == (type(it[1]), 'any')
        it[0].registry.keys() == {object, int, list, type(it[2])}
        it[0].register(str, lambda x: 'new') and it[0]('') == 'new'
        """,
    ),
    Case(
        "cached functions and methods keep settings and attributes",
        """
        import functools
        @functools.lru_cache(maxsize=3, typed=True)
        def f(x):
            'doc'
            return x
        f.extra = 5
        @functools.cache
        def g(x): return x if x < 2 else g(x-1) + g(x-2)
        class C:
            @functools.lru_cache
            def m(self): return 1
            @staticmethod
            @functools.cache
            def s(): return 2
            @classmethod
            @functools.lru_cache(None)
            def c(cls): return cls
            @functools.cached_property
            def cp(self):
                'cp doc'
                return 3
        """,
        "f, g, C()",
        """
        it[0].cache_parameters() == {'maxsize': 3, 'typed': True} and it[0](1) == 1
        it[0].__doc__ == 'doc' and it[0].__name__ == 'f'
        it[1](20) == 6765 and it[1].cache_parameters()['maxsize'] is None
        it[2].m() == 1 and it[2].s() == 2 and it[2].c() is type(it[2]) and it[2].cp == 3
        type(it[2]).cp.__doc__ == 'cp doc'
        it[0].extra == 5
        """,
    ),
    Case(
        "context managers by decorator and by class",
        """
        import contextlib
        @contextlib.contextmanager
        def cm(x):
            yield x + 1
        @contextlib.asynccontextmanager
        async def acm(x):
            yield x + 2
        class Suppress(contextlib.ContextDecorator):
            def __enter__(self): return 'in'
            def __exit__(self, *e): return True
        @Suppress()
        def fails(): raise ValueError
        stack = contextlib.nullcontext(5)
        """,
        "cm, acm, fails, stack, Suppress",
        """
        it[0](1).__enter__() == 2 and it[2]() is None and it[3].__enter__() == 5
        __import__('asyncio').run(it[1](1).__aenter__()) == 3
        it[0].__wrapped__.__name__ == 'cm' and it[4]().__enter__() == 'in'
        """,
    ),
    Case(
        "asynchronous generators in comprehensions",
        """
        async def agen(n):
            for i in range(n):
                yield i
        async def use(): return [x async for x in agen(3)] + [y for y in [await one()]]
        async def one(): return 1
        """,
        "use",
        "__import__('asyncio').run(it()) == [0, 1, 2, 1]",
    ),
    Case(
        "properties and methods of the program's own kind",
        """
        import functools
        class myprop(property):
            extra = 1
            def __init__(self, *a, **k):
                super().__init__(*a, **k)
                self.tag = 'tag'
        class mycached(functools.cached_property):
            def __get__(self, i, o=None): return super().__get__(i, o) if i is not None else self
        class myclassmethod(classmethod): pass
        class mystatic(staticmethod): pass
        class C:
            @myprop
            def p(self): return 'p'
            @p.setter
            def p(self, v): self._p = v
            @mycached
            def q(self): return 'q'
            @myclassmethod
            def cm(cls): return cls
            @mystatic
            def sm(): return 'sm'
        """,
        "C(), C",
        """
        it[0].p == 'p' and it[0].q == 'q' and it[1].p.tag == 'tag'
        type(it[1].p).__name__ == 'myprop'
        setattr(it[0], 'p', 5) is None and it[0]._p == 5 and it[0].cm() is it[1]
        it[1].sm() == 'sm'
        type(vars(it[1])['cm']).__name__ == 'myclassmethod'
        type(vars(it[1])['sm']).__name__ == 'mystatic'
        """,
    ),
    Case(
        "partial methods, and partials with attributes",
        """
        import functools, operator
        class C:
            def f(self, a, b=2, *, c=3): return (a, b, c)
            g = functools.partialmethod(f, 1, c=9)
            h = functools.partialmethod(f, 5)
        class P(functools.partial):
            tag = 'x'
        p = P(int, base=2); p.note = 'n'
        """,
        "C(), p, operator.attrgetter('a.b'), operator.methodcaller('f', 1, c=2), "
        "functools.partial(C.f, C())",
        """
        it[0].g() == (1, 2, 9) and it[0].h() == (5, 2, 3) and it[1]('101') == 5
        it[1].note == 'n' and type(it[1]).tag == 'x'
        it[3](it[0]) == (1, 2, 2) and it[4](8) == (8, 2, 3)
        it[4].args[0].__class__ is type(it[0])
        """,
    ),
    Case(
        "local classes that refer to each other",
        """
        def make():
            class A:
                def other(self): return B()
                def deep(self):
                    class Inner(A):
                        def who(self): return super().who() + ['Inner', __class__.__name__]
                    return Inner
                def who(self): return ['A']
            class B(A):
                def other(self): return A()
                def who(self): return super().who() + ['B']
            def f(n): return n and f(n - 1) or [f, A, B]
            return A, B, f, A().deep()
        """,
        "make()",
        """
        type(it[0]().other()) is it[1] and type(it[1]().other()) is it[0]
        it[1]().who() == ['A', 'B']
        it[2](3) == [it[2], it[0], it[1]] and it[3]().who() == ['A', 'Inner', 'Inner']
        issubclass(it[3], it[0])
        """,
    ),
    Case(
        "weak containers as globals",
        """
        import weakref
        class K: pass
        live = weakref.WeakSet()
        table, vals = weakref.WeakKeyDictionary(), weakref.WeakValueDictionary()
        def use(k):
            live.add(k); table[k] = 1; vals['k'] = k
            return len(live), len(table), len(vals)
        """,
        "use, K",
        "it[0](it[1]()) == (1, 1, 1) and it[0](a := it[1]())[0] >= 1",
    ),
    Case(
        "loggers, patterns and streams as globals",
        """
        import logging, re, types, sys
        log = logging.getLogger('some.logger')
        root = logging.getLogger()
        pat = re.compile('a(?P<x>b)', re.I)
        stream = sys.stdout
        def f(s): return pat.match(s)['x'], log.name, root.name, stream is sys.stdout, logging.INFO
        """,
        "f, pat, log, root",
        """
        it[0]('AB') == ('B', 'some.logger', 'root', True, 20)
        it[2] is __import__('logging').getLogger('some.logger')
        it[1].flags & 2 and it[3] is __import__('logging').getLogger()
        """,
    ),
    Case(
        "a module made at run time with what it defines",
        """
        import types, sys
        mod = types.ModuleType('dyn.mod', 'its doc')
        exec('import math\\ncount = 0\\n'
             'class C:\\n    def f(self): return math.floor(1.5), count\\n'
             'def inc():\\n    global count\\n    count += 1\\n    return count\\n'
             'def local():\\n    import json\\n    return json.dumps([1])\\n', mod.__dict__)
        mod.self = mod
        c = mod.C()
        """,
        "mod, mod.inc, c, mod.C",
        """
        it[0].inc() in (1, 2) and it[1]() in (2, 3) and it[0].count in (2, 3)
        it[0].inc is it[1] and it[0].__doc__ == 'its doc'
        type(it[2]) is it[3] is it[0].C and it[2].f() in ((1, 2), (1, 3), (1, 4))
        it[0].local() == '[1]' and it[0].self is it[0]
        """,
    ),
    Case(
        "exceptions with reducers of their own",
        """
        class Err(Exception):
            def __init__(self, a, *, b): super().__init__(a); self.b = b
            def __reduce__(self): return (rebuild, (type(self), self.args[0], self.b), {'extra': 1})
        def rebuild(cls, a, b): return cls(a, b=b)
        class Plain(ValueError): pass
        class KW(Exception):
            def __init__(self, msg='x'): super().__init__(msg); self.msg = msg
        e = Err('a', b=2)
        def raises_():
            try:
                raise Plain('inner')
            except Plain as p:
                raise KW('outer') from p
        """,
        "e, Plain(1, 2), KW('q'), raises_",
        """
        it[0].b == 2 and it[0].extra == 1 and it[1].args == (1, 2) and it[2].msg == 'q'
        raises(Exception, it[3])
        """,
    ),
    Case(
        "a class with all special methods",
        """
        import operator, types, functools, collections, itertools
        get = operator.itemgetter(1, 'a')
        class Seq:
            def __init__(self, x): self.x = x
            def __iter__(self): return iter(self.x)
            def __getitem__(self, i): return self.x[i]
            def __len__(self): return len(self.x)
            def __contains__(self, y): return y in self.x
            def __call__(self, *a): return a
            def __enter__(self): return self
            def __exit__(self, *a): return None
            def __add__(self, o): return Seq(self.x + o.x)
            def __hash__(self): return 7
            def __eq__(self, o): return isinstance(o, Seq) and self.x == o.x
            def __bool__(self): return True
            def __del__(self): pass
            def __format__(self, s): return 'F' + s
            def __getstate__(self): return {'x': self.x}
            def __setstate__(self, s): self.x = s['x']; self.restored = True
            def __copy__(self): return self
        """,
        "Seq([1, 2]), {Seq([1])}, {Seq([2]): 3}, get",
        """
        list(it[0]) == [1, 2] and 1 in it[0] and it[0](5) == (5,) and f'{it[0]:z}' == 'Fz'
        it[0].restored
        it[0] + it[0] == type(it[0])([1, 2, 1, 2]) and type(it[0])([1]) in it[1]
        it[2][type(it[0])([2])] == 3
        it[3]({1: 2, 'a': 3}) == (2, 3)
        """,
    ),
    Case(
        "subclasses of builtins, with arguments for what makes them",
        """
        class P:
            def __new__(cls, a, *, b):
                o = super().__new__(cls); o.ab = (a, b); return o
            def __getnewargs_ex__(self): return (self.ab[0],), {'b': self.ab[1]}
        class I(int):
            def __new__(cls, v, unit):
                o = int.__new__(cls, v); o.unit = unit; return o
            def __getnewargs__(self): return int(self), self.unit
        class S(str):
            __slots__ = ()
        class D(dict):
            def __missing__(self, k): return k
        class L(list):
            def __init__(self, *a): super().__init__(*a); self.x = 1
        class F(frozenset): pass
        class T(tuple):
            def __new__(cls, *a): return tuple.__new__(cls, a)
            def __getnewargs__(self): return tuple(self)
        class B(bytearray): pass
        """,
        "P(1, b=2), I(5, 'm'), S('x'), D(a=1), L([1]), F([1]), T(1, 2), B(b'x'), [I]",
        """
        it[0].ab == (1, 2) and it[1] == 5 and it[1].unit == 'm' and it[2] == 'x'
        it[3]['q'] == 'q' and it[4].x == 1 and it[4] == [1]
        it[5] == {1} and it[6] == (1, 2) and it[7] == b'x' and type(it[1]) is it[8][0]
        """,
    ),
    Case(
        "singletons, and tables by class",
        """
        class Missing:
            _one = None
            def __new__(cls):
                if cls._one is None: cls._one = super().__new__(cls)
                return cls._one
            def __reduce__(self): return 'MISSING'
        class Sentinel:
            def __repr__(self): return '<S>'
        SENTINEL = Sentinel()
        def f(x=SENTINEL): return x is SENTINEL
        HANDLERS = {}
        def handler(cls):
            HANDLERS[cls] = cls.__name__
            return cls
        @handler
        class H: pass
        def name(x): return HANDLERS[type(x)]
        """,
        "f, name, H()",
        "it[0]() and not it[0](1) and it[1](it[2]) == 'H'",
    ),
    Case(
        "decorators that are classes",
        """
        import functools
        class Deco:
            def __init__(self, f): functools.update_wrapper(self, f); self.f = f; self.calls = 0
            def __call__(self, *a): self.calls += 1; return self.f(*a)
            def __get__(self, obj, cls): return functools.partial(self, obj)
        @Deco
        def f(x): return x + 1
        class C:
            @Deco
            def m(self, x): return x + 2
        def outer(**opts):
            def deco(fn):
                @functools.wraps(fn)
                def w(*a, **k): return opts, fn(*a, **k)
                w.opts = opts
                return w
            return deco
        @outer(a=1)
        def g(x: int = 1) -> int: return x
        """,
        "f, C(), g",
        """
        it[0](1) == 2 and it[0].calls == 1 and it[1].m(1) == 3 and it[2]() == ({'a': 1}, 1)
        it[0].__wrapped__.__name__ == 'f'
        __import__('inspect').signature(it[2]).parameters['x'].default == 1
        it[2].opts == {'a': 1}
        """,
    ),
    Case(
        "a metaclass that makes instances",
        """
        class Meta(type):
            instances = {}
            def __call__(cls, *a, **k):
                if cls not in Meta.instances: Meta.instances[cls] = super().__call__(*a, **k)
                return Meta.instances[cls]
            @property
            def label(cls): return 'L' + cls.__name__
            def __iter__(cls): return iter([1, 2])
            def __len__(cls): return 2
            def __contains__(cls, x): return x == 1
            def __instancecheck__(cls, x): return x == 'inst'
        class One(metaclass=Meta):
            def __init__(self): self.v = 1
            def c(self): return __class__, super().__repr__()
        one = One()
        """,
        "One, one, Meta",
        """
        it[0]() is it[0]() and it[0].label == 'LOne' and list(it[0]) == [1, 2] and 1 in it[0]
        isinstance('inst', it[0])
        it[1].c()[0] is it[0] and type(it[2].instances[it[0]]) is it[0]
        """,
    ),
    Case(
        "an abstract metaclass with keyword arguments",
        """
        import abc
        class Meta(abc.ABCMeta):
            def __new__(mcs, name, bases, ns, *, flavour='none', **kw):
                cls = super().__new__(mcs, name, bases, ns, **kw)
                cls.flavour = flavour
                return cls
            def __init__(cls, name, bases, ns, **kw): super().__init__(name, bases, ns)
        class A(metaclass=Meta, flavour='sweet'):
            @abc.abstractmethod
            def f(self): ...
        class B(A, flavour='sour'):
            def f(self): return self.flavour
        """,
        "A, B()",
        """
        it[0].flavour == 'sweet' and it[1].f() == 'sour' and raises(TypeError, it[0])
        type(it[0]) is type(type(it[1]))
        """,
    ),
    Case(
        "views, slices, iterators and singletons",
        """
        def f(a, *b, c=1, **d):
            x = [i for i in b]
            return lambda: (a, x)
        it1 = iter([1, 2, 3]); next(it1)
        z = zip([1], [2])
        """,
        "f.__code__, memoryview(b'abc')[1:], slice(1, 2), it1, range(3), Ellipsis, NotImplemented, "
        "type(None), type(...), "
        "{}.keys(), {1: 2}.items(), {1: 2}.values()",
        """
        it[0].co_name == 'f' and bytes(it[1]) == b'bc' and it[2] == slice(1, 2)
        list(it[3]) == [2, 3]
        it[5] is ... and it[6] is NotImplemented and it[7] is type(None)
        list(it[10]) == [(1, 2)] and list(it[11]) == [2]
        """,
    ),
    Case(
        "mapping proxies show what they showed",
        """
        import types
        class C: x = 1
        d = {'a': [1]}
        p = types.MappingProxyType(d)
        """,
        "vars(C), C, p, d, types.MappingProxyType(types.MappingProxyType({1: 2}))",
        """
        it[0]['x'] == 1 and setattr(it[1], 'y', 2) is None and it[0]['y'] == 2
        it[3].__setitem__('b', 2) is None and it[2]['b'] == 2 and it[4][1] == 2
        """,
    ),
    Case(
        "subclasses of collections",
        """
        import collections, collections.abc, typing
        class M(collections.abc.MutableMapping):
            def __init__(self): self.d = {}
            def __getitem__(self, k): return self.d[k]
            def __setitem__(self, k, v): self.d[k] = v
            def __delitem__(self, k): del self.d[k]
            def __iter__(self): return iter(self.d)
            def __len__(self): return len(self.d)
        m = M(); m['a'] = m
        class UD(collections.UserDict): pass
        class UL(collections.UserList): pass
        class US(collections.UserString): pass
        class OD(collections.OrderedDict):
            extra = 1
        class DD(collections.defaultdict): pass
        dd = DD(lambda: 5)
        class Ct(collections.Counter): pass
        class CM(collections.ChainMap): pass
        class DQ(collections.deque): pass
        dq = DQ([1], maxlen=2); dq.x = 1
        """,
        "m, UD(a=1), UL([1]), US('x'), OD(a=1), dd, Ct('aab'), CM({1: 2}), dq",
        """
        it[0]['a'] is it[0] and it[1] == {'a': 1} and it[2] == [1] and it[3] == 'x'
        it[4].extra == 1 and it[5]['new'] == 5
        it[6]['a'] == 2 and type(it[6]).__name__ == 'Ct' and it[7][1] == 2 and it[8].maxlen == 2
        it[8].x == 1
        """,
    ),
    Case(
        "what leaves its lock behind",
        """
        import threading, queue, itertools
        def f():
            lock = threading.Lock()
            with lock: return 1
        class HasLock:
            def __init__(self): self.lock = threading.Lock(); self.v = 1
            def __getstate__(self): s = self.__dict__.copy(); del s['lock']; return s
            def __setstate__(self, s): self.__dict__.update(s); self.lock = threading.Lock()
        """,
        "f, HasLock()",
        "it[0]() == 1 and it[1].v == 1 and it[1].lock.acquire()",
    ),
    Case(
        "functions and classes that hold each other",
        """
        class C: pass
        def f(x: C, *, y: 'C' = None, z=C) -> C: return z
        f.me = f
        f.cls = C
        C.f = f
        """,
        "f, C",
        """
        it[0].me is it[0] and it[0].cls is it[1] and it[1].f(1) is it[0](1) is it[1]
        it[0].__annotations__['x'] is it[1] and it[0].__annotations__['y'] == 'C'
        it[0].__kwdefaults__['z'] is it[1]
        """,
    ),
    Case(
        "classes with names that are not theirs",
        """
        class C:
            __doc__ = 'doc'
            __module__ = 'elsewhere'
            __private = 1
            def __private_method(self): return self.__private
            def call(self): return self.__private_method()
            __hash__ = None
            __match_args__ = ('a', 'b')
            __test__ = False
            lambda_ = lambda self: self
            locals()['not an identifier'] = 5
        C.__qualname__ = 'Some.C'
        C.__name__ = 'Named'
        """,
        "C()",
        """
        it.call() == 1 and it.__doc__ == 'doc' and type(it).__module__ == 'elsewhere'
        type(it).__qualname__ == 'Some.C'
        type(it).__name__ == 'Named' and it.lambda_() is it
        getattr(it, 'not an identifier') == 5 and raises(TypeError, hash, it)
        type(it).__match_args__ == ('a', 'b')
        """,
    ),
    Case(
        "classes below several builtins",
        """
        import typing, abc
        T = typing.TypeVar('T')
        class Mixin:
            __slots__ = ()
            def hi(self): return 'hi'
        class A(Mixin, dict, typing.Generic[T]): pass
        class E(Mixin, Exception): pass
        class N(int, Mixin): pass
        a = A[int](x=1); a.attr = 2
        """,
        "a, E(1), N(5)",
        """
        it[0] == {'x': 1} and it[0].attr == 2 and it[2] + 1 == 6
        it[0].hi() == it[1].hi() == it[2].hi() == 'hi'
        """,
    ),
    Case(
        "annotations between quotes",
        """
        import typing
        class Node:
            next: 'typing.Optional[Node]'
            items: 'list[int]'
        def f(n: 'Node') -> 'Node': return n
        """,
        "Node, f",
        """
        it[1].__annotations__['n'] == 'Node'
        it[0].__annotations__['items'] == 'list[int]'
        """,
    ),
    Case(
        "type aliases that hold themselves and each other",
        """
        type Tree = list[Tree] | int
        type A = list[B]
        type B = dict[str, A]
        type G[T] = tuple[T, G[T]] | None
        class Node:
            children: Tree
        def f(t: Tree) -> A: return t
        """,
        "Tree, A, B, G, f, Node, G[int]",
        """
        it[0].__value__.__args__[0].__args__[0] is it[0] and it[0].__name__ == 'Tree'
        it[1].__value__.__args__[0] is it[2] and it[2].__value__.__args__[1] is it[1]
        it[3].__value__.__args__[0].__args__[1].__origin__ is it[3]
        it[3].__type_params__[0].__name__ == 'T'
        it[4].__annotations__['t'] is it[0] and it[5].__annotations__['children'].__name__ == 'Tree'
        it[6].__origin__ is it[3]
        it[3].__value__.__args__[0].__args__[0] is it[3].__type_params__[0]
        """,
        (3, 12),
    ),
    Case(
        "type aliases of what comes later, or never",
        """
        type Later = Undefined
        type Lazy = list[Local]
        def make():
            type Inner = tuple[Inner, Lazy, Local2]
            class Local2: pass
            return Inner, Local2
        class Local: pass
        class Host:
            type In = list[Host]
            type Mine = attr
            attr = int
        """,
        "Later, Lazy, make(), Local, Host",
        """
        raises(NameError, getattr, it[0], '__value__') and it[1].__value__.__args__[0] is it[3]
        it[2][0].__value__.__args__[0] is it[2][0] and it[2][0].__value__.__args__[2] is it[2][1]
        it[2][0].__value__.__args__[1] is it[1]
        it[4].In.__value__.__args__[0] is it[4] and it[4].Mine.__value__ is int
        """,
        (3, 12),
    ),
    Case(
        "type aliases made by calls",
        """
        import typing
        T = typing.TypeVar('T')
        Alias = typing.TypeAliasType('Alias', list[T], type_params=(T,))
        """,
        "Alias, T, Alias[int]",
        """
        it[0].__value__ == list[it[1]] and it[0].__type_params__ == (it[1],)
        it[2].__args__ == (int,)
        """,
        (3, 12),
    ),
    Case(
        "type parameters whose bounds name their owners",
        """
        class Bound: pass
        class C[T: Bound, S: (int, Bound), R: 'list[C]']:
            def m[U: T](self, x: U) -> T: ...
        def f[T: list[Later]](x: T) -> T: return x
        class Later: pass
        type Rec[T: Rec] = list[T]
        class Self1[T: Self1]: pass
        """,
        "C, f, Later, Rec, Self1, Bound",
        """
        it[0].__type_params__[0].__bound__ is it[5]
        it[0].__type_params__[1].__constraints__ == (int, it[5])
        it[1].__type_params__[0].__bound__.__args__[0] is it[2]
        it[0].m.__type_params__[0].__bound__ is it[0].__type_params__[0]
        it[3].__type_params__[0].__bound__.__name__ == 'Rec'
        it[4].__type_params__[0].__bound__ is it[4]
        it[0].__orig_bases__[0].__args__ == it[0].__type_params__
        it[0].__parameters__ == it[0].__type_params__
        """,
        (3, 12),
    ),
    Case(
        "defaults of type parameters of all kinds",
        """
        class C[T = int, **P = [int]]: pass
        def many[*Ts = *tuple[int, str]](*x: *Ts): return x
        def f[T = list[T2]](x: T) -> T: return x
        class T2: pass
        type A[T = A] = list[T]
        """,
        "C, f, T2, A, many",
        """
        it[0].__type_params__[0].__default__ is int
        it[0].__type_params__[1].__default__ == [int]
        it[1].__type_params__[0].__default__.__args__[0] is it[2]
        it[3].__type_params__[0].__default__.__name__ == 'A'
        repr(it[4].__type_params__[0].__default__).startswith('*') and it[4](1) == (1,)
        """,
        (3, 13),
    ),
]
CASES = [case for case in CASES if sys.version_info >= case.since]
