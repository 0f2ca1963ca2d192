"""What may stand in an `allow`: words for services, and source networks."""

import difflib
import ipaddress
import re
from functools import lru_cache
from typing import Final

from routing.mistakes import WrongValueError
from routing.rules import Network
from routing.services import ALL, SERVICES, SETS, without_version

WORDS: Final = (*SETS, ALL)  # the named sets
WORD_REMEDY: Final = f"Write {', '.join(SETS)}, {ALL}, a service (IScriptServiceV2) or a method (IScriptServiceV2.GetStatus)."
NETWORK_REMEDY: Final = "Write an IP address or a network, such as 10.20.0.0/16 or 2001:db8::/32."
WORD_PATTERN: Final = "|".join(WORDS) + r"|[A-Za-z_][A-Za-z0-9_]{1,99}(?:\.[A-Za-z_][A-Za-z0-9_]{0,99})?"
CONTACT_REMEDY: Final = "Write one line of up to 200 characters, such as: the DMZ team, dmz@example.com."
CONTACT_PATTERN: Final = "[^\\u0000-\\u001f\\u007f]{1,200}"
TELLING: Final = (  # what Octopus looks for in an error's text, to conclude something from it (wire.md 9.3, 9.5)
    *SERVICES,
    "CreateService(",
    "NotRegistered",
    "UnknownServiceNameException",
    "System.IO.",
    "System.Net.",
    "connection was forcibly closed",
    "operation has been aborted",
    "connection attempt failed",
    "remote party closed",
    "the transport connection",
    "the request was abandoned",
    "the node processing the request",
    "error occured when",
)
_SERVICE: Final = re.compile(r"([Ii][A-Za-z0-9_]{1,99})(?:\.([A-Za-z_][A-Za-z0-9_]{0,99}))?")
_CONTACT: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,200}")
NETWORK_PATTERN: Final = r"[0-9A-Fa-f:.]+(?:/[0-9.]{1,15})?"
_KEPT: Final = 1024  # networks: the machines of a site have many in common
_NEAR: Final = 0.85  # of two names: so much alike is a slip of the pen
_MAPPED: Final = 96  # bits in front of an IPv4 address in IPv6 clothes
_KNOWN: Final = {service.lower(): service for service in SERVICES}


def word(text: str) -> str:
    """A word for services, in the spelling of Octopus's contracts. Raises WrongValueError."""
    if text.lower() in WORDS:
        return text.lower()
    found = _SERVICE.fullmatch(text)
    if found is None:
        near = difflib.get_close_matches(text.lower(), WORDS, n=1)
        raise WrongValueError("no set of services, and no service", f"Did you mean {near[0]}?" if near else WORD_REMEDY)
    service = _service(found[1])
    return f"{service}.{_method(service, found[2])}" if found[2] else service


def _service(name: str) -> str:
    """A service that is not known may be a newer one; one that is a known one but for a letter is not."""
    known = _KNOWN.get(name.lower())
    if known:
        return known
    if all(without_version(name) != without_version(service) for service in SERVICES):
        near = difflib.get_close_matches(name.lower(), _KNOWN, n=1, cutoff=_NEAR)
        if near:
            raise WrongValueError("no service that is known", f"Did you mean {_KNOWN[near[0]]}?")
    return name


def _method(service: str, name: str) -> str:
    """A contract gets no new methods: a newer one has another name."""
    methods = SERVICES.get(service)
    if methods is None:
        return name
    plain = re.sub("async$", "", name, flags=re.IGNORECASE) or name
    for method in methods:
        if method.lower() == plain.lower():
            return method
    raise WrongValueError(f"{service} has no method {name}", f"Write one of {', '.join(methods)}.")


@lru_cache(_KEPT)
def network(text: str) -> Network:
    """A source network; an address alone is a network of one. Raises WrongValueError."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        return _wrong_network(text)
    if isinstance(found, ipaddress.IPv6Network) and found.network_address.ipv4_mapped and found.prefixlen >= _MAPPED:
        plain = f"{found.network_address.ipv4_mapped}/{found.prefixlen - _MAPPED}"
        raise WrongValueError("an IPv4 network in IPv6 clothes", f"Write {plain}: it means callers over either.")
    return found


def _wrong_network(text: str) -> Network:
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise WrongValueError("not an IP address or network", NETWORK_REMEDY) from None
    raise WrongValueError("bits of one address behind the network", f"Write {meant} for the network.")


def contact(text: str) -> str:
    """Whom to ask, as Octopus shows it. Raises WrongValueError."""
    if not _CONTACT.fullmatch(text):
        raise WrongValueError("more than one line, or too long", CONTACT_REMEDY)
    found = telling(text)
    if found:
        raise WrongValueError(f"Octopus would take {found!r} in it for a fault of its own kind", "Say it in other words.")
    return text


def telling(text: str) -> str | None:
    """What of TELLING is in the text, in whatever case."""
    folded = text.casefold()
    return next((each for each in TELLING if each.casefold() in folded), None)
