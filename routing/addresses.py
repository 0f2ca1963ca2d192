"""Addresses as operators write them: a Tentacle's URI, and the door of a machine."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from routing.mistakes import WrongValueError

TENTACLE_PORT = 10933
TENTACLE_REMEDY = "Write https://HOST:PORT, such as https://web01.internal:10933."
DOOR_REMEDY = "Write a port (11001), or an IP address and a port: 127.0.0.1:11001 or '[::1]:11001'."

# RFC 1123, 2.1, and the underscore that Windows allows.
_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_MAX_HOST = 253
_PORT = re.compile(r"[0-9]{1,5}")
_ANY_PORT = re.compile(r"[0-9]+")
EVERY_IPV4 = str(ipaddress.IPv4Address(0))
# Hosts of doors that take callers at more than one address.
WILDCARDS = ("", "::", EVERY_IPV4)
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
    scheme, separator, _ = text.partition("://")
    if scheme.lower() == "poll" and separator:
        raise WrongValueError(
            "polling Tentacles are not supported by this version",
            "Make this a listening Tentacle and write https://HOST:PORT, or leave the machine out.",
        )
    if not separator:
        raise WrongValueError("not a URI", TENTACLE_REMEDY)
    if scheme.lower() != "https":
        raise WrongValueError("a Tentacle listens for https", TENTACLE_REMEDY)
    try:
        uri = urlsplit(text)
        host, port = uri.hostname or "", uri.port
    except ValueError:
        raise WrongValueError("not a URI with a host and a port from 1 to 65535", TENTACLE_REMEDY) from None
    if uri.username is not None or uri.path not in ("", "/") or uri.query or uri.fragment:
        raise WrongValueError("more than a host and a port", TENTACLE_REMEDY)
    if uri.netloc.endswith(":") or port == 0:
        raise WrongValueError("not a URI with a host and a port from 1 to 65535", TENTACLE_REMEDY)
    return Address(_host_to_dial(host), TENTACLE_PORT if port is None else port)


def door(text: str) -> Address:
    """Where the relay listens for one machine: a port, or an IP address and a port. Raises WrongValueError."""
    if _ANY_PORT.fullmatch(text):
        return Address("", _port(text))
    bracketed = _BRACKETS.fullmatch(text)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    else:
        host, _, port = text.rpartition(":")
        if ":" in host:
            raise WrongValueError("an IPv6 address without brackets", DOOR_REMEDY)
        if not host:
            raise WrongValueError("not a port, nor an IP address and a port", DOOR_REMEDY)
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise WrongValueError("the part before the port is not an IP address", DOOR_REMEDY) from None
    if (ip.version == 6) != bool(bracketed):
        raise WrongValueError("brackets are for IPv6 addresses", DOOR_REMEDY)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        raise WrongValueError("an IPv4 address in IPv6 clothes", f"Write {ip.ipv4_mapped} before the port.")
    return Address(str(ip), _port(port))


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
        return (*own_hosts("127.0.0.1"), "::1")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return ()
    if not ip.is_loopback:
        return (host,)
    return (host, *(wildcard for wildcard in WILDCARDS if overlap(host, wildcard)))


def _host_to_dial(host: str) -> str:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        ip = None
    if ip is not None:
        if ip.is_unspecified or ip.is_multicast:
            raise WrongValueError("not an address of one machine", TENTACLE_REMEDY)
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
            raise WrongValueError("an IPv4 address in IPv6 clothes", f"Write {ip.ipv4_mapped} as the host.")
        return str(ip)
    if not host:
        raise WrongValueError("no host", TENTACLE_REMEDY)
    if not host.isascii():
        raise WrongValueError("the host name has letters beyond ASCII", "Write its xn-- form, as DNS knows it.")
    if len(host) > _MAX_HOST or not _HOST_NAME.fullmatch(host):
        raise WrongValueError("not a host name or IP address", TENTACLE_REMEDY)
    if host.rstrip(".").rpartition(".")[2].isdigit():
        raise WrongValueError("not an IPv4 address, and not a host name either", TENTACLE_REMEDY)
    return host


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise WrongValueError("not a port from 1 to 65535", DOOR_REMEDY)
    return int(text)
