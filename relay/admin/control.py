"""The control socket: a Unix socket in the state folder, by which operators ask the running relay, and tell it what to do.

Rules:
1. One request a connection: a line of JSON. One answer: a line of JSON. Then the relay closes.
2. Only root and the relay's own user are served. The socket has mode 0600, in a folder of mode 0700, and each caller's
   credentials are looked at, too: a socket that was handed on does not help.
3. Lines and waits are bounded; nobody who connects, or goes away, or does not read, holds up anything.
4. Whoever holds the lock beside it owns the socket. The system gives the lock back however a relay ends, so a socket
   without one is a dead relay's, and is replaced.
"""

import contextlib
import fcntl
import json
import os
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from certs.files import private_folder
from relay.admin.commands import Answer, Commands
from relay.admin.log import Log
from relay.admin.sender import Sender
from relay.clock import Timer
from relay.errors import StartError
from relay.owners import user_name
from relay.transport.listener import Listener

SOCKET: Final = "control.sock"
LOCK: Final = "control.lock"
MAX_LINE: Final = 64 * 1024  # bytes of a request
MAX_PATH: Final = 107  # bytes of the path of a Unix socket: unix(7), without its NUL
IDLE: Final = 10.0  # seconds for the request, and for each piece of the answer to be taken
MOST: Final = 32  # clients at once
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: socket(7)
_BACKLOG: Final = 16
_TRIES: Final = 5  # to lock
_BETWEEN: Final = 0.02  # seconds


class ControlPort:
    """See above. Between lock() and close(), the state folder is this process's."""

    def __init__(self, reactor: Any, state: Path, log: Log) -> None:
        self._reactor = reactor
        self._state = state
        self._log = log
        self._lock = -1
        self._listener: Listener | None = None
        self._clients: _Clients | None = None
        self.path = state / SOCKET

    def lock(self) -> None:
        """Claims the state folder, which is made where it is missing. Raises StartError, CertificateError."""
        private_folder(self._state)
        path = self._state / LOCK
        try:
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            _lock(self._lock)
        except BlockingIOError:
            self._unlock()
            raise StartError(
                f"another relay runs with this state folder: {self._state}. "
                "Stop it, or give this one a folder of its own in relay.state."
            ) from None
        except PermissionError as error:
            self._unlock()
            raise StartError(f"{path}: cannot be locked: {error.strerror}. {self._whose(path)}") from error
        except OSError as error:
            self._unlock()
            raise StartError(
                f"{path}: cannot be locked: {error.strerror}. Put relay.state on a local disk, and check who may use it."
            ) from error

    def listen(self, commands: Commands) -> None:
        """Opens the socket; lock() goes before it. Raises StartError."""
        try:
            self._remove_socket()
            sock = _bound(self.path)
        except OSError as error:
            remedy = "Check the folder relay.state"
            if len(os.fsencode(self.path)) > MAX_PATH:
                remedy += f"; its path has more than {MAX_PATH} bytes, which works only where /proc is mounted"
            raise StartError(f"{self.path}: cannot listen: {error.strerror or error}. {remedy}.") from error
        self._clients = _Clients(self._reactor, commands, self._log)
        self._listener = Listener(self._reactor, [sock], self._accepted, self._starved)

    def _accepted(self, sock: socket.socket, peer: str) -> None:
        with sock:  # the reactor takes a descriptor of its own
            sock.setblocking(False)
            self._reactor.adoptStreamConnection(sock.fileno(), socket.AF_UNIX, self._clients)

    def _starved(self, error: OSError) -> None:
        self._log.warning("the control socket pauses: no file descriptor is free", error=error.strerror)

    def close(self) -> None:
        """Cuts all clients, removes the socket, and gives the folder back; whatever of it there is."""
        if self._listener:
            self._listener.stop()
            self._listener = None
            self.path.unlink(missing_ok=True)  # while the lock is ours: no other relay's can be there
        if self._clients:
            self._clients.stop()
        self._unlock()

    def _remove_socket(self) -> None:
        """What a relay that died has left. Raises OSError, StartError."""
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self.path.lstat().st_mode):
                raise StartError(f"{self.path}: not a socket, and not the relay's. Move it away.")
            self.path.unlink()

    def _whose(self, path: Path) -> str:
        """Why we may not lock it, and the remedy: a relay may have been started here as another user."""
        user = user_name(os.geteuid())
        try:
            owner = user_name(path.lstat().st_uid)
        except OSError:
            return f"This relay runs as {user}: check who may use the folder."
        return (
            f"It belongs to {owner}, and this relay runs as {user}. To give {user} the folder: chown -R {user}: {self._state}"
        )

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def is_locked(state: Path) -> bool:
    """Whether a relay has this state folder, as far as this user can see. True says that one runs, with a socket or without."""
    try:
        lock = os.open(state / LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
    return False


def _lock(lock: int) -> None:
    """Raises OSError; BlockingIOError where another relay has it. Blocks for an instant, before the reactor runs."""
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_BETWEEN)  # it may be is_locked() that has it
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def socket_name(path: Path) -> Iterator[str]:
    """A name by which a socket can be bound and reached, however long its path is. Raises OSError."""
    if len(os.fsencode(path)) <= MAX_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _bound(path: Path) -> socket.socket:
    """A listening socket that was never open to others. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        before = os.umask(0o177)
        try:
            with socket_name(path) as name:
                sock.bind(name)
        finally:
            os.umask(before)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


class _Clients(Factory):
    """Those who are connected."""

    noisy = False

    def __init__(self, reactor: Any, commands: Commands, log: Log) -> None:
        self.reactor = reactor
        self.commands = commands
        self.log = log
        self.clients: set[_Client] = set()

    def buildProtocol(self, addr: object) -> "_Client | None":
        return _Client(self) if len(self.clients) < MOST else None

    def stop(self) -> None:
        for client in list(self.clients):
            client.cut()


class _Client(Protocol):
    """One of them."""

    transport: Any  # Twisted types it by an interface that lacks what a socket's has

    def __init__(self, factory: _Clients) -> None:
        self._clients = factory
        self._line = b""
        self._asked = False
        self._timer: Timer | None = None
        self._asker: dict[str, int] = {}
        self._then: Callable[[], None] = lambda: None

    def connectionMade(self) -> None:
        self._clients.clients.add(self)
        pid, uid, _ = _CREDENTIALS.unpack(
            self.transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        self._asker = {"pid": pid, "uid": uid}
        self._watch()
        if uid not in (0, os.geteuid()):
            self._clients.log.warning("a stranger at the control socket", **self._asker)
            self._refuse(f"only root and the relay's own user are served; you are user {uid}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._clients.clients.discard(self)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._then()

    def cut(self) -> None:
        self.transport.abortConnection()

    # ---- the request ------------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        if self._asked:
            return  # one request a connection
        self._line += data
        line, end, _ = self._line.partition(b"\n")
        if len(line) > MAX_LINE:
            self._refuse(f"a request has {MAX_LINE} bytes at most")
        elif end:
            self._ask(line)

    def _ask(self, line: bytes) -> None:
        self._asked = True
        if self._timer:  # a reload takes what it takes
            self._timer.cancel()
            self._timer = None
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            self._refuse("a request is one line of JSON")
            return
        Deferred.fromCoroutine(self._answer(request)).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self._clients.log.error("a command failed", traceback=failure.getTraceback())
        if self in self._clients.clients:
            self._refuse("the relay failed on this command; its log says how")

    # ---- the answer -------------------------------------------------------------------------------------------------

    async def _answer(self, request: object) -> None:
        reply = await self._clients.commands.answer(request, **self._asker)
        if self in self._clients.clients:
            self._then = reply.then
            self._send(_pieces(reply.answer))
        else:  # the client has left; what it asked for is done all the same
            reply.then()

    def _refuse(self, error: str) -> None:
        self._asked = True
        self._send(_pieces({"ok": False, "error": error}))

    def _send(self, pieces: Iterator[bytes]) -> None:
        self._watch()
        Sender(self.transport, pieces, self.transport.loseConnection, self._watch).start()

    def _watch(self) -> None:
        """Ends the connection where nothing goes on for too long."""
        if self._timer:
            self._timer.reset(IDLE)
        else:
            self._timer = self._clients.reactor.callLater(IDLE, self._late)

    def _late(self) -> None:
        self._timer = None
        self.cut()


def _pieces(answer: Answer | Iterator[str]) -> Iterator[bytes]:
    """One line."""
    if isinstance(answer, dict):
        yield json.dumps(answer).encode()
    else:
        for piece in answer:
            yield piece.encode()
    yield b"\n"
