"""The table of docs/proof.md: kill points of each operation, from what `make faults` said.

make faults 2>&1 | tee LOG; python3 scripts/kill_table.py LOG... --write

Each scenario prints a line, `NAME: N kill points (R reaped, Z zombies) of I instructions, ...`. In
the document each operation names its scenarios in the second column (`FILE`: NAME; NAME); the third
and fourth have their counts in that order. A scenario that was not run keeps its counts and is
told, as is one that no operation names.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "proof.md"
BEGIN, END = "<!-- table: scripts/kill_table.py -->", "<!-- end of table -->"
LINE = re.compile(
    r"^\.*(?P<name>[^\n]*?): (?P<points>\d+) kill points"
    r"(?: \((?P<reaped>\d+) reaped, (?P<zombies>\d+) zombies\))? of \d+ instructions, [\d.]+ s$",
    re.M,
)
Counts = tuple[str, str]


def counts(text: str) -> dict[str, Counts]:
    """By name: victims that were reaped before the survivors looked, and zombies."""
    found = {}
    for match in LINE.finditer(text):
        points = int(match["points"])
        # They take turns, beginning with one that is reaped.
        zombies = int(match["zombies"] or points // 2)
        found[match["name"]] = (str(points - zombies), str(zombies))
    return found


def split(cell: str) -> list[str]:
    return [part.strip() for part in cell.split(";")]


def filled(document: str, found: dict[str, Counts]) -> tuple[str, list[str]]:
    before, rest = document.split(BEGIN)
    table, after = rest.split(END)
    lines, problems, named, total = [], [], set(), 0
    for line in table.strip().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if "`: " in cells[1]:
            names = split(cells[1].split("`: ")[1])
            pairs = zip(split(cells[2]), split(cells[3]), strict=True)
            former = dict(zip(names, pairs, strict=True))
            problems += [f"not run: {name}" for name in names if name not in found]
            named |= set(names)
            now = [found.get(name) or former.get(name, ("-", "-")) for name in names]
            total += sum(int(count) for pair in now for count in pair if count.isdigit())
            cells[2:] = ["; ".join(pair[at] for pair in now) for at in (0, 1)]
            line = f"| {' | '.join(cells)} |"
        lines.append(line)
    problems += [f"in no row: {name}" for name in sorted(set(found) - named)]
    problems.append(f"{total} kill points in all")
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", problems


def main(words: list[str]) -> None:
    logs = [Path(word) for word in words if not word.startswith("--")]
    text = "\n".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)
    document, problems = filled(DOCUMENT.read_text(encoding="utf-8"), counts(text))
    print("\n".join(problems))
    if "--write" in words:
        DOCUMENT.write_text(document, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
