"""A name's addresses, from the system's resolver, in a thread that nobody has to wait for.

The reactor's own threads must end before the process can, and a resolver may take half a minute to give up.
"""

import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

Addresses = list[str]


class Threads(Protocol):
    """The reactor, as far as a thread needs it."""

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None: ...  # noqa: A002 (Twisted's name)


def look_up(reactor: Threads, host: str, port: int) -> Deferred[Addresses]:
    """The IP addresses of a host, in the resolver's order, each once. Fails with socket.gaierror; may be cancelled."""
    given_up = threading.Event()
    found: Deferred[Addresses] = Deferred(lambda _: given_up.set())

    def settle(result: Addresses | Failure) -> None:
        if not given_up.is_set():
            found.callback(result) if isinstance(result, list) else found.errback(result)

    def work() -> None:
        result: Addresses | Failure
        try:
            result = _addresses(host, port)
        except Exception:
            result = cast("Any", Failure)()
        if not given_up.is_set():
            reactor.callFromThread(settle, result)

    threading.Thread(target=work, name=f"lookup {host}", daemon=True).start()
    return found


def _addresses(host: str, port: int) -> Addresses:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))
