"""The classes of CPython's own suite that apply, with bequeath in place, against the baseline.

    python run.py --start-method spawn [--json FILE] [--figure FILE] [--all] [-v] [PATTERN...]

Applicable is what `expected_skips.toml` does not leave out. Exit status: 0 when at least 97 of 100
of the applicable tests that the standard library passes here pass, 1 below it.
"""

from __future__ import annotations

import argparse
import fnmatch
import subprocess
import sys
import tempfile
from pathlib import Path

from compare import skip_patterns

HERE = Path(__file__).resolve().parent
MINIMUM = "97"


def applicable(start_method: str, everything: bool, wanted: list[str]) -> list[str]:
    listed = subprocess.run(
        [
            sys.executable,
            str(HERE / "run_multiprocessing.py"),
            "--module=stdlib",
            f"--start-method={start_method}",
            "--list",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    tests = [line for line in listed if line.count(".") >= 2]
    left_out = [] if everything else skip_patterns(HERE / "expected_skips.toml")
    return [
        test
        for test in tests
        if not any(fnmatch.fnmatchcase(test, pattern) for pattern in left_out)
        and (not wanted or any(part in test for part in wanted))
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--start-method", required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", help="a file to which the line with the figure is appended")
    parser.add_argument("--all", action="store_true", help="also what is not built yet")
    parser.add_argument("--module", default="bequeath")
    parser.add_argument("--timeout-per-test", default="60")
    parser.add_argument("-v", action="store_true")
    options = parser.parse_args()
    tests = applicable(options.start_method, options.all, options.patterns)
    print(f"{len(tests)} applicable tests")
    chosen = [f"--pattern={test}" for test in tests]
    with tempfile.TemporaryDirectory() as folder:
        result = options.json or Path(folder) / "result.json"
        result.unlink(missing_ok=True)
        command = [
            sys.executable,
            str(HERE / "run_multiprocessing.py"),
            f"--module={options.module}",
            f"--start-method={options.start_method}",
            f"--json={result}",
            f"--timeout-per-test={options.timeout_per_test}",
            "--rerun-failures=1",
            *chosen,
        ]
        subprocess.run(command + ["-v"] * options.v, check=False)
        if not result.exists():
            return 1
        return subprocess.run(
            [
                sys.executable,
                str(HERE / "compare.py"),
                str(result),
                f"--min={MINIMUM}",
                "--messages",
                *([f"--figure={options.figure}"] if options.figure else []),
                *chosen,
            ],
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
