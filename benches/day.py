"""The data scientist's day beside the standard Pool and joblib: time, and peak memory of the tree.

    python benches/day.py [--megabytes N] [--rounds N] [--only NAME...]

Two workers; a frame's parts go to them (`parts`), then all look at the whole frame: by
`Pool.share`, by the standard Pool's initializer, by joblib's own way. Each sample is a program of
its own, and the contenders take turns. Memory is what a control group of the sample's own counted
at most, the frame and files in /dev/shm included; where no group can be made, the sum of the
proportional set sizes of its processes, looked at every 20 ms, without what nobody has mapped.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
import control_groups  # noqa: E402

WORKERS = 2
PARTS = 8
METHODS = ("fork", "forkserver", "spawn")
CONTENDERS = [
    *(f"bequeath.Pool {method}" for method in METHODS),
    *(f"multiprocessing.Pool {method}" for method in METHODS),
    "joblib loky",
]
#: What each is compared with.
STANDARD = {name: "multiprocessing.Pool " + name.split()[1] for name in CONTENDERS}
STANDARD["joblib loky"] = "multiprocessing.Pool spawn"

_kept: Any = None


def keep(frame: Any) -> None:
    global _kept
    _kept = frame


def totals(part: Any) -> Any:
    return part.groupby("key")["column 0"].sum()


def mean(frame: Any, name: str) -> float:
    return float(frame[name].mean())


def mean_of_kept(name: str) -> float:
    return mean(_kept, name)


def run(name: str, megabytes: int) -> None:
    """One sample: the seconds of both halves, on a line."""
    import numpy
    import pandas

    rows = megabytes * 1_000_000 // 80
    columns = [f"column {number}" for number in range(9)]
    frame = pandas.DataFrame({column: numpy.arange(rows) * 1.0 for column in columns})
    frame["key"] = numpy.arange(rows) % 7
    size = -(-rows // PARTS)
    parts = [frame.iloc[begin : begin + size] for begin in range(0, rows, size)]
    print("begin", flush=True)
    package, method = name.split()
    begun = time.perf_counter()
    if package == "joblib":
        joblib = importlib.import_module("joblib")
        with joblib.Parallel(n_jobs=WORKERS, backend=method) as parallel:
            results = parallel(joblib.delayed(totals)(part) for part in parts)
            halfway = time.perf_counter()
            means = parallel(joblib.delayed(mean)(frame, column) for column in columns)
    elif package == "bequeath.Pool":
        with importlib.import_module("bequeath").get_context(method).Pool(WORKERS) as pool:
            results = pool.map(totals, parts, 1)
            halfway = time.perf_counter()
            common = pool.share(frame)
            means = pool.starmap(mean, [(common, column) for column in columns])
    else:
        context = importlib.import_module("multiprocessing").get_context(method)
        with context.Pool(WORKERS) as pool:
            results = pool.map(totals, parts, 1)
        halfway = time.perf_counter()
        with context.Pool(WORKERS, keep, (frame,)) as pool:
            means = pool.map(mean_of_kept, columns)
    end = time.perf_counter()
    assert len(results) == PARTS
    assert all(abs(one - (rows - 1) / 2) < 1 for one in means)
    print(halfway - begun, end - halfway, flush=True)
    if package == "joblib":
        importlib.import_module("joblib.externals.loky").get_reusable_executor().shutdown()


def tree(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            found.append(int(folder.name))
    return found


def memory(pids: list[int]) -> float:
    """MB in which they are, shared pages counted once."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


def counted_in(group: Path) -> float:
    """MB that were in use at most."""
    for name in ("memory.max_usage_in_bytes", "memory.peak"):
        if (group / name).exists():
            return int((group / name).read_text()) / 1e6
    return 0.0


def sample(name: str, megabytes: int) -> tuple[float, float, float]:
    """Seconds of the two halves, and the peak in MB."""
    command = [sys.executable, __file__, "--answer", name, "--megabytes", str(megabytes)]
    with control_groups.group_of(1 << 50) as group:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        if group is not None:
            control_groups.enter(group, child.pid)
        assert child.stdout
        if child.stdout.readline() != "begin\n":
            sys.exit(f"{name} ended early")
        peak = 0.0
        while child.poll() is None:
            if group is None:
                peak = max(peak, memory(tree(child.pid)))
            time.sleep(0.02)
        if group is not None:
            peak = counted_in(group)
    words = child.stdout.readline().split()
    if len(words) != 2:
        sys.exit(f"{name} failed")
    return float(words[0]), float(words[1]), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500, help="how large the frame is")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="contenders")
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        run(options.answer, options.megabytes)
        return
    names = [name for name in CONTENDERS if not options.only or name in options.only]
    names = [name for name in names if importlib.util.find_spec(name.split()[0].split(".")[0])]
    samples: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for number in range(options.rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            samples[name].append(sample(name, options.megabytes))
    print(
        f"\nA day with a frame of {options.megabytes} MB, {WORKERS} workers; in brackets: how many"
        " times less than the standard Pool by the same start method"
    )
    print(f"  {'':<28}{'parts':>17}{'whole frame':>17}{'peak memory':>21}")
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in samples.items()
    }
    for name, found in medians.items():
        standard = medians.get(STANDARD[name])
        cells = []
        for place, unit in enumerate(("s", "s", "MB")):
            text = f"{found[place]:.2f} s" if unit == "s" else f"{found[place]:.0f} MB"
            cells.append(text + (f" ({standard[place] / found[place]:.2f}x)" if standard else ""))
        print(f"  {name:<28}{cells[0]:>17}{cells[1]:>17}{cells[2]:>21}")


if __name__ == "__main__":
    main()
