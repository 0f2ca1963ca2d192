"""What else than the Tentacle can answer at its address: servers in threads, on ephemeral ports of loopback."""

import contextlib
import datetime as dt
import socket
import ssl
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from scripted import PATIENCE

from certs.identity import Identity

LOCAL: Final = "127.0.0.1"
PAGE: Final = b"HTTP/1.0 200 OK\r\nContent-Length: 39\r\n\r\n<html><body><p>Hello!</p></body></html>\r\n\r\n"
Handler = Callable[[socket.socket], None]


class Stranger:
    """Hands each connection to handle(), in a thread of its own, and closes it behind that."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._listener = socket.create_server((LOCAL, 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._sockets: list[socket.socket] = []
        self._threads[0].start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # closed
                return
            sock.settimeout(PATIENCE)
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):  # whoever probes may leave at any point
            self._handle(sock)

    def close(self) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@contextlib.contextmanager
def stranger(handle: Handler) -> Iterator[int]:
    """Its port, for the time of a test."""
    made = Stranger(handle)
    try:
        yield made.port
    finally:
        made.close()


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port at which nobody accepts: its queue is full, so what comes is dropped."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((LOCAL, 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.create_server((LOCAL, 0)) as server:
        port: int = server.getsockname()[1]
        return port


# ---- certificates ---------------------------------------------------------------------------------------------------------


def issued(common_name: str, issuer_name: str) -> Identity:
    """A certificate of somebody else's making."""
    return _made(common_name, issuer_name)


@cache
def _made(common_name: str, issuer_name: str) -> Identity:
    issuer_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (common_name, issuer_name)]
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(names[1], names[0], key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(issuer_key, hashes.SHA256())
    )
    return Identity(common_name, certificate, key)


def tls_context(identity: Identity, most: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """Of a server that shows this identity. most: its newest version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if most:
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
            context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, most
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "identity.pem")
        path.write_bytes(identity.pem())
        context.load_cert_chain(path)
    return context


# ---- what they do ---------------------------------------------------------------------------------------------------------


def echo(sock: socket.socket) -> None:
    while data := sock.recv(4096):
        sock.sendall(data)


def greets(banner: bytes) -> Handler:
    """Speaks first, in the clear."""

    def handle(sock: socket.socket) -> None:
        sock.sendall(banner)
        while sock.recv(4096):
            pass

    return handle


def http(sock: socket.socket) -> None:
    """As web servers answer whatever is not HTTP."""
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nConnection: close\r\n\r\n")


def says_nothing(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


def closes(sock: socket.socket) -> None:
    sock.recv(4096)


def over_tls(context: ssl.SSLContext, handle: Handler) -> Handler:
    """The same within TLS."""

    def wrapped(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secured:
            handle(secured)

    return wrapped


def answers(text: bytes, reads: int = 1) -> Handler:
    """Behind so many things that it hears, and closes."""

    def handle(sock: socket.socket) -> None:
        for _ in range(reads):
            sock.recv(4096)
        sock.sendall(text)

    return handle


def turns_away(page: bytes, reads: int) -> Handler:
    """What a Tentacle does with whom it does not trust: it closes behind so many records. page: for browsers; empty: none."""

    def handle(sock: socket.socket) -> None:
        first = sock.recv(4096)
        if not first.startswith(b"MX"):
            sock.sendall(page)
            return
        for _ in range(reads - 1):
            sock.recv(4096)

    return handle


def intercepts(port: int) -> Handler:
    """A box in front of a Tentacle at this port: ends TLS, looks, and begins it anew."""

    def handle(sock: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((LOCAL, port), PATIENCE) as plain, context.wrap_socket(plain) as behind:
            behind.sendall(sock.recv(4096))
            while data := behind.recv(4096):
                sock.sendall(data)

    return handle
