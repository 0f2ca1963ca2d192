"""A peer in a process of its own, which a test can kill or stop: what becomes of its connection then is the kernel's doing."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from changes import Changes
from clocked_reactor import real
from tls_peer import DATA, Record
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

_PROGRAM: Final = Path(__file__).with_name("puppet_process.py")


@implementer(IReadDescriptor)
class Puppet:
    """As far as these tests go, a TlsPeer. The socket is its process's from now on. identity: file of certificate and key."""

    def __init__(self, changes: Changes, sock: socket.socket, identity: Path, *, listens: bool) -> None:
        self._changes = changes
        self.records: list[Record] = []
        self.shaken = False
        self.end: str | None = None
        self.closed = False
        self._partial = b""
        with sock:
            number = sock.fileno()
            side = "listens" if listens else "dials"
            self._process = subprocess.Popen(
                [sys.executable, "-IS", str(_PROGRAM), str(number), side, str(identity)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(number,),
            )  # fmt: skip
        assert self._process.stdin
        assert self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdout.fileno(), False)
        real.addReader(self)

    @property
    def data(self) -> bytes:
        return b"".join(record.data for record in self.records)

    def acknowledge(self) -> None:
        """Its process does so by itself."""

    def write(self, data: bytes) -> None:
        """As one record."""
        self._stdin.write(data.hex().encode("ascii") + b"\n")
        self._stdin.flush()

    # ---- what becomes of its process --------------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL: the kernel closes its connection."""
        self._process.kill()
        self.close()

    def stop(self) -> None:
        """SIGSTOP: its kernel acknowledges what comes, and nobody reads it."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            real.removeReader(self)
            self._process.kill()
            self._process.wait()
            self._stdin.close()
            self._stdout.close()

    # ---- the reactor's side -----------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._stdout.fileno()

    def logPrefix(self) -> str:
        return "puppet"

    def doRead(self) -> None:
        data = os.read(self.fileno(), 1 << 20)
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            word = line.decode("ascii")
            if word == "shaken":
                self.shaken = True
            elif word in ("fin", "rst"):
                self.end = word
            else:
                self.records.append(Record(DATA, bytes.fromhex(word)))
        if not data:
            real.removeReader(self)
        self._changes.changed()

    def connectionLost(self, reason: Failure) -> None:
        """Required of a descriptor. The process has gone: that is seen where its output is read."""
