"""`bequeath.pickle` beside `_pickle`, cloudpickle and marshal, interleaved in one run.

    python benches/pickling.py [PART-OF-A-NAME...] [--rounds N] [--seconds S] [--json FILE]

All contenders run in this process and take turns, one sample each, with the collector off;
printed are the medians of one call, how many times faster than `_pickle` (protocol 5) ours is,
and the target. Each reads what it wrote itself. Lost cells are printed like the others.
"""

from __future__ import annotations

import argparse
import gc
import json
import marshal
import math
import os
import pickle
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle

import bequeath.pickle
import through_a_queue
from payloads import Payload, payloads
from run import shown

Call = Callable[[], Any]


class Contender:
    def __init__(self, call: Call, seconds: float) -> None:
        self.call = call
        self.samples: list[float] = []
        self.repeat = 1
        while (took := self.sample()) * self.repeat < seconds / 2:
            self.repeat = max(self.repeat * 2, int(seconds / took) if took else 0)
        self.samples.clear()

    def sample(self) -> float:
        call, turns = self.call, range(self.repeat)
        start = time.thread_time()
        for _ in turns:
            call()
        took = (time.thread_time() - start) / self.repeat
        self.samples.append(took)
        return took

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


def writers(payload: Payload) -> dict[str, Call]:
    value = payload.value
    if payload.by_value:
        return {
            "bequeath": lambda: bequeath.pickle.dumps(value, 5, by_value=True),  # type: ignore[call-arg]
            "cloudpickle": lambda: cloudpickle.dumps(value, 5),
        }
    if payload.out_of_band:
        return {
            name: lambda module=module: module.dumps(value, 5, buffer_callback=[].append)
            for name, module in MODULES.items()
        }
    calls: dict[str, Call] = {
        name: lambda module=module: module.dumps(value, 5) for name, module in MODULES.items()
    }
    calls["marshal"] = lambda: marshal.dumps(value)
    return calls


MODULES: dict[str, Any] = {
    "bequeath": bequeath.pickle,
    "_pickle": pickle,
    "cloudpickle": cloudpickle,
}
READERS: dict[str, Callable[..., Any]] = {
    "bequeath": bequeath.pickle.loads,
    "_pickle": pickle.loads,
    "cloudpickle": cloudpickle.loads,
    "marshal": marshal.loads,
}


def readers(payload: Payload, written: dict[str, Call]) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    for name, write in written.items():
        read = READERS[name]
        if payload.out_of_band:
            buffers: list[Any] = []
            data = MODULES[name].dumps(payload.value, 5, buffer_callback=buffers.append)
            calls[name] = lambda read=read, data=data, buffers=buffers: read(data, buffers=buffers)
        else:
            data = write()
            calls[name] = lambda read=read, data=data: read(data)
    return calls


def able(calls: dict[str, Call]) -> dict[str, Call]:
    """Without those that can not: marshal knows builtin types only."""
    found = {}
    for name, call in calls.items():
        try:
            call()
        except (ValueError, TypeError):
            if name == "_pickle":
                raise
        else:
            found[name] = call
    return found


def measure(calls: dict[str, Call], rounds: int, seconds: float) -> dict[str, float]:
    contenders = {name: Contender(call, seconds) for name, call in calls.items()}
    order = list(contenders.values())
    for number in range(rounds):
        turn = number % len(order)
        for contender in order[turn:] + order[:turn]:
            contender.sample()
    return {name: contender.median for name, contender in contenders.items()}


def report(payload: Payload, what: str, medians: dict[str, float]) -> dict[str, Any]:
    beside = "cloudpickle" if payload.by_value else "_pickle"
    mine, theirs = medians.get("bequeath"), medians[beside]
    target = payload.dumps if what == "dumps" else payload.loads
    ratio = theirs / mine if mine else None
    verdict = "not built" if ratio is None else "reached" if ratio >= target else "LOST"
    others = "  ".join(
        f"{name} {shown(median)}" for name, median in medians.items() if name not in MAIN
    )
    print(
        f"{payload.name:<36} {what} {shown(mine) if mine else '-':>9} {shown(theirs):>9}"
        f" {f'{ratio:.2f}x' if ratio else '-':>8} {f'{target:g}x':>6}  {verdict:<10}{others}",
        flush=True,
    )
    return {
        "payload": payload.name,
        "what": what,
        "medians": medians,
        "beside": beside,
        "ratio": ratio,
        "target": target,
        "instances": payload.instances,
    }


MAIN = ("bequeath", "_pickle")


def mean(rows: list[dict[str, Any]]) -> float | None:
    ratios = [row["ratio"] for row in rows if row["ratio"]]
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None


def summary(rows: list[dict[str, Any]]) -> None:
    named = [row for row in rows if row["beside"] == "_pickle"]
    by_value = [row for row in rows if row["beside"] == "cloudpickle"]
    for title, chosen, target in (
        ("dumps, all", [r for r in named if r["what"] == "dumps"], 3.0),
        ("dumps, instances", [r for r in named if r["what"] == "dumps" and r["instances"]], 6.0),
        ("loads, all", [r for r in named if r["what"] == "loads"], 1.2),
        ("by value, dumps", [r for r in by_value if r["what"] == "dumps"], 8.0),
        ("by value, loads", [r for r in by_value if r["what"] == "loads"], 2.0),
    ):
        if not chosen:
            continue
        reached = mean(chosen)
        verdict = "not built" if reached is None else "reached" if reached >= target else "LOST"
        figure = f"{reached:.2f}x" if reached else "-"
        print(f"geometric mean, {title:<20} {figure:>8}, target {target:g}x: {verdict}")
    reached_cells = sum(bool(row["ratio"]) and row["ratio"] >= row["target"] for row in rows)
    print(f"{reached_cells} of {len(rows)} cells reached")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART-OF-A-NAME")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each contender")
    parser.add_argument("--seconds", type=float, default=0.004, help="about a sample's length")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chosen = [
        payload
        for payload in payloads()
        if not options.parts or any(part in payload.name for part in options.parts)
    ]
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} processors, load"
        f" {os.getloadavg()[0]:.1f}; medians of one call; ratio: how many times faster than _pickle"
        " (functions and classes by value: than cloudpickle)"
    )
    print(f"{'':<42} {'bequeath':>9} {'beside':>9} {'ratio':>8} {'target':>6}")
    gc.collect()
    gc.disable()
    rows = []
    for payload in chosen:
        written = able(writers(payload))
        rows.append(report(payload, "dumps", measure(written, options.rounds, options.seconds)))
        read = able(readers(payload, written))
        rows.append(report(payload, "loads", measure(read, options.rounds, options.seconds)))
    summary(rows)
    if not options.parts:
        print("a small message through a queue, processor time of each side")
        through_a_queue.report(options.rounds)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
