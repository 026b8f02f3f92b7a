"""The pools that pool.py measures, behind one interface (`map`, `unordered`, `call`), two workers.

`chunk` is how many tasks a message holds; None leaves it to the pool. What a library cannot do
raises NotImplementedError, and the cell is measured without it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

WORKERS = 2


class Pool:
    """multiprocessing's interface: `bequeath.Pool`, `multiprocessing.Pool`, `billiard.Pool`."""

    def __init__(self, package: str, method: str = "fork") -> None:
        self.pool = importlib.import_module(package).get_context(method).Pool(WORKERS)

    def map(self, task: Callable[..., Any], items: Iterable[Any], chunk: int | None) -> Any:
        return self.pool.map(task, items, chunk)

    def unordered(self, task: Callable[..., Any], items: Iterable[Any]) -> None:
        for _ in self.pool.imap_unordered(task, items):
            pass

    def call(self, task: Callable[..., Any], item: Any) -> Any:
        return self.pool.apply(task, (item,))

    def pids(self) -> list[int]:
        return [worker.pid for worker in self.pool._pool]

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join()


class Executor:
    """concurrent.futures' interface: the standard one, ours, loky's."""

    def __init__(self, package: str, method: str = "fork") -> None:
        if package == "loky":
            self.executor = importlib.import_module("loky").ProcessPoolExecutor(WORKERS)
            return
        contexts = "bequeath" if package == "bequeath" else "multiprocessing"
        context = importlib.import_module(contexts).get_context(method)
        module = importlib.import_module(package)
        self.executor = module.ProcessPoolExecutor(WORKERS, mp_context=context)

    def map(self, task: Callable[..., Any], items: Iterable[Any], chunk: int | None) -> Any:
        if chunk is None:
            raise NotImplementedError  # 1 is its default
        return list(self.executor.map(task, items, chunksize=chunk))

    def unordered(self, task: Callable[..., Any], items: Iterable[Any]) -> None:
        from concurrent.futures import as_completed

        for future in as_completed([self.executor.submit(task, item) for item in items]):
            future.result()

    def call(self, task: Callable[..., Any], item: Any) -> Any:
        return self.executor.submit(task, item).result()

    def pids(self) -> list[int]:
        self.call(importlib.import_module("pool_tasks").same, 0)
        return list(self.executor._processes)

    def close(self) -> None:
        self.executor.shutdown()


class Joblib:
    def __init__(self, package: str, method: str = "fork") -> None:
        joblib = importlib.import_module("joblib")
        self.delayed = joblib.delayed
        self.make = joblib.Parallel
        self.kept = joblib.Parallel(n_jobs=WORKERS).__enter__()

    def map(self, task: Callable[..., Any], items: Iterable[Any], chunk: int | None) -> Any:
        self.kept.batch_size = "auto" if chunk is None else chunk
        return self.kept(self.delayed(task)(item) for item in items)

    def unordered(self, task: Callable[..., Any], items: Iterable[Any]) -> None:
        raise NotImplementedError

    def call(self, task: Callable[..., Any], item: Any) -> Any:
        return self.map(task, [item], 1)[0]

    def close(self) -> None:
        self.kept.__exit__(None, None, None)


class Mpire:
    def __init__(self, package: str, method: str = "fork") -> None:
        self.pool = importlib.import_module("mpire").WorkerPool(WORKERS, keep_alive=True)
        self.applies: bool | None = None

    def of_kind(self, applies: bool) -> Any:
        """The pool: workers that were kept alive take a `map`'s elements as an `apply`'s."""
        if self.applies not in (None, applies):
            self.pool.stop_and_join()
        self.applies = applies
        return self.pool

    def map(self, task: Callable[..., Any], items: Iterable[Any], chunk: int | None) -> Any:
        pool = self.of_kind(False)
        return pool.map(task, items, chunk_size=chunk, concatenate_numpy_output=False)

    def unordered(self, task: Callable[..., Any], items: Iterable[Any]) -> None:
        for _ in self.of_kind(False).imap_unordered(task, items, chunk_size=1):
            pass

    def call(self, task: Callable[..., Any], item: Any) -> Any:
        return self.of_kind(True).apply(task, (item,))

    def close(self) -> None:
        self.pool.terminate()


class Pebble:
    def __init__(self, package: str, method: str = "fork") -> None:
        self.pool = importlib.import_module("pebble").ProcessPool(max_workers=WORKERS)

    def map(self, task: Callable[..., Any], items: Iterable[Any], chunk: int | None) -> Any:
        if chunk is None:
            raise NotImplementedError  # 1 is its default
        return list(self.pool.map(task, items, chunksize=chunk).result())

    def unordered(self, task: Callable[..., Any], items: Iterable[Any]) -> None:
        raise NotImplementedError

    def call(self, task: Callable[..., Any], item: Any) -> Any:
        return self.pool.schedule(task, args=(item,)).result()

    def close(self) -> None:
        self.pool.stop()
        self.pool.join()


#: By name: how it is made, and of which package.
CONTENDERS: dict[str, tuple[Callable[..., Any], str]] = {
    "bequeath.Pool": (Pool, "bequeath"),
    "multiprocessing.Pool": (Pool, "multiprocessing"),
    "bequeath.Executor": (Executor, "bequeath"),
    "standard Executor": (Executor, "concurrent.futures"),
    "loky": (Executor, "loky"),
    "joblib": (Joblib, "joblib"),
    "mpire": (Mpire, "mpire"),
    "pebble": (Pebble, "pebble"),
    "billiard": (Pool, "billiard"),
}
