"""Runs one statement on its own, says what became of it, and lets the program go on."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator


def start_method() -> str:
    """The option that stands for the question's commented-out line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--start-method", choices=["fork", "spawn", "forkserver"], default="spawn")
    return parser.parse_args().start_method


@contextlib.contextmanager
def attempt(statement: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        print(f"{statement}: {type(error).__name__}: {error}", flush=True)
    else:
        print(f"{statement}: works", flush=True)
