"""What Octopus reads where a call is denied: what it needs, and nothing that it would conclude anything from."""

import pytest
from halibut_bytes import bounded
from hypothesis import given
from hypothesis import strategies as st
from rule_sets import PAIRS

from relay.denial import denial
from routing.rule_values import TELLING
from routing.rules import Rules
from routing.services import SERVICES

RULES = Rules(relay="dc-east", contact="the DMZ team, dmz@example.com")
# wire.md 9.3 and 10.17, word for word.
FORBIDDEN = (
    "CreateService(", "NotRegistered", "System.IO.FileNotFoundException", "UnknownServiceNameException",
    "ICapabilitiesServiceV2", "System.IO.EndOfStreamException", "Unable to read data from the transport connection",
)  # fmt: skip


def test_running_scripts() -> None:
    assert denial("web01", RULES, "IScriptServiceV2", "StartScript") == (
        "The relay dc-east did not pass this call on to the machine web01: running scripts is not allowed here. Nothing has "
        "run. Ask the DMZ team, dmz@example.com."
    )


@pytest.mark.parametrize(
    ("service", "method", "what"),
    [
        (
            "ICapabilitiesServiceV2",
            "GetCapabilities",
            "asking what the machine can do, which a health check begins with, is not",
        ),
        ("IFileTransferService", "UploadFile", "sending files to it is not"),
        ("IFileTransferService", "downloadfileasync", "fetching files from it is not"),
        ("IScriptService", "GetStatus", "running scripts is not"),
        ("INewService", "Do", "this kind of call is not"),
    ],
)
def test_what_is_not_allowed(service: str, method: str, what: str) -> None:
    text = denial("web01", Rules(relay="dc-east"), service, method)
    assert f": {what} allowed here. Nothing has run. Ask whoever runs the relay." in text


NAMES = st.sampled_from(["web01", *SERVICES, "NotRegistered", "notregistered", "UnknownServiceNameException", "System.IO.x"])


@bounded(200)
@given(NAMES, NAMES, st.sampled_from(PAIRS) | st.tuples(st.text(max_size=30), st.text(max_size=30)))
def test_octopus_concludes_nothing_from_it(machine: str, relay: str, call: tuple[str, str]) -> None:
    text = denial(machine, Rules(relay=relay), *call)
    folded = text.casefold()
    assert not [word for word in (*FORBIDDEN, *TELLING, *SERVICES) if word.casefold() in folded]
    assert not text.startswith(("Service ", "Service not found"))
    assert not text.endswith(" not found")
