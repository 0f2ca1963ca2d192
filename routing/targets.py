"""Targets of the CONNECT door: the host and port of the URI that Octopus has for a machine, each in one spelling.

Octopus sends ``Uri.Host:Uri.Port`` of .NET (wire.md 8.1): in lower case, IPv6 in brackets and without a zone, a dot at the end
of a name as it was typed. Whatever means the same host and port is the same target here.
"""

import ipaddress
import re
from typing import Final

from routing.addresses import TENTACLE_PORT, Address, checked_name, checked_port, ip_of
from routing.mistakes import WrongValueError

NONE: Final = "none"
REMEDY: Final = "Write HOST:PORT, those of the URI that Octopus has for this machine, such as web01.internal:10933; or none."
# Of the JSON schema: coarser than the reader, and never stricter.
PATTERN: Final = r"\[[^\]\s]+\](?::[0-9]{1,5})?|[^\s:/\[\]]+(?::[0-9]{1,5})?"
_LONGEST: Final = 300  # characters: a host name has up to 253
_BRACKETED: Final = re.compile(r"\[([^\[\]]*)\](?::(.*))?", re.DOTALL)


def target(text: str) -> Address:
    """The target that this means; without a port: 10933. Names beyond ASCII become those that DNS has (IDNA).

    Raises WrongValueError.
    """
    if len(text) > _LONGEST:
        raise WrongValueError("too long for a host and a port", REMEDY)
    if "/" in text or "@" in text:
        raise WrongValueError("more than a host and a port", REMEDY)
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    else:
        before, colon, behind = text.rpartition(":")
        host, port = (before, behind) if colon else (text, None)
        if ":" in host:
            raise WrongValueError("an IPv6 address without brackets", REMEDY)
    number = TENTACLE_PORT if port is None else checked_port(port, REMEDY)
    return Address(_ipv6(host) if bracketed else _name_or_ipv4(host), number)


def optional_target(text: str) -> Address | None:
    """The same; None for ``none``: no target. Raises WrongValueError."""
    return None if text.lower() == NONE else target(text)


def of_tentacle(address: Address) -> Address:
    """The target of a machine that says no other: the address of its Tentacle."""
    return target(str(address))


def _ipv6(host: str) -> str:
    try:
        ip = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        raise WrongValueError("no IPv6 address in the brackets", REMEDY) from None
    return str(ip.ipv4_mapped or ip)


def _name_or_ipv4(host: str) -> str:
    ip = ip_of(host)
    if ip is not None:
        return str(ip)
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise WrongValueError("not a host name", REMEDY) from None
    return checked_name(host, REMEDY).lower().removesuffix(".")
