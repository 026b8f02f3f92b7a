"""Queues between processes.

The classes are the engine's. A `put` pickles the object in the caller and returns when the message
is in shared memory: an error appears where it arises, a process may end right after a `put`, and
`qsize`, `empty` and `full` are exact.
"""

from queue import Empty, Full  # noqa: F401 - multiprocessing.queues has them

from ._engine import JoinableQueue, Queue, SimpleQueue

#: What ends the feeder thread of queues over a pipe; subclasses of other packages compare with it.
_sentinel = object()

__all__ = ["Queue", "SimpleQueue", "JoinableQueue"]
