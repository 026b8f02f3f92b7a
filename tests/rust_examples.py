"""Examples of the Rust crate, built for tests that run them beside Python."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def built(example: str) -> str:
    """The path of the program."""
    done = subprocess.run(
        ["cargo", "build", "--package", "bequeath", "--example", example]
        + ["--message-format", "json", "--quiet"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    made = [one["executable"] for one in lines if one.get("target", {}).get("kind") == ["example"]]
    return str(made[-1])
