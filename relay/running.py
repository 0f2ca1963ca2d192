"""The relay that runs with a state folder, as other commands meet it: whether there is one, and what it answers."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relay.admin.control import SOCKET, is_locked, socket_name
from relay.admin.control_client import ControlError, ask

_PATIENCE: Final = 60.0  # seconds; a reload of 10 000 machines takes a few


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of a reload. running: whether a relay is there at all; problem: why it did not, empty where it did.

    added, changed, removed: the machines of which it is so, where it went well.
    """

    running: bool
    problem: str = ""
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """``done``, ``failed`` or ``not-running``."""
        if not self.running:
            return "not-running"
        return "failed" if self.problem else "done"


def is_running(state: Path) -> bool:
    """Whether a relay has this state folder. One that does not take us to its socket runs, too, or whose socket is gone."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, socket_name(state / SOCKET) as name:
            sock.settimeout(1.0)
            sock.connect(name)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return is_locked(state)  # somebody may have removed its socket
    except OSError:
        return (state / SOCKET).is_socket()
    return True


def reload(state: Path) -> Reloaded:
    """Tells the running relay to read its configuration and identities anew, and waits for the outcome."""
    if not is_running(state):
        return Reloaded(False)
    try:
        answer = ask(state / SOCKET, {"command": "reload"}, _PATIENCE)
    except ControlError as error:
        return Reloaded(True, str(error))
    if answer["ok"]:
        return Reloaded(True, "", _texts(answer, "added"), _texts(answer, "changed"), _texts(answer, "removed"))
    said = [str(answer.get("error") or "the relay refused"), *_texts(answer, "mistakes")]
    return Reloaded(True, "; ".join(said))


def machines(state: Path) -> dict[str, dict[str, Any]] | None:
    """What the running relay says of each machine, as in docs/json/status.json; None where there is none, or no answer."""
    if not is_running(state):
        return None
    try:
        answer = ask(state / SOCKET, {"command": "status"}, _PATIENCE)
    except ControlError:
        return None
    return {str(machine["name"]): machine for machine in answer["machines"]} if answer["ok"] else None


def _texts(answer: dict[str, Any], key: str) -> tuple[str, ...]:
    found = answer.get(key)
    return tuple(map(str, found)) if isinstance(found, list) else ()
