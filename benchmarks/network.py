"""The loopback of a network namespace of our own, whose MTU is as on a real network: nothing outside of it changes."""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from benchmarks.trouble import TroubleError

_SIOCGIFMTU: Final = 0x8921
_UNSHARE: Final = ("unshare", "--map-root-user", "--net")


def enter(argv: Sequence[str]) -> NoReturn:
    """Begins this program anew, with these arguments of Python, in such a namespace. Raises TroubleError where it may not."""
    if not shutil.which(_UNSHARE[0]) or not shutil.which("ip", path=_path()):
        raise TroubleError("--mtu needs unshare and ip: install util-linux and iproute2")
    allowed = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        raise TroubleError(f"--mtu needs a network namespace, which this user may not have: {allowed.stderr.strip()}")
    os.execvp(_UNSHARE[0], [*_UNSHARE, sys.executable, *argv])


def set_mtu(size: int) -> None:
    """Of the loopback here, which is opened with it. Raises TroubleError."""
    command = ["ip", "link", "set", "lo", "mtu", str(size), "up"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": _path()})
    if done.returncode or mtu() != size:
        raise TroubleError(f"loopback's MTU cannot be {size}: {done.stderr.strip()}")


def mtu() -> int:
    """Loopback's."""
    with socket.socket() as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFMTU, struct.pack("16si12x", b"lo", 0))
    size: int = struct.unpack("16si12x", answer)[1]
    return size


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
