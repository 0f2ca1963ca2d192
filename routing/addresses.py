"""Addresses as operators write them: a Tentacle's URI, the doors of the relay, and the name of a machine at the shared one."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from routing.mistakes import WrongValueError

TENTACLE_PORT = 10933
NODE_PORT = 10943
PROXY_PORT = 80
TENTACLE_REMEDY = "Write https://HOST:PORT, such as https://web01.internal:10933; or poll://ID/, where it polls the relay."
NODE_REMEDY = "Write https://HOST:PORT, such as https://octopus-1:10943."
PROXY_REMEDY = "Write http://HOST:PORT, such as http://proxy.corp:3128."
DOOR_REMEDY = "Write a port (11001), or an IP address and a port: 127.0.0.1:11001 or '[::1]:11001'."
ADMIN_REMEDY = "Write a port (9933, of loopback), an IP address and a port: 127.0.0.1:9933 or '[::1]:9933'; or none."
HOST_REMEDY = "Write the host of the URI that Octopus has for this machine, such as web01.relay.corp."
NO_DOOR = "none"

# RFC 1123, 2.1, and the underscore that Windows allows.
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
HOST_PATTERN = rf"{_LABEL}(?:\.{_LABEL})*\.?"
_HOST_NAME = re.compile(HOST_PATTERN)
_MAX_HOST = 253
_PORT_BEHIND = re.compile(r"[^:]*:[0-9]*")
_PORT = re.compile(r"[0-9]{1,5}")
_ANY_PORT = re.compile(r"[0-9]+")
LOOPBACK = "127.0.0.1"
FRONT = "front.listen"
BACK = "back.listen"
EVERY_IPV4 = str(ipaddress.IPv4Address(0))
# Hosts of doors that take callers at more than one address.
WILDCARDS = ("", "::", EVERY_IPV4)
# Of the JSON schema: coarser than the readers below, and never stricter.
TENTACLE_PATTERN = r"[Hh][Tt][Tt][Pp][Ss]://[^/?#@\s]+/?"
PROXY_PATTERN = r"[Hh][Tt][Tt][Pp]://[^/?#@\s]+/?"
DOOR_PATTERN = r"[0-9]{1,20}|[0-9.]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+(?:%[^\]]+)?\]:[0-9]{1,5}"
_BRACKETS = re.compile(r"\[([^\]]*)\]:(.*)")


@dataclass(frozen=True, slots=True)
class Address:
    """A host (name or IP address, lower case) and a TCP port. For a door, the host "" means every interface, IPv4 and IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def tentacle(text: str) -> Address:
    """The address in a Tentacle's URI (https://host:port; the port may be left out). Raises WrongValueError."""
    return _uri(text, "https", "a Tentacle listens for https", TENTACLE_PORT, TENTACLE_REMEDY)


def node(text: str) -> Address:
    """The address of an Octopus node's polling port (https://host:port). Raises WrongValueError."""
    return _uri(text, "https", "Octopus listens for https", NODE_PORT, NODE_REMEDY)


def proxy(text: str) -> Address:
    """The address of an HTTP proxy (http://host:port). Raises WrongValueError."""
    return _uri(text, "http", "not an HTTP proxy", PROXY_PORT, PROXY_REMEDY)


def _uri(text: str, wanted: str, other: str, default: int, remedy: str) -> Address:
    scheme, separator, _ = text.partition("://")
    if not separator:
        raise WrongValueError("not a URI", remedy)
    if scheme.lower() != wanted:
        raise WrongValueError(other, remedy)
    try:
        uri = urlsplit(text)
        host, port = uri.hostname or "", uri.port
    except ValueError:
        raise WrongValueError("not a URI with a host and a port from 1 to 65535", remedy) from None
    if uri.username is not None or uri.path not in ("", "/") or uri.query or uri.fragment:
        raise WrongValueError("more than a host and a port", remedy)
    if uri.netloc.endswith(":") or port == 0:
        raise WrongValueError("not a URI with a host and a port from 1 to 65535", remedy)
    return Address(_host_to_dial(host, remedy), default if port is None else port)


def door(text: str, remedy: str = DOOR_REMEDY, host: str = "") -> Address:
    """Where the relay listens: a port, or an IP address and a port. host: of a port alone. Raises WrongValueError."""
    if _ANY_PORT.fullmatch(text):
        return Address(host, checked_port(text, remedy))
    bracketed = _BRACKETS.fullmatch(text)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    else:
        host, _, port = text.rpartition(":")
        if ":" in host:
            raise WrongValueError("an IPv6 address without brackets", remedy)
        if not host:
            raise WrongValueError("not a port, nor an IP address and a port", remedy)
    ip = ip_of(host)
    if ip is None:
        raise WrongValueError("the part before the port is not an IP address", remedy)
    if (ip.version == 6) != bool(bracketed):
        raise WrongValueError("brackets are for IPv6 addresses", remedy)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        raise WrongValueError("an IPv4 address in IPv6 clothes", f"Write {ip.ipv4_mapped} before the port.")
    return Address(str(ip), checked_port(port, remedy))


def admin_door(text: str) -> Address | None:
    """Where metrics and health are served; None: nowhere. A port alone is of loopback. Raises WrongValueError."""
    return None if text == NO_DOOR else door(text, ADMIN_REMEDY, LOOPBACK)


def server_name(text: str) -> str:
    """The SNI name of a machine, as callers send it: lower case, without a dot at the end. Raises WrongValueError."""
    name = text.removesuffix(".")
    if "*" in name:
        raise WrongValueError("a wildcard: one name means one machine", HOST_REMEDY)
    if "/" in name:
        raise WrongValueError("more than a host", HOST_REMEDY)
    if ip_of(name.removeprefix("[").removesuffix("]")):
        raise WrongValueError("an IP address, for which callers send no name", "Write a name, or give the machine a port.")
    if _PORT_BEHIND.fullmatch(name):
        raise WrongValueError("a port behind the name", f"Write the name alone: the port is that of {FRONT}.")
    if name.endswith("."):
        raise WrongValueError("not a host name", HOST_REMEDY)
    return checked_name(name, HOST_REMEDY).lower()


def overlap(one: str, other: str) -> bool:
    """Whether doors on these two hosts cannot share a port.

    "::" takes IPv4 callers too on Linux, so like "" it stands for every interface.
    """
    hosts = (one, other)
    if one == other or "" in hosts or "::" in hosts:
        return True
    return EVERY_IPV4 in hosts and not any(":" in host for host in hosts)


def own_hosts(host: str) -> tuple[str, ...]:
    """The door hosts that a connection to `host` reaches on this very machine, as far as the text alone can tell."""
    if host.rstrip(".") == "localhost":
        return (*own_hosts(LOOPBACK), "::1")
    ip = ip_of(host)
    if ip is None:
        return ()
    if not ip.is_loopback:
        return (host,)
    return (host, *(wildcard for wildcard in WILDCARDS if overlap(host, wildcard)))


def _host_to_dial(host: str, remedy: str) -> str:
    ip = ip_of(host)
    if ip is None:
        if not host:
            raise WrongValueError("no host", remedy)
        return checked_name(host, remedy)
    if ip.is_unspecified or ip.is_multicast:
        raise WrongValueError("not an address of one machine", remedy)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        raise WrongValueError("an IPv4 address in IPv6 clothes", f"Write {ip.ipv4_mapped} as the host.")
    return str(ip)


def ip_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that this is; None for whatever else."""
    if ":" not in text and not text[-1:].isdigit():
        return None  # a name, as most hosts are: to try costs more than all other checks of a machine's address
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def checked_name(host: str, remedy: str) -> str:
    """A DNS name. Raises WrongValueError."""
    if not host.isascii():
        raise WrongValueError("the host name has letters beyond ASCII", "Write its xn-- form, as DNS knows it.")
    if len(host) > _MAX_HOST or not _HOST_NAME.fullmatch(host):
        raise WrongValueError("not a host name" if remedy is HOST_REMEDY else "not a host name or IP address", remedy)
    if host.rstrip(".").rpartition(".")[2].isdigit():
        raise WrongValueError("not an IPv4 address, and not a host name either", remedy)
    return host


def checked_port(text: str, remedy: str) -> int:
    """A port from 1 to 65535. Raises WrongValueError."""
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise WrongValueError("not a port from 1 to 65535", remedy)
    return int(text)
