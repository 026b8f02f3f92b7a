"""A class of the program's with a descriptor and shared memory, as docs/own-classes.md has it."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

import bequeath.pickle
import program
from implementation import Implementation

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own-classes.md"

WORK = """
def work(journal, messages):
    journal.write("start")
    journal.close()
    for journal in iter(messages.get, None):
        journal["inside"][0].write("message")
        journal["inside"][0].close()
"""

BODY = """
journal, messages = Journal("journal"), context.SimpleQueue()
process = context.Process(target=work, args=(journal, messages))
process.start()
messages.put({"inside": [journal]})
messages.put(None)
process.join()
print(open("journal").read(), journal.seen.value, process.exitcode)
"""


@pytest.mark.short
def test_the_pages_example(
    ours: Implementation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    program.prints(ours, tmp_path, example + WORK, BODY, "startmessage b'message' 0")


def test_in_plain_bytes_it_is_refused(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    names: dict[str, type] = {"__name__": __name__}  # type: ignore[dict-item]
    exec(example, names)
    globals()["Journal"] = names["Journal"]
    journal = names["Journal"](str(tmp_path / "journal"))
    with pytest.raises(RuntimeError):
        pickle.dumps(journal)
    with pytest.raises(RuntimeError):
        bequeath.pickle.dumps(journal)
    journal.close()
