"""Prints the rows of SAFETY.md's table: every file that may hold unsafe code, and what it is for.

python3 scripts/unsafe_files.py            # the rows
python3 scripts/unsafe_files.py --write    # into SAFETY.md, between the table's markers
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- table: scripts/unsafe_files.py -->", "<!-- end of table -->"


def purpose(text: str) -> str:
    """The first sentence of the module's documentation."""
    lines = [line[3:].strip() for line in text.splitlines() if line.startswith("//!")]
    paragraph = " ".join(lines[: lines.index("")] if "" in lines else lines)
    return re.split(r"(?<=\.)\s", paragraph, maxsplit=1)[0].rstrip(".").replace("|", "/")


def rows() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "crates"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    found = []
    for name in sorted(listed.stdout.split()):
        path = ROOT / name
        if not name.endswith(".rs") or not path.is_file():
            continue
        text = path.read_text()
        if re.search(r"^#!\[allow\(.*\bunsafe_code\b", text, re.M):
            blocks = len(re.findall(r"\bunsafe\b\s*(?:\{|impl|extern)", text))
            found.append(f"| `{name}` | {blocks} | {purpose(text)} |")
    return found


def main() -> None:
    table = "\n".join(rows())
    if "--write" not in sys.argv:
        print(table)
        return
    path = ROOT / "SAFETY.md"
    before, rest = path.read_text().split(BEGIN)
    after = rest.split(END)[1]
    head = "| file | blocks | what it is for |\n|---|---:|---|"
    path.write_text(f"{before}{BEGIN}\n{head}\n{table}\n{END}{after}")


if __name__ == "__main__":
    main()
