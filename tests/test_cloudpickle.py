"""cloudpickle as a peer: what it wrote is read here, and what is written here needs it nowhere."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator

import cloudpickle
import pytest

from by_value_cases import CASES, Case
from by_value_hard_cases import CASES as HARD
from by_value_rare_cases import CASES as RARE
from by_value_reader import Reader, by_value, definitions


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    process = Reader()
    yield process
    process.close()


@pytest.mark.leaves("the reader is the module's")
@pytest.mark.parametrize("cases", [CASES, RARE, HARD], ids=["common", "rare", "hard"])
def test_what_cloudpickle_wrote_is_read_as_pickle_reads_it(
    cases: list[Case], reader: Reader
) -> None:
    right = 0
    for case in cases:
        it = eval(f"({case.sent})", definitions(case.source))
        try:
            data = cloudpickle.dumps(it)
        except Exception:
            continue  # it cannot
        theirs = reader.wrong(data, case.checks, "theirs")
        assert reader.wrong(data, case.checks, "ours") == theirs, case.name
        right += not theirs
    # It can most of what is common, and about half of what is not.
    assert right > len(cases) // 3


def test_plain_pickle_reads_values_where_neither_was_imported() -> None:
    source = """
    base = 3
    def outer(n):
        def inner(m): return m + n + base
        return inner
    class C:
        def method(self): return super().__repr__()[:9]
    f = outer(1)
    """
    names = definitions(source)
    data = base64.b64encode(by_value([names["f"], names["C"], names["C"]()])).decode()
    program = f"""
import base64, pickle, sys
assert not {{"bequeath", "cloudpickle"}} & sys.modules.keys()
f, kind, made = pickle.loads(base64.b64decode({data!r}))
assert "cloudpickle" not in sys.modules
print(f(1), type(made) is kind, made.method())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd="/", capture_output=True, text=True, timeout=50
    )
    assert (done.stdout, done.stderr) == ("5 True <gone.C o\n", "")
