"""bequeath: a drop-in for `multiprocessing` on an engine of its own.

A table of contents: the names of multiprocessing, bound from the default context, and below them
the few that only bequeath has.
"""

from . import _platform as _platform  # isort: skip - refuses other systems in one sentence
from . import _inspect, context, reduction
from ._doctor import Diagnosis as Diagnosis
from ._doctor import doctor as doctor
from ._explain import Explanation as Explanation
from ._explain import explain as explain
from ._inspect import Inspection as Inspection
from ._inspect import inspect as inspect
from ._install import alias_main as _alias_main
from ._install import install as install
from ._install import uninstall as uninstall
from ._invite import invite as invite
from ._settings import set_strict as set_strict
from .exceptions import AbandonedLock as AbandonedLock
from .exceptions import BequeathError as BequeathError

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from ._executor import ProcessPoolExecutor as ProcessPoolExecutor
del TYPE_CHECKING

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
]

_default_context = context._default_context

Array = _default_context.Array
AuthenticationError = context.AuthenticationError
Barrier = _default_context.Barrier
BoundedSemaphore = _default_context.BoundedSemaphore
BufferTooShort = context.BufferTooShort
Condition = _default_context.Condition
Event = _default_context.Event
JoinableQueue = _default_context.JoinableQueue
Lock = _default_context.Lock
Manager = _default_context.Manager
Pipe = _default_context.Pipe
Pool = _default_context.Pool
Process = _default_context.Process
ProcessError = context.ProcessError
Queue = _default_context.Queue
RLock = _default_context.RLock
RawArray = _default_context.RawArray
RawValue = _default_context.RawValue
Semaphore = _default_context.Semaphore
SimpleQueue = _default_context.SimpleQueue
TimeoutError = context.TimeoutError
Value = _default_context.Value
active_children = _default_context.active_children
allow_connection_pickling = _default_context.allow_connection_pickling
cpu_count = _default_context.cpu_count
current_process = _default_context.current_process
freeze_support = _default_context.freeze_support
get_all_start_methods = _default_context.get_all_start_methods
get_context = _default_context.get_context
get_logger = _default_context.get_logger
get_start_method = _default_context.get_start_method
log_to_stderr = _default_context.log_to_stderr
parent_process = _default_context.parent_process
reducer = reduction
set_executable = _default_context.set_executable
set_forkserver_preload = _default_context.set_forkserver_preload
set_start_method = _default_context.set_start_method

SUBDEBUG = 5
SUBWARNING = 25

_alias_main()
_inspect.listen()


def __getattr__(name: str) -> object:
    if name != "ProcessPoolExecutor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import _executor  # brings concurrent.futures along, for who asks for it

    return _executor.ProcessPoolExecutor
