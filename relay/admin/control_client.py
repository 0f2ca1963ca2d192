"""Asks the running relay something by its control socket, and waits for the answer."""

import json
import pwd
import socket
import time
from pathlib import Path
from typing import Any, Final

from relay.admin.control import socket_name

MAX_ANSWER: Final = 256 * 1024 * 1024  # bytes; the status of 10 000 machines has 8 MB
_READ: Final = 256 * 1024


class ControlError(Exception):
    """There is no answer. The text says why, and what to do."""


def ask(path: Path, request: dict[str, Any], timeout: float) -> dict[str, Any]:
    """The answer of the relay that listens at `path`. timeout: seconds, for all of it. Raises ControlError."""
    end = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.settimeout(timeout)
            with socket_name(path) as name:
                sock.connect(name)
            sock.sendall(json.dumps(request).encode() + b"\n")
            data = _read(sock, end)
        except TimeoutError:
            raise ControlError(
                f"the relay at {path} does not answer within {timeout:.0f} s. See its log, and whether its process is stuck."
            ) from None
        except FileNotFoundError:
            raise ControlError(
                f"no relay runs here: there is no {path}. Start it, or name its configuration with --config, or its socket "
                "with --socket."
            ) from None
        except ConnectionRefusedError:
            raise ControlError(f"no relay runs here: nobody listens at {path}. Start it.") from None
        except PermissionError:
            raise ControlError(_forbidden(path)) from None
        except OSError as error:
            raise ControlError(f"{path}: {error.strerror or error}. See whether the relay still runs.") from error
    return _answer(path, data)


def _read(sock: socket.socket, end: float) -> bytes:
    """All until the relay closes. Raises OSError."""
    chunks: list[bytes] = []
    size = 0
    while size <= MAX_ANSWER:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        chunk = sock.recv(_READ)
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def _answer(path: Path, data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data) if data.endswith(b"\n") else None  # else it was cut off
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
        raise ControlError(f"the relay at {path} closed without a whole answer. It may be stopping; see its log.")
    return answer


def _forbidden(path: Path) -> str:
    user = "the relay's user"
    for place in (path, path.parent):
        try:
            user = _name(place.stat().st_uid)
            break
        except OSError:
            continue
    whom = " or as ".join(dict.fromkeys(("root", user)))
    return f"{path}: no permission: the relay's socket belongs to {user}. Run this as {whom}."


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user #{uid}"
