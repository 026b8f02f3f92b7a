"""What the workers of pool.py run; a module of its own, which workers import."""

from __future__ import annotations

from typing import Any

ARRAY = 1 << 20  # items of 8 bytes


def same(number: int) -> int:
    return number


def fail(number: int) -> None:
    raise ValueError(number)


def total(array: Any) -> float:
    return float(array.sum())


def array(number: int) -> Any:
    import numpy

    return numpy.full(ARRAY, float(number))


def worker_pid(number: int) -> int:
    import os

    return os.getpid()
