"""Rules at random and calls against them, for Hypothesis; and what a reader of docs/rules.md would say of each."""

import ipaddress
from dataclasses import dataclass

from hypothesis import strategies as st

from routing.rules import Rule, Rules
from routing.services import SERVICES

OCTOPUS = ("production", "staging", "test")
# 10.1.0.0/16 lies in 10.0.0.0/8; none of the others touch.
NETWORKS = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32", "0.0.0.0/0")))
SOURCES = ("10.1.2.3", "10.9.9.9", "192.0.2.7", "192.0.2.8", "2001:db8::5", "2001:db9::5", "::ffff:10.1.2.3", None)
WORDS = (
    "all", "capabilities", "scripts", "files", "IScriptService", "IScriptServiceV2", "IFileTransferService",
    "IScriptServiceV2.GetStatus", "IScriptServiceV2.StartScript", "IFileTransferService.DownloadFile", "INewService",
    "INewService.Do",
)  # fmt: skip
SETS = {
    "capabilities": ("ICapabilitiesServiceV2",),
    "scripts": ("IScriptService", "IScriptServiceV2", "IKubernetesScriptServiceV1"),
    "files": ("IFileTransferService",),
}


@dataclass(frozen=True)
class Call:
    octopus: str
    source: str | None
    service: str
    method: str


PAIRS = [(service, method) for service, methods in SERVICES.items() for method in methods]
PAIRS += [("INewService", "Do"), ("INewService", "Undo"), ("IScriptServiceV2", "Other"), ("IScriptServiceV3", "GetStatus")]


@st.composite
def calls(draw):
    service, method = draw(st.sampled_from(PAIRS))
    if draw(st.booleans()):
        service, method = draw(st.sampled_from([service, service.upper(), service.lower()])), method.swapcase() + "Async"
    return Call(draw(st.sampled_from(OCTOPUS)), draw(st.sampled_from(SOURCES)), service, method)


def some(values):
    return st.lists(st.sampled_from(values), unique=True, max_size=3).map(tuple)


def items():
    words = some(WORDS).map(lambda chosen: chosen or ("all",))
    return st.builds(Rule, words, some(OCTOPUS), some(NETWORKS))


def rule_sets():
    return st.lists(items(), max_size=4).map(lambda found: Rules(tuple(found), relay="dc-east"))


# ---- the naive evaluator --------------------------------------------------------------------------------------------------


def is_for(item: Rule, call: Call) -> bool:
    if item.octopus and call.octopus not in item.octopus:
        return False
    if not item.networks:
        return True
    if call.source is None:
        return False
    address = ipaddress.ip_address(call.source.removeprefix("::ffff:") if "." in call.source else call.source)
    return any(address.version == network.version and address in network for network in item.networks)


def says(word: str, call: Call) -> bool:
    service, method = call.service.lower(), call.method.lower()
    if method.endswith("async"):
        method = method[:-5]
    if word == "all":
        return True
    if word in SETS:
        known = {name.lower(): [each.lower() for each in SERVICES[name]] for name in SETS[word]}
        return method in known.get(service, [])
    name, _, only = word.lower().partition(".")
    return name == service and only in ("", method)


def allowing(rules: Rules, call: Call) -> list[Rule]:
    """The items that allow it."""
    return [item for item in rules.items if is_for(item, call) and any(says(word, call) for word in item.words)]
