"""What Octopus reads in its task log where a rule denies a call (wire.md 9.3, 10.17).

It says which relay, which machine, what is not allowed and whom to ask. It never names a service or repeats the request's id:
Octopus concludes from such words that the Tentacle is an old one, and goes over to calls that are not safe to repeat.
"""

from typing import Final

from routing.rule_values import telling
from routing.rules import Rules
from routing.services import compared, set_of

_WHAT: Final = {
    "capabilities": "asking what the machine can do, which a health check begins with,",
    "scripts": "running scripts",
    "files": "transferring files",
}
_FILES: Final = {"uploadfile": "sending files to it", "downloadfile": "fetching files from it"}
_OTHER: Final = "this kind of call"


def denial(machine: str, rules: Rules, service: str, method: str) -> str:
    """The words. A name that Octopus would conclude something from is left out."""
    relay = _plain("the relay", rules.relay)
    named = _plain("the machine", machine)
    asked = f" Ask {rules.contact}." if rules.contact else " Ask whoever runs the relay."
    return (
        f"{relay[0].upper()}{relay[1:]} did not pass this call on to {named}: {_what(service, method)} is not allowed here. "
        f"Nothing has run.{asked}"
    )


def _what(service: str, method: str) -> str:
    words = set_of(service, method)
    call = compared(service, method)
    if words == "files" and call:
        return _FILES[call[1]]
    return _WHAT.get(words or "", _OTHER)


def _plain(kind: str, name: str) -> str:
    return kind if telling(name) else f"{kind} {name}"
