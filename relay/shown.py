"""What a running relay shows at a machine's door: seen as anybody sees it who asks for a thumbprint (wire.md 2.6).

So nothing has to be asked of the relay itself, and nothing is logged but a visitor of its page.
"""

import contextlib
import socket
import ssl
from typing import Final

from certs.thumbprint import Thumbprint
from routing.addresses import Address
from routing.table import Machine, Table

_PATIENCE: Final = 2.0  # seconds, for each step; the door is on this host
_HELLO: Final = b"HELLO\r\n\r\n"
_MOST: Final = 256 * 1024  # bytes of the page that are read
_EVERYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- they are dialled here, not bound


def shown_at(table: Table, machine: Machine) -> tuple[Address, Thumbprint] | None:
    """Where Octopus meets this machine, and the certificate that is there now. None: nobody there, or nobody of TLS."""
    door = machine.door or (table.front if machine.host else None)
    if door is None:
        return None
    address = Address(_EVERYWHERE.get(door.host, door.host), door.port)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # what is shown is looked at, and nothing is told to whoever shows it
    try:
        with (
            socket.create_connection((address.host, address.port), _PATIENCE) as sock,
            context.wrap_socket(sock, server_hostname=None if machine.door else machine.host) as tls,
        ):
            shown = tls.getpeercert(binary_form=True)
            with contextlib.suppress(OSError):  # the certificate is here; the rest is manners
                _take_leave(tls)
    except OSError:
        return None
    return (address, Thumbprint.of(shown)) if shown else None


def _take_leave(tls: ssl.SSLSocket) -> None:
    """A caller who closes without a word looks like one who refuses the certificate. Raises OSError."""
    tls.sendall(_HELLO)
    left = _MOST
    while left > 0 and (data := tls.recv(65536)):
        left -= len(data)
