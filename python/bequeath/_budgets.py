"""A worker's share of the machine: threads of numeric libraries, unless the program says otherwise.

Two workers on two processors whose libraries each start two threads run slower than one.
Variables are read by libraries when they are loaded, so a worker sets them before it runs anything;
libraries that are loaded already, as in a forked worker, are told by their own functions.
"""

from __future__ import annotations

import os
import sys

from ._engine import limit_math_threads, usable_processors

#: What `BEQUEATH_WORKER_THREADS` may be besides a number: libraries stay as they are.
UNLIMITED = "all"

#: Variables by the library that reads them first; the first that is set is the program's choice.
_VARIABLES = {
    "openblas": ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"),
    "mkl": ("MKL_NUM_THREADS", "OMP_NUM_THREADS"),
    "blis": ("BLIS_NUM_THREADS", "OMP_NUM_THREADS"),
    "openmp": ("OMP_NUM_THREADS",),
    "numexpr": ("NUMEXPR_NUM_THREADS", "OMP_NUM_THREADS"),
    "numba": ("NUMBA_NUM_THREADS",),
    "polars": ("POLARS_MAX_THREADS",),
    "rayon": ("RAYON_NUM_THREADS",),
}
#: Modules with a function of their own that sets the number of threads.
_FUNCTIONS = {
    "numexpr": "set_num_threads",
    "numba": "set_num_threads",
    "torch": "set_num_threads",
}


def share(workers: int) -> int | None:
    """How many threads a worker's libraries get beside so many others; None leaves them alone."""
    wanted = os.environ.get("BEQUEATH_WORKER_THREADS", "")
    if wanted == UNLIMITED:
        return None
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    usable = usable_processors()
    return max(1, usable // max(1, workers)) if workers > 1 else None


def limit(threads: int | None) -> None:
    """Take this process's share, as `share` said: a worker's first step."""
    if threads is None:
        return
    chosen = {
        name
        for name, variables in _VARIABLES.items()
        if any(variable in os.environ for variable in variables)
    }
    free = [name for name in _VARIABLES if name not in chosen]
    for name in free:
        os.environ[_VARIABLES[name][0]] = str(threads)
    limit_math_threads(free, threads)
    for module, function in _FUNCTIONS.items():
        loaded = sys.modules.get(module)
        if loaded is not None and module not in chosen and "openmp" not in chosen:
            setter = getattr(loaded, function, None)
            if setter is not None:
                setter(threads)
