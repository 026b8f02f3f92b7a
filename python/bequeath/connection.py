"""Pipes, listeners and clients: multiprocessing's names over the engine's `Connection`.

Frames, descriptors and waiting are native (`bequeath._engine`); here are the addresses, the
listening sockets and the handshake by which two ends prove that they know one key. The handshake
is multiprocessing's, so either end may be any Python's own `multiprocessing.connection`.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable

from bequeath._engine import Connection as Connection
from bequeath._engine import Pipe, wait

from . import util
from .exceptions import AuthenticationError
from .exceptions import BufferTooShort as BufferTooShort  # multiprocessing has it here too

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Client", "Listener", "Pipe", "wait"]

BUFSIZE = 64 * 1024
CONNECTION_TIMEOUT = 20.0

default_family = "AF_UNIX"
families = ["AF_INET", "AF_UNIX"]

_ConnectionBase = Connection
_listener_numbers = itertools.count()


def _init_timeout(timeout: float = CONNECTION_TIMEOUT) -> float:
    return time.monotonic() + timeout


def _check_timeout(deadline: float) -> bool:
    return time.monotonic() > deadline


# --- addresses ---------------------------------------------------------------------------------


def arbitrary_address(family: str) -> Any:
    """An address of `family` that nobody listens at."""
    if family == "AF_INET":
        return ("localhost", 0)
    if family == "AF_UNIX":
        return _unused_path()
    raise ValueError("unrecognized family")


#: The kernel's room for a path is 108 bytes, its final zero included.
_LONGEST_PATH = 107


def _unused_path() -> str:
    """A free name in this process' own directory, or, where that is too long, in a short one."""
    import tempfile  # it brings in a dozen modules that few programs need

    path = tempfile.mktemp(prefix="listener-", dir=util.get_temp_dir())
    if len(os.fsencode(path)) > _LONGEST_PATH:
        name = f"bequeath-{os.getpid()}-{next(_listener_numbers)}-"
        path = tempfile.mktemp(prefix=name, dir="/tmp")
    return path


def _validate_family(family: str) -> None:
    if family == "AF_PIPE":
        raise ValueError(f"Family {family} is not recognized.")


def address_type(address: Any) -> str:
    """The family that an address belongs to, told by its type."""
    if type(address) is tuple:
        return "AF_INET"
    if type(address) is str and address.startswith("\\\\"):
        return "AF_PIPE"
    if type(address) is str or util.is_abstract_socket_namespace(address):
        return "AF_UNIX"
    raise ValueError(f"address type of {address!r} unrecognized")


# --- listeners and clients ---------------------------------------------------------------------


def _check_key(authkey: bytes | None) -> None:
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError("authkey should be a byte string")


class SocketListener:
    """A listening socket; a path it was bound to is removed with it."""

    def __init__(self, address: Any, family: str, backlog: int = 1) -> None:
        self._socket = socket.socket(getattr(socket, family))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setblocking(True)
            self._socket.bind(address)
            self._socket.listen(backlog)
            self._address = self._socket.getsockname()
        except OSError:
            self._socket.close()
            raise
        self._family = family
        self._last_accepted: Any = None
        self._unlink: util.Finalize | None = None
        if family == "AF_UNIX" and not util.is_abstract_socket_namespace(address):
            self._unlink = util.Finalize(self, os.unlink, args=(address,), exitpriority=0)

    def accept(self) -> Connection:
        accepted, self._last_accepted = self._socket.accept()
        accepted.setblocking(True)
        return Connection(accepted.detach())

    def close(self) -> None:
        try:
            self._socket.close()
        finally:
            unlink, self._unlink = self._unlink, None
            if unlink is not None:
                unlink()


def SocketClient(address: Any) -> Connection:  # noqa: N802 - multiprocessing's name
    """A connection to the listening socket at `address`."""
    with socket.socket(getattr(socket, address_type(address))) as connecting:
        connecting.setblocking(True)
        connecting.connect(address)
        return Connection(connecting.detach())


class Listener:
    """Accepts connections at an address, from those who know the key if there is one."""

    def __init__(
        self,
        address: Any = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
    ) -> None:
        self._listener: SocketListener | None = None
        family = family or (address and address_type(address)) or default_family
        address = address or arbitrary_address(family)
        _validate_family(family)
        _check_key(authkey)
        self._listener = SocketListener(address, family, backlog)
        self._authkey = authkey

    def accept(self) -> Connection:
        """Wait for a client and return the connection to it."""
        if self._listener is None:
            raise OSError("listener is closed")
        connection = self._listener.accept()
        if self._authkey is not None:
            _close_on_error(connection, _authenticate_client, self._authkey)
        return connection

    def close(self) -> None:
        """Stop listening and free the address."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    @property
    def address(self) -> Any:
        """Where it listens."""
        return self._listener._address  # type: ignore[union-attr]

    @property
    def last_accepted(self) -> Any:
        """The address of the latest client, where its family has one."""
        return self._listener._last_accepted  # type: ignore[union-attr]

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def Client(  # noqa: N802 - multiprocessing's name
    address: Any, family: str | None = None, authkey: bytes | None = None
) -> Connection:
    """A connection to the `Listener` at `address`."""
    family = family or address_type(address)
    _validate_family(family)
    connection = SocketClient(address)
    _check_key(authkey)
    if authkey is not None:
        _close_on_error(connection, _authenticate_to_server, authkey)
    return connection


def _close_on_error(
    connection: Connection, step: Callable[[Connection, bytes], None], authkey: bytes
) -> None:
    try:
        step(connection, authkey)
    except BaseException:
        connection.close()
        raise


def _authenticate_client(connection: Connection, authkey: bytes) -> None:
    deliver_challenge(connection, authkey)
    answer_challenge(connection, authkey)


def _authenticate_to_server(connection: Connection, authkey: bytes) -> None:
    answer_challenge(connection, authkey)
    deliver_challenge(connection, authkey)


# --- the handshake -----------------------------------------------------------------------------
#
# One end sends a challenge, the other answers with a MAC over it and is welcomed or turned away;
# then they change sides. Since Python 3.12 a challenge names its digest (`{sha256}` in front) and
# so does the answer; the MAC covers the whole challenge, so nobody between can choose a weaker
# one. Before, a challenge was 20 bare bytes and the answer 16 bytes of HMAC-MD5: those two lengths
# tell an old peer from a new one, and an old peer is served.

MESSAGE_LENGTH = 40

_CHALLENGE = b"#CHALLENGE#"
_WELCOME = b"#WELCOME#"
_FAILURE = b"#FAILURE#"
#: The names of Python 3.11 and before.
CHALLENGE, WELCOME, FAILURE = _CHALLENGE, _WELCOME, _FAILURE

_ALLOWED_DIGESTS = frozenset({b"md5", b"sha256", b"sha384", b"sha3_256", b"sha3_384"})
_MAX_DIGEST_LEN = max(map(len, _ALLOWED_DIGESTS))
_MD5ONLY_MESSAGE_LENGTH = 20
_MD5_DIGEST_LEN = 16
_LEGACY_LENGTHS = (_MD5ONLY_MESSAGE_LENGTH, _MD5_DIGEST_LEN)
#: A stranger's message may not make us allocate more than this.
_LONGEST_HANDSHAKE = 256


def _get_digest_name_and_payload(message: bytes) -> tuple[str, bytes]:
    """Split `{digest}payload`; the name is empty for a message of the old protocol."""
    if len(message) in _LEGACY_LENGTHS:
        return "", message
    if message[:1] == b"{":
        end = message.find(b"}", 1, _MAX_DIGEST_LEN + 2)
        if message[1 : max(end, 1)] in _ALLOWED_DIGESTS:
            return message[1:end].decode("ascii"), message[end + 1 :]
    raise AuthenticationError(
        f"unsupported message length, missing digest prefix, or unsupported digest: {message=}"
    )


def _mac(authkey: bytes, message: bytes, digest: str) -> bytes:
    import hmac

    return hmac.new(authkey, message, digest).digest()


def _create_response(authkey: bytes, message: bytes) -> bytes:
    """The answer to a challenge, in the protocol that the challenge is in."""
    digest, _ = _get_digest_name_and_payload(message)
    if not digest:
        try:
            return _mac(authkey, message, "md5")
        except ValueError:  # no MD5 in this build: the new form is all that can be tried
            digest = "sha256"
    return b"{%s}%s" % (digest.encode("ascii"), _mac(authkey, message, digest))


def _verify_challenge(authkey: bytes, message: bytes, response: bytes) -> None:
    """Raise AuthenticationError unless `response` answers the challenge `message`."""
    import hmac

    digest, mac = _get_digest_name_and_payload(response)
    digest = digest or "md5"
    try:
        expected = _mac(authkey, message, digest)
    except ValueError:
        raise AuthenticationError(f"response_digest={digest!r} unsupported") from None
    if len(expected) != len(mac):
        raise AuthenticationError(f"expected {digest!r} of length {len(expected)} got {len(mac)}")
    if not hmac.compare_digest(expected, mac):
        raise AuthenticationError("digest received was wrong")


def _need_bytes(authkey: object) -> None:
    if not isinstance(authkey, bytes):
        raise ValueError(f"Authkey must be bytes, not {type(authkey)!s}")


def deliver_challenge(connection: Any, authkey: bytes, digest_name: str = "sha256") -> None:
    """Let the other end prove that it knows the key."""
    _need_bytes(authkey)
    message = b"{%s}%s" % (digest_name.encode("ascii"), os.urandom(MESSAGE_LENGTH))
    connection.send_bytes(_CHALLENGE + message)
    response = connection.recv_bytes(_LONGEST_HANDSHAKE)
    try:
        _verify_challenge(authkey, message, response)
    except AuthenticationError:
        connection.send_bytes(_FAILURE)
        raise
    connection.send_bytes(_WELCOME)


def answer_challenge(connection: Any, authkey: bytes) -> None:
    """Prove to the other end that we know the key."""
    _need_bytes(authkey)
    message = connection.recv_bytes(_LONGEST_HANDSHAKE)
    if not message.startswith(_CHALLENGE):
        raise AuthenticationError(f"Protocol error, expected challenge: {message=}")
    message = message[len(_CHALLENGE) :]
    if len(message) < _MD5ONLY_MESSAGE_LENGTH:
        raise AuthenticationError(f"challenge too short: {len(message)} bytes")
    connection.send_bytes(_create_response(authkey, message))
    if connection.recv_bytes(_LONGEST_HANDSHAKE) != _WELCOME:
        raise AuthenticationError("digest sent was rejected")


# --- XML instead of pickles --------------------------------------------------------------------


class ConnectionWrapper:
    """A connection whose objects are encoded by two given functions."""

    def __init__(
        self, conn: Any, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]
    ) -> None:
        self._conn = conn
        self._dumps = dumps
        self._loads = loads
        for name in ("fileno", "close", "poll", "recv_bytes", "send_bytes"):
            setattr(self, name, getattr(conn, name))

    def send(self, obj: Any) -> None:
        self._conn.send_bytes(self._dumps(obj))

    def recv(self) -> Any:
        return self._loads(self._conn.recv_bytes())


def _xml_dumps(obj: Any) -> bytes:
    from xmlrpc import client

    return client.dumps((obj,), None, None, None, True).encode("utf-8")


def _xml_loads(message: bytes) -> Any:
    from xmlrpc import client

    (obj,), _ = client.loads(message.decode("utf-8"))
    return obj


class XmlListener(Listener):
    """A listener whose connections speak XML-RPC's encoding instead of pickle."""

    def accept(self) -> Any:
        return ConnectionWrapper(super().accept(), _xml_dumps, _xml_loads)


def XmlClient(*args: Any, **kwds: Any) -> ConnectionWrapper:  # noqa: N802 - multiprocessing's name
    """A client of an `XmlListener`."""
    return ConnectionWrapper(Client(*args, **kwds), _xml_dumps, _xml_loads)


# --- handing a connection over -----------------------------------------------------------------
#
# The engine does this by itself; the two names are imported by others.


def reduce_connection(conn: Connection) -> tuple[Any, ...]:
    """How a connection is pickled by those who do it by hand."""
    from . import reduction

    return rebuild_connection, (reduction.DupFd(conn.fileno()), conn.readable, conn.writable)


def rebuild_connection(df: Any, readable: bool, writable: bool) -> Connection:
    """The other half of `reduce_connection`."""
    return Connection(df.detach(), readable, writable)
