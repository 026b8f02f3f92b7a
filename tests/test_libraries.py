"""Libraries that use multiprocessing, under `bequeath run`: they import, and compute the same.

Installed by `make long` (requirements/libraries.txt); what is missing is skipped with a line.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARIES = ["joblib", "sklearn", "pandas", "tqdm", "tqdm.contrib.concurrent", "dask", "dask.bag"]

FIT = """
import numpy
from sklearn.ensemble import RandomForestClassifier

def main():
    random = numpy.random.RandomState(0)
    data, labels = random.rand(300, 5), random.randint(0, 3, 300)
    forest = RandomForestClassifier(n_estimators=20, n_jobs=2, random_state=0)
    forest.fit(data, labels)
    print(forest.predict_proba(data[:5]).round(6).tolist())

    from joblib import Parallel, delayed, parallel_config
    with parallel_config(backend="loky", n_jobs=2):
        print(sum(Parallel()(delayed(pow)(number, 2) for number in range(50))))
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    print(cross_val_score(LogisticRegression(), data, labels, n_jobs=2).round(6).tolist())

if __name__ == "__main__":
    main()
"""

pytestmark = pytest.mark.limit(240)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("BEQUEATH_")}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=200, env=kept
    )


def need(library: str) -> None:
    if importlib.util.find_spec(library.split(".")[0]) is None:
        pytest.skip(f"{library} is not installed")


@pytest.mark.parametrize("library", LIBRARIES)
def test_library_imports(library: str, tmp_path: Path) -> None:
    need(library)
    script = tmp_path / "program.py"
    script.write_text(
        f"import {library}, multiprocessing\n"
        "print(multiprocessing.Process.__module__.split('.')[0])\n"
    )
    finished = run("-m", "bequeath", "run", str(script))
    assert (finished.stdout, finished.returncode) == ("bequeath\n", 0), finished.stderr


def test_fit_on_the_default_backend_gives_the_same_result(tmp_path: Path) -> None:
    need("sklearn")
    script = tmp_path / "program.py"
    script.write_text(FIT)
    plain, ours = run(str(script)), run("-m", "bequeath", "run", str(script))
    assert plain.returncode == 0, plain.stderr
    assert (ours.stdout, ours.returncode) == (plain.stdout, 0), ours.stderr


POOLS = """
import bequeath, {library}
from concurrent.futures import ProcessPoolExecutor

def main():
    if "{library}" == "dask":
        import dask
        for executor in (bequeath.ProcessPoolExecutor(2), ProcessPoolExecutor(2, context)):
            with executor:
                total = dask.delayed(sum)([dask.delayed(pow)(number, 2) for number in range(20)])
                print(total.compute(scheduler=executor))
    else:
        from joblib import Parallel, delayed
        print(sum(Parallel(2, backend="multiprocessing")(delayed(pow)(n, 2) for n in range(20))))

context = bequeath.get_context("spawn")
if __name__ == "__main__":
    main()
"""


def test_libraries_take_our_executors(tmp_path: Path) -> None:
    need("dask")
    script = tmp_path / "program.py"
    script.write_text(POOLS.format(library="dask"))
    finished = run(str(script))
    assert (finished.stdout, finished.returncode) == ("2470\n2470\n", 0), finished.stderr


def test_joblib_s_pool_of_processes_under_run(tmp_path: Path) -> None:
    need("joblib")
    script = tmp_path / "program.py"
    script.write_text(POOLS.format(library="joblib"))
    finished = run("-m", "bequeath", "run", str(script))
    assert (finished.stdout, finished.returncode) == ("2470\n", 0), finished.stderr
