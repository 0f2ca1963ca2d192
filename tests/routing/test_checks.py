"""Configurations in which each value is right and their company is not. Doors are in test_door_checks.py."""

from pathlib import Path

import pytest
from configuration_text import A, B, C, configuration, machine, read, two

HINT = "Write 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, as Octopus shows it."
TWO_OCTOPUSES = f"{{name: one, thumbprint: {A}}}\n{{name: two, thumbprint: {C}}}"
COVER = "which must cover it"

BAD = {
    "two machines of one name": (
        configuration(machines=machine("web01", 1) + "\n" + machine("web01", 2, tentacle="https://t")),
        (
            "6: machines[1].name: 'web01': the name of machines[0] on line 5; upper and lower case do not differ. "
            "Give each entry its own name."
        ),
    ),
    "two machines whose names differ by case": (
        configuration(machines=machine("web01", 1) + "\n" + machine("Web01", 2, tentacle="https://t")),
        (
            "6: machines[1].name: 'Web01': the name of machines[0] on line 5; upper and lower case do not differ. "
            "Give each entry its own name."
        ),
    ),
    "two octopus entries of one name": (
        configuration(f"{{name: one, thumbprint: {A}}}\n{{name: ONE, thumbprint: {C}}}", machine("w", 1, ", octopus: one")),
        (
            "4: octopus[1].name: 'ONE': the name of octopus[0] on line 3; upper and lower case do not differ. "
            "Give each entry its own name."
        ),
    ),
    "one thumbprint of two octopus entries": (
        configuration(
            f"{{name: one, thumbprint: {A}}}\n{{name: two, thumbprints: [{C}, '{A.lower()}']}}",
            machine("w", 1, ", octopus: one"),
        ),
        (
            f"4: octopus[1].thumbprints: '{A}': octopus[0] on line 3 has it too: a caller with it could be either. "
            "Give each Octopus its own thumbprint, or make one entry of the two."
        ),
    ),
    "no thumbprint of an octopus entry": (
        configuration("{name: one}"),
        f"3: octopus[0].thumbprint: missing. Add it. {HINT}",
    ),
    "no thumbprint of a machine": (
        configuration(machines="{name: web01, tentacle: 'https://t', port: 1}"),
        f"5: machines[0].thumbprint: missing. Add it. {HINT}",
    ),
    "thumbprint and thumbprints": (
        configuration(machines=machine("web01", 1, f", thumbprints: [{C}]")),
        "5: machines[0].thumbprints: given beside thumbprint, on line 5. Put all of them into one list, under thumbprints.",
    ),
    "an unknown octopus": (
        configuration(TWO_OCTOPUSES, machine("web01", 1, ", octopus: [twoo]")),
        "6: machines[0].octopus[0]: 'twoo': no entry of the section octopus has this name. Did you mean two?",
    ),
    "an unknown octopus like no other": (
        configuration(TWO_OCTOPUSES, machine("web01", 1, ", octopus: production")),
        "6: machines[0].octopus: 'production': no entry of the section octopus has this name. Write one of one, two.",
    ),
    "an octopus of another case": (
        configuration(machines=machine("web01", 1, ", octopus: oNe")),
        "5: machines[0].octopus: 'oNe': no entry of the section octopus has this name. Did you mean one?",
    ),
    "no octopus where there are two": (
        configuration(TWO_OCTOPUSES, machine("web01", 1)),
        (
            "6: machines[0].octopus: missing, and there are several entries to choose from. "
            "Add octopus: with one or more of one, two."
        ),
    ),
    "no octopus entries": (
        f"relay: {{name: r, state: s}}\noctopus: []\nmachines:\n  - {machine('w', 1)}",
        "2: octopus: empty. Write at least one entry.",
    ),
    "no machines": (
        f"relay: {{name: r, state: s}}\noctopus: [{{name: one, thumbprint: {A}}}]\nmachines: []",
        "3: machines: empty, and nothing is included. Write at least one entry.",
    ),
    "one identity file for two machines": (
        configuration(
            machines=machine("web01", 1, ", identity: keys/a.pem")
            + "\n"
            + machine("web02", 2, ", identity: ./other/../keys/a.pem")
        ),
        (
            "6: machines[1].identity: 'other/../keys/a.pem': machines[0] on line 5 has this file: "
            "Octopus could not tell the two apart. Give each machine its own identity."
        ),
    ),
    "a password without the file that it opens": (
        configuration(machines=machine("web01", 1, ", identity_password: credential:web01")),
        (
            "5: machines[0].identity_password: 'credential:web01': given without identity. "
            "Add identity: with the file that this password opens. The relay's own identities have none."
        ),
    ),
    "a password without the octopus entry's file": (
        configuration(f"{{name: one, thumbprint: {A}, identity_password: p}}"),
        (
            "3: octopus[0].identity_password: 'p': given without identity. "
            "Add identity: with the file that this password opens. The relay's own identities have none."
        ),
    ),
    "a password whose file is a mistake": (
        configuration(machines=machine("web01", 1, ", identity: '', identity_password: p")),
        "5: machines[0].identity: '': not a path. Write a path; a relative one starts at the folder of this file.",
    ),
    "an identity in the state folder": (
        configuration(machines=machine("web01", 1, ", identity: state/machines/web02.pem")),
        (
            "5: machines[0].identity: 'state/machines/web02.pem': inside the state folder, where the relay keeps the "
            "identities that it makes. Keep provisioned identities elsewhere, "
            "or leave the key out to let the relay use its own file."
        ),
    ),
    "an octopus identity in the state folder": (
        configuration(f"{{name: one, thumbprint: {A}, identity: state/octopus/one.pem}}"),
        (
            "3: octopus[0].identity: 'state/octopus/one.pem': inside the state folder, where the relay keeps the "
            "identities that it makes. Keep provisioned identities elsewhere, "
            "or leave the key out to let the relay use its own file."
        ),
    ),
    "connect not less than ready": (
        configuration(machines=machine("web01", 1, ", timeouts: {connect: 45s}")),
        f"5: machines[0].timeouts.connect: connect is 45s and ready is 45s, {COVER}. Make connect less than ready.",
    ),
    "ready not more than connect": (
        configuration(machines=machine("web01", 1, ", timeouts: {ready: 20s, connect: 20s}")),
        f"5: machines[0].timeouts.connect: connect is 20s and ready is 20s, {COVER}. Make connect less than ready.",
    ),
    "ready of a machine not more than prove of the defaults, and a connect that was not written": (
        configuration(machines=machine("web01", 1, ", timeouts: {ready: 3s}"), defaults="timeouts: {prove: 4s}"),
        f"5: machines[0].timeouts.ready: prove is 4s and ready is 3s, {COVER}. Make prove less than ready.",
    ),
    "prove not less than ready": (
        configuration(machines=machine("web01", 1, ", timeouts: {prove: 50s}")),
        f"5: machines[0].timeouts.prove: prove is 50s and ready is 45s, {COVER}. Make prove less than ready.",
    ),
    "connect of the defaults not less than ready": (
        configuration(defaults="timeouts: {connect: 50s}"),
        f"6: defaults.timeouts.connect: connect is 50s and ready is 45s, {COVER}. Make connect less than ready.",
    ),
    "ready of a machine not more than connect of the defaults": (
        configuration(machines=machine("web01", 1, ", timeouts: {ready: 25s}"), defaults="timeouts: {connect: 30s}"),
        f"5: machines[0].timeouts.ready: connect is 30s and ready is 25s, {COVER}. Make connect less than ready.",
    ),
    "client_hello more than identify": (
        configuration(relay=", timeouts: {client_hello: 30s, identify: 20s}"),
        (
            f"1: relay.timeouts.client_hello: client_hello is 30s and identify is 20s, {COVER}. "
            "Make client_hello at most identify."
        ),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_values_in_bad_company(case: str, tmp_path: Path) -> None:
    text, said = BAD[case]
    assert read(text, tmp_path) == [said]


GOOD = {
    "one octopus identity for two entries": configuration(
        f"{{name: one, thumbprint: {A}, identity: k.pem}}\n{{name: two, thumbprint: {C}, identity: k.pem}}",
        machine("w", 1, ", octopus: [one, two]"),
    ),
    "two Tentacles at one address": configuration(
        machines=machine("w1", 1, tentacle="https://t") + "\n" + machine("w2", 2, tentacle="https://t").replace(B, C)
    ),
    "one thumbprint at two addresses": two(11001, 11002),
    "one Tentacle at two ports": configuration(
        machines=machine("w1", 1, tentacle="https://t:1") + "\n" + machine("w2", 2, tentacle="https://t:2")
    ),
    "a machine's ready above its connect": configuration(
        machines=machine("w", 1, ", timeouts: {connect: 40s}"), defaults="timeouts: {ready: 50s}"
    ),
    "ready below the defaults of connect and prove": configuration(machines=machine("w", 1, ", timeouts: {ready: 1s}")),
    "ready of the defaults below what is not written": configuration(
        machines=machine("w", 1, ", timeouts: {front_idle: 1m}"), defaults="timeouts: {ready: 20s}"
    ),
    "identity beside the state folder": configuration(machines=machine("w", 1, ", identity: state/w.pem")),
}


@pytest.mark.parametrize("case", GOOD)
def test_values_in_good_company(case: str, tmp_path: Path) -> None:
    assert read(GOOD[case], tmp_path) == []


def test_bad_defaults_are_reported_once_not_for_each_machine(tmp_path: Path) -> None:
    machines = "\n".join(machine(f"web{n}", 11001 + n, ", timeouts: {front_idle: 1m}") for n in range(5))
    said = read(configuration(machines=machines, defaults="timeouts: {connect: 50s}"), tmp_path)
    assert [line.partition(": ")[2].partition(":")[0] for line in said] == ["defaults.timeouts.connect"]


def test_an_entry_with_a_bad_name_brings_no_second_message_about_it(tmp_path: Path) -> None:
    said = read(configuration("{name: a b, thumbprint: " + A + "}", machine("w", 1, ", octopus: a-b")), tmp_path)
    assert len(said) == 1
    assert said[0].startswith("3: octopus[0].name: 'a b': not a name.")
