"""What differs between the Python versions bequeath runs on; the only module that asks.

Everything else reads these constants, so that a new Python version is one diff in one file.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Final

PYTHON: Final = sys.version_info[:2]

#: Python 3.14 moved the default on Linux away from fork.
DEFAULT_START_METHOD: Final = "forkserver" if PYTHON >= (3, 14) else "fork"

#: `Process.interrupt()` and `Lock.locked()` came with 3.14.
HAS_PROCESS_INTERRUPT: Final = PYTHON >= (3, 14)
HAS_LOCKED: Final = PYTHON >= (3, 14)

#: Whether a fork beside running threads is answered with a DeprecationWarning by `os.fork`.
FORK_WARNS_OF_THREADS: Final = PYTHON >= (3, 12)

#: The challenge names its digest since 3.12 (`{sha256}`); before it was bare HMAC-MD5.
CHALLENGE_NAMES_DIGEST: Final = PYTHON >= (3, 12)

#: A child that the program forked by itself leaves the resource tracker to its parent since 3.14.
FORKS_LEAVE_TRACKER: Final = PYTHON >= (3, 14)

#: `SharedMemory(track=...)` came with 3.13.
HAS_TRACK: Final = PYTHON >= (3, 13)

#: `BaseException.add_note` came with 3.11.
HAS_NOTES: Final = PYTHON >= (3, 11)

#: The manager knows `set` since 3.14.
HAS_MANAGER_SET: Final = PYTHON >= (3, 14)

#: The private module of multiprocessing's tests and of concurrent.futures from 3.12 on asks for
#: `Queue._terminate_broken`.
HAS_TERMINATE_BROKEN: Final = PYTHON >= (3, 12)

#: Pickle's default protocol, which `ForkingPickler.dumps` uses when none is given.
DEFAULT_PROTOCOL: Final = 5 if PYTHON >= (3, 14) else 4

#: What `python .` calls itself: since 3.11 the working directory, before with the dot behind it.
DOT_IS_DROPPED: Final = PYTHON >= (3, 11)

#: Where the working directory is gone, 3.13.0 answers for a missing attribute of a module with an
#: error that is no exception, unless the search path is safe.
NEEDS_WORKING_DIRECTORY: Final = PYTHON == (3, 13)
