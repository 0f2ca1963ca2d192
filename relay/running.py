"""The relay that runs with a state folder, as other commands meet it: whether there is one, and asking it to reload."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.admin.control import SOCKET, socket_name
from relay.admin.control_client import ControlError, ask

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
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, socket_name(state / SOCKET) as name:
            sock.settimeout(1.0)
            sock.connect(name)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return False
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
        return Reloaded(True)
    mistakes = answer.get("mistakes")
    said = [str(answer.get("error") or "the relay refused"), *(map(str, mistakes) if isinstance(mistakes, list) else ())]
    return Reloaded(True, "; ".join(said))
