"""Open files cross as descriptors: sender and receiver share one open file, as after a fork.

What the sender has written and not flushed is flushed first; what it has read ahead of a file
that can be positioned is given back, so that the receiver goes on where the sender stood. (A
pipe's read-ahead stays with the sender.)
"""

from __future__ import annotations

import fcntl
import gc
import io
import os
import socket
import stat
import sys
from collections.abc import Callable

from . import _engine
from .resource_sharer import DupFd

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any


def _reduce_raw(file: io.FileIO) -> Any:
    return _raw, (DupFd(file.fileno()), file.mode, getattr(file, "name", None))


def _raw(descriptor: Any, mode: str, name: object) -> io.FileIO:
    # Exclusive creation has happened.
    file = io.FileIO(descriptor.detach(), mode.replace("x", "w"))
    if not isinstance(name, int):
        file.name = name
    return file


def _reduce_buffered(file: Any) -> Any:
    _settle(file)
    return _buffered, (type(file), file.raw)


def _buffered(kind: Any, raw: io.FileIO) -> Any:
    return kind(raw)


def opened(token: int) -> Any:
    """What a Rust program sent: a socket, or else a file without a buffer."""
    descriptor = _engine.import_descriptor(token)
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return socket.socket(fileno=descriptor)
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        writes = "ab" if flags & os.O_APPEND else "wb"
        modes = {os.O_RDONLY: "rb", os.O_WRONLY: writes, os.O_RDWR: "r+b"}
        return io.FileIO(descriptor, modes[flags & os.O_ACCMODE])
    except BaseException:
        os.close(descriptor)
        raise


def _settle(file: Any) -> None:
    """Bring the open file's own position to where this object stands."""
    if file.writable():
        file.flush()
    if file.readable() and file.seekable():
        here = file.tell()
        file.seek(0, io.SEEK_END)  # what was read ahead is dropped
        file.seek(here)


def _reduce_text(file: io.TextIOWrapper) -> Any:
    for name in ("stdin", "stdout", "stderr"):
        if file is getattr(sys, name) or file is getattr(sys, f"__{name}__"):
            return _standard_stream, (name,)  # the receiver has its own
    file.flush()
    if file.readable() and file.seekable():
        try:
            here = file.tell()
        except OSError:
            pass  # in the middle of an iteration: the position is nobody's to know
        else:
            file.seek(0, io.SEEK_END)
            file.seek(here)
    settings = (file.encoding, file.errors, _newline(file), file.line_buffering, file.write_through)
    return _text, (file.buffer, getattr(file, "mode", None), *settings)


def _newline(file: io.TextIOWrapper) -> str | None:
    """With which `newline` it was opened, which a file tells nobody but the garbage collector.

    The strings that it holds are its encoding, `newline` unless that is None, what it has read
    ahead, and its error handler.
    """
    texts = [part for part in gc.get_referents(file) if type(part) is str]
    found = texts[1] if len(texts) > 2 else None
    return found if found in ("", "\n", "\r", "\r\n") else None


def _standard_stream(name: str) -> Any:
    return getattr(sys, name)


def _text(
    buffer: Any,
    mode: str | None,
    encoding: str,
    errors: str | None,
    newline: str | None,
    line_buffering: bool,
    write_through: bool,
) -> io.TextIOWrapper:
    file = io.TextIOWrapper(
        buffer,
        encoding=encoding,
        errors=errors,
        newline=newline,
        line_buffering=line_buffering,
        write_through=write_through,
    )
    if mode is not None:
        file.mode = mode  # type: ignore[misc]
    return file


#: By exact type; they hold in every transfer but in strict mode.
REDUCERS: dict[type, Callable[[Any], Any]] = {
    io.FileIO: _reduce_raw,
    io.BufferedReader: _reduce_buffered,
    io.BufferedWriter: _reduce_buffered,
    io.BufferedRandom: _reduce_buffered,
    io.TextIOWrapper: _reduce_text,
}


def know_temporary_files() -> None:
    """Called once `tempfile` is loaded. The receiver gets the file, not the duty to delete it."""
    wrapper = sys.modules["tempfile"]._TemporaryFileWrapper
    REDUCERS[wrapper] = lambda wrapped: REDUCERS[type(wrapped.file)](wrapped.file)
