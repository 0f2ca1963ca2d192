"""What is explained is what the running front does, and where it says that it is declared, it is."""

from dataclasses import replace
from pathlib import Path

import pytest
from halibut_bytes import bounded, deflated, request
from hypothesis import given
from hypothesis import strategies as st
from rule_sets import SOURCES, calls, rule_sets
from tables import OCTOPUS, PRODUCTION, STAGING, STRANGER, machine, table
from visit import Visit

from certs.thumbprint import Thumbprint
from routing.addresses import Address
from routing.explain import AtDoor, AtMachine, AtName, Explanation, Face, Shown, explain, settings
from routing.explain_rules import Asked
from routing.load import load
from routing.table import Limits, Octopus, OctopusLimits, RelayLimits, RelayTimeouts, Table, Timeouts

CERTIFICATES = [b"certificate %d" % number for number in range(6)]
ALGORITHMS = ("sha1", "sha256")
FOLDER = Path("/nowhere")


def identity(shown: object) -> Face:
    return Face(f"the identity of {shown.name}")


def explained(known: Table, arrival, caller: Shown | None) -> Explanation:
    return explain(known, arrival, caller, identity)


def topics(found: Explanation) -> list[str]:
    return [step.topic for step in found.steps]


# ---- as the front does it -------------------------------------------------------------------------------------------------


@st.composite
def machines(draw):
    """A machine whose octopus entries have some of the certificates as pins, of either kind, none in two entries."""
    owners = draw(st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=len(CERTIFICATES), max_size=len(CERTIFICATES)))
    entries = []
    for name in ("a", "b", "c"):
        pins = [
            Thumbprint.of(der, draw(st.sampled_from(ALGORITHMS)))
            for der, owner in zip(CERTIFICATES, owners, strict=True)
            if owner == name
        ]
        if pins:
            entries.append(Octopus(name, tuple(pins), None))
    return tuple(draw(st.permutations(entries)))


@given(machines(), st.sampled_from([None, *CERTIFICATES]), st.sampled_from(ALGORITHMS))
def test_the_verdict_is_what_the_running_front_does(octopus, der, algorithm):
    visit = Visit(der, octopus=octopus)
    visit.identified()
    web01 = visit.door.machine
    caller = Shown(Thumbprint.of(der, algorithm)) if der else None
    found = explained(table(FOLDER, web01), AtMachine(web01), caller)
    kinds = {pin.algorithm for entry in octopus for pin in entry.thumbprints}
    if found.verdict == "unknown":
        assert caller is not None
        assert kinds - {algorithm}  # there is one that this thumbprint cannot be compared with
        return
    if visit.door.asked:
        assert (found.verdict, [found.octopus and found.octopus.name]) == ("allowed", visit.door.asked)
        assert visit.refusals == []
    else:
        assert (found.verdict, [found.reason]) == ("denied", [refusal.value for refusal in visit.refusals])
        [(_, detail)] = visit.door.refusals
        # Whoever asks by SHA-256 is told by SHA-256; the front logs SHA-1.
        assert detail in found.steps[-1].text or algorithm == "sha256"


@given(machines(), st.sampled_from(CERTIFICATES))
def test_a_thumbprint_of_the_pins_own_kind_always_tells(octopus, der):
    """Where all pins are of one kind, there is no doubt."""
    kinds = {pin.algorithm for entry in octopus for pin in entry.thumbprints}
    if len(kinds) == 1:
        web01 = machine(octopus=octopus)
        found = explained(table(FOLDER, web01), AtMachine(web01), Shown(Thumbprint.of(der, *kinds)))
        assert (found.verdict == "allowed") == (web01.octopus_of(der) is not None)
        assert found.verdict != "unknown"


# ---- rules ----------------------------------------------------------------------------------------------------------------

DERS = {"production": b"certificate 1", "staging": b"certificate 2", "test": b"certificate 3"}
ENTRIES = tuple(Octopus(name, (Thumbprint.of(der),), None) for name, der in DERS.items())


def behind(rules, call):
    """What the running front does with this call: a refusal at identification, or the outcome of its judgement."""
    visit = Visit(DERS[call.octopus], peer=f"[{call.source}]:1" if call.source else "", octopus=ENTRIES, rules=rules)
    visit.identified()
    if visit.refusals:
        return visit.refusals[0].value, visit.door.refusals[0][1]
    visit.lease.ready()
    visit.says(deflated(request(service=call.service, method=call.method)))
    if visit.lease.link.written:
        return "allowed", ""
    return visit.outcomes[0].value, visit.door.calls[0].detail


@bounded(200)
@given(rule_sets(), calls())
def test_rules_say_what_the_running_front_does(rules, call):
    web01 = machine(octopus=ENTRIES, rules=rules)
    asked = Asked(call.source, call.service, call.method)
    caller = Shown(Thumbprint.of(DERS[call.octopus]))
    found = explain(table(FOLDER, web01), AtMachine(web01), caller, identity, asked)
    does, detail = behind(rules, call)
    if found.verdict == "unknown":
        assert call.source is None
        sources = (source for source in SOURCES if source)
        verdicts = {behind(rules, replace(call, source=source))[0] for source in sources}
        assert "allowed" in verdicts or does == "not-allowed"
        return
    assert (found.reason or found.verdict) == does
    assert (found.verdict == "allowed") == (does == "allowed")
    rule = [step for step in found.steps if step.topic == "rules"][-1]
    assert detail in rule.text


def ruled(text: str, tmp_path: Path) -> Table:
    entries = f"[{{name: one, thumbprint: {'A' * 40}}}, {{name: two, thumbprint: {'C' * 40}}}]"
    web01 = f"  - name: w\n    tentacle: https://w\n    thumbprint: {'B' * 40}\n    port: 11001\n    octopus: [one, two]\n"
    whole = f"relay: {{name: r, state: s}}\noctopus: {entries}\nmachines:\n{web01}    allow:\n{text}"
    (tmp_path / "relay.yaml").write_text(whole)
    return load(tmp_path / "relay.yaml")


RULED = """\
      - capabilities
      - {octopus: one, from: 10.0.0.0/8, services: [scripts, files]}
      - {octopus: two, services: IFileTransferService.DownloadFile}
"""


@pytest.mark.parametrize(
    ("octopus", "asked", "verdict", "reason", "line", "text"),
    [
        (
            "A",
            Asked("10.1.2.3", "IScriptServiceV2", "StartScript"),
            "allowed",
            "",
            11,
            "IScriptServiceV2.StartScript is allowed",
        ),
        (
            "A",
            Asked(None, "IScriptServiceV2", "StartScript"),
            "unknown",
            "",
            11,
            "is allowed from 10.0.0.0/8 only: ask with an",
        ),
        (
            "A",
            Asked("192.0.2.1", "IScriptServiceV2", "StartScript"),
            "denied",
            "denied",
            9,
            "no item of allow lets this caller call",
        ),
        ("A", Asked(None, "INew", "Thing"), "denied", "denied", 9, "answered with an error, and logged as denied"),
        (
            "C",
            Asked(None, "ifiletransferservice", "downloadfile"),
            "allowed",
            "",
            12,
            "ifiletransferservice.downloadfile is allowed",
        ),
        ("C", Asked(), "allowed", "", 12, "allowed: IFileTransferService.DownloadFile"),
        ("A", Asked(), "allowed", "", 11, "allowed from 10.0.0.0/8 only: scripts, files"),
        ("A", Asked("10.1.2.3"), "allowed", "", 11, "allowed: scripts, files"),
    ],
)
def test_the_rule_that_decides_is_named_with_its_line(octopus, asked, verdict, reason, line, text, tmp_path):
    known = ruled(RULED, tmp_path)
    found = explain(known, AtMachine(known.machines[0]), Shown(Thumbprint.parse(octopus * 40)), identity, asked)
    assert (found.verdict, found.reason) == (verdict, reason)
    step = [step for step in found.steps if step.topic == "rules"][-1]
    assert step.place is not None
    assert step.place.line == line
    assert text in step.text


def test_who_comes_from_nowhere_that_is_allowed(tmp_path):
    known = ruled("      - {octopus: one, from: 10.0.0.0/8}\n", tmp_path)
    web01, one, two = known.machines[0], Shown(Thumbprint.parse("A" * 40)), Shown(Thumbprint.parse("C" * 40))
    unsaid = explain(known, AtMachine(web01), one, identity)
    assert (unsaid.verdict, "ask with an address (--from)" in unsaid.steps[-1].text) == ("unknown", True)
    away = explain(known, AtMachine(web01), one, identity, Asked("192.0.2.1"))
    assert (away.verdict, away.reason, away.octopus and away.octopus.name) == ("denied", "not-allowed", "one")
    assert "for octopus one from 192.0.2.1 " in away.steps[-1].text
    assert away.steps[-1].place == web01.rules.place
    assert explain(known, AtMachine(web01), two, identity).reason == "not-allowed"


def test_a_call_that_is_allowed_from_the_door_to_the_pin():
    web01 = machine(tentacle=Address("web01.internal", 10933))
    found = explained(table(FOLDER, web01), AtMachine(web01), Shown(Thumbprint.of(OCTOPUS)))
    assert (found.verdict, found.reason, found.machine, found.octopus) == ("allowed", "", web01, PRODUCTION)
    assert topics(found) == ["door", "identity", "caller", "entries", "rules", "tentacle", "shows", "pin"]
    texts = {step.topic: step.text for step in found.steps}
    assert texts["identity"] == "the caller sees the identity of web01"
    assert texts["shows"] == "the Tentacle sees the identity of production"
    assert texts["tentacle"] == "the call goes to https://web01.internal:10933/"
    assert str(web01.thumbprints[0]) in texts["pin"]
    assert texts["rules"] == "there are no allow rules: every service and method"
    assert found.settings


def test_a_call_that_is_denied_ends_at_the_caller():
    web01 = machine()
    found = explained(table(FOLDER, web01), AtMachine(web01), None)
    assert (found.verdict, found.reason, topics(found)) == ("denied", "no-certificate", ["door", "identity", "caller"])
    assert (found.machine, found.octopus, found.settings) == (web01, None, ())


def test_pins_of_the_other_kind_cannot_be_told():
    web01 = machine(octopus=(replace(PRODUCTION, thumbprints=(Thumbprint.of(OCTOPUS, "sha256"),)),))
    found = explained(table(FOLDER, web01), AtMachine(web01), Shown(Thumbprint.of(STRANGER)))
    assert (found.verdict, found.reason) == ("unknown", "")
    assert "only the certificate itself could tell" in found.steps[-1].text


# ---- where somebody arrives -----------------------------------------------------------------------------------------------

WEB01 = machine("web01", door=Address("", 11001))
WEB02 = machine("web02", door=Address("10.0.0.2", 11002))
WEB03 = machine("web03", door=Address("10.0.0.3", 11002))
WEB04 = machine("web04", door=None, host="web04.corp")
SITE = replace(table(FOLDER, WEB01, WEB02, WEB03, WEB04), front=Address("", 10933))


@pytest.mark.parametrize(
    ("arrival", "expected"),
    [
        (AtDoor(Address("", 11001)), "web01"),
        (AtDoor(Address("10.0.0.9", 11001)), "web01"),
        (AtDoor(Address("10.0.0.3", 11002)), "web03"),
        (AtName("web04.corp"), "web04"),
        (AtName("WEB04.corp."), "web04"),
        (AtMachine(WEB04), "web04"),
    ],
    ids=repr,
)
def test_a_machine(arrival, expected):
    found = explained(SITE, arrival, Shown(Thumbprint.of(OCTOPUS)))
    assert (found.verdict, found.machine and found.machine.name) == ("allowed", expected)


@pytest.mark.parametrize(
    ("arrival", "verdict", "reason", "said"),
    [
        (AtDoor(Address("", 11003)), "denied", "refused", "no door is at 11003"),
        (AtDoor(Address("10.0.0.9", 11002)), "denied", "refused", "no door is at 10.0.0.9:11002"),
        (AtDoor(Address("", 11002)), "unknown", "", "10.0.0.2:11002 (web02), 10.0.0.3:11002 (web03)"),
        (AtDoor(Address("", 10933)), "denied", "no-name", "logged as no-name"),
        (AtName(""), "denied", "no-name", "logged as no-name"),
        (AtName("web05.corp"), "denied", "unknown-name", "no machine has the host web05.corp"),
    ],
    ids=repr,
)
def test_no_machine(arrival, verdict, reason, said):
    found = explained(SITE, arrival, Shown(Thumbprint.of(OCTOPUS)))
    assert (found.verdict, found.reason, found.machine, found.settings) == (verdict, reason, None, ())
    assert said in found.steps[-1].text


def test_without_a_shared_door_no_name_leads_anywhere():
    found = explained(table(FOLDER, WEB04), AtName("web04.corp"), None)
    assert (found.verdict, found.reason) == ("denied", "refused")


def test_both_doors_of_a_machine():
    both = machine(host="web.corp", door=Address("", 11001))
    found = explained(replace(SITE, machines=(both,)), AtMachine(both), None)
    assert found.steps[0].text == "machine web01 has the doors port 11001 and host web.corp at the shared door 10933"


# ---- places and settings --------------------------------------------------------------------------------------------------

FILE = """\
relay:
  name: dc-east
  state: state
  timeouts:
    identify: 5s
octopus:
  - name: production
    thumbprints:
      - 7E5A02D3C4B1968F7E5A02D3C4B1968F7E5A02F1
machines:
  - name: web01
    tentacle: https://web01.internal
    thumbprint: 54C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D
    octopus: production
    port: 11001
    limits:
      connections: 5
    timeouts: {ready: 10s}
defaults:
  limits:
    connections: 20
    envelope: 1MiB
  timeouts:
    front_idle: 9m
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Table:
    (tmp_path / "relay.yaml").write_text(FILE)
    return load(tmp_path / "relay.yaml")


def test_every_step_has_the_line_of_what_decides_it(loaded):
    found = explained(loaded, AtDoor(Address("", 11001)), Shown(Thumbprint.parse("7E5A02D3C4B1968F7E5A02D3C4B1968F7E5A02F1")))
    lines = {step.topic: step.place and step.place.line for step in found.steps}
    # An identity that nobody names has the line of its entry.
    assert lines == {
        "door": 15,
        "identity": 11,
        "caller": 8,
        "entries": 14,
        "rules": None,
        "tentacle": 12,
        "shows": 7,
        "pin": 13,
    }
    assert {step.place.file for step in found.steps if step.place} == {loaded.source}


def test_every_setting_has_the_line_of_whoever_says_so(loaded):
    [web01] = loaded.machines
    found = {
        each.name: (each.value, each.source, each.place and each.place.line)
        for each in settings(loaded, web01, web01.octopus[0])
    }
    assert found == {
        "limits.connections": ("5", "machine", 17),
        "limits.envelope": ("1MiB", "defaults", 22),
        "limits.waiting": ("256", "built-in", None),
        "limits.callers": ("1000", "built-in", None),
        "timeouts.ready": ("10s", "machine", 18),
        "timeouts.connect": ("9s", "derived", None),  # less than ready
        "timeouts.prove": ("5s", "built-in", None),
        "timeouts.back_idle": ("50s", "built-in", None),
        "timeouts.front_idle": ("9m", "defaults", 24),
        "octopus.limits.callers": ("10000", "built-in", None),
        "octopus.limits.exchanges": ("5000", "built-in", None),
        "relay.limits.connections": ("10000", "built-in", None),
        "relay.limits.exchanges": ("5000", "built-in", None),
        "relay.limits.strangers": ("5000", "built-in", None),
        "relay.limits.source_strangers": ("2000", "built-in", None),
        "relay.limits.handshakes": ("1000", "built-in", None),
        "relay.limits.source_handshakes": ("50", "built-in", None),
        "relay.limits.buffered": ("256MiB", "built-in", None),
        "relay.timeouts.client_hello": ("5s", "derived", None),  # no more than identify
        "relay.timeouts.identify": ("5s", "relay", 5),
        "relay.timeouts.drain": ("30s", "built-in", None),
    }


def test_no_setting_is_left_out():
    names = [each.name for each in settings(SITE, WEB01, PRODUCTION)]
    expected = [f"limits.{name}" for name in Limits.__slots__] + [f"timeouts.{name}" for name in Timeouts.__slots__]
    expected += [f"octopus.limits.{name}" for name in OctopusLimits.__slots__]
    expected += [f"relay.limits.{name}" for name in RelayLimits.__slots__]
    assert names == expected + [f"relay.timeouts.{name}" for name in RelayTimeouts.__slots__]


def test_staging_is_another_entry():
    found = explained(SITE, AtMachine(WEB01), Shown(STAGING.thumbprints[0]))
    assert found.octopus is STAGING


def test_a_machine_that_is_passed_through_is_open_to_whoever_comes():
    """The relay judges nobody, and only what holds there is told."""
    vault = machine(passthrough=True, octopus=(), thumbprints=(), tentacle=Address("vault01.internal", 10933))
    for caller in (None, Shown(Thumbprint.of(STRANGER))):
        found = explained(table(FOLDER, vault), AtMachine(vault), caller)
        assert (found.verdict, found.machine, found.octopus) == ("allowed", vault, None)
        assert topics(found) == ["door", "passthrough", "rules", "tentacle"]
        assert found.steps[-1].text == "the connection goes to https://vault01.internal:10933/"
        own = [each.name for each in found.settings if not each.name.startswith("relay.")]
        assert own == ["limits.connections", "timeouts.connect"]
