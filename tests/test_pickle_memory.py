"""When memory is short a pickle ends in MemoryError, not the process."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

LIMITED = """
import pickle, resource, sys
import bequeath.pickle

def limited(call, *arguments):
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (size + (24 << 20), hard))
    try:
        call(*arguments)
    except MemoryError as error:
        said = str(error)
    else:
        said = None
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, hard))
    return said

"""

CASES = {
    # Each object is held twice, and so remembered; strings that are not would be written only.
    "what a writer remembers": """
        items = [(number,) for number in range(2_000_000)]
        said = limited(bequeath.pickle.dumps, (items, items[::-1]))
        assert said is not None and "no memory" in said, said
    """,
    "what a writer of a file remembers": """
        class Nowhere:
            def write(self, part): pass
        items = [(number,) for number in range(2_000_000)]
        pickler = bequeath.pickle.Pickler(Nowhere())
        said = limited(pickler.dump, (items, items[::-1]))
        assert said is not None and "no memory" in said, said
        # What was forgotten then is not taken for something else.
        pickler.clear_memo()
        pickler.dump([items[0], items[0]])
    """,
    "what is written": """
        texts = ["x" * 1_000_000] * 64
        said = limited(bequeath.pickle.dumps, [text + str(at) for at, text in enumerate(texts)])
        assert said is not None and "no memory for a pickle of" in said, said
    """,
    "values on a reader's stack": """
        said = limited(bequeath.pickle.loads, b"(" + b"N" * 20_000_000 + b"t.")
        assert said is not None and "values more" in said, said
    """,
    "a reader's marks": """
        said = limited(bequeath.pickle.loads, b"(" * 20_000_000)
        assert said is not None and "values more" in said, said
    """,
    "what a reader remembers": """
        said = limited(bequeath.pickle.loads, b"N" + bytes([0x94]) * 20_000_000 + b".")
        assert said is not None and "values more" in said, said
    """,
    "what a reader remembers by far numbers": """
        puts = b"".join(b"r" + (number * 4096).to_bytes(4, "little") for number in range(1_000_000))
        said = limited(bequeath.pickle.loads, b"N" + puts + b".")
        assert said is not None and "values more" in said, said
    """,
}


@pytest.mark.parametrize("what", CASES)
def test_it_raises_and_the_next_pickle_is_whole(what: str) -> None:
    whole = """
        value = {"a": [1, (2, "b")], "again": ["c"] * 2}
        assert bequeath.pickle.loads(bequeath.pickle.dumps(value)) == value
        print("whole")
    """
    program = LIMITED + textwrap.dedent(CASES[what]) + textwrap.dedent(whole)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr
