"""Libraries that use multiprocessing, under `bequeath run`: they import, and compute the same.

Installed by `make long` (requirements/libraries.txt); what is missing is skipped with a line.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from implementation import Implementation

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


TAKERS = {
    "dask": """
        import dask
        with bequeath.ProcessPoolExecutor(2, context) as executor:
            tasks = [dask.delayed(square)(number) for number in range(4)]
            print(list(dask.compute(*tasks, scheduler=executor)))
            with dask.config.set(pool=executor, scheduler="processes"):
                print(list(dask.compute(*tasks)))
        """,
    "pebble": """
        import pebble
        with pebble.ProcessPool(2, context=context) as pool:
            print([pool.schedule(square, args=(number,)).result() for number in range(4)])
            print(list(pool.map(square, range(4)).result()))
        """,
    "scipy": """
        from scipy.optimize import brute, differential_evolution
        with context.Pool(2) as pool:
            found = differential_evolution(
                sphere, [(-1, 1)] * 2, workers=pool.map, updating="deferred", seed=1, maxiter=3
            )
            assert found.fun < 1
            least = brute(sphere, ((-1, 1), (-1, 1)), Ns=3, workers=pool.map, finish=None)
            print(least.tolist())
        """,
    "emcee": """
        import emcee
        with context.Pool(2) as pool:
            sampler = emcee.EnsembleSampler(8, 2, likely, pool=pool)
            sampler.run_mcmc(numpy.random.RandomState(0).randn(8, 2), 5)
        print(sampler.get_chain().shape)
        """,
    "asyncio": """
        import asyncio
        async def go(executor):
            loop = asyncio.get_running_loop()
            calls = [loop.run_in_executor(executor, square, number) for number in range(4)]
            return await asyncio.gather(*calls)
        with bequeath.ProcessPoolExecutor(2, context) as executor:
            print(asyncio.run(go(executor)))
        """,
    "concurrent.futures": """
        with bequeath.ProcessPoolExecutor(2, context) as executor:
            futures = [executor.submit(square, number) for number in range(4)]
            done, left = concurrent.futures.wait(futures)
            print(sorted(future.result() for future in concurrent.futures.as_completed(futures)))
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
            print(list(executor.map(square, range(4))))
        """,
}
TAKEN = {
    "dask": "[0, 1, 4, 9]\n[0, 1, 4, 9]\n",
    "pebble": "[0, 1, 4, 9]\n[0, 1, 4, 9]\n",
    "scipy": "[0.0, 0.0]\n",
    "emcee": "(5, 8, 2)\n",
    "asyncio": "[0, 1, 4, 9]\n",
    "concurrent.futures": "[0, 1, 4, 9]\n[0, 1, 4, 9]\n",
}
TAKER = """
import concurrent.futures, numpy
import bequeath

def square(number):
    return number * number

def sphere(point):
    return float((point**2).sum())

def likely(point):
    return -sphere(point)

if __name__ == "__main__":
    context = bequeath.get_context({method!r})
"""


@pytest.mark.parametrize("library", TAKERS)
def test_what_takes_a_context_a_pool_or_an_executor(
    ours: Implementation, library: str, tmp_path: Path
) -> None:
    """Without `bequeath run`: the library has multiprocessing's modules, and our objects."""
    need(library)
    script = tmp_path / "program.py"
    body = textwrap.indent(textwrap.dedent(TAKERS[library]), "    ")
    script.write_text(TAKER.format(method=ours.start_method) + body)
    finished = run(str(script))
    assert (finished.stdout, finished.returncode) == (TAKEN[library], 0), finished.stderr


MAPPED = {
    "mpire": "from mpire import WorkerPool\n"
    "    with WorkerPool(2, start_method={method!r}) as pool:\n"
    "        print(list(pool.map(square, range(4))))\n",
    "tqdm": "from tqdm.contrib.concurrent import process_map\n"
    "    print(process_map(square, range(4), max_workers=2, disable=True))\n",
    "pebble": "import pebble\n"
    "    with pebble.ProcessPool(2) as pool:\n"
    "        print(list(pool.map(square, range(4)).result()))\n",
    "billiard": "import billiard\n"
    "    with billiard.Pool(2) as pool:\n"
    "        print(pool.map(square, range(4)))\n",
}


@pytest.mark.parametrize("library", MAPPED)
def test_pools_of_libraries_under_run(ours: Implementation, library: str, tmp_path: Path) -> None:
    need(library)
    script = tmp_path / "program.py"
    body = "    multiprocessing.set_start_method({method!r})\n    " + MAPPED[library]
    script.write_text(
        "import multiprocessing\n\ndef square(number):\n    return number * number\n\n"
        "if __name__ == '__main__':\n" + body.format(method=ours.start_method)
    )
    finished = run("-m", "bequeath", "run", str(script))
    assert (finished.stdout, finished.returncode) == ("[0, 1, 4, 9]\n", 0), finished.stderr


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
