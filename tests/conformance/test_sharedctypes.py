"""Value, Array and their raw and synchronized kin, on both implementations."""

from __future__ import annotations

import ctypes
import gc
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from implementation import Implementation
from program import run


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double), ("z", ctypes.c_longlong)]


CODES: list[tuple[str, Any, Any]] = [
    ("i", 4343, 24234),
    ("d", 3.625, -4.25),
    ("h", -232, 234),
    ("q", 2**33, 2**34),
    ("c", b"x", b"y"),
    ("u", "a", "\u00e4"),
    ("b", -5, 7),
    ("B", 200, 0),
    ("H", 65535, 1),
    ("I", 2**32 - 1, 2),
    ("l", -(2**31), 3),
    ("L", 2**31, 4),
    ("Q", 2**64 - 1, 5),
    ("f", 0.5, -0.25),
]

# --- values ------------------------------------------------------------------------------------


def set_all(values: list[Any]) -> None:
    for value, (_, _, new) in zip(values, CODES, strict=True):
        value.value = new


@pytest.mark.short
def test_a_child_changes_values_of_every_type(mp: Implementation) -> None:
    for lock in (True, False):
        values = [mp.Value(code, first, lock=lock) for code, first, _ in CODES]
        assert [value.value for value in values] == [first for _, first, _ in CODES]
        process = mp.Process(target=set_all, args=(values,))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert [value.value for value in values] == [new for _, _, new in CODES]


def test_a_value_starts_as_zero(mp: Implementation) -> None:
    assert mp.Value("i").value == 0
    assert mp.RawValue("d").value == 0.0
    assert mp.Value(ctypes.c_bool).value is False
    assert mp.Value("c").value == b"\x00"


def test_types_are_ctypes_classes_or_codes(mp: Implementation) -> None:
    value = mp.Value(ctypes.c_longlong, 2**40)
    assert value.value == 2**40
    assert type(value.get_obj()) is ctypes.c_longlong
    with pytest.raises((TypeError, AttributeError)):
        mp.Value("no such code")


def test_a_value_wraps_and_refuses_as_ctypes_does(mp: Implementation) -> None:
    value = mp.Value("i", 1)
    value.value = 2**40 + 7
    assert value.value == 7
    value.value = -(2**31) - 1
    assert value.value == 2**31 - 1
    value.value = 2**200 + 3
    assert value.value == 3
    value.value = True
    assert value.value == 1
    for wrong in (1.5, "1", None, b"1"):
        with pytest.raises(TypeError):
            value.value = wrong
    assert value.value == 1
    real = mp.Value("d", 1)
    assert real.value == 1.0
    real.value = 3
    assert real.value == 3.0
    real.value = math.inf
    assert real.value == math.inf
    real.value = math.nan
    assert math.isnan(real.value)
    with pytest.raises(TypeError):
        real.value = "1.0"
    small = mp.Value("f", 0.1)
    assert small.value == ctypes.c_float(0.1).value
    byte = mp.Value("B", 300)
    assert byte.value == 44
    byte.value = -1
    assert byte.value == 255
    letter = mp.Value("c", b"a")
    with pytest.raises(TypeError):
        letter.value = b"ab"
    truth = mp.Value(ctypes.c_bool, 2)
    assert truth.value is True
    truth.value = ""
    assert truth.value is False


def test_a_subclass_of_a_simple_type_stays_one(mp: Implementation) -> None:
    class Own(ctypes.c_int):
        pass

    value = mp.Value(Own, 5)
    assert type(value.get_obj()) is Own
    assert value.value == 5
    value.value = 6
    assert value.get_obj().value == 6


def test_bytes_in_the_other_order(mp: Implementation) -> None:
    swapped = mp.Value(ctypes.c_int.__ctype_be__, 1)
    assert swapped.value == 1
    assert bytes(swapped.get_obj()) == b"\x00\x00\x00\x01"


# --- locks -------------------------------------------------------------------------------------


def test_the_lock_is_a_recursive_one_or_the_given_one_or_none(mp: Implementation) -> None:
    value = mp.Value("i", 5)
    assert type(value.get_lock()) is type(mp.RLock())
    assert value.get_obj().value == 5
    value = mp.Value("i", 5, lock=None)
    assert type(value.get_lock()) is type(mp.RLock())
    lock = mp.Lock()
    value = mp.Value("i", 5, lock=lock)
    assert value.get_lock() is lock
    assert value.value == 5
    raw = mp.Value("i", 5, lock=False)
    assert not hasattr(raw, "get_lock")
    assert not hasattr(raw, "get_obj")
    with pytest.raises(AttributeError):
        mp.Value("i", 5, lock="navalue")
    with pytest.raises(AttributeError):
        mp.Array("i", 5, lock="navalue")


def test_a_lock_of_the_program_guards_each_access(mp: Implementation) -> None:
    class Counting:
        def __init__(self) -> None:
            self.taken = 0
            self.depth = 0

        def acquire(self, *args: Any) -> bool:
            self.taken += 1
            self.depth += 1
            return True

        def release(self) -> None:
            self.depth -= 1

        def __enter__(self) -> bool:
            return self.acquire()

        def __exit__(self, *args: Any) -> None:
            self.release()

    lock = Counting()
    value = mp.Value("i", 1, lock=lock)
    value.value += 1
    assert (lock.taken, lock.depth, value.get_obj().value) == (2, 0, 2)
    array = mp.Array("i", 3, lock=lock)
    array[0] = 5
    assert array[0] == 5
    with pytest.raises(IndexError):
        array[3]
    with pytest.raises(TypeError):
        value.value = "x"
    assert (lock.taken, lock.depth) == (6, 0)


def test_acquire_and_release_are_the_locks(mp: Implementation) -> None:
    value = mp.Value("i", 1)
    assert value.acquire()
    assert value.acquire(timeout=0.1)
    value.value = 2
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(value.acquire(False)))
    thread.start()
    thread.join()
    assert taken == [False]
    value.release()
    value.release()
    with value:
        value.value = 3
    assert value.value == 3
    with pytest.raises(AssertionError):
        value.release()


def add(value: Any, array: Any, times: int) -> None:
    for _ in range(times):
        with value.get_lock():
            value.value += 1
        with array:
            array[1] += 2


@pytest.mark.short
def test_increments_under_the_lock_are_not_lost(mp: Implementation) -> None:
    value, array = mp.Value("i", 0), mp.Array("q", 3)
    processes = [mp.Process(target=add, args=(value, array, 500)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert value.value == 1500
    assert array[:] == [0, 3000, 0]


# --- arrays ------------------------------------------------------------------------------------


def running_sum(array: Any) -> None:
    for index in range(1, len(array)):
        array[index] += array[index - 1]


@pytest.mark.parametrize("raw", [False, True])
def test_an_array_is_a_sequence_that_children_change(mp: Implementation, raw: bool) -> None:
    sequence = [680, 626, 934, 821, 150, 233, 548, 982, 714, 831]
    array = mp.RawArray("i", sequence) if raw else mp.Array("i", sequence)
    assert len(array) == len(sequence)
    assert array[3] == sequence[3]
    assert list(array) == sequence
    assert array[-1] == sequence[-1]
    assert list(array[2:7]) == sequence[2:7]
    assert array[::3] == sequence[::3]
    array[4:8] = sequence[4:8] = [1, 2, 3, 4]
    assert list(array[:]) == sequence
    with pytest.raises(IndexError):
        array[10]
    with pytest.raises((ValueError, IndexError)):
        array[2:4] = [1]
    with pytest.raises(TypeError):
        array[0] = "x"
    process = mp.Process(target=running_sum, args=(array,))
    process.start()
    process.join()
    running_sum(sequence)
    assert list(array[:]) == sequence


def test_an_array_of_a_size_is_zeros(mp: Implementation) -> None:
    assert mp.Array("d", 5)[:] == [0.0] * 5
    assert list(mp.RawArray("i", 100_000)) == [0] * 100_000
    assert mp.Array("i", 0)[:] == []
    assert mp.Array("i", range(3))[:] == [0, 1, 2]
    assert mp.Array(Point, 2)[1].x == 0
    with pytest.raises(ValueError):
        mp.Array("i", -1)
    with pytest.raises(TypeError):
        mp.Array("i", 1.5)


def test_large_arrays_are_fresh_each_time(mp: Implementation) -> None:
    for _ in range(3):
        array = mp.RawArray("B", 6 << 20)
        assert not any(memoryview(array).cast("B")[:: 1 << 12])
        ctypes.memset(array, 7, len(array))
        del array


def test_strings(mp: Implementation) -> None:
    text = mp.Array("c", 20)
    text.value = b"hello"
    assert text.value == b"hello"
    assert text.raw == b"hello" + b"\x00" * 15
    text.raw = b"x" * 20
    assert (text[0], text[:3], len(text)) == (b"x", b"xxx", 20)
    with pytest.raises(ValueError):
        text.value = b"y" * 21
    text.value = b"y" * 20
    assert text.value == b"y" * 20
    given = mp.Array("c", b"abc")
    assert given.value == b"abc"
    wide = mp.Array("u", "h\u00e9llo")
    assert "".join(wide[:]) == "h\u00e9llo"


def double(point: Any, values: list[Any], text: Any, array: Any) -> None:
    point.x *= 2
    point.y *= 2
    for value in values:
        value.value *= 2
    text.value *= 2
    for index in range(len(array)):
        array[index] *= 2


@pytest.mark.parametrize("lock", [False, True])
def test_structures_strings_and_arrays_together(mp: Implementation, lock: bool) -> None:
    values = [mp.Value("i", 7, lock=lock), mp.Value(ctypes.c_double, 0.25, lock=lock)]
    point = mp.Value(Point, 3, 2, lock=lock)
    array = mp.Array("d", range(10), lock=lock)
    text = mp.Array("c", 20, lock=lock)
    text.value = b"hello"
    process = mp.Process(target=double, args=(point, values, text, array))
    process.start()
    process.join()
    assert [value.value for value in values] == [14, 0.5]
    assert (point.x, point.y, point.z) == (6, 4.0, 0)
    assert text.value == b"hellohello"
    assert array[:] == [2.0 * number for number in range(10)]


# --- the module --------------------------------------------------------------------------------


def test_copies_are_apart(mp: Implementation) -> None:
    sharedctypes = mp.module("sharedctypes")
    original = mp.RawValue(Point, 2, 5.0, 2**33)
    twin = sharedctypes.copy(original)
    original.x = original.z = 0
    assert (twin.x, twin.y, twin.z) == (2, 5.0, 2**33)
    plain = sharedctypes.copy(Point(1, 2.0, 3))
    assert (plain.x, plain.y, plain.z) == (1, 2.0, 3)


def test_synchronized_wraps_by_type(mp: Implementation) -> None:
    sharedctypes = mp.module("sharedctypes")
    wrap = sharedctypes.synchronized
    value = wrap(mp.RawValue("i", 3))
    assert type(value) is sharedctypes.Synchronized
    assert type(wrap(mp.RawArray("i", 3))) is sharedctypes.SynchronizedArray
    assert type(wrap(mp.RawArray("c", 3))) is sharedctypes.SynchronizedString
    assert issubclass(sharedctypes.SynchronizedString, sharedctypes.SynchronizedArray)
    point = wrap(mp.RawValue(Point, 1, 2.0, 3), mp.Lock())
    assert type(point).__name__ == "SynchronizedPoint"
    assert isinstance(point, sharedctypes.SynchronizedBase)
    assert type(wrap(mp.RawValue(Point))) is type(point)
    with pytest.raises(AssertionError):
        wrap(value)
    assert repr(value) == "<Synchronized wrapper for c_int(3)>"
    own = wrap(ctypes.c_int(4))
    own.value += 1
    assert own.value == 5


def test_a_subclass_of_the_wrapper_has_its_own_ways(mp: Implementation) -> None:
    sharedctypes = mp.module("sharedctypes")

    class Counter(sharedctypes.Synchronized):  # type: ignore[misc, name-defined]
        def __init__(self, start: int) -> None:
            super().__init__(mp.RawValue("i", start), mp.RLock())
            self.note = "mine"

        def add(self) -> int:
            with self:
                self.value += 1
                return int(self.value)

    counter = Counter(3)
    assert (counter.add(), counter.note) == (4, "mine")


def test_memory_outlives_its_wrapper(mp: Implementation) -> None:
    raw = mp.Value("i", 77).get_obj()
    view = memoryview(mp.RawArray("B", [5] * 1000)).cast("B")
    gc.collect()
    assert raw.value == 77
    assert view[999] == 5


def test_buffer_wrappers(mp: Implementation) -> None:
    heap = mp.module("heap")
    wrapper = heap.BufferWrapper(10)
    view = wrapper.create_memoryview()
    assert len(view) == 10 and not view.readonly
    view[:] = b"0123456789"
    assert bytes(wrapper.create_memoryview()) == b"0123456789"
    assert len(heap.BufferWrapper(0).create_memoryview()) == 0
    with pytest.raises(ValueError):
        heap.BufferWrapper(-1)
    with pytest.raises(OverflowError):
        heap.BufferWrapper(2**63 - 1)


def fill(wrapper: Any) -> None:
    wrapper.create_memoryview()[:] = b"abc"


def test_a_buffer_wrapper_crosses(mp: Implementation) -> None:
    wrapper = mp.module("heap").BufferWrapper(3)
    process = mp.Process(target=fill, args=(wrapper,))
    process.start()
    process.join()
    assert bytes(wrapper.create_memoryview()) == b"abc"


def test_two_names_of_one_value_stay_one(mp: Implementation) -> None:
    value = mp.Value("i", 0)
    process = mp.Process(target=set_both, args=([value, value], value.get_obj()))
    process.start()
    process.join()
    assert value.value == 3


def set_both(values: list[Any], raw: Any) -> None:
    first, second = values
    first.value = 1
    assert second.value == 1 and raw.value == 1
    raw.value = 3


# --- what only bequeath can do -----------------------------------------------------------------


def answer(requests: Any, done: Any) -> None:
    value, array = requests.get()
    with value:
        value.value += array[0]
    done.set()


def test_values_cross_in_messages(ours: Implementation) -> None:
    requests, done = ours.Queue(), ours.Event()
    process = ours.Process(target=answer, args=(requests, done))
    process.start()
    value = ours.Value("i", 1)
    requests.put((value, ours.RawArray("i", [41])))
    done.wait()
    process.join()
    assert value.value == 42


def test_a_value_outlives_the_process_that_made_it(ours: Implementation) -> None:
    results = ours.Queue()
    process = ours.Process(target=make_value, args=(ours, results))
    process.start()
    process.join()
    value = results.get()
    assert value.value == 2.5
    value.value = 3.5
    assert value.value == 3.5


def make_value(ours: Implementation, results: Any) -> None:
    results.put(ours.Value("d", 2.5))


def test_memory_is_given_back(ours: Implementation) -> None:
    from bequeath import _engine

    def figures() -> tuple[int, int]:
        gc.collect()
        _engine.session_scavenge()
        info = _engine.session_info()
        return info["references"], info["places"]

    ours.Value("i", 1)
    before = figures()
    for size in (1, 1000, 100_000, 5_000_000):
        values = [ours.Array("B", size) for _ in range(5)]
        assert figures()[1] > before[1]
        del values
        assert figures() == before


COLLECTING = """
make = [
    lambda: context.Value("i", 3),
    lambda: context.Array("d", 3),
    lambda: context.Condition(),
    lambda: context.Barrier(2),
]
made, dicts = [], []
for number in range(2000):
    gc.set_threshold(1 + number % 7)
    # Used up, so that the next dict is allocated, which may collect.
    dicts.extend({} for _ in range(3))
    made.append(make[number % 4]())
print(len(made))
"""


def test_a_collection_while_an_object_is_made(mp: Implementation, tmp_path: Path) -> None:
    done = run(mp, tmp_path, "import gc", COLLECTING)
    assert (done.stdout, done.stderr, done.returncode) == ("2000\n", "", 0)


def test_what_is_no_type_is_named(ours: Implementation) -> None:
    for make, arguments in (
        (ours.Value, (None,)),
        (ours.RawValue, (None,)),
        (ours.Array, (3,)),
        (ours.RawArray, ([1, 2],)),
    ):
        with pytest.raises(TypeError, match="bad typecode: 'x+' is neither a ctypes type nor one"):
            make("x", *arguments)
