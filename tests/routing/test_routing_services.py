"""The table of services, against the one that metrics have, and how names compare."""

import pytest

from relay.admin.metrics import METHODS
from routing.services import SERVICES, SETS, calls, compared, set_of, without_version


def test_metrics_know_the_same_services() -> None:
    assert dict(SERVICES) == METHODS


def test_every_method_is_in_one_set() -> None:
    every = [call for word in SETS for call in calls(word)]
    assert len(every) == len(set(every)) == sum(map(len, SERVICES.values()))


@pytest.mark.parametrize(
    ("service", "method", "call"),
    [
        ("IScriptServiceV2", "StartScript", ("iscriptservicev2", "startscript")),
        ("ISCRIPTSERVICEV2", "startscriptASYNC", ("iscriptservicev2", "startscript")),
        ("I", "Async", ("i", "async")),
        ("I", "\u212a", None),
        ("\u0130ScriptService", "GetStatus", None),
    ],
)
def test_how_names_compare(service: str, method: str, call: tuple[str, str] | None) -> None:
    assert compared(service, method) == call


def test_which_set_a_call_is_in() -> None:
    assert set_of("iscriptservice", "CompleteScriptAsync") == "scripts"
    assert set_of("IKubernetesScriptServiceV1", "StartScript") == "scripts"
    assert set_of("IScriptServiceV2", "Other") is None
    assert set_of("\u212a", "x") is None


def test_what_versions_have_in_common() -> None:
    names = ("IScriptService", "IScriptServiceV2", "IScriptServiceV3Alpha")
    assert {without_version(name) for name in names} == {"iscriptservice"}
