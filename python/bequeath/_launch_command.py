"""The command line of every interpreter that bequeath starts.

One place, because each of them must do the same things before anything else: find the package
without site-packages, and stand as `multiprocessing` if its parent does.
"""

from __future__ import annotations

import os
import sys

from . import _install, _version

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any


def interpreter_command(code: str, *arguments: str) -> list[Any]:
    """This interpreter with this process's flags (`-S`, `-E`, `-I`, …), running `code`."""
    from . import spawn

    flags = list(spawn._args_from_interpreter_flags())
    if _version.NEEDS_WORKING_DIRECTORY and not _has_working_directory():
        flags.append("-P")
    return [spawn.get_executable(), *flags, "-c", prelude() + code, *arguments]


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def prelude() -> str:
    """Source that stands at the front of the `-c` code, before any import of the package.

    The directory is appended, as an installed package's would be: the program's own modules come
    first. It must not wait for the preparation data, whose pickle names our modules.
    """
    directory = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    source = f"import sys; sys.path.append({directory!r}); "
    if _install.is_installed():
        source += "import bequeath._install; bequeath._install.inherit(); "
    return source


def executable() -> str | bytes | None:
    """The interpreter; None where Python is embedded."""
    return sys.executable
