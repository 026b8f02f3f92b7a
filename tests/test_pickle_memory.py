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
    "input that is not bytes": """
        import array
        data = b"\\x8e" + (64 << 20).to_bytes(8, "little") + bytes(64 << 20) + b"." + bytes(6)
        inputs = [bytearray(data), memoryview(data), memoryview(data).toreadonly()]
        for given in [*inputs, array.array("i", data)]:
            assert limited(bequeath.pickle.loads, given) is not None
            assert len(bequeath.pickle.loads(given)) == 64 << 20
    """,
    "what a file hands out": """
        class Piece:
            def __init__(self, data): self.data = data
            def read(self, size): return self.data[:size]
            def readline(self): return self.data
        class Peeked(Piece):
            def peek(self, size): return self.data
        class Into(Piece):
            def readinto(self, into): raise AssertionError
        # Begins as a pickle of bytes again and again, which are longer than there is memory.
        data = b"\\x8e" + (60 << 20).to_bytes(8, "little") + bytes(64 << 20)
        for file in (Piece(data), Peeked(data), Into(data)):
            assert limited(bequeath.pickle.load, file) is not None
            assert limited(bequeath.pickle.Unpickler(file).load) is not None
        for opcode in (b"c", b"I", b"S'", b"V", b"P", b"F", b"L"):
            line = opcode + b"1" * (64 << 20) + b"\\n"
            assert limited(bequeath.pickle.load, Piece(line)) is not None, opcode
    """,
    "a name or a number as a line": """
        for opcode in (b"c", b"S'", b"V", b"P", b"(i", b"F"):
            end = b"'\\n" if opcode == b"S'" else b"\\n"
            line = opcode + b"1" * (64 << 20) + end
            assert limited(bequeath.pickle.loads, line) is not None, opcode
    """,
    "items of a list": """
        items = b"(" + b"N" * 2_900_000 + b"e."
        for begin in (b"]", b"]N0", b"]q\\x00", b"]Na", b"ccollections\\ndeque\\n)R"):
            assert limited(bequeath.pickle.loads, begin + items) is not None, begin
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
