"""The relay that runs with a state folder, as other commands meet it: whether there is one, and asking it to reload.

It listens at STATE/control.sock: a line of JSON there, a line of JSON back.
"""

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_SOCKET: Final = "control.sock"
_MAX_ANSWER: Final = 1024 * 1024
_PATIENCE: Final = 60.0  # seconds; a reload of 10 000 machines takes a few


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of a reload. running: whether a relay is there at all; problem: why it did not, empty where it did."""

    running: bool
    problem: str = ""

    @property
    def word(self) -> str:
        """``done``, ``failed`` or ``not-running``."""
        if not self.running:
            return "not-running"
        return "failed" if self.problem else "done"


def is_running(state: Path) -> bool:
    """Whether a relay answers that has this state folder. One that does not take us to its socket runs, too."""
    try:
        _connect(state, 1.0).close()
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return False
    except OSError:
        return (state / _SOCKET).is_socket()
    return True


def reload(state: Path) -> Reloaded:
    """Tells the running relay to read its configuration and identities anew, and waits for the outcome."""
    if not is_running(state):
        return Reloaded(False)
    try:
        with _connect(state, _PATIENCE) as sock:
            sock.sendall(b'{"command": "reload"}\n')
            answer = _answer(sock)
    except OSError as error:
        return Reloaded(True, f"{state / _SOCKET}: {error.strerror or error}")
    except ValueError:
        return Reloaded(True, f"{state / _SOCKET}: the relay closed without a whole answer; see its log")
    if answer.get("ok") is True:
        return Reloaded(True)
    mistakes = answer.get("mistakes")
    said = [str(answer.get("error") or "the relay refused"), *(map(str, mistakes) if isinstance(mistakes, list) else ())]
    return Reloaded(True, "; ".join(said))


def _connect(state: Path, seconds: float) -> socket.socket:
    """Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(str(state / _SOCKET))
    except BaseException:
        sock.close()
        raise
    return sock


def _answer(sock: socket.socket) -> dict[str, Any]:
    """Raises OSError, ValueError."""
    data = b""
    while len(data) <= _MAX_ANSWER and (chunk := sock.recv(65536)):
        data += chunk
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found
