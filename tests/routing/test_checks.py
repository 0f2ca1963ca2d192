"""Configurations in which each value is right and their company is not."""

from pathlib import Path

import pytest

from routing.load import load
from routing.mistakes import ConfigurationError

A, B, C = ("A" * 40, "B" * 40, "C" * 40)
HINT = "Write 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, as Octopus shows it."


def configuration(
    octopus: str = f"{{name: one, thumbprint: {A}}}", machines: str = "", relay: str = "", defaults: str = ""
) -> str:
    """Line 1 is the relay, the octopus entries start on line 3; then a line, then the machines; then the defaults."""
    machines = machines or machine("web01", 11001)
    return f"relay: {{name: r, state: state{relay}}}\noctopus:\n{items(octopus)}machines:\n{items(machines)}" + (
        f"defaults: {{{defaults}}}\n" if defaults else ""
    )


def items(text: str) -> str:
    return "".join(f"  - {line}\n" for line in text.splitlines())


def machine(name: str, port: object, more: str = "", tentacle: str = "") -> str:
    tentacle = tentacle or f"https://tentacle-of-{name}"
    return f"{{name: {name}, tentacle: '{tentacle}', thumbprint: {B}, port: '{port}'{more}}}"


def two(first: object, second: object) -> str:
    return configuration(machines=machine("web01", first) + "\n" + machine("web02", second))


def read(text: str, folder: Path) -> list[str]:
    """The mistakes, without the file's name."""
    path = folder / "relay.yaml"
    path.write_text(text)
    try:
        load(path)
    except ConfigurationError as error:
        return [str(mistake).removeprefix(f"{path}:") for mistake in error.mistakes]
    return []


TWO_OCTOPUSES = f"{{name: one, thumbprint: {A}}}\n{{name: two, thumbprint: {C}}}"
TAKEN = (
    "machines[0] on line 5 has this door: a caller there could mean either. "
    "Give each machine its own port, or its own IP address."
)
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
    "one port twice": (two(11001, 11001), f"6: machines[1].port: '11001': {TAKEN}"),
    "every interface and one": (two(11001, "127.0.0.1:11001"), f"6: machines[1].port: '127.0.0.1:11001': {TAKEN}"),
    "one interface and every": (two("127.0.0.1:11001", 11001), f"6: machines[1].port: '11001': {TAKEN}"),
    "every interface and one of IPv6": (two(11001, "[::1]:11001"), f"6: machines[1].port: '[::1]:11001': {TAKEN}"),
    "every IPv4 interface and one": (
        two("0.0.0.0:11001", "10.0.0.1:11001"),
        f"6: machines[1].port: '10.0.0.1:11001': {TAKEN}",
    ),
    "one and every IPv4 interface": (
        two("10.0.0.1:11001", "0.0.0.0:11001"),
        f"6: machines[1].port: '0.0.0.0:11001': {TAKEN}",
    ),
    "all of IPv6 takes IPv4 too": (two("[::]:11001", "10.0.0.1:11001"), f"6: machines[1].port: '10.0.0.1:11001': {TAKEN}"),
    "IPv4 and all of IPv6": (two("10.0.0.1:11001", "[::]:11001"), f"6: machines[1].port: '[::]:11001': {TAKEN}"),
    "one address in two spellings": (
        two("[2001:db8::1]:11001", "[2001:DB8:0::1]:11001"),
        f"6: machines[1].port: '[2001:db8::1]:11001': {TAKEN}",
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


LOOPS = [
    ("https://127.0.0.1:11001", 11001),
    ("https://localhost:11001", 11001),
    ("https://localhost.:11001", 11001),
    ("https://LOCALHOST:11001", "127.0.0.1:11001"),
    ("https://[::1]:11001", 11001),
    ("https://[::1]:11001", "[::]:11001"),
    ("https://127.0.0.1:11001", "0.0.0.0:11001"),
    ("https://127.1.2.3:11001", "127.1.2.3:11001"),
    ("https://localhost:11001", "[::1]:11001"),
    ("https://10.0.0.5:11001", "10.0.0.5:11001"),
]


@pytest.mark.parametrize(("tentacle", "port"), LOOPS)
def test_a_relay_does_not_call_itself(tentacle: str, port: object, tmp_path: Path) -> None:
    (said,) = read(configuration(machines=machine("web01", port, tentacle=tentacle)), tmp_path)
    assert said == (
        f"5: machines[0].tentacle: '{tentacle.lower()}': the relay's own door, machines[0] on line 5: "
        "it would call itself. Write the address of the Tentacle."
    )


def test_the_door_of_another_machine_is_a_loop_too(tmp_path: Path) -> None:
    text = configuration(machines=machine("web01", 11001) + "\n" + machine("web02", 11002, tentacle="https://127.0.0.1:11001"))
    (said,) = read(text, tmp_path)
    assert said.startswith("6: machines[1].tentacle: 'https://127.0.0.1:11001': the relay's own door, machines[0] on line 5:")


GOOD = {
    "one port on several addresses": two("127.0.0.1:11001", "127.0.0.2:11001"),
    "one port on IPv4 and IPv6": two("127.0.0.1:11001", "[::1]:11001"),
    "every IPv4 interface and one of IPv6": two("0.0.0.0:11001", "[::1]:11001"),
    "a Tentacle on this host": configuration(machines=machine("w", 11001, tentacle="https://127.0.0.1:10933")),
    "a Tentacle on a loopback address without a door": configuration(
        machines=machine("w", "127.0.0.1:11001", tentacle="https://127.0.0.2:11001")
    ),
    "a Tentacle elsewhere on a door's port": configuration(machines=machine("w", 11001, tentacle="https://10.0.0.5:11001")),
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
